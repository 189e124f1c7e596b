//! The lines of a dry run (`--out-format='%i %l %n'`). Pure.

use handler_api::Action;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What would be done.
    pub action: Action,
    /// To which path, byte by byte; a directory's without its last slash.
    pub path: Vec<u8>,
    /// Its size, if it would be transferred.
    pub bytes: u64,
}

/// What a line says; `None` = nothing that counts: an empty line, a statistic, a directory of which only the time differs.
#[must_use]
pub fn read(line: &[u8]) -> Option<Item> {
    let (code, rest) = line.split_at_checked(11)?;
    let rest = rest.strip_prefix(b" ")?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let bytes: u64 = std::str::from_utf8(&rest[..space]).ok()?.parse().ok()?;
    let name = unescape(&rest[space + 1..]);
    let path = name.strip_suffix(b"/").map_or(name.clone(), <[u8]>::to_vec);
    if code.starts_with(b"*deleting") {
        return Some(Item { action: Action::Delete, path, bytes: 0 });
    }
    let [kind, form, marks @ ..] = code else { return None };
    if !b"<>ch.".contains(kind) || !b"fdLDS".contains(form) {
        return None;
    }
    let action = if marks.iter().all(|mark| *mark == b'+') { Action::Create } else { Action::Update };
    let differs = marks.iter().any(|mark| !b".t ".contains(mark));
    if *form == b'd' && !differs {
        return None;
    }
    let bytes = if *kind == b'>' { bytes } else { 0 };
    Some(Item { action, path, bytes })
}

/// The number of files on the upstream's list, if that is what the line says.
#[must_use]
pub fn files(line: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("Number of files: ")?;
    rest.split([' ', '(']).next()?.replace([',', '.'], "").parse().ok()
}

/// Takes rsync's `\#012` back.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        if let [b'\\', b'#', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..] = rest {
            plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = more;
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    plain
}

/// A path for people: nothing in it that a terminal acts on.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        _ if path.is_empty() => ".".to_owned(),
        _ => format!("{:?}", path.escape_ascii().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let line = |text: &str| read(text.as_bytes()).map(|item| (item.action, shown(&item.path), item.bytes));
        for (text, action, path, bytes) in [
            (">f+++++++++ 7 a/b c", Action::Create, "a/b c", 7),
            (">f.st...... 7 a", Action::Update, "a", 7),
            (".f...p..... 7 a", Action::Update, "a", 0),
            ("cd+++++++++ 4096 a/d/", Action::Create, "a/d", 0),
            (".d...p..... 4096 a/d/", Action::Update, "a/d", 0),
            ("cL+++++++++ 3 l", Action::Create, "l", 0),
            ("*deleting   0 a/gone/", Action::Delete, "a/gone", 0),
        ] {
            assert_eq!(line(text), Some((action, path.to_owned(), bytes)), "{text}");
        }
        for text in ["", ".d..t...... 4096 ./", "Number of files: 3 (reg: 2)", "sent 3 bytes  received 4 bytes"] {
            assert_eq!(line(text), None, "{text}");
        }
        assert_eq!(files(b"Number of files: 1,234 (reg: 2)"), Some(1_234));
    }

    #[test]
    fn names_with_a_newline_or_no_utf_8_are_read_byte_by_byte_and_shown_harmless() {
        let path = |text: &str| read(text.as_bytes()).unwrap().path;
        assert_eq!(path(r">f+++++++++ 1 n\#012l"), b"n\nl");
        assert_eq!(path(r">f+++++++++ 1 x\#134#012y"), br"x\#012y");
        assert_eq!(path(">f+++++++++ 1 \\#377ü"), b"\xff\xc3\xbc");
        assert_eq!(path(r">f+++++++++ 1 a\#9"), br"a\#9");
        assert_eq!(shown(b"n\nl"), r#""n\\nl""#);
        assert!(!shown(b"\xff\x1b[0m").contains('\u{1b}'));
    }
}
