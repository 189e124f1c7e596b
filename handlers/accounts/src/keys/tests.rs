//! With the real `ssh-keygen` of OpenSSH beside it: what we write, it must read, and call by the same fingerprint.

use std::path::Path;
use std::sync::{LazyLock, Mutex};

use proptest::prelude::*;
use ssh_key::public::{DsaPublicKey, EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey, SkEd25519};
use ssh_key::{Mpint, PublicKey};

use super::shown::SHOWN_CHARS_MAX;
use super::*;

#[allow(clippy::disallowed_methods, reason = "OpenSSH's own program is what the tests compare with")]
fn ssh_keygen(args: &[&str]) -> String {
    let out = std::process::Command::new("ssh-keygen").args(args).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(out.status.success(), "ssh-keygen {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Made once by ssh-keygen: ed25519, three ECDSA, RSA with 3072 and 1024 bits, a certificate of the first.
static MADE: LazyLock<Vec<String>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let mut made = Vec::new();
    for (name, kind, bits) in [
        ("ed", "ed25519", "256"),
        ("e256", "ecdsa", "256"),
        ("e384", "ecdsa", "384"),
        ("e521", "ecdsa", "521"),
        ("rsa", "rsa", "3072"),
        ("short", "rsa", "1024"),
    ] {
        ssh_keygen(&["-q", "-t", kind, "-b", bits, "-N", "", "-C", &format!("{name}@made"), "-f", &path(name)]);
        made.push(text(&dir.path().join(format!("{name}.pub"))));
    }
    ssh_keygen(&["-q", "-s", &path("e256"), "-I", "id", "-n", "ralph", "-V", "+52w", &path("ed.pub")]);
    made.push(text(&dir.path().join("ed-cert.pub")));
    made
});

const ED: usize = 0;
const RSA: usize = 4;
const SHORT: usize = 5;
const CERT: usize = 6;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim_end().to_owned()
}

fn all_kinds() -> Policy {
    Policy { kinds: Kind::ALL.into_iter().collect(), ..Policy::default() }
}

/// Reads one text with all kinds allowed.
fn one(text: &str) -> (Vec<Key>, Vec<String>) {
    read(&[text.to_owned()], &all_kinds())
}

/// The only sentence, where no key came out.
fn why(text: &str) -> String {
    let (keys, notes) = one(text);
    assert!(keys.is_empty() && notes.len() == 1, "{text:?}: {keys:?} {notes:?}");
    notes[0].clone()
}

