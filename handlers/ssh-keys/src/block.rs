//! The part of an authorized_keys file that is ours: between two marker lines. All else in the file stays, byte by byte.
//! Pure.
//!
//! ```text
//! # reactor begin NAME: do not edit between these lines; what is not in the account system goes
//! ssh-ed25519 AAAA… ralph@laptop
//! # reactor end NAME
//! ```
//!
//! Several blocks with different names live beside each other. A file is bytes: it need not be UTF-8, may have CRLF, NUL,
//! or no final newline. Lines end with `\n`, as for sshd.

use std::collections::BTreeSet;

/// Longest name of a block, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

const BEGIN: &str = "# reactor begin ";
const END: &str = "# reactor end ";
const NOTICE: &str = " do not edit between these lines; what is not in the account system goes";

/// What is wrong with the markers in a file (a beginning without an end, two beginnings). Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// A sentence that names the line.
    pub why: String,
}

/// Whether a block may be called so: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most [`NAME_BYTES_MAX`] bytes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// How the first line of the block begins, for whoever looks for files that have one.
#[must_use]
pub fn marker(name: &str) -> String {
    format!("{BEGIN}{name}:")
}

/// The lines in our block, without their newlines; `None` = there is none. `name` is the block's name (`block` in the
/// configuration). Bytes that are not UTF-8 come as U+FFFD: such a line equals none that we write.
///
/// # Errors
/// When the markers make no sense.
pub fn find(file: &[u8], name: &str) -> Result<Option<Vec<String>>, Damaged> {
    let Some(block) = locate(file, name)? else { return Ok(None) };
    let inside = &file[block.inside.0..block.inside.1];
    let lines = inside.split_inclusive(|b| *b == b'\n');
    Ok(Some(lines.map(|line| String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)).into_owned()).collect()))
}

/// The file with `lines` in our block (without lines: without the block); `None` = nothing is left, the file goes.
///
/// A block that is there is replaced where it stands; a new one goes to the end. Where there is no block and none is
/// wanted, the file comes back as it was.
///
/// # Errors
/// When the markers make no sense, or a line is none (it has a line break or NUL in it, or is a marker itself).
pub fn replace(file: &[u8], name: &str, lines: &[String]) -> Result<Option<Vec<u8>>, Damaged> {
    let found = locate(file, name)?;
    check(lines)?;
    let (before, after) = match &found {
        Some(block) => (&file[..block.start], &file[block.end..]),
        None => (file, &file[file.len()..]),
    };
    if found.is_none() && lines.is_empty() {
        return Ok((!file.is_empty()).then(|| file.to_vec()));
    }
    let mut out = before.to_vec();
    if !lines.is_empty() {
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        out.extend_from_slice(format!("{}{NOTICE}\n", marker(name)).as_bytes());
        for line in lines {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(format!("{END}{name}\n").as_bytes());
    }
    out.extend_from_slice(after);
    Ok((!out.trim_ascii().is_empty()).then_some(out))
}

/// The file with nothing between the markers of our block, which stay; `None` = there is no such block.
///
/// # Errors
/// When the markers make no sense.
pub fn emptied(file: &[u8], name: &str) -> Result<Option<Vec<u8>>, Damaged> {
    Ok(locate(file, name)?.map(|block| [&file[..block.inside.0], &file[block.inside.1..]].concat()))
}

fn check(lines: &[String]) -> Result<(), Damaged> {
    let wrong = |line: &String| line.contains(['\n', '\r', '\0']) || mark(line.as_bytes()).is_some();
    match lines.iter().position(wrong) {
        None => Ok(()),
        Some(at) => Err(Damaged { why: format!("line {} of those to be written is not a line of its own", at + 1) }),
    }
}

/// A marker line, with the block's name.
enum Mark<'a> {
    Begin(&'a [u8]),
    End(&'a [u8]),
}

/// What follows the name in a first line may change from one version to the next, and spaces around a marker may come
/// from an editor; so neither counts.
fn mark(line: &[u8]) -> Option<Mark<'_>> {
    let line = line.trim_ascii();
    let named = |name: &[u8]| std::str::from_utf8(name).is_ok_and(is_name);
    if let Some(rest) = line.strip_prefix(BEGIN.as_bytes()) {
        let name = &rest[..rest.iter().position(|b| *b == b':')?];
        return named(name).then_some(Mark::Begin(name));
    }
    let name = line.strip_prefix(END.as_bytes())?;
    named(name).then_some(Mark::End(name))
}

/// Where a block stands, in bytes of the file.
struct Block {
    start: usize,
    inside: (usize, usize),
    end: usize,
}

fn locate(file: &[u8], name: &str) -> Result<Option<Block>, Damaged> {
    if !is_name(name) {
        return Err(Damaged { why: format!("{name:?} can't be the name of a block") });
    }
    let mut scan = Scan { name, ..Scan::default() };
    let mut at = 0;
    for (number, line) in file.split_inclusive(|b| *b == b'\n').enumerate() {
        if let Some(mark) = mark(line) {
            scan.take(&mark, number + 1, (at, at + line.len())).map_err(|why| Damaged { why })?;
        }
        at += line.len();
    }
    match scan.open {
        None => Ok(scan.found),
        Some(open) => Err(Damaged { why: format!("line {}: block `{name}` begins and never ends", open.line) }),
    }
}

#[derive(Default)]
struct Scan<'a> {
    name: &'a str,
    open: Option<Open>,
    found: Option<Block>,
    /// Blocks of others that have begun and not ended.
    others: BTreeSet<&'a [u8]>,
    /// Those of them in which ours stands.
    around: BTreeSet<&'a [u8]>,
}

struct Open {
    line: usize,
    start: usize,
    inside: usize,
}

impl<'a> Scan<'a> {
    fn take(&mut self, mark: &Mark<'a>, line: usize, (start, end): (usize, usize)) -> Result<(), String> {
        let name = self.name;
        match (mark, &self.open) {
            (Mark::Begin(whose), Some(open)) if *whose == name.as_bytes() => {
                Err(format!("line {line}: block `{name}` begins again; the one of line {} has not ended", open.line))
            }
            (Mark::Begin(whose), None) if *whose == name.as_bytes() => {
                if self.found.is_some() {
                    return Err(format!("line {line}: a second block `{name}` begins; there may be one"));
                }
                self.around.clone_from(&self.others);
                self.open = Some(Open { line, start, inside: end });
                Ok(())
            }
            (Mark::End(whose), Some(open)) if *whose == name.as_bytes() => {
                self.found = Some(Block { start: open.start, inside: (open.inside, start), end });
                self.open = None;
                Ok(())
            }
            (Mark::End(whose), None) if *whose == name.as_bytes() => {
                Err(format!("line {line}: block `{name}` ends, but none has begun"))
            }
            (Mark::Begin(other) | Mark::End(other), Some(open)) => Err(format!(
                "line {line}: a marker of block `{}` stands inside of block `{name}`, which begins at line {}",
                String::from_utf8_lossy(other),
                open.line
            )),
            (Mark::Begin(other), None) => {
                self.others.insert(other);
                Ok(())
            }
            (Mark::End(other), None) => {
                self.others.remove(other);
                if self.found.is_some() && self.around.contains(other) {
                    let other = String::from_utf8_lossy(other);
                    return Err(format!(
                        "line {line}: block `{name}` stands inside of block `{other}`, which ends here"
                    ));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
