//! Distinguished names, taken apart so that two spellings of one name are equal (RFC 4514). Pure.

/// Longest name that is looked at, in bytes.
pub(super) const DN_BYTES_MAX: usize = 4_096;

/// A distinguished name. Equal names name the same entry: neither case, nor blanks around marks, nor the way in which a
/// character is escaped count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dn {
    /// From the entry up to the root; each part in the order of its attributes.
    parts: Vec<Vec<(String, Vec<u8>)>>,
}

impl Dn {
    /// Takes a name apart. `None` = it is no distinguished name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > DN_BYTES_MAX {
            return None;
        }
        if text.trim().is_empty() {
            return Some(Self { parts: Vec::new() });
        }
        let mut parts = Vec::new();
        for part in split(text, b",;")? {
            let mut pairs = split(part, b"+")?.into_iter().map(pair).collect::<Option<Vec<_>>>()?;
            pairs.sort();
            parts.push(pairs);
        }
        Some(Self { parts })
    }

    /// Whether it is `above`, or stands below it.
    pub(super) fn is_within(&self, above: &Self) -> bool {
        self.parts.ends_with(&above.parts)
    }

    /// The value of its first part, if this is one `attribute` (in lower case) alone. Lower case, because case does not count.
    pub(super) fn first(&self, attribute: &str) -> Option<&str> {
        match self.parts.first().map(Vec::as_slice) {
            Some([(name, value)]) if name == attribute => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }
}

/// Splits at marks that are neither escaped nor in quotes.
fn split<'a>(text: &'a str, marks: &[u8]) -> Option<Vec<&'a str>> {
    let (mut found, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            mark if !quoted && marks.contains(&mark) => {
                found.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[begin..]);
    (!quoted && !escaped).then_some(found)
}

/// `uid=ralph`.
fn pair(text: &str) -> Option<(String, Vec<u8>)> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if name.is_empty() || !name.bytes().all(fits) {
        return None;
    }
    Some((name, folded(&unescaped(value)?)))
}

/// The value that a text stands for.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_start_matches(' ');
    if let Some(hex) = text.strip_prefix('#') {
        // The encoding of a value whose type is not known here: equal only to itself.
        let hex = hex.trim_end().to_ascii_lowercase();
        return hex.bytes().all(|b| b.is_ascii_hexdigit()).then(|| format!("#{hex}").into_bytes());
    }
    let text = match text.trim_end_matches(' ').strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"')?,
        None => text,
    };
    let mut bytes = text.bytes().peekable();
    // Blanks at the end count only where they were escaped.
    let (mut out, mut solid) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            if byte != b' ' {
                solid = out.len();
            }
            continue;
        }
        let first = bytes.next()?;
        let digits = (hex_digit(first), bytes.peek().copied().and_then(hex_digit));
        match digits {
            (Some(high), Some(low)) => {
                bytes.next();
                out.push(high * 16 + low);
            }
            (Some(_), None) => return None,
            (None, _) => out.push(first),
        }
        solid = out.len();
    }
    out.truncate(solid);
    Some(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// As servers compare names: without case, and with runs of blanks as one.
fn folded(value: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(value) else { return value.to_vec() };
    let words: Vec<String> = text.split(' ').filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    words.join(" ").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dn(text: &str) -> Dn {
        Dn::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn spellings_of_one_name_are_equal() {
        let plain = dn("cn=sysadmin-web,cn=groups,cn=accounts,dc=example,dc=org");
        assert_eq!(dn("CN=Sysadmin-Web, cn = groups;cn=accounts,DC=example,dc=ORG"), plain);
        assert_eq!(dn(r"cn=sysadmin\2dweb,cn=groups,cn=accounts,dc=example,dc=org"), plain);
        assert_eq!(dn(r#"cn="sysadmin-web",cn=groups,cn=accounts,dc=example,dc=org"#), plain);
        assert_eq!(dn("uid=a+ou=b,o=c"), dn("OU=b+uid=a,o=c"));
        assert_ne!(dn("cn=sysadmin-we,cn=groups,cn=accounts,dc=example,dc=org"), plain);
    }

    #[test]
    fn a_comma_in_a_name_does_not_move_the_entry_elsewhere() {
        let groups = dn("cn=groups,dc=example");
        let sly = dn(r"cn=root\,cn=groups,dc=other");
        assert!(!sly.is_within(&groups));
        assert_eq!(sly.first("cn"), Some("root,cn=groups"));
        assert_eq!(dn(r"cn=root\2ccn=groups,dc=other"), sly);
        assert_eq!(dn(r#"cn="root,cn=groups",dc=other"#), sly);
        assert!(dn(r"cn=a\,b,cn=groups,dc=example").is_within(&groups));
        assert!(!dn("cn=a,cn=more groups,dc=example").is_within(&groups));
    }

    #[test]
    fn blanks_at_the_end_count_only_where_they_are_escaped() {
        assert_eq!(dn("cn=a  ,o=b"), dn("cn=a,o=b"));
        assert_eq!(dn(r"cn=a\5c ,o=b").first("cn"), Some(r"a\"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in
            ["ralph", "uid=ralph,", "=ralph,o=b", r"uid=ralph\", r#"uid="ralph,o=b"#, r"uid=a\2", "u d=a", "cn=#zz"]
        {
            assert_eq!(Dn::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Dn::parse(&format!("cn={}", "a".repeat(DN_BYTES_MAX))), None);
    }
}
