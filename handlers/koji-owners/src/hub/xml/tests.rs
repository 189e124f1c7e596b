//! The codec against what a hub 1.35.3 said, and against what none should say.

use std::path::Path;

use proptest::prelude::*;

use super::*;

fn read(xml: &str) -> Result<Reply, String> {
    reply(xml.as_bytes())
}

fn around(value: &str) -> String {
    format!("<methodResponse><params><param>{value}</param></params></methodResponse>")
}

fn value(xml: &str) -> Value {
    match read(&around(xml)).unwrap() {
        Reply::Value(value) => value,
        Reply::Fault(fault) => panic!("{fault:?}"),
    }
}

/// Method and parameters of a call, read by the same reader.
pub(in crate::hub) fn read_call(body: &str) -> (String, Vec<Value>) {
    let between = |from: &str, to: &str| {
        let start = body.find(from).unwrap() + from.len();
        body[start..].split_at(body[start..].rfind(to).unwrap()).0.to_owned()
    };
    let params = between("<params>", "</params>").replace("<param>", "").replace("</param>", "");
    match value(&format!("<value><array><data>{params}</data></array></value>")) {
        Value::Array(params) => (between("<methodName>", "</methodName>"), params),
        other => panic!("{other:?}"),
    }
}

/// What was recorded (`../shared/targets/koji/NAME`), if that is here.
pub(in crate::hub) fn recorded(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/targets/koji").join(name);
    let read = std::fs::read_to_string(&path);
    if read.is_err() {
        eprintln!("{} is not here: not looked at", path.display());
    }
    read.ok()
}

/// Head and body of a recorded request or answer.
pub(in crate::hub) fn parts(recorded: &str) -> (&str, &str) {
    recorded.split_once("\r\n\r\n").or_else(|| recorded.split_once("\n\n")).unwrap_or((recorded, ""))
}

#[test]
fn all_that_a_hub_said_is_read_with_the_verdict_it_had() {
    let faults = [
        (2, 1000, "No such tagInfo: 'nope'"),
        (9, 1000, "user already exists: alice"),
        (12, 1000, "owner not specified"),
        (13, 1000, "No such tagInfo: 'no-such-tag'"),
        (14, 1000, "No such user: 'nobody-here'"),
        (18, 1000, "cannot update: tag f-test has no data for package nosuchpkg"),
        (28, 1000, "No such entry in table package: nosuchpkg"),
        (31, 1000, "package bash is blocked in tag f-test"),
        (34, 1000, "package bash NOT blocked in tag f-test"),
        (36, 1000, "Invalid method: noSuchMethod"),
        (37, 1019, "pkglist_add() missing 1 required positional argument: 'pkginfo'"),
        (39, 1000, "No such user: 'ghost'"),
        (45, 1008, "39 > 34 (session 3)"),
        (48, 1000, "cannot update: tag f-test has no data for package missing"),
        (51, 1002, "Invalid session or bad credentials"),
        (54, 1009, "unable to retry call 0 (method packageListSetOwner) for session 4"),
        (55, 1009, "unable to retry call 0 (method getPackageConfig) for session 4"),
        (56, 1008, "0 > -1 (session 4)"),
        (61, 1009, "unable to retry call 102 (method multiCall) for session 4"),
        (72, 1007, "session \"15\" has expired"),
        (75, 1007, "session \"15\" has expired"),
        (76, 1002, "Invalid session or bad credentials"),
        (77, 1002, "logins by kojiadmin are not allowed"),
    ];
    for number in 1..=77 {
        let Some(text) = recorded(&format!("{number:03}.res")) else { return };
        let (head, body) = parts(&text);
        let read = read(body);
        if !head.contains(" 200 OK") {
            assert!(read.is_err(), "{number}");
            continue;
        }
        let fault = faults.iter().find(|fault| fault.0 == number);
        match (fault, read.unwrap_or_else(|why| panic!("{number} {why}"))) {
            (None, Reply::Value(_)) => {}
            (Some((_, code, text)), Reply::Fault(fault)) => {
                assert_eq!((fault.code, fault.text.as_str()), (*code, *text), "{number}");
            }
            (_, other) => panic!("{number}: {other:?}"),
        }
    }
}