fn material(line: &str) -> String {
    line.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What ssh-keygen says of an authorized_keys file: a line for each key that it could read.
fn listed(lines: &[String]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n") + "\n").unwrap();
    ssh_keygen(&["-l", "-f", file.path().to_str().unwrap()]).lines().map(str::to_owned).collect()
}

/// Every line is read by ssh-keygen, and has the fingerprint and kind that we show.
fn agrees(keys: &[Key]) {
    let listed = listed(&keys.iter().map(|key| key.line.clone()).collect::<Vec<_>>());
    assert_eq!(listed.len(), keys.len(), "ssh-keygen could not read a line");
    for (key, said) in keys.iter().zip(listed) {
        let words: Vec<&str> = key.shown.split(' ').collect();
        assert!(said.contains(&format!(" {} ", words[1])), "{said} / {}", key.shown);
        assert!(said.ends_with(&format!("({})", words[0])), "{said} / {}", key.shown);
    }
}

fn sk(application: &str) -> String {
    let key = SkEd25519::new(Ed25519PublicKey([7; 32]), application);
    PublicKey::from(KeyData::SkEd25519(key)).to_openssh().unwrap()
}

/// An RSA key whose modulus has exactly so many bits.
fn rsa(bits: usize, exponent: &[u8]) -> String {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (modulus.len() * 8 - bits);
    let n = Mpint::from_positive_bytes(&modulus).unwrap();
    let e = Mpint::from_positive_bytes(exponent).unwrap();
    PublicKey::from(KeyData::Rsa(RsaPublicKey { e, n })).to_openssh().unwrap()
}

#[test]
fn every_kind_that_openssh_makes_is_taken_and_named_alike() {
    let mut texts = MADE.clone();
    texts.remove(SHORT);
    texts.push(sk("ssh:"));
    let (keys, notes) = read(&texts, &all_kinds());
    assert_eq!((keys.len(), &notes[..]), (7, &[][..]));
    agrees(&keys);
    assert!(keys.is_sorted());
    for text in &texts {
        assert!(keys.iter().any(|key| material(&key.line) == material(text)), "{text}");
    }
    let ed = keys.iter().find(|key| key.shown.starts_with("ED25519 SHA256:")).unwrap();
    assert!(ed.shown.ends_with(" ed@made") && ed.line.ends_with(" ed@made"), "{ed:?}");
    assert!(keys.iter().all(|key| key.shown == shown(&key.line)), "both ways to show a key agree");
}

#[test]
fn the_order_and_number_of_texts_does_not_matter() {
    let (a, b) = (&MADE[ED], &MADE[RSA]);
    let apart = read(&[a.clone(), b.clone()], &all_kinds());
    let joined = read(&[format!("\n# a comment\n{b}\r\n\r\n{a}\r{b} other comment\n")], &all_kinds());
    assert_eq!(apart, joined);
    let commented = read(&[material(a), format!("{} zz", material(a)), format!("{} aa", material(a))], &all_kinds());
    assert_eq!((commented.0.len(), commented.0[0].line.clone()), (1, format!("{} aa", material(a))));
}

#[test]
fn weak_and_forbidden_kinds_are_refused_with_the_reason() {
    assert_eq!(why(&MADE[SHORT]), "key 1: RSA with 1024 bits is too short, at least 2048 are asked for");
    assert_eq!(why(&rsa(2047, &[1, 0, 1])), "key 1: RSA with 2047 bits is too short, at least 2048 are asked for");
    agrees(&one(&rsa(2048, &[1, 0, 1])).0);
    agrees(&one(&rsa(16_384, &[1, 0, 1])).0);
    assert!(why(&rsa(16_392, &[1, 0, 1])).contains("too long"));
    assert!(why(&rsa(2048, &[1])).contains("can't be those of a key"), "anyone can sign for the exponent 1");
    let two = || Mpint::from_positive_bytes(&[2]).unwrap();
    let dsa = PublicKey::from(KeyData::Dsa(DsaPublicKey { p: two(), q: two(), g: two(), y: two() }));
    assert_eq!(why(&dsa.to_openssh().unwrap()), "key 1: DSA is refused");
    let ours = Policy { kinds: [Kind::Ed25519].into(), rsa_bits_min: 4096 };
    let (keys, notes) = read(&MADE, &ours);
    assert_eq!(keys.len(), 1);
    assert_eq!(notes.len(), MADE.len() - 1);
    assert_eq!(notes[0], "key 2: ecdsa is not among the types that are taken (ed25519)");
    let (keys, notes) = read(&MADE[CERT..], &Policy::default());
    assert!(keys.is_empty() && notes[0].contains("certificate is not among"), "{notes:?}");
    let only = Policy { kinds: [Kind::Certificate].into(), ..Policy::default() };
    assert!(read(&MADE[CERT..], &only).1[0].contains("ed25519 is not among"), "the key inside counts too");
}

#[test]
fn points_off_the_curve_are_refused_as_by_openssh() {
    let mut point = [1; 65];
    point[0] = 4;
    let key = EcdsaPublicKey::from_sec1_bytes(&point).unwrap();
    let off = PublicKey::from(KeyData::Ecdsa(key)).to_openssh().unwrap();
    assert!(why(&off).contains("not a point of its curve"));
    let good = PublicKey::from_openssh(&MADE[1]).unwrap();
    let bytes = good.key_data().ecdsa().unwrap().as_sec1_bytes().to_vec();
    let short = [&[2 + bytes[64] % 2], &bytes[1..33]].concat();
    let short = KeyData::Ecdsa(EcdsaPublicKey::from_sec1_bytes(&short).unwrap());
    assert!(why(&PublicKey::from(short).to_openssh().unwrap()).contains("not a point of its curve"));
}

#[test]
fn options_are_not_taken_whatever_they_look_like() {
    let key = &MADE[ED];
    for options in
        ["command=\"/bin/sh\"", "restrict", "no-pty,command=\"a b \\\" c\"", "from=\"*\",cert-authority", "x"]
    {
        assert_eq!(why(&format!("{options} {key}")), "key 1: options are not taken from the account system");
    }
    let (keys, _) = one(&format!("{} restrict,command=\"/bin/sh\"", material(key)));
    assert_eq!(
        keys[0].line,
        format!("{} restrict,command=\"/bin/sh\"", material(key)),
        "behind the key it is a comment"
    );
}

#[test]
fn what_is_no_key_is_told_without_its_text() {
    let key = &MADE[ED];
    let base64 = key.split(' ').nth(1).unwrap();
    for (text, said) in [
        (format!("ssh-rsa {base64} x"), "the type in front says ssh-rsa, the key itself is ssh-ed25519"),
        (base64.to_owned(), "the type in front of it is missing"),
        (format!("ssh-ed25519 {} x", &base64[..40]), "can't be read; it may be cut short"),
        (format!("ssh-ed25519 {base64}AAAA x"), "can't be read"),
        (format!("ssh-ed25519 {}\0 x", &base64[..60]), "can't be read"),
        ("ssh-ed25519".into(), "nothing stands behind the type"),
        ("ssh-ed25519 !!!! x".into(), "can't be read"),
        ("hunter2".into(), "it is not a key of a known type"),
        (format!("ssh-ed448 {base64}"), "it is not a key of a known type"),
        (format!("{key} {key}"), "a second key stands on the same line"),
        (format!("ssh-ed25519 {}", "A".repeat(KEY_LINE_BYTES_MAX)), "longer than 8192 bytes"),
        ("a".repeat(KEY_TEXT_BYTES_MAX + 1), "at most 65536 are read"),
        (sk("ssh:\n"), "not printable"),
    ] {
        let why = why(&text);
        assert!(why.contains(said), "{why}");
        assert!(!why.contains("AAAA") && !why.contains("hunter2") && why.len() < 200, "{why}");
    }
}

#[test]
fn a_private_key_that_was_pasted_is_one_sentence_and_what_follows_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("k").to_str().unwrap().to_owned();
    ssh_keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path]);
    let (keys, notes) = one(&format!("{}\n{}", text(Path::new(&path)), MADE[ED]));
    assert_eq!(keys.len(), 1);
    assert_eq!(notes, ["key 1: a private key stands here: it is no secret any more, make a new pair"]);
    let on_one_line = text(Path::new(&path)).replace('\n', " ");
    assert!(why(&on_one_line).contains("a private key"));
    assert!(why("PuTTY-User-Key-File-2: ssh-rsa\nEncryption: none\nPublic-Lines: 6\nAAAA").contains("PuTTY"));
    let other = ssh_keygen(&["-e", "-f", &format!("{path}.pub")]);
    assert!(why(&other).contains("RFC 4716"));
}

