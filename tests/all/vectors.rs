//! Every vector of `../shared/vectors` gets its verdict, and our JSON is Python's. What is deliberately stricter than fedmsg
//! is looked up in the table of docs/trust.md, so that the docs and these tests can't disagree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "all of this module is tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use jiff::Timestamp;
use reactor::bus::catch_up::kept::kept;
use reactor::message::{Form, RawMessage};
use reactor::trust::canonical::{Json, parse};
use reactor::trust::encoding::python_base64;
use reactor::trust::{Refusal, TrustConfig, Verifier, X509Config, signature_alone};
use reactor_tests::Scratch;
use reactor_tests::daemon::reactor_output;
use serde_json::Value;

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// When these tests check the vectors: everything that should be in date is so from 2020 to 2120, and keys and signatures
/// were made in November 2026.
const TODAY: &str = "2026-12-01T00:00:00Z";

fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(REPO).join("../shared").join(folder);
    if !path.exists() {
        println!("{} is absent: this test saw nothing", path.display());
        return None;
    }
    Some(path)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The table of docs/trust.md: vector → (fedmsg's verdict, ours).
fn stricter() -> BTreeMap<String, (String, String)> {
    let docs = std::fs::read_to_string(Path::new(REPO).join("docs/trust.md")).unwrap();
    let rows = docs.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, vector, fedmsg, reactor, why, _] = cells[..] else { return None };
        let name = vector.strip_prefix('`')?.strip_suffix('`')?;
        assert!(!why.is_empty(), "{name} has a reason");
        Some((name.to_owned(), (fedmsg.to_owned(), reactor.to_owned())))
    });
    rows.collect()
}

/// fedmsg's configuration in our words.
fn trust(folder: &Path, profile: &Value) -> TrustConfig {
    let backends = profile["crypto_validate_backends"].as_array().unwrap();
    let path = |name: &str| profile[name].as_str().map(|file| folder.join(file));
    let signers = |list: &Value| list.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect();
    let gpg_keys = ["good.pub.asc", "expired.pub.asc", "revoked.pub.asc", "revoked.rev.asc"];
    TrustConfig {
        x509: backends.contains(&"x509".into()).then(|| X509Config { ca: path("ca_cert").unwrap(), crl: path("crl") }),
        gpg_keys: path("gpg_home").map(|_| gpg_keys.map(|file| folder.join("gpg").join(file)).to_vec()),
        policy: profile["routing_policy"].as_object().unwrap().iter().map(|(t, s)| (t.clone(), signers(s))).collect(),
        accept_unlisted: !profile["routing_nitpicky"].as_bool().unwrap(),
        accept_unsigned: false,
        accept_broker: false,
        ..TrustConfig::default()
    }
}

/// The frames as our fedmsg source takes them: topic and body, or both in one frame with a NUL between.
fn message(frames: &[Vec<u8>]) -> Option<RawMessage> {
    let (topic, body) = match frames {
        [topic, body] => (topic.as_slice(), body.as_slice()),
        [both] => {
            let nul = both.iter().position(|byte| *byte == 0)?;
            (&both[..nul], &both[nul + 1..])
        }
        _ => return None,
    };
    let topic = String::from_utf8(topic.to_vec()).ok()?;
    Some(RawMessage {
        bus: "vectors".into(),
        topic,
        body: body.to_vec(),
        received: at(TODAY),
        token: 0,
        form: Form::Envelope,
    })
}

fn frames(folder: &Path, vector: &Value) -> Vec<Vec<u8>> {
    let names = vector["frames"].as_array().unwrap().iter();
    names.map(|name| std::fs::read(folder.join(name.as_str().unwrap())).unwrap()).collect()
}