#[test]
fn values_are_what_they_say() {
    assert_eq!(value("<value><nil/></value>"), Value::Nil);
    assert_eq!(value("<value>\n <int> -7 </int>\n</value>"), Value::Int(-7));
    assert_eq!(value("<value><i8>5000000000</i8></value>"), Value::Int(5_000_000_000));
    assert_eq!(value("<value><double>1700000000.5</double></value>"), Value::Double(1_700_000_000.5));
    assert_eq!(value("<value> bare &#60;&#x3e;&amp; </value>"), Value::text(" bare <>& "));
    assert_eq!(value("<value/>"), Value::text(""));
    assert_eq!(value("<value><string/></value>"), Value::text(""));
    assert_eq!(value("<value><string><![CDATA[<x>&]]></string></value>"), Value::text("<x>&"));
    assert_eq!(value("<value><base64>QQ==</base64></value>"), Value::text("QQ=="));
    assert_eq!(value("<value><array><data/></array></value>"), Value::Array(vec![]));
}

#[test]
fn what_is_not_whole_or_not_xml_rpc_is_refused() {
    let whole = around("<value><struct><member><name>a</name><value><int>1</int></value></member></struct></value>");
    assert!(read(&whole).is_ok());
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "{end}");
    }
    let one = "<member><name>a</name><value>1</value></member>";
    for wrong in [
        "<html><body>502 Bad Gateway</body></html>".to_owned(),
        format!("{whole}{whole}"),
        format!("{whole} more"),
        around(""),
        around("<value><int>1</int></value><value><int>1</int></value>"),
        around("<value><int>one</int></value>"),
        around("<value><int/></value>"),
        around("<value><boolean>true</boolean></value>"),
        around("<value>x<int>1</int></value>"),
        around("<value><nil>x</nil></value>"),
        around("<value><string>&nbsp;</string></value>"),
        around("<value><string>&#xFFFFFF;</string></value>"),
        around("<value><evil/></value>"),
        around(&format!("<value><struct>{one}{one}</struct></value>")),
        "<methodResponse><fault><value>no</value></fault></methodResponse>".to_owned(),
    ] {
        assert!(read(&wrong).is_err(), "{wrong}");
    }
    assert!(reply(b"<methodResponse>\xff").is_err());
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let bomb = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>";
    let why = read(&format!("{bomb}{}", around("<value>&b;</value>"))).unwrap_err();
    assert!(why.contains("document type"), "{why}");
    let deep = |levels: usize| {
        let (open, close) = ("<value><array><data>".repeat(levels), "</data></array></value>".repeat(levels));
        read(&around(&format!("{open}{close}")))
    };
    assert!(deep(DEPTH_MAX).is_ok());
    assert!(deep(DEPTH_MAX + 1).unwrap_err().contains("levels"));
    assert!(deep(100_000).is_err());
    let many = "<value/>".repeat(VALUES_MAX);
    assert!(read(&around(&format!("<value><array><data>{many}</data></array></value>"))).is_err());
}

#[test]
fn of_a_megabyte_of_fault_text_a_little_is_kept() {
    let text = "é".repeat(500_000);
    let fault = format!(
        "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1000</int></value></member>\
         <member><name>faultString</name><value><string>{text}</string></value></member></struct></value></fault>\
         </methodResponse>"
    );
    let Ok(Reply::Fault(fault)) = read(&fault) else { panic!() };
    assert_eq!((fault.code, fault.text), (1000, "é".repeat(FAULT_CHARS_MAX)));
}

#[test]
fn a_name_can_not_become_markup() {
    let params = [Value::text("<x>&\""), Value::keywords([("owner", Value::text("]]>"))])];
    let body = call("a<b", &params);
    assert!(body.contains("<methodName>a&lt;b</methodName>") && body.contains("<string>&lt;x&gt;&amp;\"</string>"));
    assert_eq!(read_call(&body).1, params);
}

fn values() -> impl Strategy<Value = Value> {
    // A NUL is the one character that no XML can carry.
    let text = || any::<String>().prop_map(|text| text.replace('\0', ""));
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1e300..1e300).prop_map(Value::Double),
        text().prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(text(), inner, 0..6).prop_map(Value::Struct),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(params in prop::collection::vec(values(), 0..4)) {
        let (method, read) = read_call(&call("multiCall", &params));
        prop_assert_eq!((method.as_str(), read), ("multiCall", params));
    }

    #[test]
    fn no_answer_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = reply(&bytes);
    }
}
