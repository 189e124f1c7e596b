//! What the YAML parser says when it gives up, in words for someone who edits a file, and with what to do about it.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::diagnostics::{Diagnostic, Span, shown};
use super::node::DEPTH_MAX;

const QUOTES: &str = "put the whole value in quotes";
const INDENT: &str = "words of one map, and dashes of one list, begin in the same column";

/// The parser's error at its place.
pub(super) fn explain(error: &ScanError, file: u32, text: &str) -> Diagnostic {
    let marker = error.marker();
    let start = marker.byte_offset().unwrap_or(text.len()).min(text.len());
    let span = Span {
        file,
        start: u32::try_from(start).unwrap_or(u32::MAX),
        len: 1,
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    };
    let span = on_text(span, text);
    if let Some(template) = bare_template(text, span.start as usize) {
        return Diagnostic::error(span, "a template must stand in quotes")
            .hint(format!("write \"{template}\": without the quotes YAML takes `{{` as the beginning of a map"));
    }
    let (message, hint) = words(error.kind(), text, span.start as usize);
    let diagnostic = Diagnostic::error(span, message);
    if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) }
}

/// A place behind the last line is shown at the end of the last line that says something.
fn on_text(span: Span, text: &str) -> Span {
    if !text[span.start as usize..].trim().is_empty() {
        return span;
    }
    let before = text[..span.start as usize].trim_end();
    let last = before.char_indices().next_back().map_or(0, |(at, _)| at);
    let line_from = before.rfind('\n').map_or(0, |newline| newline + 1);
    Span {
        start: u32::try_from(last).unwrap_or(u32::MAX),
        line: u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX),
        column: u32::try_from(before[line_from..].chars().count().max(1)).unwrap_or(u32::MAX),
        ..span
    }
}

/// `key: {{msg.user}}` without quotes breaks in many ways; all of them mean the same.
fn bare_template(text: &str, at: usize) -> Option<String> {
    let from = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[from..].lines().next()?;
    let value = line.find(": {{").map(|at| &line[at + 2..])?;
    let end = value.find("}}").map_or(value.len(), |at| at + 2);
    Some(shown(&value[..end]).trim_matches('`').to_owned())
}

fn words(kind: &ErrorKind, text: &str, at: usize) -> (String, &'static str) {
    let said = |message: &str, hint| (message.to_owned(), hint);
    let tab = "a tab where the indentation is; YAML wants spaces there";
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => said(tab, "replace the tab by two spaces"),
        ErrorKind::UnexpectedCharacter { character: '\t' } => said(tab, "replace the tab by two spaces"),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            said("this quote is never closed", "add the closing quote")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => said(
            "something stands behind the closing quote",
            "put the whole value in quotes; inside of '…' a quote is written ''",
        ),
        ErrorKind::UnknownQuotedScalarEscape => said(
            "an unknown escape inside of \"…\"",
            "write \\\\ for a backslash, or use '…', where it is a plain character",
        ),
        ErrorKind::UnclosedFlowCollection { open } => {
            (format!("this `{open}` is never closed"), if *open == '{' { "add the `}`" } else { "add the `]`" })
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            (format!("`{close}` where the open `{open}` must be closed first"), "")
        }
        ErrorKind::MisplacedFlowCollectionEnd => said("a closing bracket that nothing opened", QUOTES),
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping => said("`,` or `}` is missing before this", QUOTES),
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnexpectedEofFlowSequence => {
            said("`,` or `]` is missing before this", QUOTES)
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
            said("a `:` where no value can stand", "put a text with `: ` in it in quotes, and look at the indentation")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            said("a `:` is missing behind this", "write `word: value`; a long text goes in quotes or behind `|`")
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation
        | ErrorKind::BlockSequenceEntryNotAllowed
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::ExpectedDocumentStart
        | ErrorKind::InvalidQuotedScalarIndent
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::InvalidBlockScalarIndent => {
            said("this does not fit the lines above: the indentation is off", INDENT)
        }
        ErrorKind::UnknownAnchor => {
            said("this alias has no anchor above it", "write `&name` where the value is first given")
        }
        ErrorKind::RecursionLimitExceeded => (format!("more than {DEPTH_MAX} lists and maps inside each other"), ""),
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("a text cannot begin with {}", shown(&character.to_string())), QUOTES)
        }
        ErrorKind::ExpectedNodeContent if text[at..].starts_with(['%', '@', '`']) => {
            (format!("a text cannot begin with `{}`", &text[at..=at]), QUOTES)
        }
        other => (
            format!("this is not YAML: {other}"),
            "look at the quotes and the indentation of this line and the one above",
        ),
    }
}
