//! What the remote said of a push. gitolite compiles after the branch has moved, and git says "done" whatever came of it:
//! only its words on stderr tell. They quote the bad word but not its place, so it is looked for.

use std::collections::BTreeSet;
use std::fmt;

use handler_api::Failure;

use super::Snapshot;
use crate::files::Branch;
use crate::plan::Look;

/// Most lines that are kept of each kind; of a broken configuration the first few tell.
pub const LINES_MAX: usize = 50;
/// Longest line that is kept, in bytes; the rest is cut off.
pub const LINE_BYTES_MAX: usize = 1_000;
/// Most files that are looked through for a bad word.
pub const SEARCH_FILES_MAX: usize = 50_000;

/// What was said, line by line, as far as it counts.
#[derive(Debug, Default)]
pub(super) struct Heard {
    line: Vec<u8>,
    /// gitolite did not compile, or not to its end.
    pub fatal: Vec<String>,
    /// gitolite left out a line and went on.
    pub ignored: Vec<String>,
    /// Other warnings of gitolite's.
    pub warnings: Vec<String>,
}

impl Heard {
    /// The next piece of stderr.
    pub fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end(),
                _ if self.line.len() < LINE_BYTES_MAX => self.line.push(*byte),
                _ => {}
            }
        }
    }

    /// There is no more.
    pub fn end(&mut self) {
        let line = clean(&String::from_utf8_lossy(&std::mem::take(&mut self.line)));
        let Some(line) = line.strip_prefix("remote:").map(str::trim) else { return };
        let kind = if is_fatal(line) {
            &mut self.fatal
        } else if line.contains("WARNING: syntax error, ignoring") {
            &mut self.ignored
        } else if line.contains("WARNING: ") {
            &mut self.warnings
        } else {
            return;
        };
        if kind.len() < LINES_MAX {
            kind.push(line.to_owned());
        }
    }
}

/// Also perl's own last words, of a module that is not there.
fn is_fatal(line: &str) -> bool {
    const FATAL: [&str; 4] = ["FATAL: ", "Can't locate ", "BEGIN failed--", "Out of memory"];
    FATAL.iter().any(|word| line.contains(word)) || (line.starts_with("bad ") && line.ends_with('\''))
}

/// Without what has no place in a line.
pub(super) fn clean(text: &str) -> String {
    let unfit = |c: &char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
    };
    text.chars().filter(|c| !unfit(c)).collect()
}

/// A line that gitolite does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub path: String,
    pub line: usize,
    pub text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// One complaint of gitolite's.
#[derive(Clone, Debug)]
pub(super) struct Complaint {
    /// gitolite's words.
    pub said: String,
    /// Where that stands, if it was found.
    pub place: Option<Place>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place} ({})", self.said),
            None => f.write_str(&self.said),
        }
    }
}

/// All of them as one text.
pub(super) fn list(complaints: &[Complaint]) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<String> = complaints.iter().take(SHOWN).map(Complaint::to_string).collect();
    if complaints.len() > SHOWN {
        shown.push(format!("and {} more", complaints.len() - SHOWN));
    }
    shown.join("; ")
}

impl Heard {
    /// What is a refusal: whatever ended the compile, and what was ignored of the files in `ours`. What gitolite ignores in
    /// hand-written files is not ours to judge.
    pub fn refused(&self, pushed: &Snapshot, ours: &BTreeSet<String>) -> Result<Vec<Complaint>, Failure> {
        let mut all = Vec::new();
        for said in &self.fatal {
            all.push(Complaint { said: said.clone(), place: find(pushed, ours, said)? });
        }
        for said in &self.ignored {
            let place = find_in(pushed, ours.iter(), &words_of(said))?;
            if place.is_some() {
                all.push(Complaint { said: said.clone(), place });
            }
        }
        Ok(all)
    }
}

/// Where the bad word stands: in our files of this push first, then anywhere in `conf/`.
fn find(pushed: &Snapshot, ours: &BTreeSet<String>, said: &str) -> Result<Option<Place>, Failure> {
    let words = words_of(said);
    if words.is_empty() {
        return Ok(None);
    }
    if let Some(place) = find_in(pushed, ours.iter(), &words)? {
        return Ok(Some(place));
    }
    let all = pushed.below(Branch::Master, "conf")?;
    let (managed, hand): (Vec<&String>, Vec<&String>) =
        all.iter().filter(|path| path.ends_with(".conf")).partition(|path| path.starts_with("conf/reactor/"));
    find_in(pushed, hand.into_iter().chain(managed).take(SEARCH_FILES_MAX), &words)
}

