//! Patterns of refs and repositories: gitolite's `REPOPATT_PATT`, and a part of Perl's regular expressions that is surely
//! well formed. Pure.

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 300;

/// Most groups inside of each other.
const DEPTH_MAX: usize = 10;

/// Whether gitolite takes it for one name, and no pattern (`REPONAME_PATT` without `@`).
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+/".contains(&b))
}

/// Checks a pattern of repositories.
///
/// # Errors
/// The end of a sentence that begins with it.
pub fn check_repo(text: &str) -> Result<(), String> {
    if text.starts_with('@') {
        return Err("is a group of repositories; a managed file names repositories".to_owned());
    }
    if text.ends_with(".git") || text.contains(".git/") {
        return Err("has `.git` in it; the name is written without it".to_owned());
    }
    check(text, text)
}

/// Checks a pattern of refs: what stands between a permission and `=`.
///
/// # Errors
/// The end of a sentence that begins with it.
pub fn check_ref(text: &str) -> Result<(), String> {
    if text.starts_with('@') {
        return Err("is a group of refs; write the refs".to_owned());
    }
    // gitolite puts this before what does not say of which kind it is, and checks the whole
    if ["refs/", "VREF/", "NAME/"].iter().any(|kind| text.starts_with(kind)) {
        return check(text, text);
    }
    check(text, &format!("refs/heads/{text}"))
}

/// `written` as it stands there, `text` as gitolite takes it.
fn check(written: &str, text: &str) -> Result<(), String> {
    if written.starts_with(['*', '+', '?', '{']) {
        return Err("begins with a repetition of nothing".to_owned());
    }
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("has {} bytes; at most {PATTERN_BYTES_MAX} are allowed", text.len()));
    }
    let first = text.bytes().next().is_some_and(|b| b == b'[' || b.is_ascii_alphanumeric());
    let may = |b: u8| b.is_ascii_alphanumeric() || b"-._@/+\\^$|()[]*?{},".contains(&b);
    if !first || !text.bytes().all(may) {
        return Err("has a character in it that gitolite takes in no pattern".to_owned());
    }
    let mut pattern = Pattern { rest: text.as_bytes(), alternatives: false };
    pattern.alternatives(0)?;
    if pattern.alternatives {
        return Err("has a `|` that splits gitolite's whole pattern, the beginning of it too; write `(a|b)`".to_owned());
    }
    if pattern.rest.is_empty() { Ok(()) } else { Err("has a `)` without a `(`".to_owned()) }
}

/// What is left to read of a regular expression.
struct Pattern<'a> {
    rest: &'a [u8],
    /// Whether a `|` stands outside of all groups.
    alternatives: bool,
}

impl Pattern<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is = self.rest.first() == Some(&byte);
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }

    /// `a|b`, up to a `)` or the end.
    fn alternatives(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("has more than {DEPTH_MAX} groups inside of each other"));
        }
        while let Some(byte) = self.rest.first() {
            match *byte {
                b')' => return Ok(()),
                b'|' | b'^' | b'$' => {
                    self.alternatives |= *byte == b'|' && depth == 0;
                    self.next();
                }
                b'(' => {
                    self.next();
                    self.alternatives(depth + 1)?;
                    if !self.take(b')') {
                        return Err("has a `(` without a `)`".to_owned());
                    }
                    self.how_often()?;
                }
                b'*' | b'+' | b'?' | b'{' | b'}' | b']' => {
                    return Err(format!("has a {:?} where nothing stands before it", char::from(*byte)));
                }
                _ => {
                    self.atom()?;
                    self.how_often()?;
                }
            }
        }
        Ok(())
    }

    /// One character, an escape or a class.
    fn atom(&mut self) -> Result<(), String> {
        match self.next() {
            Some(b'\\') => self.escape().map(drop),
            Some(b'[') => self.class(),
            _ => Ok(()),
        }
    }

    /// What follows a `\`: a character that stands for itself, or `\d`, `\w`. `Some` = the character.
    fn escape(&mut self) -> Result<Option<u8>, String> {
        match self.next() {
            Some(byte) if byte.is_ascii_punctuation() => Ok(Some(byte)),
            Some(b'd' | b'w') => Ok(None),
            _ => Err(r"has a `\` before something that is no mark, nor `d` or `w`".to_owned()),
        }
    }

    /// `[a-z.]`, after its `[`.
    fn class(&mut self) -> Result<(), String> {
        self.take(b'^');
        let mut last = None;
        let mut empty = true;
        loop {
            let one = match self.next() {
                None => return Err("has a `[` without a `]`".to_owned()),
                Some(b']') if empty => return Err("has `[]` in it, which matches nothing".to_owned()),
                Some(b']') => return Ok(()),
                Some(b'[') => return Err("has a `[` within `[…]`".to_owned()),
                Some(b'\\') => self.escape()?,
                Some(b'-') if !empty && self.rest.first() != Some(&b']') => {
                    let to = self.next().filter(u8::is_ascii_alphanumeric);
                    let fits = |from: u8, to: u8| from.is_ascii_alphanumeric() && from <= to;
                    if !last.zip(to).is_some_and(|(from, to)| fits(from, to)) {
                        return Err("has a range within `[…]` that goes from nothing to nothing".to_owned());
                    }
                    None
                }
                Some(byte) => Some(byte),
            };
            (last, empty) = (one, false);
        }
    }

    /// `*`, `+`, `?`, `{2}`, `{2,}`, `{2,5}`, if one stands here.
    fn how_often(&mut self) -> Result<(), String> {
        if self.take(b'{') {
            let wrong = || "has a `{` that is no `{2}`, `{2,}` or `{2,5}`".to_owned();
            let end = self.rest.iter().position(|b| *b == b'}').ok_or_else(wrong)?;
            let (inside, rest) = (&self.rest[..end], &self.rest[end + 1..]);
            let inside = std::str::from_utf8(inside).map_err(|_| wrong())?;
            let (from, to) = inside.split_once(',').unwrap_or((inside, inside));
            let number =
                |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u8>().ok()).flatten();
            let from = number(from).ok_or_else(wrong)?;
            if !to.is_empty() && number(to).is_none_or(|to| to < from) {
                return Err(wrong());
            }
            self.rest = rest;
        } else if !(self.take(b'*') || self.take(b'+') || self.take(b'?')) {
            return Ok(());
        }
        match self.rest.first() {
            Some(b'*' | b'+' | b'?' | b'{') => Err("repeats a repetition".to_owned()),
            _ => Ok(()),
        }
    }
}
