//! A site that is posted to, and short ways to post.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reactor_tests::process::command;
use reactor_tests::{Daemon, Scratch, free_port, reactor_json, wait_until};
use serde_json::Value;

/// Longest wait for what is sure to come.
pub const LONG: Duration = reactor_tests::PATIENCE;
pub const SECRET: &str = "It's a Secret to Everybody";
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const NEW_TOKEN: &str = "fedcba9876543210fedcba9876543210";

/// A daemon with two webhooks, whose rules put a line into a file.
pub struct Stage {
    pub scratch: Scratch,
    pub port: u16,
    pub daemon: Daemon,
}

/// An answer.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    pub body: Value,
}

/// What a site says; `more` stands at its end.
pub fn rules(port: u16, http: &str, file: &Path, more: &str) -> String {
    let append = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/append");
    format!(
        "version: 1
http: {{ listen: \"127.0.0.1:{port}\"{http} }}
bus:
  github:
    webhook:
      path: /hook/github
      secret: {{ file: ./github.secret }}
      signature: github
      topic: github.{{{{headers.x-github-event}}}}
  compose:
    webhook:
      path: /hook/compose
      secret: {{ file: [./compose.new, ./compose.secret] }}
      signature: token
      topic: compose.{{{{msg.state}}}}
      id: \"{{{{msg.compose}}}}-{{{{msg.state}}}}\"
handlers:
  append: {{ exec: {append}, env: {{ FILE: {file} }}, at_once: 4 }}
rules:
  - {{ name: push, on: github.push, key: \"{{{{default msg.lane 'all'}}}}\", do: append, with: {{ line: \"{{{{default msg.line 'pushed'}}}}\" }} }}
  - {{ name: compose, on: compose.finished, do: append, with: {{ line: \"{{{{msg.compose}}}}\" }} }}
{more}",
        file = file.display()
    )
}

impl Stage {
    pub fn new(name: &str) -> Self {
        Self::with(name, "", "")
    }

    /// `http` stands behind `listen`, `more` at the end of the site.
    pub fn with(name: &str, http: &str, more: &str) -> Self {
        let (scratch, port) = (Scratch::new(name), free_port());
        let dir = scratch.path();
        for (file, content) in
            [("github.secret", SECRET), ("compose.secret", TOKEN), ("compose.new", NEW_TOKEN), ("effects", "")]
        {
            std::fs::write(dir.join(file), content).expect("written");
        }
        std::fs::write(dir.join("rules.yaml"), rules(port, http, &dir.join("effects"), more)).expect("the site");
        let daemon = Daemon::start(dir, &["run", "rules.yaml"]);
        let stage = Self { scratch, port, daemon };
        stage.listens();
        stage
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts it anew when the one before has ended.
    pub fn again(&mut self) {
        wait_until("it ends", LONG, || self.daemon.has_ended());
        self.daemon = Daemon::start(self.dir(), &["run", "rules.yaml"]);
        self.listens();
    }

    fn listens(&self) {
        // The address is taken before the journal is opened; an answer comes after that.
        wait_until("the daemon answers", LONG, || self.curl("/", &[], &[], None).is_some());
    }

    pub fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(LONG)).expect("an option");
        Some(stream)
    }

    /// Sends it with curl. `None`: no answer came.
    pub fn curl(&self, path: &str, args: &[&str], headers: &[String], body: Option<&[u8]>) -> Option<Said> {
        let mut curl = command("curl");
        curl.args(["--silent", "--include", "--max-time", "50", "--noproxy", "*"]).args(args);
        for header in headers {
            curl.args(["-H", header]);
        }
        if body.is_some() {
            curl.args(["--data-binary", "@-"]);
        }
        curl.arg(format!("http://127.0.0.1:{}{path}", self.port));
        let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("curl");
        // curl may stop reading when it has its answer.
        let _ = child.stdin.take().expect("its stdin").write_all(body.unwrap_or_default());
        let output = child.wait_with_output().expect("curl ends");
        said(&String::from_utf8_lossy(&output.stdout))
    }

    pub fn post(&self, path: &str, headers: &[String], body: &[u8]) -> Said {
        let headers = [headers, &["Content-Type: application/json".to_owned()]].concat();
        self.curl(path, &[], &headers, Some(body)).expect("an answer")
    }

    /// Posts as GitHub does.
    pub fn push(&self, delivery: &str, body: &str) -> Said {
        self.post("/hook/github", &github("push", delivery, body), body.as_bytes())
    }

    pub fn get(&self, path: &str) -> Said {
        self.curl(path, &[], &[], None).expect("an answer")
    }

    pub fn effects(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.effects_text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn effects_text(&self) -> String {
        std::fs::read_to_string(self.dir().join("effects")).unwrap_or_default()
    }

    pub fn until_effects(&self, wanted: &[&str]) {
        wait_until(&format!("the effects are {wanted:?}: {}", self.scratch.log()), LONG, || self.effects() == wanted);
    }

    /// One bus as `status` has it.
    pub fn bus(&self, name: &str) -> Value {
        let status = reactor_json(self.dir(), &["status"]).remove(0);
        let buses = status["daemon"]["buses"].as_array().or(status["buses"].as_array()).cloned().unwrap_or_default();
        buses.into_iter().find(|bus| bus["name"] == name).unwrap_or_else(|| panic!("no bus {name} in {status}"))
    }
}

/// The headers of GitHub, signed by openssl.
pub fn github(event: &str, delivery: &str, body: &str) -> Vec<String> {
    let mut openssl = command("openssl");
    openssl.args(["dgst", "-sha256", "-r", "-hmac", SECRET]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().expect("openssl");
    child.stdin.take().expect("its stdin").write_all(body.as_bytes()).expect("told");
    let output = child.wait_with_output().expect("it ends");
    let hex = String::from_utf8(output.stdout).expect("hex");
    let hex = hex.split(' ').next().expect("hex");
    [
        ("X-Hub-Signature-256", format!("sha256={hex}")),
        ("X-GitHub-Event", event.into()),
        ("X-GitHub-Delivery", delivery.into()),
    ]
    .map(|(name, value)| format!("{name}: {value}"))
    .to_vec()
}

/// The last answer in what curl printed.
fn said(text: &str) -> Option<Said> {
    let begin = text.rfind("HTTP/1.1 ")?;
    let (head, body) = text[begin..].split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Said { status, headers, body: serde_json::from_str(body).unwrap_or(Value::Null) })
}

/// What comes on a connection until its end.
pub fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is cut off has said what it had to say.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}