#[test]
fn a_comment_is_printable_short_and_may_be_empty() {
    let bare = material(&MADE[ED]);
    let comment = |text: &str| {
        let (keys, notes) = one(&format!("{bare}{text}"));
        assert!(notes.is_empty(), "{notes:?}");
        keys[0].line.strip_prefix(&bare).unwrap().to_owned()
    };
    assert_eq!(comment(""), "");
    assert_eq!(comment(" \t "), "");
    assert_eq!(comment(" José  at\thome "), " José at home");
    assert_eq!(comment(" a\u{0}b\u{1b}[31mc\u{7f}"), " ab[31mc");
    assert_eq!(comment(" \u{202e}gpj.exe\u{2066}\u{200b}\u{feff}\u{ad}\u{fffd}x"), " gpj.exex");
    assert_eq!(comment(&format!(" {}", "é".repeat(500))).chars().count(), COMMENT_CHARS_MAX + 1);
}

#[test]
fn over_the_limits_the_rest_goes_on_and_it_is_told() {
    let many: Vec<String> = (0..KEYS_MAX + 5)
        .map(|at| PublicKey::from(Ed25519PublicKey([u8::try_from(at).unwrap(); 32])).to_openssh().unwrap())
        .collect();
    let (keys, notes) = read(&many, &Policy::default());
    assert_eq!(
        (keys.len(), &notes[..]),
        (KEYS_MAX, &["5 of 105 keys are left out: at most 100 of one user are taken".into()][..])
    );
    let backwards: Vec<String> = many.iter().rev().cloned().collect();
    assert_eq!(read(&backwards, &Policy::default()), (keys, notes));
    let (keys, notes) = read(&[vec!["x\n".repeat(30_000)], vec![MADE[ED].clone()]].concat(), &Policy::default());
    assert_eq!((keys.len(), notes.len()), (0, NOTES_MAX));
    let big = "ssh-ed25519 ".repeat(1_000_000);
    assert_eq!(read(&[big, MADE[ED].clone()], &Policy::default()).0.len(), 1);
}

