//! Where a handler's complaint about its own settings stands in the file: it knows words and paths, and no lines. Pure.

/// A place in a text: line and column from 1, length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In bytes.
    pub len: usize,
}

/// What ends a word of YAML, as far as a look for one needs to know.
const ENDS: [char; 8] = [' ', '\t', ',', '[', ']', '{', '}', '"'];

/// Looks in the block that begins with the key at `line` and `column` for what `message` speaks of: a word that it has in
/// backticks, or else a path that it names whole. `None` if neither stands there as a word of its own.
#[must_use]
pub fn spoken_of(text: &str, line: usize, column: usize, message: &str) -> Option<Found> {
    let tokens = block(text, line, column);
    let mut quoted = message.split('`').skip(1).step_by(2);
    let named = quoted.find_map(|word| tokens.iter().find(|(token, _)| *token == word));
    let is_path = |token: &str| {
        let path = if token.starts_with("./") { &token[1..] } else { token };
        path.starts_with('/') && path.len() > 1 && message.contains(path)
    };
    named.or_else(|| tokens.iter().find(|(token, _)| is_path(token))).map(|(_, found)| *found)
}

/// The words of a block behind its key, without those of comments.
fn block(text: &str, line: usize, column: usize) -> Vec<(&str, Found)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().enumerate().skip(line.saturating_sub(1));
    let Some((at, first)) = lines.next() else { return Vec::new() };
    let mut tokens = words(at + 1, first);
    // The key itself is not in its block.
    tokens.retain(|(_, found)| found.column > column);
    let inside = lines.take_while(|(_, line)| line.trim().is_empty() || indent(line) > indent(first));
    tokens.extend(inside.flat_map(|(at, line)| words(at + 1, line)));
    tokens
}

fn words(number: usize, line: &str) -> Vec<(&str, Found)> {
    let mut words = Vec::new();
    let mut from = 0;
    for part in line.split(ENDS) {
        let word = part.trim_end_matches(':').trim_matches('\'');
        if part.starts_with('#') {
            break;
        }
        if !word.is_empty() {
            let at = from + part.find(word).unwrap_or(0);
            let column = line[..at].chars().count() + 1;
            words.push((word, Found { line: number, column, len: word.len() }));
        }
        // Each of the ends is one byte.
        from += part.len() + 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "handlers:\n  git: # `admin` is here\n    use: gitolite\n    admin: ./a/admin.git\n\n    groups: [ä, \"one\", two]\n    keys: { group: [x] }\nrules:\n  - admn: /etc/x\n";

    fn at(message: &str) -> Option<(usize, usize, usize)> {
        spoken_of(SITE, 2, 3, message).map(|found| (found.line, found.column, found.len))
    }

    #[test]
    fn a_word_in_backticks_is_found_in_the_block_and_nowhere_else() {
        assert_eq!(at("`admin` is wrong"), Some((4, 5, 5)));
        assert_eq!(at("keys: `group` is not a word"), Some((7, 13, 5)));
        assert_eq!(at("there is no group `two`; there is `one`"), Some((6, 24, 3)));
        assert_eq!(at("there is no group `one`"), Some((6, 18, 3)));
        assert_eq!(at("`git` or `admn` or `here`"), None);
    }

    #[test]
    fn a_path_that_is_named_whole_is_found() {
        assert_eq!(at("/srv/site/a/admin.git: No such file"), Some((4, 12, 13)));
        assert_eq!(at("/srv/site/b/admin.git: No such file"), None);
        assert_eq!(spoken_of("x: { y: /etc/x }", 1, 1, "/etc/x is not there").map(|found| found.column), Some(9));
    }
}
