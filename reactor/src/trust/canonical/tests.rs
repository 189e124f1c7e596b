use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    String::from_utf8(parse(text.as_bytes()).unwrap().encode()).unwrap()
}

#[test]
fn keys_are_sorted_by_code_point_at_every_level() {
    assert_eq!(
        canonical(r#"{"b":1,"":2,"a":{"z":1,"y":[{"d":1,"c":2}]}}"#),
        r#"{"":2,"a":{"y":[{"c":2,"d":1}],"z":1},"b":1}"#
    );
    assert_eq!(
        canonical("{\"\u{10000}\":1,\"\u{ffff}\":2,\"\\ud800\":3}"),
        r#"{"\ud800":3,"\uffff":2,"\ud800\udc00":1}"#
    );
}

#[test]
fn what_is_not_printable_ascii_is_escaped_in_lower_case() {
    assert_eq!(canonical("\"é\u{2028}\u{7f}~ /😀\""), r#""\u00e9\u2028\u007f~ /\ud83d\ude00""#);
    assert_eq!(canonical(r#""\"\\\/\b\f\n\r\t\u0000\u001F\u00EB""#), r#""\"\\/\b\f\n\r\t\u0000\u001f\u00eb""#);
}

#[test]
fn lone_surrogates_survive_and_pairs_are_joined() {
    assert_eq!(canonical(r#""a\ud800b\udc00""#), r#""a\ud800b\udc00""#);
    assert_eq!(canonical(r#""\ud800\ud800\udc00""#), r#""\ud800\ud800\udc00""#);
    assert_eq!(parse(br#""\ud83d\ude00""#).unwrap().as_str(), Some("😀"));
    assert_eq!(parse(br#""\ud83d""#).unwrap().as_str(), None);
}

#[test]
fn integers_are_exact_whatever_their_size() {
    for same in ["0", "-1", "12345678901234567890123456789012345678901234567890"] {
        assert_eq!(canonical(same), same);
    }
    assert_eq!(canonical("-0"), "0");
    let longest = "9".repeat(INT_DIGITS_MAX);
    assert_eq!(canonical(&format!("-{longest}")), format!("-{longest}"));
    assert!(parse(format!("1{longest}").as_bytes()).is_err());
}

#[test]
fn floats_are_written_as_python_writes_them() {
    for (given, repr) in [
        ("1E2", "100.0"),
        ("-0.0", "-0.0"),
        ("1e15", "1000000000000000.0"),
        ("1e16", "1e+16"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("1.5e300", "1.5e+300"),
        ("5e-324", "5e-324"),
        ("0.1", "0.1"),
        ("123456789012345680.0", "1.2345678901234568e+17"),
        ("1e999", "Infinity"),
        ("-1e999", "-Infinity"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
    ] {
        assert_eq!(canonical(given), repr);
    }
}

#[test]
fn of_equal_keys_the_last_one_counts() {
    assert_eq!(canonical(r#"{"a":1,"b":2,"a":3,"a":{"x":4}}"#), r#"{"a":{"x":4},"b":2}"#);
    assert_eq!(canonical(r#"{"a":1,"\u0061":2}"#), r#"{"a":2}"#);
}

#[test]
fn what_python_refuses_is_refused() {
    for wrong in [
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "'a'",
        "01",
        "1.",
        ".5",
        "1.e5",
        "1e",
        "1e+",
        "+1",
        "-",
        "--1",
        "-NaN",
        "nan",
        "True",
        "nul",
        "\"",
        "\"\\\"",
        "\"\n\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u+123\"",
        "[1]]",
        "{}}",
        "1 2",
        "\u{feff}{}",
        "[1}",
        "{\"a\":1]",
        "\u{a0}1",
        "]",
        "}",
        ",",
    ] {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
    for wrong in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"\"\xc0\x80\"", b"\xff\xfe1\0"] {
        assert_eq!(parse(wrong).unwrap_err().why, "invalid UTF-8");
    }
}

#[test]
fn nesting_has_a_limit_and_never_overflows() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(canonical(&nested(DEPTH_MAX)), nested(DEPTH_MAX));
    assert_eq!(parse(nested(DEPTH_MAX + 1).as_bytes()).unwrap_err().why, "nesting that is too deep");
    assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    assert!(parse("{\"a\":".repeat(100_000).as_bytes()).is_err());
    assert!(parse(nested(VALUE_DEPTH_MAX).as_bytes()).unwrap().to_value().is_ok());
    assert!(parse(nested(VALUE_DEPTH_MAX + 1).as_bytes()).unwrap().to_value().is_err());
}

#[test]
fn rules_see_plain_json() {
    let seen = parse(br#"{"s":"a\ud800b","n":NaN,"i":[18446744073709551615,-9223372036854775808,1e999],"big":100000000000000000000}"#);
    let expected = serde_json::json!({"s": "a\u{fffd}b", "n": null, "i": [u64::MAX, i64::MIN, null], "big": 1e20});
    assert_eq!(seen.unwrap().to_value().unwrap(), expected);
}

#[test]
fn only_the_outer_object_loses_the_keys_left_out() {
    let json = parse(br#"{"signature":"x","a":{"signature":"y"}}"#).unwrap();
    assert_eq!(json.encode_without(&["signature"], 0), br#"{"a":{"signature":"y"}}"#);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_text_of_json_signs_makes_it_panic(text in r#"[\[\]{}",:0-9eE.+\-u\\dD8cnul NaI]{0,60}"#) {
        if let Ok(json) = parse(text.as_bytes()) {
            let once = json.encode();
            prop_assert_eq!(parse(&once).unwrap().encode(), once);
        }
    }

    #[test]
    fn canonical_bytes_are_their_own_canonical_form(units in proptest::collection::vec(any::<u16>(), 0..40), number in any::<f64>()) {
        let escaped: String = units.iter().map(|unit| format!("\\u{unit:04X}")).collect();
        let once = parse(format!("{{\"{escaped}\": [{number:e}, \"{escaped}\"]}}").as_bytes()).unwrap().encode();
        prop_assert_eq!(parse(&once).unwrap().encode(), once);
    }
}
