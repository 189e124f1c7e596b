//! Errors and warnings in a site's files, as people read them: file, line, column, the source line, a caret, one hint.
//!
//! Collects them all, in the order of the files. It reads no file and ends no program.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Element, Level, Origin, Renderer, Snippet};
use serde_json::json;

use super::masked::masked;
use super::settings_place;
use super::site::Place;

/// Most errors and warnings that are kept; the rest is only counted.
pub const DIAGNOSTICS_MAX: usize = 200;
/// Longest source line that is shown, in bytes; of a longer one only its place is.
const SHOWN_LINE_BYTES_MAX: usize = 1_000;
/// Most characters of a word or value from a file that a message repeats.
const SHOWN_WORD_CHARS_MAX: usize = 60;

/// A stretch of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which file: the number that [`Diagnostics::add_file`] gave.
    pub file: u32,
    /// Bytes from the beginning of the file.
    pub start: u32,
    /// Length in bytes; 0 = only the place is known.
    pub len: u32,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The site cannot be used.
    Error,
    /// It can, but hardly as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where; `span.line` is 0 where only the file is known.
    pub span: Span,
    /// What is wrong, on what, why.
    pub message: String,
    /// Another place that matters ("first given here").
    pub second: Option<(Span, String)>,
    /// What to write or type next.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// The site cannot be used.
    #[must_use]
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), second: None, hint: None }
    }

    /// It can, but hardly as meant.
    #[must_use]
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Adds what to write or type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds another place that matters.
    #[must_use]
    pub fn second(mut self, span: Span, label: impl Into<String>) -> Self {
        self.second = Some((span, label.into()));
        self
    }
}

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    text: Arc<str>,
}

/// Everything that was found; `Display` shows all of it, in the order of the files, without colour.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    files: Vec<File>,
    found: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// Makes a file known (its text may be empty where it could not be read); the number goes into spans. Passwords in
    /// it are never shown.
    pub fn add_file(&mut self, path: &Path, text: Arc<str>) -> u32 {
        let text = match masked(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(shown) => shown.into(),
        };
        self.files.push(File { path: path.to_owned(), text });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    /// Adds one. The same one at the same place counts once; behind [`DIAGNOSTICS_MAX`] it is only counted.
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        for said in [Some(&mut diagnostic.message), diagnostic.hint.as_mut()].into_iter().flatten() {
            if let Cow::Owned(shown) = masked(said) {
                *said = shown;
            }
        }
        if self.found.contains(&diagnostic) {
            return;
        }
        match diagnostic.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.found.len() < DIAGNOSTICS_MAX {
            self.found.push(diagnostic);
        }
    }

    /// Adds an error about the whole of a file.
    pub fn error_in_file(&mut self, path: &Path, message: impl Into<String>, hint: impl Into<String>) {
        let span = self.span_of(&Place { file: path.to_owned(), line: 0, column: 0 });
        self.push(Diagnostic::error(span, message).hint(hint));
    }

    /// The span of a place that [`super::site::Site`] remembers: the rest of the word that stands there.
    #[must_use]
    pub fn span_of(&mut self, place: &Place) -> Span {
        let known = self.files.iter().position(|file| file.path == place.file);
        let number = match known {
            Some(at) => u32::try_from(at).unwrap_or(u32::MAX),
            None => self.add_file(&place.file, "".into()),
        };
        let text = &self.files[number as usize].text;
        let mut span = Span { file: number, line: small(place.line), column: small(place.column), ..Span::default() };
        if place.line == 0 || place.column == 0 {
            return span;
        }
        let before: usize = text.split_inclusive('\n').take(place.line - 1).map(str::len).sum();
        let line = text[before..].lines().next().unwrap_or_default();
        let from = line.char_indices().nth(place.column - 1).map_or(line.len(), |(at, _)| at);
        span.start = small(before + from);
        span.len = small(line[from..].trim_end().len());
        span
    }

    /// The span of what a message about a handler's settings speaks of, in the block that begins at this place; if it can't be
    /// found there, of the block's name.
    #[must_use]
    pub fn span_in_block(&mut self, place: &Place, message: &str) -> Span {
        let whole = self.span_of(place);
        let text = &self.files[whole.file as usize].text;
        let Some(found) = settings_place::spoken_of(text, place.line, place.column, message) else { return whole };
        let inside = Place { file: place.file.clone(), line: found.line, column: found.column };
        Span { len: small(found.len), ..self.span_of(&inside) }
    }

    /// The place of a span, as [`super::site::Site`] remembers it.
    #[must_use]
    pub fn place_of(&self, span: Span) -> Place {
        let file = self.files.get(span.file as usize).map(|file| file.path.clone()).unwrap_or_default();
        Place { file, line: span.line as usize, column: span.column as usize }
    }

    /// Whether the site cannot be used.
    #[must_use]
    pub const fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether nothing at all was found.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.errors + self.warnings == 0
    }

    /// Puts them in the order of the files, top to bottom.
    pub fn sort(&mut self) {
        self.found.sort_by_key(|d| (d.span.file, d.span.start, d.severity));
    }

    /// What was found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// All of it as a person reads it; `colour` for a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for diagnostic in &self.found {
            out.push_str(&self.render_one(&renderer, diagnostic));
            out.push_str("\n\n");
        }
        if self.is_empty() {
            return out;
        }
        let left_out = self.errors + self.warnings - self.found.len();
        if left_out > 0 {
            out.push_str(&format!("… and {left_out} more\n"));
        }
        out.push_str(&format!("{}\n", self.summary()));
        out
    }

    fn summary(&self) -> String {
        let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        match (self.errors, self.warnings) {
            (errors, 0) => count(errors, "error"),
            (0, warnings) => count(warnings, "warning"),
            (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
        }
    }

    fn render_one(&self, renderer: &Renderer, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(diagnostic.message.as_str()).elements(self.places(diagnostic));
        if let Some(hint) = &diagnostic.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        renderer.render(&[group])
    }

    /// The source lines with their carets; one snippet where both places stand in the same file.
    fn places<'a>(&'a self, diagnostic: &'a Diagnostic) -> Vec<Element<'a>> {
        let main = diagnostic.span;
        match &diagnostic.second {
            Some((other, label)) if other.file == main.file => vec![self.place(main, "", Some((*other, label)))],
            Some((other, label)) => vec![self.place(main, "", None), self.place(*other, label, None)],
            None => vec![self.place(main, "", None)],
        }
    }

    fn place<'a>(&'a self, span: Span, label: &'a str, second: Option<(Span, &'a str)>) -> Element<'a> {
        let Some(file) = self.files.get(span.file as usize) else { return Origin::path("?").into() };
        let path = file.path.to_string_lossy();
        if span.line == 0 {
            return Origin::path(path).into();
        }
        let (first, last) = match second {
            Some((other, _)) => (span.min(other), span.max(other)),
            None => (span, span),
        };
        let from = line_start(&file.text, first.start as usize);
        let to = line_end(&file.text, last.start as usize);
        if file.text[from..to].lines().any(|line| line.len() > SHOWN_LINE_BYTES_MAX) {
            return Origin::path(path).line(span.line as usize).char_column(span.column as usize).into();
        }
        let kind = if label.is_empty() { AnnotationKind::Primary } else { AnnotationKind::Context };
        let mut main = kind.span(within(&file.text, span, from));
        if !label.is_empty() {
            main = main.label(label);
        }
        let mut snippet =
            Snippet::source(&file.text[from..to]).path(path).line_start(first.line as usize).annotation(main);
        if let Some((other, label)) = second {
            snippet = snippet.annotation(AnnotationKind::Context.span(within(&file.text, other, from)).label(label));
        }
        snippet.into()
    }

    /// One JSON object a line: `{"file","line","column","severity","message","hint"}`, and `"second"` (`file`, `line`,
    /// `column`, `label`) where there is another place. `line` and `column` are 0 where only the file is known.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.found.iter().map(|diagnostic| format!("{}\n", self.one_as_json(diagnostic))).collect()
    }

    fn one_as_json(&self, diagnostic: &Diagnostic) -> serde_json::Value {
        let place = self.place_of(diagnostic.span);
        let mut line = json!({
            "file": place.file, "line": place.line, "column": place.column,
            "severity": diagnostic.severity.word(), "message": diagnostic.message, "hint": diagnostic.hint,
        });
        if let Some((span, label)) = &diagnostic.second {
            let second = self.place_of(*span);
            line["second"] = json!({"file": second.file, "line": second.line, "column": second.column, "label": label});
        }
        line
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].rfind('\n').map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| at + newline)
}

