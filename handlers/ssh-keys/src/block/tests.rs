use super::*;
use proptest::prelude::*;

fn lines(of: &[&str]) -> Vec<String> {
    of.iter().map(|line| (*line).to_owned()).collect()
}

fn written(file: &[u8], name: &str, of: &[&str]) -> Vec<u8> {
    replace(file, name, &lines(of)).unwrap().unwrap()
}

fn why(file: &str) -> String {
    let found = find(file.as_bytes(), "reactor").unwrap_err();
    let replaced = replace(file.as_bytes(), "reactor", &lines(&["k"])).unwrap_err();
    assert_eq!(found, replaced);
    found.why
}

#[test]
fn a_block_is_added_found_changed_and_taken_away() {
    let by_hand = b"# mine\nssh-ed25519 AAAA by hand";
    let once = written(by_hand, "reactor", &["k1", "k2"]);
    assert_eq!(
        String::from_utf8_lossy(&once),
        "# mine\nssh-ed25519 AAAA by hand\n\
         # reactor begin reactor: do not edit between these lines; what is not in the account system goes\n\
         k1\nk2\n# reactor end reactor\n"
    );
    assert!(once.windows(marker("reactor").len()).any(|part| part == marker("reactor").as_bytes()));
    assert_eq!(find(&once, "reactor").unwrap(), Some(lines(&["k1", "k2"])));
    assert_eq!(find(by_hand, "reactor").unwrap(), None);
    let changed = written(&once, "reactor", &["k3"]);
    assert_eq!(find(&changed, "reactor").unwrap(), Some(lines(&["k3"])));
    assert_eq!(replace(&changed, "reactor", &[]).unwrap().unwrap(), b"# mine\nssh-ed25519 AAAA by hand\n");
}

#[test]
fn what_follows_the_block_stays_behind_it() {
    let file = b"a\n# reactor begin reactor: older words\nk\n# reactor end reactor\r\nb\r\n\xff\0";
    assert_eq!(find(file, "reactor").unwrap(), Some(lines(&["k"])));
    let text = written(file, "reactor", &["n"]);
    assert!(text.starts_with(b"a\n# reactor begin reactor: do not") && text.ends_with(b"\nb\r\n\xff\0"), "{text:?}");
    assert_eq!(replace(&text, "reactor", &[]).unwrap().unwrap(), b"a\nb\r\n\xff\0");
}

#[test]
fn only_a_file_that_was_ours_alone_goes() {
    let ours = written(b"", "reactor", &["k"]);
    assert_eq!(replace(&ours, "reactor", &[]).unwrap(), None);
    let spaces = written(b" \n\t\n", "reactor", &["k"]);
    assert_eq!(replace(&spaces, "reactor", &[]).unwrap(), None);
    assert_eq!(replace(b"", "reactor", &[]).unwrap(), None);
    assert_eq!(replace(b"\n", "reactor", &[]).unwrap().unwrap(), b"\n", "no block, nothing wanted: not our file");
}

#[test]
fn blocks_of_other_names_live_beside_ours() {
    let both = written(&written(b"hand\n", "reactor", &["a"]), "reactor2", &["b"]);
    let both = written(&both, "reactor", &["a", "c"]);
    assert_eq!(find(&both, "reactor").unwrap(), Some(lines(&["a", "c"])));
    assert_eq!(find(&both, "reactor2").unwrap(), Some(lines(&["b"])));
    let one = replace(&both, "reactor", &[]).unwrap().unwrap();
    assert_eq!(replace(&one, "reactor2", &[]).unwrap().unwrap(), b"hand\n");
}

