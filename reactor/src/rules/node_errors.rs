//! What the YAML parser says when it gives up, in words for someone who edits a file, and with what to do about it.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::diagnostics::{Diagnostic, Span, shown};
use super::node::DEPTH_MAX;

const QUOTES: &str = "put the whole value in quotes";
const INDENT: &str = "words of one map, and dashes of one list, begin in the same column";

/// The parser's error, at the place that has to be mended.
pub(super) fn explain(error: &ScanError, file: u32, text: &str) -> Diagnostic {
    let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let at = last_ink(text, at);
    if let Some(template) = bare_template(text, at) {
        return Diagnostic::error(span(file, text, at), "a template must stand in quotes")
            .hint(format!("write \"{template}\": without the quotes YAML takes `{{` as the beginning of a map"));
    }
    let (at, message, hint) = tab(error.kind(), text, at)
        .or_else(|| never_closed(error.kind(), text, at))
        .or_else(|| no_space(error.kind(), text, at))
        .or_else(|| bare_pattern(error.kind(), text, at))
        .or_else(|| escape(error.kind(), text, at))
        .unwrap_or_else(|| {
            let (message, hint) = words(error.kind(), text, at);
            (at, message, hint)
        });
    let diagnostic = Diagnostic::error(span(file, text, at), message);
    if hint.is_empty() { diagnostic } else { diagnostic.hint(hint) }
}

/// One character.
fn span(file: u32, text: &str, at: usize) -> Span {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let line_from = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    Span {
        file,
        start: small(at),
        len: 1,
        line: small(text[..at].matches('\n').count() + 1),
        column: small(text[line_from..at].chars().count() + 1),
    }
}

/// A place behind the last line is shown at the end of the last line that says something.
fn last_ink(text: &str, at: usize) -> usize {
    if !text[at..].trim().is_empty() {
        return at;
    }
    text[..at].trim_end().char_indices().next_back().map_or(0, |(last, _)| last)
}

type Mend = Option<(usize, String, &'static str)>;

/// The tab itself: the parser points to where the value began.
fn tab(kind: &ErrorKind, text: &str, at: usize) -> Mend {
    let tabs = matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabAtBlockScalarStart
            | ErrorKind::TabInPlainScalar
            | ErrorKind::UnexpectedCharacter { character: '\t' }
    );
    let from = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let mut line_from = from;
    let found = text[from..].split_inclusive('\n').find_map(|line| {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        let tab = line[..indent].find('\t').map(|tab| line_from + tab);
        line_from += line.len();
        tab
    });
    let message = "a tab where the indentation is; YAML wants spaces there".to_owned();
    tabs.then_some((found.unwrap_or(at), message, "replace the tab by two spaces"))
}

/// A quote or bracket that is open since an earlier line: the parser points to where it lost the thread.
fn never_closed(kind: &ErrorKind, text: &str, at: usize) -> Mend {
    let lost = matches!(
        kind,
        ErrorKind::MappingValueNotAllowed
            | ErrorKind::InvalidColonPlacement
            | ErrorKind::ExpectedFlowMappingSeparator
            | ErrorKind::ExpectedFlowSequenceSeparator
            | ErrorKind::InvalidQuotedScalarIndent
            | ErrorKind::InvalidFlowScalarIndent
            | ErrorKind::UnclosedQuotedScalar
            | ErrorKind::UnclosedFlowCollection { .. }
            | ErrorKind::SimpleKeyExpected
            | ErrorKind::InvalidSimpleKey
            | ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::InvalidIndentation
            | ErrorKind::UnexpectedEof
            | ErrorKind::UnexpectedEofFlowMapping
            | ErrorKind::UnexpectedEofFlowSequence
            | ErrorKind::UnexpectedEofImplicitFlowMapping
            | ErrorKind::BlockEntryInFlowCollection
    );
    let (open_at, open) = still_open(&text[..at]).filter(|(open_at, _)| lost && text[*open_at..at].contains('\n'))?;
    Some(match open {
        '[' => (open_at, "this `[` is never closed".to_owned(), "add the `]`"),
        '{' => (open_at, "this `{` is never closed".to_owned(), "add the `}`"),
        _ => (open_at, "this quote is never closed".to_owned(), "add the closing quote"),
    })
}

/// The innermost quote or bracket that is still open at the end of `text`. A guess for messages, not a parser.
fn still_open(text: &str) -> Option<(usize, char)> {
    let mut brackets: Vec<(usize, char)> = Vec::new();
    let mut quote: Option<(usize, char)> = None;
    let mut comment = false;
    let (mut previous, mut ink) = ('\n', '\n');
    for (at, c) in text.char_indices() {
        let begins =
            matches!(ink, '\n' | ':' | '-' | ',' | '[' | '{') && (previous.is_whitespace() || "[{,".contains(previous));
        match (quote, c) {
            _ if comment => comment = c != '\n',
            (Some((_, open)), _) if c == open && previous != '\\' => quote = None,
            (Some(_), _) => {}
            (None, '#') if previous.is_whitespace() => comment = true,
            (None, '"' | '\'') if begins => quote = Some((at, c)),
            (None, '[' | '{') if begins || !brackets.is_empty() => brackets.push((at, c)),
            (None, ']' | '}') => drop(brackets.pop()),
            _ => {}
        }
        previous = c;
        if !c.is_whitespace() || c == '\n' {
            ink = c;
        }
    }
    quote.or_else(|| brackets.pop())
}

/// `on:org.example`
fn no_space(kind: &ErrorKind, text: &str, at: usize) -> Mend {
    let colon = text[at..].split_whitespace().next()?.find(':')?;
    let message = "a space is missing behind this `:`".to_owned();
    matches!(kind, ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey).then_some((
        at + colon,
        message,
        "write `word: value`",
    ))
}

/// `on: **.update`: a topic pattern that YAML takes for an alias.
fn bare_pattern(kind: &ErrorKind, text: &str, at: usize) -> Mend {
    let word = text[at..].split(|c: char| c.is_whitespace() || ",]}".contains(c)).next()?;
    let pattern = *kind == ErrorKind::UnknownAnchor && (word.contains(['.', '#']) || word.starts_with("**"));
    let message = format!("{} must stand in quotes", shown(word));
    pattern.then_some((at, message, "without the quotes YAML takes `*` as the beginning of an alias"))
}

/// The escape itself: the parser points to where the text began.
fn escape(kind: &ErrorKind, text: &str, at: usize) -> Mend {
    let mut rest = text[at..].char_indices();
    let wrong = std::iter::from_fn(|| {
        let (slash, _) = rest.by_ref().find(|(_, c)| *c == '\\')?;
        rest.next().map(|(_, escaped)| (at + slash, escaped))
    })
    .find(|(_, escaped)| !"0abtnvfre \"/\\N_LPxuU\n\r\t".contains(*escaped))?;
    let message = format!("\\{} is no escape that YAML knows", wrong.1.escape_debug());
    (*kind == ErrorKind::UnknownQuotedScalarEscape).then_some((
        wrong.0,
        message,
        "write \\\\ for a backslash, or use '…', where it is a plain character",
    ))
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
    match kind {
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            said("this quote is never closed", "add the closing quote")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => said(
            "something stands behind the closing quote",
            "put the whole value in quotes; inside of '…' a quote is written ''",
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
        ErrorKind::UnknownAnchor => said(
            "this alias has no anchor above it",
            "write `&NAME` where the value is first given; a text that begins with `*` goes in quotes",
        ),
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
