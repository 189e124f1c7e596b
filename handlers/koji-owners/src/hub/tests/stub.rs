//! A hub of a few lines on loopback: it says what a test wants, call by call, and keeps what it was asked. Logins and logouts it
//! answers by itself. The whole stand-in, with TLS, is in `tests/`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::xml::Value;
use super::super::xml::tests::read_call;
use super::*;

/// What it does with one call.
pub(super) enum Act {
    /// A value.
    Say(Value),
    /// A fault.
    Fault(i64, String),
    /// An answer as it is: status, type, body.
    Raw(u16, &'static str, String),
    /// Hears it and hangs up.
    Drop,
    /// Says that more is coming than comes.
    CutOff,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub path: String,
    /// Session and number of the call.
    pub session: Option<(u64, u64)>,
    pub method: String,
    pub params: Vec<Value>,
}

impl Asked {
    /// `method` of `session#callnum`.
    fn short(&self) -> String {
        match self.session {
            Some((session, callnum)) => format!("{} {session}#{callnum}", self.method),
            None => self.method.clone(),
        }
    }
}

#[derive(Default)]
struct Inner {
    acts: VecDeque<Act>,
    /// What a login is answered with, if it is not a session.
    login: Option<Act>,
    logins: i64,
    asked: Vec<Asked>,
}

pub(super) struct Stub {
    pub hub: Hub,
    inner: Arc<Mutex<Inner>>,
    _secrets: tempfile::TempDir,
}

/// A certificate that ended on 2026-11-22T17:35:17Z.
const CERTIFICATE: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBpzCCAU2gAwIBAgIUXF5g/nSmBk3pBBnCYsrf90+vHTowCgYIKoZIzj0EAwIw
KTEVMBMGA1UECgwMcmVhY3Rvci10ZXN0MRAwDgYDVQQDDAdyZWFjdG9yMB4XDTI2
MTEyMTE3MzUxN1oXDTI2MTEyMjE3MzUxN1owKTEVMBMGA1UECgwMcmVhY3Rvci10
ZXN0MRAwDgYDVQQDDAdyZWFjdG9yMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
RJkuqw4lsaI5IoCfSh7Up2RnlosB6aonac4oybO47AG0Hc/sCxbJUVZpyQzlywU2
vLWoazWmMelky72SBhdrRKNTMFEwHQYDVR0OBBYEFM6iFYt1+aT+WphLqWnK0vso
AI8FMB8GA1UdIwQYMBaAFM6iFYt1+aT+WphLqWnK0vsoAI8FMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgLOborIi3K4NLcbrgFoTjtcomcsyf3Brb
Vc/A/pdvNMQCIQCQu3H+NNrOzFPfzMVvvv1Ll0rua8FHbY8+mK9ro+f49A==
-----END CERTIFICATE-----
";

impl Stub {
    pub(super) async fn start(acts: Vec<Act>) -> Self {
        Self::with_login(acts, None).await
    }

    pub(super) async fn with_login(acts: Vec<Act>, login: Option<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = format!("http://{}/kojihub", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner { acts: acts.into(), login, ..Inner::default() }));
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&serving)));
            }
        });
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("hub.pem"), CERTIFICATE).unwrap();
        let login = Some(Login::Certificate { certificate: "hub.pem".into(), key: None });
        let place = Place { hub, ca: None, timeout: Duration::from_secs(20), login };
        Self { hub: Hub { line: Line::new(place, Some(secrets.path().into())) }, inner, _secrets: secrets }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.inner.lock().unwrap().asked.clone()
    }

    /// Drops the hub; the calls up to then and those of its end.
    pub(super) async fn end(self) -> Vec<String> {
        let hub = self.hub;
        tokio::task::spawn_blocking(move || drop(hub)).await.unwrap();
        let inner = self.inner.lock().unwrap();
        assert!(inner.acts.is_empty(), "{} calls were not made", inner.acts.len());
        inner.asked.iter().map(Asked::short).collect()
    }
}

/// One request a connection: each is a run of curl.
async fn answer(stream: TcpStream, inner: Arc<Mutex<Inner>>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0);
    }
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    let mut body = vec![0; header("Content-Length").unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let (method, params) = read_call(std::str::from_utf8(&body).unwrap());
    let number = |name: &str| header(name).map(|text| text.parse::<u64>().unwrap());
    assert_eq!(
        number("Koji-Session-Callnum"),
        number("Koji-Callnum"),
        "some hubs look for the one, some for the other"
    );
    let session = number("Koji-Session-Id").zip(number("Koji-Session-Callnum"));
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let act = act(&mut inner.lock().unwrap(), Asked { path, session, method, params });
    let text = match act {
        Act::Say(value) => http(200, "text/xml", &respond(&value)),
        Act::Fault(code, text) => http(200, "text/xml", &respond(&fault(code, &text))),
        Act::Raw(status, kind, body) => http(status, kind, &body),
        Act::Drop => return,
        Act::CutOff => "HTTP/1.1 200 X\r\nContent-Type: text/xml\r\nContent-Length: 100\r\n\r\n<?xml".to_owned(),
    };
    stream.write_all(text.as_bytes()).await.unwrap();
}

fn act(inner: &mut Inner, asked: Asked) -> Act {
    let method = asked.method.clone();
    inner.asked.push(asked);
    match (method.as_str(), inner.login.take()) {
        ("sslLogin", Some(act)) => act,
        ("sslLogin", None) => {
            inner.logins += 1;
            let members = [
                ("session-id", Value::Int(inner.logins)),
                ("session-key", Value::text("1-key")),
                ("header-auth", Value::Bool(true)),
            ];
            Act::Say(members_of(members))
        }
        ("logout", _) => Act::Say(Value::Nil),
        (method, _) => inner.acts.pop_front().unwrap_or_else(|| panic!("{method} is one call too many")),
    }
}

fn http(status: u16, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A struct.
pub(super) fn members_of<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Struct(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A fault, as an element of a `multiCall` has it.
pub(super) fn fault(code: i64, text: &str) -> Value {
    let traceback = Value::Array(vec![Value::text("Traceback…\n".repeat(20))]);
    members_of([("faultCode", Value::Int(code)), ("faultString", Value::text(text)), ("traceback", traceback)])
}

/// The document of an answer.
pub(super) fn respond(value: &Value) -> String {
    let body = super::super::xml::call("x", std::slice::from_ref(value));
    let params = &body[body.find("<params>").unwrap()..body.find("</methodCall>").unwrap()];
    let is_fault = value.get("faultCode").is_some();
    let params = if is_fault {
        params.replace("<params>\n<param>", "<fault>").replace("</param>\n</params>", "</fault>")
    } else {
        params.to_owned()
    };
    format!("<?xml version='1.0'?>\n<methodResponse>\n{params}</methodResponse>\n")
}
