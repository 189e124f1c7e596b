//! The step with the built-in handler koji-owners. No hub can be installed here, so this one is a stand-in and says so: it answers,
//! from a list of its own, the four questions that a plan asks, as a hub 1.35.3 answered them. It takes no writes: the rules say
//! `mode: plan`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use koji_owners::hub::xml::{self, Value};
use serde_json::json;

use super::stage::Stage;
use super::{out, show};
use crate::journal::State;

/// The name of the handler in the example site.
pub const HANDLER: &str = "koji";
/// The hub in rules.yaml, which becomes one that is there.
pub const ADDRESS: &str = "http://127.0.0.1:9480/";
/// The file that the example site's block names.
pub const FILES: [(&str, &[u8]); 1] = [(
    "handlers/koji-owners/example/packages.yaml",
    include_bytes!("../../../../handlers/koji-owners/example/packages.yaml").as_slice(),
)];

/// Largest request that is read, in bytes.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// Tags, packages, owners, and whether they are blocked.
const ROWS: [(&str, &str, &str, bool); 9] = [
    ("f45", "bash", "carol", false),
    ("f44", "bash", "bob", false),
    ("f45", "gtk+", "carol", false),
    ("f44", "gtk+", "carol", false),
    ("epel9", "gtk+", "carol", false),
    ("f45", "zsh", "orphan", false),
    ("f44", "zsh", "orphan", false),
    ("f45", "telnet", "orphan", true),
    ("f44", "telnet", "orphan", true),
];

/// Listens, and answers for as long as the program runs; its address, as it stands in a rules file.
pub fn hub() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/", listener.local_addr()?);
    std::thread::Builder::new().name("demo-hub".into()).spawn(move || {
        // Whoever goes away in the middle gets no answer; the next one does.
        listener.incoming().flatten().for_each(|stream| drop(serve(stream)));
    })?;
    Ok(address)
}

/// Shows it.
pub fn koji(stage: &mut Stage) -> anyhow::Result<()> {
    out("6. Koji (built in): who owns a package, tag by tag. The hub is a stand-in here, and the rules only plan");
    stage.say(
        "pkgdb.owner.update",
        json!({"agent": "carol", "package_listing": {"point_of_contact": "alice", "status": "Approved",
            "package": {"name": "bash", "namespace": "rpms"}, "collection": {"name": "Fedora", "version": "devel", "branchname": "rawhide"}}}),
    )?;
    out("   sent: «carol gave bash to alice», as pkgdb tells it");
    let planned = stage.until_row("the plan for bash", |row| {
        row.handler == HANDLER && row.key == "rpms/bash" && row.state == State::Planned
    })?;
    show(&[planned]);
    out("");
    Ok(())
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?.take(REQUEST_BYTES_MAX));
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        let named = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length = named.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(length);
        line.clear();
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let (status, text) = match xml::called(&body) {
        Ok((method, params)) => ("200 OK", xml::answer(&said(&method, &params))),
        Err(why) => ("400 Bad Request", format!("The call {why}\n")),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n", text.len());
    (&stream).write_all(format!("{head}Connection: close\r\n\r\n{text}").as_bytes())
}

fn said(method: &str, params: &[Value]) -> Value {
    let text = |at: usize| params.get(at).and_then(Value::as_str).unwrap_or_default();
    match (method, params.first()) {
        ("multiCall", Some(Value::Array(calls))) => Value::Array(calls.iter().map(one_of_many).collect()),
        ("getTag", _) => ROWS.iter().find(|row| row.0 == text(0)).map_or(Value::Nil, |row| named([("name", row.0)])),
        ("getUser", _) => named([("name", text(0))]),
        ("getPackageConfig", _) => {
            ROWS.iter().find(|row| (row.0, row.1) == (text(0), text(1))).map_or(Value::Nil, row_of)
        }
        ("listPackages", Some(asked)) => {
            let tag = asked.get("tagID").and_then(Value::as_str);
            Value::Array(ROWS.iter().filter(|row| Some(row.0) == tag).map(row_of).collect())
        }
        _ => Value::Struct([("faultCode".to_owned(), Value::Int(1000)), fault_text(method)].into()),
    }
}

/// A call of a `multiCall`: its answer stands in a list of one, a fault by itself.
fn one_of_many(call: &Value) -> Value {
    let method = call.get("methodName").and_then(Value::as_str).unwrap_or_default();
    let params = match call.get("params") {
        Some(Value::Array(params)) => params.as_slice(),
        _ => &[],
    };
    match said(method, params) {
        fault if fault.get("faultCode").is_some() => fault,
        value => Value::Array(vec![value]),
    }
}

fn fault_text(method: &str) -> (String, Value) {
    ("faultString".to_owned(), Value::text(format!("Invalid method: {method}")))
}

fn row_of((tag, package, owner, blocked): &(&str, &str, &str, bool)) -> Value {
    let mut row = named([("package_name", package), ("owner_name", owner), ("tag_name", tag)]);
    if let Value::Struct(members) = &mut row {
        members.insert("blocked".to_owned(), Value::Bool(*blocked));
        members.insert("extra_arches".to_owned(), Value::Nil);
    }
    row
}

fn named<const N: usize>(members: [(&str, &str); N]) -> Value {
    Value::Struct(members.into_iter().map(|(name, text)| (name.to_owned(), Value::text(text))).collect())
}
