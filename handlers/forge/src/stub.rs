//! A small HTTP server on loopback for tests of faults. Pagure, pkgdb and bodhi are web applications that a test cannot
//! install; it answers in the shapes that their own documentation and tests have, written anew.
//!
//! Only tests use it (feature `testkit`); it panics where a test should fail.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a tool for tests: they fail by a panic")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What the server does with a path.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with a status, a type and a body.
    Say(u16, &'static str, String),
    /// Says that more is coming than comes.
    CutOff(String),
    /// Never answers.
    Hang,
    /// Waits for the test's leave, one at a time.
    Held(Arc<Semaphore>, String),
}

/// What the server does, by path with its query.
pub type Acts = HashMap<String, Act>;

/// A 200 with JSON.
#[must_use]
pub fn say(body: &Value) -> Act {
    Act::Say(200, "application/json", body.to_string())
}

/// The faults of servers and of what stands before them, each with a part of what must be said.
#[must_use]
pub fn faults(good: &Value) -> Vec<(Act, &'static str)> {
    let html = "<html><h1>Not Found</h1></html>";
    vec![
        (Act::Say(500, "application/json", "{\"error\": \"Internal\"}".into()), "500"),
        (Act::Say(502, "text/html", "<html>Bad gateway</html>".into()), "502"),
        (Act::Say(503, "text/html", String::new()), "503"),
        (Act::Say(401, "application/json", "{\"error_code\": \"EINVALIDTOK\"}".into()), "401"),
        (Act::Say(301, "text/html", String::new()), "301"),
        (Act::Say(404, "text/html", html.into()), "404"),
        (Act::Say(404, "application/json", "{\"message\": \"Not Found\"}".into()), "404"),
        (Act::Say(200, "text/html", "<html>Log in</html>".into()), "not JSON"),
        (Act::Say(200, "text/html", good.to_string()), "not JSON"),
        (Act::Say(200, "application/json", "<html>".into()), ""),
        (Act::Say(200, "application/json", String::new()), ""),
        (Act::Say(204, "application/json", String::new()), "204"),
        (Act::Say(200, "application/json", "null".into()), ""),
        (Act::Say(200, "application/json", "[]".into()), ""),
        (Act::Say(200, "application/json", "{}".into()), ""),
        (Act::Say(200, "application/json", good.to_string()[..good.to_string().len() - 1].to_owned()), ""),
        (Act::CutOff(good.to_string()), "curl: (18)"),
        (Act::Hang, "curl: (28)"),
    ]
}

/// The server; it runs as long as the test's runtime.
pub struct Stub {
    /// Its URL, without a slash at the end.
    pub url: String,
    /// The paths that were asked for, in their order.
    pub asked: Arc<Mutex<Vec<String>>>,
    acts: Arc<Mutex<Acts>>,
}

impl Stub {
    /// Starts one on a free port. A path that is not in `acts` is answered with a 404 that is not JSON.
    pub async fn start(acts: Acts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, acts): (Arc<Mutex<Vec<String>>>, _) = (Arc::default(), Arc::new(Mutex::new(acts)));
        let (seen, plays) = (Arc::clone(&asked), Arc::clone(&acts));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&plays), Arc::clone(&seen)));
            }
        });
        Self { url, asked, acts }
    }

    /// What it does with `path` from now on.
    pub fn set(&self, path: &str, act: Act) {
        self.acts.lock().unwrap().insert(path.to_owned(), act);
    }

    /// How many paths with this part were asked for.
    #[must_use]
    pub fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

fn whole(status: u16, kind: &str, body: &str) -> String {
    let mut answer = String::new();
    write!(
        answer,
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\r\n{body}",
        if status == 204 { 0 } else { body.len() }
    )
    .unwrap();
    answer
}

async fn answer(stream: TcpStream, acts: Arc<Mutex<Acts>>, asked: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        asked.lock().unwrap().push(path.clone());
        let act = acts.lock().unwrap().get(&path).cloned();
        let bytes = match act {
            Some(Act::Say(status, kind, body)) => whole(status, kind, &body),
            Some(Act::CutOff(body)) => {
                let head = format!(
                    "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    body.len() + 1
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                return;
            }
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Held(leave, body)) => {
                leave.acquire().await.unwrap().forget();
                whole(200, "application/json", &body)
            }
            // Flask's words for a path without a route.
            None => whole(404, "text/html", "<!DOCTYPE HTML PUBLIC><title>404 Not Found</title>"),
        };
        if stream.write_all(bytes.as_bytes()).await.is_err() {
            return;
        }
    }
}