#[test]
fn every_fedmsg_vector_gets_its_verdict() {
    let Some(folder) = shared("vectors/fedmsg") else { return };
    let index = json(&folder.join("index.json"));
    let table = stricter();
    let mut wrong = Vec::new();
    let mut differing = BTreeSet::new();
    let names: BTreeSet<&str> = vectors(&index).iter().map(|vector| vector["name"].as_str().unwrap()).collect();
    for vector in vectors(&index) {
        let name = vector["name"].as_str().unwrap();
        let config = trust(&folder, &index["profiles"][vector["profile"].as_str().unwrap()]);
        let verdict = match message(&frames(&folder, vector)) {
            Some(raw) => Verifier::open(config).verify(&raw, at(TODAY)).map(|message| message.get().signer.clone()),
            None => Err(Refusal { reason: "no two frames".into(), signer: None }),
        };
        let says = if verdict.is_ok() { "valid" } else { "refused" };
        let fedmsg = if vector["hub"] == "deliver" { "valid" } else { "refused" };
        let expected = table.get(name).map_or(fedmsg, |(theirs, ours)| {
            assert_eq!(theirs, fedmsg, "docs/trust.md on {name}");
            assert_ne!(theirs, ours, "docs/trust.md lists {name}, which is no difference");
            differing.insert(name);
            ours
        });
        println!("{name}: {verdict:?}");
        if says != expected {
            wrong.push(format!("{name}: {verdict:?}, expected {expected} ({})", vector["why"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(differing.len(), table.keys().filter(|name| names.contains(name.as_str())).count());
}

fn vectors(index: &Value) -> &Vec<Value> {
    index["vectors"].as_array().unwrap()
}

/// What people type: the built program over one vector of each kind, with the trust block in a file.
#[test]
fn reactor_verify_gives_the_vectors_their_verdicts_too() {
    let Some(folder) = shared("vectors/fedmsg") else { return };
    let scratch = Scratch::new("verify");
    let index = json(&folder.join("index.json"));
    let wanted =
        ["valid-ascii", "tamper-msg", "cert-revoked", "cert-expired", "policy-wrong-signer", "unsigned", "gpg-valid"];
    let mut seen = 0;
    for vector in vectors(&index).iter().filter(|vector| wanted.contains(&vector["name"].as_str().unwrap())) {
        let profile = &index["profiles"][vector["profile"].as_str().unwrap()];
        let file = trust_file(scratch.path(), &folder, profile);
        let body = folder.join(vector["frames"][1].as_str().unwrap()).display().to_string();
        let topic = String::from_utf8(frames(&folder, vector).swap_remove(0)).unwrap();
        let valid = vector["hub"] == "deliver";
        for more in [&[][..], &["--topic", &topic]] {
            let args = [&["verify", "--format", "json", "--trust", &file, &body], more].concat();
            let output = reactor_output(scratch.path(), &args);
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(said["verdict"], if valid { "valid" } else { "refused" }, "{}: {said}", vector["name"]);
            assert_eq!(output.status.code(), Some(i32::from(!valid)), "{}", vector["name"]);
            assert_eq!(said["reason"].is_null(), valid, "{said}");
            let words: BTreeSet<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(words, BTreeSet::from(["file", "reason", "signer", "verdict"]));
            seen += 1;
        }
    }
    assert_eq!(seen, 2 * wanted.len());
}

/// The trust block as a sysadmin writes it (JSON is YAML too).
fn trust_file(dir: &Path, folder: &Path, profile: &Value) -> String {
    let config = trust(folder, profile);
    let mut block = serde_json::json!({"policy": profile["routing_policy"]});
    block["unlisted"] = if config.accept_unlisted { "accept" } else { "refuse" }.into();
    if let Some(x509) = config.x509 {
        block["x509"] = serde_json::json!({"ca": x509.ca});
        if let Some(crl) = x509.crl {
            block["x509"]["crl"] = crl.display().to_string().into();
        }
    }
    if let Some(keys) = config.gpg_keys {
        block["gpg"] = serde_json::json!({ "keys": keys });
    }
    let file = dir.join("trust.yaml");
    std::fs::write(&file, block.to_string()).unwrap();
    file.display().to_string()
}

#[test]
fn reactor_verify_knows_the_time_that_is_asked_for() {
    let Some(folder) = shared("vectors/fedmsg-2017") else { return };
    let scratch = Scratch::new("verify-at");
    let ca = folder.join("fedora_ca.crt");
    std::fs::write(scratch.path().join("trust.yaml"), format!("x509: {{ ca: {} }}\nunlisted: accept\n", ca.display()))
        .unwrap();
    let body = folder.join("00.frame1").display().to_string();
    let verify =
        |more: &[&str]| reactor_output(scratch.path(), &[&["verify", "--trust", "trust.yaml", &body], more].concat());
    let then = verify(&["--at", "2023-01-01T00:00:00Z"]);
    assert!(then.status.success() && then.stdout.starts_with(b"valid    copr-"), "{then:?}");
    let today = verify(&[]);
    assert_eq!(today.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&today.stdout).contains("has expired"), "{today:?}");
}

#[test]
fn the_canonical_form_is_what_was_signed() {
    let Some(folder) = shared("vectors/fedmsg") else { return };
    let index = json(&folder.join("index.json"));
    for vector in vectors(&index) {
        let Some(signed) = vector["signed_bytes"].as_str() else { continue };
        let all = frames(&folder, vector);
        let body = parse(all.last().unwrap()).unwrap();
        let is_gpg = body.get("crypto").and_then(|crypto| crypto.as_str()) == Some("gpg");
        let ours = match body.get("msg") {
            Some(msg) if is_gpg => msg.encode(),
            _ => body.encode_without(&["signature", "certificate"], 0),
        };
        let theirs = std::fs::read(folder.join(signed)).unwrap();
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{}", vector["name"]);
    }
}

/// Believes the CA of then.
fn of_2017(folder: &Path) -> Verifier {
    Verifier::open(TrustConfig {
        x509: Some(X509Config { ca: folder.join("fedora_ca.crt"), crl: None }),
        accept_unlisted: true,
        ..TrustConfig::default()
    })
}

#[test]
fn production_messages_are_valid_in_2023_and_have_expired_since() {
    let Some(folder) = shared("vectors/fedmsg-2017") else { return };
    let verifier = of_2017(&folder);
    for vector in vectors(&json(&folder.join("index.json"))) {
        let file =
            |what: &str| std::fs::read(folder.join(format!("{:02}.{what}", vector["n"].as_u64().unwrap()))).unwrap();
        let raw = message(&[file("frame0"), file("frame1")]).unwrap();
        verifier.verify(&raw, at("2023-01-01T00:00:00Z")).unwrap();
        let refusal = verifier.verify(&raw, at(TODAY)).unwrap_err();
        assert!(refusal.reason.contains("has expired"), "{refusal}");
        assert!(refusal.reason.starts_with("the signature itself is good"), "{refusal}");
        let ours = parse(&raw.body).unwrap().encode_without(&["signature", "certificate"], 0);
        assert_eq!(ours, file("signed"));
    }
}

#[test]
fn what_a_real_datagrepper_answered_is_what_was_signed() {
    let Some(folder) = shared("vectors/fedmsg-2017") else { return };
    let verifier = of_2017(&folder);
    let answer = std::fs::read(folder.join("datagrepper-response.json")).unwrap();
    let Json::Object(fields) = parse(&answer).unwrap() else { panic!("an object") };
    let items = fields.into_iter().find(|(name, _)| name.as_ref() == b"raw_messages").map(|(_, items)| items);
    let Some(Json::List(items)) = items else { panic!("a list") };
    assert_eq!(items.len(), 25);
    for item in items {
        let kept = kept(item).unwrap();
        let form = Form::Kept { believed_as: None };
        let raw =
            RawMessage { topic: kept.topic, body: kept.body, bus: "b".into(), received: at(TODAY), token: 0, form };
        let message = verifier.verify(&raw, at("2023-01-01T00:00:00Z")).unwrap().into_inner();
        assert_eq!((Some(message.id), Some(message.sent)), (kept.id, kept.sent));
    }
}

#[test]
fn every_real_signed_message_passes_its_signature_check() {
    let Some(folder) = shared("messages") else { return };
    let lines = std::fs::read_to_string(folder.join("signed.jsonl")).unwrap();
    for (n, line) in lines.lines().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        let body = value["envelope"].to_string();
        signature_alone(body.as_bytes()).unwrap_or_else(|refusal| panic!("line {}: {refusal}", n + 1));
        let changed = body.replacen("org.", "orf.", 1);
        assert!(signature_alone(changed.as_bytes()).is_err(), "line {}: changed and still good", n + 1);
    }
}

/// Prints random JSON texts and base64, whole and damaged, with what Python makes of each: one JSON list a line, `[kind, text, result or
/// null]`.
const PYTHON: &str = r#"
import base64, json, random, struct, sys
rnd = random.Random(20261121)
def text():
    pools = [range(0x20, 0x7f), range(0x00, 0x20), range(0x7f, 0x800), range(0x800, 0xd800), range(0xd800, 0xe000), range(0xe000, 0x10000), range(0x10000, 0x110000)]
    return ''.join(chr(rnd.choice(rnd.choice(pools[:1] * 6 + pools))) for _ in range(rnd.randrange(8)))
def number():
    k = rnd.randrange(6)
    if k == 0: return rnd.randrange(-10, 10)
    if k == 1: return rnd.getrandbits(rnd.randrange(1, 200)) * rnd.choice([1, -1])
    if k == 2: return struct.unpack('d', struct.pack('Q', rnd.getrandbits(64)))[0]
    if k == 3: return rnd.randrange(-1000, 1000) * 10.0 ** rnd.randrange(-20, 25)
    if k == 4: return round(rnd.uniform(-1e6, 1e6), rnd.randrange(0, 8))
    return rnd.choice([float('nan'), float('inf'), -float('inf'), 0.0, -0.0, 5e-324, 2.0 ** rnd.randrange(-1074, 1023)])
def value(depth=0):
    k = rnd.randrange(9 if depth < 5 else 6)
    if k < 2: return number()
    if k < 5: return text()
    if k == 5: return rnd.choice([None, True, False])
    if k == 6: return [value(depth + 1) for _ in range(rnd.randrange(4))]
    return {text(): value(depth + 1) for _ in range(rnd.randrange(5))}
def written(v):
    indent = rnd.choice([None, None, 1])
    plain = json.dumps(v, ensure_ascii=False, indent=indent)
    has_surrogates = any(0xd800 <= ord(c) < 0xe000 for c in plain)
    return json.dumps(v, indent=indent) if has_surrogates or rnd.random() < .5 else plain
def out(kind, given, f):
    try: result = f(given)
    except (ValueError, RecursionError): result = None
    print(json.dumps([kind, given, result]))
canonical = json.JSONEncoder(sort_keys=True, separators=(',', ':')).encode
signs = '[]{}",:0123456789eE.+-\\utrnNaIfy \t\n/'
for _ in range(6000):
    s = written(value())
    out('json', s, lambda s: canonical(json.loads(s)))
    if s:
        at = rnd.randrange(len(s))
        s = s[:at] + rnd.choice(['', rnd.choice(signs), rnd.choice(signs) * 2]) + s[at + rnd.randrange(3):]
        out('json', s, lambda s: canonical(json.loads(s)))
for _ in range(4000):
    s = ''.join(rnd.choice(signs) for _ in range(rnd.randrange(1, 6)))
    out('json', s, lambda s: canonical(json.loads(s)))
for _ in range(6000):
    s = ''.join(rnd.choice('ABCab09+/=== \n-_') for _ in range(rnd.randrange(14)))
    out('base64', s, lambda s: base64.b64decode(s).hex())
"#;

#[test]
fn json_and_base64_are_read_and_written_as_python_does() {
    let said = python(PYTHON);
    let (mut same, mut refused) = (0, 0);
    for line in said.lines() {
        let case: Vec<Value> = serde_json::from_str(line).unwrap();
        let [kind, given, theirs] = &case[..] else { panic!("{line}") };
        let given = given.as_str().unwrap();
        let ours = match kind.as_str().unwrap() {
            "json" => parse(given.as_bytes()).ok().map(|json| String::from_utf8(json.encode()).unwrap()),
            _ => python_base64(given).ok().map(|bytes| bytes.iter().map(|b| format!("{b:02x}")).collect()),
        };
        assert_eq!(ours.as_deref(), theirs.as_str(), "{given:?}");
        if ours.is_some() { same += 1 } else { refused += 1 }
    }
    assert!(same > 8_000 && refused > 4_000, "{same} the same, {refused} refused by both");
}

#[expect(clippy::disallowed_methods, reason = "a test's own helper, not something that reactor starts")]
fn python(program: &str) -> String {
    let mut child = std::process::Command::new("python3")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is on the machine");
    child.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
