//! The format of a file list, line by line; what a line means to the tree is not known here.

use std::io::{BufRead, Read as _};

/// Longest line, in bytes: a path has at most 4,096.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// The version of the format that is understood.
const VERSION: &[u8] = b"2";

/// A line of `[Files]`.
pub(super) struct Entry<'a> {
    pub(super) time: i64,
    pub(super) kind: u8,
    /// Neither marked unreadable nor inside something that is.
    pub(super) readable: bool,
    pub(super) size: u64,
    pub(super) path: &'a [u8],
}

/// A checksum's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Algorithm {
    fn of(section: &[u8]) -> Option<Self> {
        match section {
            b"[Checksums MD5]" => Some(Self::Md5),
            b"[Checksums SHA1]" => Some(Self::Sha1),
            b"[Checksums SHA256]" => Some(Self::Sha256),
            b"[Checksums SHA512]" => Some(Self::Sha512),
            _ => None,
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// What a line says.
pub(super) enum Said<'a> {
    /// A line of `[Files]`.
    Entry(Entry<'a>),
    /// A line of one of the `[Checksums …]`: the hexadecimal digits, the path.
    Sum(Algorithm, &'a str, &'a [u8]),
}

/// Why a list is refused: the number of the line, and a sentence.
#[derive(Debug)]
pub(super) struct Refused(pub(super) usize, pub(super) String);

#[derive(Clone, Copy)]
enum Section {
    None,
    Version,
    Files,
    Sums(Algorithm),
    Unknown,
    End,
}

/// Where a reading stands.
struct State {
    section: Section,
    version: bool,
    files: bool,
}

/// Reads all lines. `checked` = they were read once already, so that paths need no second look.
///
/// # Errors
/// What is no line of a list, and a list without its version, its files or its end. What `say` says.
pub(super) fn read(
    mut lines: impl BufRead,
    checked: bool,
    mut say: impl FnMut(Said<'_>) -> Result<(), String>,
) -> Result<(), Refused> {
    let mut state = State { section: Section::None, version: false, files: false };
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        number += 1;
        let got = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let got = got.map_err(|error| Refused(number, error.to_string()))?;
        if got == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if got as u64 == LINE_BYTES_MAX {
            return Err(Refused(number, format!("it is longer than {LINE_BYTES_MAX} bytes")));
        }
        if !line.is_empty() {
            one(&mut state, &line, checked, &mut say).map_err(|why| Refused(number, why))?;
        }
    }
    match state.section {
        Section::End if state.files => Ok(()),
        Section::End => Err(Refused(number, "there is no [Files] in it".to_owned())),
        _ => Err(Refused(number, "it stops here, without [End]: is it still being written?".to_owned())),
    }
}

fn one(
    state: &mut State,
    line: &[u8],
    checked: bool,
    say: &mut impl FnMut(Said<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if line.first() == Some(&b'[') && !matches!(state.section, Section::End) {
        return begin(state, line);
    }
    match state.section {
        Section::Files => say(Said::Entry(entry(line, checked)?)),
        Section::Sums(algorithm) => {
            let (hex, path) = sum(line, algorithm, checked)?;
            say(Said::Sum(algorithm, hex, path))
        }
        Section::Version if state.version => Err("a second line in [Version]".to_owned()),
        Section::Version if line == VERSION => {
            state.version = true;
            Ok(())
        }
        Section::Version => Err(format!("version {} of the format is not known, only 2", line.escape_ascii())),
        Section::Unknown => Ok(()),
        Section::None => Err("a file list begins with [Version]".to_owned()),
        Section::End => Err("there is more after [End]".to_owned()),
    }
}

fn begin(state: &mut State, line: &[u8]) -> Result<(), String> {
    state.section = match line {
        b"[Version]" if state.version => Section::Unknown,
        b"[Version]" => Section::Version,
        _ if !state.version => return Err("no [Version] 2 stands before it".to_owned()),
        b"[Files]" => {
            state.files = true;
            Section::Files
        }
        b"[End]" => Section::End,
        _ => Algorithm::of(line).map_or(Section::Unknown, Section::Sums),
    };
    Ok(())
}

fn entry(line: &[u8], checked: bool) -> Result<Entry<'_>, String> {
    let mut columns = line.splitn(4, |byte| *byte == b'\t');
    let (Some(time), Some(kind), Some(size), Some(path)) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err("a line of [Files] has four columns: time, type, size, path".to_owned());
    };
    let (kind, readable) = match kind {
        [kind] => (*kind, true),
        [kind, b'-' | b'*'] => (*kind, false),
        _ => return Err(format!("`{}` is no type: f, d or l, and - or *", kind.escape_ascii())),
    };
    if !kind.is_ascii_alphabetic() {
        return Err(format!("`{}` is no type: f, d or l", kind.escape_ascii()));
    }
    let time = number(time).ok_or_else(|| format!("`{}` is no time in seconds", time.escape_ascii()))?;
    let size = number(size).and_then(|size| u64::try_from(size).ok());
    let size = size.ok_or_else(|| "its size is no number".to_owned())?;
    if !checked {
        check(path)?;
    }
    Ok(Entry { time, kind, readable, size, path })
}

/// Decimal digits, perhaps after a minus.
fn number(bytes: &[u8]) -> Option<i64> {
    let (minus, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0_i64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if minus { -value } else { value })
}

fn sum(line: &[u8], algorithm: Algorithm, checked: bool) -> Result<(&str, &[u8]), String> {
    let why = || format!("a checksum is {} hexadecimal digits, a tab and a path", algorithm.digits());
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or_else(why)?;
    let (hex, path) = (line.get(..tab).unwrap_or_default(), line.get(tab + 1..).unwrap_or_default());
    if hex.len() != algorithm.digits() || !hex.iter().all(u8::is_ascii_hexdigit) {
        return Err(why());
    }
    if !checked {
        check(path)?;
    }
    std::str::from_utf8(hex).map(|hex| (hex, path)).map_err(|_| why())
}

/// A path that could lead elsewhere, or that no line can hold.
fn check(path: &[u8]) -> Result<(), String> {
    if path.iter().any(u8::is_ascii_control) {
        return Err(format!("a control character in the path {}", path.escape_ascii()));
    }
    let mut length = 0;
    let mut dots = 0;
    for byte in path.iter().chain(b"/") {
        match byte {
            b'/' if length == 0 => return Err(format!("an empty part in the path `{}`", path.escape_ascii())),
            b'/' if length == dots && dots <= 2 => {
                return Err(format!("`.` or `..` in the path `{}`", path.escape_ascii()));
            }
            b'/' => (length, dots) = (0, 0),
            byte => {
                length += 1;
                dots += usize::from(*byte == b'.');
            }
        }
    }
    Ok(())
}