fn find_in<'a>(
    pushed: &Snapshot,
    paths: impl Iterator<Item = &'a String>,
    words: &[String],
) -> Result<Option<Place>, Failure> {
    for path in paths {
        let Some(bytes) = pushed.read(Branch::Master, path)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let bad = |line: &str| {
            let line = as_gitolite_sees(line);
            words.iter().any(|word| line == *word || line.split(' ').any(|part| part.trim_matches(['"', '\'']) == word))
        };
        if let Some((at, line)) = text.lines().enumerate().find(|(_, line)| bad(line)) {
            return Ok(Some(Place { path: path.clone(), line: at + 1, text: clean(line.trim()) }));
        }
    }
    Ok(None)
}

/// The words that gitolite quotes, and what they may have been before it put something in front.
fn words_of(said: &str) -> Vec<String> {
    let parts: Vec<&str> = said.split('\'').collect();
    let mut words = Vec::new();
    // The text of a line may have quotes of its own.
    if let ([_, .., _], Some(whole)) = (&parts[..], said.split_once('\'').and_then(|(_, rest)| rest.rsplit_once('\'')))
    {
        words.push(whole.0.to_owned());
    }
    words.extend(parts.iter().skip(1).step_by(2).map(|word| (*word).to_owned()));
    let short: Vec<String> = words
        .iter()
        .flat_map(|word| {
            let refs = word.strip_prefix("refs/heads/").map(str::to_owned);
            // `option x = y` is told as this.
            let option = word.strip_prefix("config gitolite-options.").map(|rest| format!("option {rest}"));
            let key = word.strip_prefix("gitolite-options.").map(str::to_owned);
            [refs, option, key].into_iter().flatten()
        })
        .collect();
    words.extend(short);
    words.retain(|word| !word.is_empty());
    words
}

/// A line without its comment, with single spaces, also around its first `=`.
fn as_gitolite_sees(line: &str) -> String {
    let line = if line.contains('"') { line } else { line.split('#').next().unwrap_or_default() };
    line.replacen('=', " = ", 1).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_heard_in_pieces_of_any_size() {
        let said = "To x\nremote: WARNING: possible undeclared group '@a'\rremote: FATAL: bad username 'bad/user'        \n\
                    remote: WARNING: syntax error, ignoring: 'QQ = x'\nFATAL: not of the remote\nremote: fine\n\
                    remote: Can't locate Foo.pm in @INC";
        for size in [1, 7, 4_096] {
            let mut heard = Heard::default();
            said.as_bytes().chunks(size).for_each(|piece| heard.hear(piece));
            heard.end();
            assert_eq!(heard.fatal, ["FATAL: bad username 'bad/user'", "Can't locate Foo.pm in @INC"]);
            assert_eq!(heard.ignored, ["WARNING: syntax error, ignoring: 'QQ = x'"]);
            assert_eq!(heard.warnings, ["WARNING: possible undeclared group '@a'"]);
        }
    }

    #[test]
    fn a_flood_of_words_is_not_kept() {
        let mut heard = Heard::default();
        for _ in 0..LINES_MAX * 10 {
            heard.hear(b"remote: FATAL: ");
            heard.hear(&[b'x'; LINE_BYTES_MAX * 2]);
            heard.hear(b"\n");
        }
        assert_eq!(heard.fatal.len(), LINES_MAX);
        assert!(heard.fatal.iter().all(|line| line.len() <= LINE_BYTES_MAX));
    }

    #[test]
    fn the_words_are_those_that_stand_in_the_file() {
        assert_eq!(words_of("FATAL: bad ref 'refs/heads/a b'"), ["refs/heads/a b", "refs/heads/a b", "a b", "a b"]);
        assert!(words_of("FATAL: git config 'gitolite-options.x' not allowed").contains(&"x".to_owned()));
        assert!(words_of("WARNING: syntax error, ignoring: 'it's = so'").contains(&"it's = so".to_owned()));
        assert!(words_of("FATAL: out of luck").is_empty());
        assert_eq!(as_gitolite_sees("\tQQ  =x # why"), "QQ = x");
    }
}
