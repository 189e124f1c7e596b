use super::*;

#[test]
fn excludes_count_from_the_beginning_of_the_name() {
    let excludes = Excludes::new(&RegexSet::new([r".*\.snapshot", "pub/alt", "stage|test"]).unwrap()).unwrap();
    assert!(excludes.has("pub/epel/.snapshot"));
    assert!(excludes.has("pub/alt/x"));
    assert!(!excludes.has("x/pub/alt"));
    assert!(!excludes.has("pub/test"), "the second half of an alternative is tied too");
    assert!(excludes.has_or_above("pub/epel/.snapshot/9", "pub/epel"));
    assert!(!excludes.has_or_above("pub/epel/9", "pub/epel"));
}

#[test]
fn what_is_no_text_is_shown_as_text() {
    assert_eq!(text("größe".as_bytes()), Some("größe"));
    assert_eq!(text(b"a\nb"), None);
    assert_eq!(text(b"a\x7f"), None);
    assert_eq!(text("a\u{85}b".as_bytes()), None);
    assert_eq!(text(b"\xff"), None);
    assert_eq!(shown("gr\u{f6}\u{df}e\n".as_bytes()), "größe\\n");
    assert_eq!(shown(b"a\xffb"), "a\\xffb");
}

#[test]
fn under_is_by_whole_parts() {
    assert_eq!(under(b"pub/epel", b"pub/epel/9"), Some(&b"9"[..]));
    assert_eq!(under(b"pub/epel", b"pub/epel"), Some(&b""[..]));
    assert_eq!(under(b"pub/epel", b"pub/epel-old/9"), None);
    assert_eq!(under(b"", b"9/x"), Some(&b"9/x"[..]));
}
