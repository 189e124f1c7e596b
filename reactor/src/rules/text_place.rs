//! Where a place inside of a text (an offset into a template or expression) stands in the file.
//!
//! White space is folded in several ways by YAML, everything else keeps its order: so the characters that are no white
//! space are counted on both sides.

use super::diagnostics::Span;
use super::node::{Node, Style, Value};

/// The span in `source` of the `len` bytes at `offset` of the text that `node` holds. Exact for texts in plain style,
/// in quotes and in blocks; the whole text for an alias.
#[must_use]
pub fn inside(source: &str, node: &Node, offset: usize, len: usize) -> Span {
    let Value::Text(text, style) = &node.value else { return node.span };
    let whole = node.span;
    let start = whole.start as usize;
    let Some(written) = source.get(start..start + whole.len as usize) else { return whole };
    let content = match style {
        Style::Alias => return whole,
        // The parser's span of a block begins behind its header.
        Style::Plain | Style::Block => 0,
        Style::Single | Style::Double => 1,
    };
    let ink_before = |bytes: usize| ink(text.get(..bytes).unwrap_or(text));
    let (first, last) = (ink_before(offset), ink_before((offset + len).min(text.len())));
    let from = content + nth_ink(&written[content..], *style, first);
    let mut to = content + nth_ink_end(&written[content..], *style, last);
    if offset >= text.trim_end().len() {
        to = from;
    }
    let before = &written[..from];
    let lines = before.matches('\n').count();
    let column = match before.rfind('\n') {
        Some(newline) => before[newline + 1..].chars().count() + 1,
        None => whole.column as usize + before.chars().count(),
    };
    Span {
        file: whole.file,
        start: small(start + from),
        len: if len == 0 { 0 } else { small(to.saturating_sub(from)) },
        line: whole.line + small(lines),
        column: small(column),
    }
}

fn ink(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// The byte at which ink number `number` (from 0) begins; behind the last one, the end of the last.
fn nth_ink(written: &str, style: Style, number: usize) -> usize {
    let mut end = 0;
    for (at, (from, to)) in (Inks { written, style, at: 0 }).enumerate() {
        if at == number {
            return from;
        }
        end = to;
    }
    end
}

/// The byte behind ink number `number - 1`.
fn nth_ink_end(written: &str, style: Style, number: usize) -> usize {
    if number == 0 {
        return 0;
    }
    Inks { written, style, at: 0 }.nth(number - 1).map_or(written.len(), |(_, to)| to)
}

/// The characters of a written text that are no white space, each with where it begins and ends; escapes are one.
struct Inks<'a> {
    written: &'a str,
    style: Style,
    at: usize,
}

impl Inks<'_> {
    /// Length of what stands here, and whether it is ink; `None` at the closing quote.
    fn step(&self, c: char) -> Option<(usize, bool)> {
        let rest = &self.written[self.at..];
        match (self.style, c) {
            (Style::Single, '\'') if rest.starts_with("''") => Some((2, true)),
            (Style::Single, '\'') | (Style::Double, '"') => None,
            (Style::Double, '\\') => {
                let escape = rest[1..].chars().next()?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                let white = matches!(escape, 'n' | 't' | 'r' | ' ' | '\n' | 'v' | 'f' | 'N' | '_' | 'L' | 'P' | '\t');
                Some((1 + escape.len_utf8() + digits, !white))
            }
            _ => Some((c.len_utf8(), !c.is_whitespace())),
        }
    }
}

impl Iterator for Inks<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let c = self.written.get(self.at..)?.chars().next()?;
            let (len, is_ink) = self.step(c)?;
            let from = self.at;
            self.at += len;
            if is_ink {
                return Some((from, self.at.min(self.written.len())));
            }
        }
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::diagnostics::Diagnostics;
    use super::super::node;
    use super::*;

    /// What the span of `needle`, as it stands in the parsed text, covers in the file.
    fn found_again(yaml: &str, needle: &str) -> (u32, u32, String) {
        let mut found = Diagnostics::default();
        let root = node::read(0, yaml, &mut found).unwrap_or_else(|| panic!("{found}"));
        let node = root.at(&["when".into()]).unwrap();
        let Value::Text(text, _) = &node.value else { panic!("{node:?}") };
        let span = inside(yaml, node, text.find(needle).unwrap(), needle.len());
        let covered = yaml[span.start as usize..(span.start + span.len) as usize].to_owned();
        (span.line, span.column, covered)
    }

    #[test]
    fn a_place_in_an_expression_is_found_again_however_it_is_written() {
        let there = |line, column, text: &str| (line, column, text.to_owned());
        assert_eq!(found_again("when: msg.a > bad.b\n", "bad.b"), there(1, 15, "bad.b"));
        assert_eq!(found_again("when: 'msg.a == ''x'' && bad'\n", "bad"), there(1, 26, "bad"));
        assert_eq!(found_again(r#"when: "a \"q\" \u00e9 ü\n bad x""#, "bad"), there(1, 27, "bad"));
        assert_eq!(found_again("when: |\n  a\n\n    && bad\n", "bad"), there(4, 8, "bad"));
        assert_eq!(found_again("x: 1\nwhen: >-\n  a &&\n  bad || c\n", "bad || c"), there(4, 3, "bad || c"));
        assert_eq!(found_again("when: a &&\n  bad\n", "bad"), there(2, 3, "bad"));
    }

    #[test]
    fn the_end_of_an_expression_is_the_end_of_its_text() {
        let mut found = Diagnostics::default();
        let yaml = "when: \"a &&\"\n";
        let root = node::read(0, yaml, &mut found).unwrap();
        let span = inside(yaml, root.at(&["when".into()]).unwrap(), 4, 0);
        assert_eq!((span.line, span.column, span.len), (1, 12, 0));
    }
}