#[test]
fn damaged_markers_are_told_with_their_line_and_nothing_is_changed() {
    let begin = "# reactor begin reactor: x\n";
    let end = "# reactor end reactor\n";
    assert!(why(&format!("a\n{begin}k\n")).starts_with("line 2: block `reactor` begins and never ends"));
    assert!(why(&format!("a\nb\n{end}")).starts_with("line 3: block `reactor` ends, but none has begun"));
    assert!(why(&format!("{begin}{begin}{end}")).starts_with("line 2: block `reactor` begins again"));
    assert!(why(&format!("{begin}{end}{begin}{end}")).starts_with("line 3: a second block"));
    assert!(why(&format!("{begin}{end}{end}")).starts_with("line 3:"));
    assert!(why(&format!("{begin}# reactor begin web: y\n{end}")).starts_with("line 2: a marker of block `web`"));
    assert!(
        why(&format!("# reactor begin web: y\n{begin}{end}# reactor end web\n")).starts_with("line 4: block `reactor`")
    );
    assert!(why("  # reactor begin reactor: moved in by an editor  \r\nk").starts_with("line 1"));
}

#[test]
fn comments_that_only_look_alike_are_no_markers() {
    for text in
        ["# reactor begin\n", "# reactor begins reactor: x\n", "# reactor end of my notes\n", "#reactor end reactor\n"]
    {
        assert_eq!(find(text.as_bytes(), "reactor").unwrap(), None, "{text}");
    }
}

#[test]
fn what_is_not_one_line_is_never_written() {
    for bad in ["a\nb", "a\rb", "a\0b", "# reactor end reactor", "# reactor begin x: y"] {
        assert!(replace(b"", "reactor", &lines(&["ok", bad])).unwrap_err().why.contains("line 2"), "{bad:?}");
    }
    for name in ["", "a b", "-a", "a:b", "a\nb", "é", &"a".repeat(NAME_BYTES_MAX + 1)] {
        assert!(find(b"", name).is_err() && replace(b"", name, &lines(&["k"])).is_err(), "{name:?}");
    }
}

/// Bytes that are made to hurt: pieces of markers, line ends of all kinds, NUL, what is not UTF-8.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"# reactor begin reactor:".to_vec()),
        Just(b"# reactor end reactor".to_vec()),
        Just(b"# reactor begin web: x\n".to_vec()),
        Just(b"# reactor end web\n".to_vec()),
        Just(b"ssh-ed25519 AAAA x\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_ours_comes_back_and_what_is_not_stays(
        file in bytes(),
        keys in prop::collection::vec("[ -~é]{0,30}", 0..5),
        next in prop::collection::vec("[ -~é]{0,30}", 1..5),
    ) {
        let sound = find(&file, "reactor");
        let after = replace(&file, "reactor", &keys);
        prop_assert_eq!(sound.is_err(), after.is_err());
        let (Ok(before), Ok(after)) = (sound, after) else { return Ok(()) };
        let text = after.clone().unwrap_or_default();
        prop_assert_eq!(find(&text, "reactor").unwrap(), (!keys.is_empty()).then(|| keys.clone()), "what was written is found");
        prop_assert_eq!(replace(&text, "reactor", &keys).unwrap(), after, "twice is once");
        let outside = |file: &[u8]| {
            let block = locate(file, "reactor").unwrap();
            block.map_or(file.to_vec(), |block| [&file[..block.start], &file[block.end..]].concat())
        };
        let (mut was, is) = (outside(&file), outside(&text));
        if before.is_none() && !keys.is_empty() && !was.is_empty() && !was.ends_with(b"\n") {
            was.push(b'\n');
        }
        prop_assert!(is == was || (is.is_empty() && was.trim_ascii().is_empty()), "{:?} {:?}", was, is);
        let other = replace(&text, "reactor", &next).unwrap().unwrap();
        let gone = replace(&other, "reactor", &[]).unwrap().unwrap_or_default();
        let as_was = gone == was || gone.strip_suffix(b"\n") == Some(&was[..]);
        prop_assert!(as_was || (gone.is_empty() && was.trim_ascii().is_empty()), "{:?} {:?}", was, gone);
    }
}