#[test]
fn a_line_of_a_block_is_shown_without_its_key() {
    let key = &MADE[ED];
    let named = shown(key);
    assert_eq!(
        shown(&format!("restrict,command=\"/bin/d \\\" x\" {key}")),
        format!("restrict,command=\"/bin/d \\\" x\" {named}")
    );
    assert!(shown(&format!("cert-authority {}\r", MADE[SHORT])).starts_with("cert-authority RSA SHA256:"));
    assert!(shown(&MADE[CERT]).starts_with("ED25519-CERT SHA256:"));
    assert_eq!(shown("hunter2 is it"), "a line that is no key (13 characters)");
    assert_eq!(shown(""), "a line that is no key (0 characters)");
    let base64 = key.split(' ').nth(1).unwrap();
    let tampered = shown(&format!("command=\"{base64}{}\u{1b}\" {key}{}", "é ".repeat(900), "x".repeat(9_000)));
    assert!(tampered.chars().count() <= SHOWN_CHARS_MAX && !tampered.contains(base64), "{tampered}");
    assert!(!tampered.contains('\u{1b}'));
}

/// Texts made to hurt: pieces of real keys, options, quotes, line ends and control characters, in any order.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let piece = prop_oneof![
        4 => (0..MADE.len()).prop_map(|at| MADE[at].clone()),
        2 => (0..MADE.len()).prop_map(|at| material(&MADE[at])),
        1 => (0..MADE.len(), 0..200_usize).prop_map(|(at, cut)| MADE[at].chars().take(cut).collect()),
        2 => prop::sample::select(vec![
            " ", "\t", "\n", "\r\n", "\r", "\0", "\"", "\\\"", "#", "\u{2028}", "\u{202e}", "ssh-rsa", "ssh-\0rsa AAAA",
            "ssh-ed25519 ", "command=\"x\" ", "restrict,", "-----BEGIN OPENSSH PRIVATE KEY-----", "---- END", "AAAA",
            "\u{a0}", "\u{feff}", " ssh-dss AAAA", "@cert-authority ",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    prop::collection::vec(prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()), 0..4)
}

#[test]
fn whatever_comes_in_only_sound_lines_go_out() {
    let written = Mutex::new(BTreeSet::new());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(4_000));
    runner
        .run(&texts(), |texts| {
            let (keys, notes) = read(&texts, &all_kinds());
            for key in &keys {
                let breaks = |c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}';
                prop_assert!(!key.line.contains(breaks));
                prop_assert_eq!(key.line.trim(), &key.line);
                let again = read(std::slice::from_ref(&key.line), &all_kinds());
                prop_assert_eq!(again, (vec![key.clone()], vec![]));
                written.lock().unwrap().insert(key.clone());
            }
            prop_assert!(notes.iter().all(|note| !note.contains("AAAA") && !note.contains(char::is_control)));
            Ok(())
        })
        .unwrap();
    let written: Vec<Key> = written.into_inner().unwrap().into_iter().collect();
    assert!(written.len() > 100, "the texts were too broken to say anything: {}", written.len());
    agrees(&written);
}

/// A middling account system: 2,000 people with three keys each.
#[test]
fn six_thousand_keys_are_read() {
    let texts = [MADE[0].clone(), MADE[1].clone(), MADE[RSA].clone()];
    let keys: usize = (0..2_000).map(|_| read(&texts, &Policy::default()).0.len()).sum();
    assert_eq!(keys, 6_000);
}