/// The span's bytes counted from `from`, cut at the end of its first line; whole characters, as the renderer needs.
fn within(text: &str, span: Span, from: usize) -> std::ops::Range<usize> {
    let whole =
        |at: usize| (at.min(text.len())..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let start = whole(span.start as usize);
    let end = whole(start + span.len as usize).min(line_end(text, start)).max(start);
    start - from..end - from
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// A word or value from a file in backticks, safe to print: control characters escaped, long ones cut.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN_WORD_CHARS_MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("`{}`", cut.chars().flat_map(escaped).collect::<String>())
}

fn escaped(c: char) -> Vec<char> {
    if c.is_control() { c.escape_debug().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_cannot_play_tricks_on_the_terminal() {
        assert_eq!(shown("a\u{1b}[31mb\n"), "`a\\u{1b}[31mb\\n`");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn both_places_are_shown_when_they_stand_in_different_files() {
        let mut found = Diagnostics::default();
        let a = found.add_file(Path::new("a.yaml"), "x: 1\nname: one\n".into());
        let b = found.add_file(Path::new("b.yaml"), "name: one\n".into());
        let span = Span { file: b, start: 6, len: 3, line: 1, column: 7 };
        let first = Span { file: a, start: 11, len: 3, line: 2, column: 7 };
        found.push(Diagnostic::error(span, "rule `one` is there twice").second(first, "first given here").hint("x"));
        let text = found.to_string();
        assert!(text.contains("b.yaml:1:7") && text.contains("a.yaml:2:7"), "{text}");
        assert!(text.contains("first given here") && text.contains("hint: x"), "{text}");
        assert_eq!(found.to_json().lines().count(), 1);
    }

    #[test]
    fn a_place_that_the_site_remembers_finds_its_span_again() {
        let mut found = Diagnostics::default();
        found.add_file(Path::new("a.yaml"), "é: 1\nna: ü one\n".into());
        let span = found.span_of(&Place { file: "a.yaml".into(), line: 2, column: 5 });
        assert_eq!((span.start, span.len), (10, 6));
        for (line, column) in [(0, 0), (1, 900), (900, 1), (3, 1)] {
            let span = found.span_of(&Place { file: "a.yaml".into(), line, column });
            found.push(Diagnostic::error(span, "x"));
        }
        assert!(found.to_string().ends_with("4 errors\n"), "{found}");
    }
}
