//! The daemon is killed, the journal is busy, clients are slow, or many at once.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reactor::http::CONNECTIONS_AT_ONCE_MAX;
use reactor_tests::daemon::{hold_journal, reactor_output};
use reactor_tests::{Daemon, random_below, reactor_json, wait_until};

use super::site::{LONG, Stage, github, rest};

/// Posted while the daemon is killed again and again.
const DELIVERIES: usize = 24;
const KILLS: usize = 8;
/// Longest life of a daemon before it is killed, in milliseconds.
const LIFE_MS_MAX: u64 = 250;

#[test]
fn whoever_posts_until_it_is_taken_is_reacted_to_once_though_the_daemon_is_killed() {
    let mut stage = Stage::new("http-kill");
    let (port, dir) = (stage.port, stage.dir().to_owned());
    let posts: Vec<(String, Vec<String>)> = (0..DELIVERIES)
        .map(|n| {
            let body = format!(r#"{{"lane": "lane{}", "line": "line-{n:02}"}}"#, n % 4);
            let headers = github("push", &format!("d-{n}"), &body);
            (body, headers)
        })
        .collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (n, lane) in posts.chunks(DELIVERIES / 4).enumerate() {
            let over = &over;
            scope.spawn(move || {
                for (body, headers) in lane {
                    until_taken(port, headers, body);
                    // The others of this lane come after some kills.
                    if n % 2 == 0 && !over.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(random_below(LIFE_MS_MAX)));
                    }
                }
            });
        }
        for _ in 0..KILLS {
            // Not a hope that something happens meanwhile: the moment of death is what is varied here.
            std::thread::sleep(Duration::from_millis(random_below(LIFE_MS_MAX)));
            stage.daemon.kill_9();
            stage.daemon = Daemon::start(&dir, &["run", "rules.yaml"]);
        }
        over.store(true, Ordering::Relaxed);
    });
    let wanted: Vec<String> = (0..DELIVERIES).map(|n| format!("line-{n:02}")).collect();
    stage.until_effects(&wanted.iter().map(String::as_str).collect::<Vec<_>>());
    let rows = reactor_json(stage.dir(), &["list", "--at-most", "0"]);
    assert_eq!(rows.len(), DELIVERIES, "one reaction for each");
}

/// Posts it again and again until the answer is that it is known.
fn until_taken(port: u16, headers: &[String], body: &str) {
    let began = std::time::Instant::now();
    loop {
        let answer = raw_post(port, headers, body);
        if answer.starts_with("HTTP/1.1 20") {
            return;
        }
        assert!(began.elapsed() < LONG, "never taken: {answer}");
        std::thread::yield_now();
    }
}

/// Posts it without curl; what was answered, nothing where nobody did.
pub fn raw_post(port: u16, headers: &[String], body: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return String::new() };
    stream.set_read_timeout(Some(LONG)).expect("an option");
    let head = format!(
        "POST /hook/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n\r\n",
        body.len(),
        headers.join("\r\n")
    );
    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
        return String::new();
    }
    rest(stream)
}

#[test]
fn killed_between_post_and_answer_it_has_promised_nothing_and_the_second_post_is_the_only_one() {
    let mut stage = Stage::new("http-kill-in-hand");
    let (body, port) = (r#"{"line": "one"}"#, stage.port);
    let headers = github("push", "d-1", body);
    let occupier = hold_journal(stage.dir(), LONG);
    let posting = std::thread::spawn({
        let headers = headers.clone();
        move || raw_post(port, &headers, body)
    });
    wait_until("it is in hand, and can't be written", LONG, || stage.scratch.log().contains("nothing is acknowledged"));
    stage.daemon.kill_9();
    let answer = posting.join().expect("no panic");
    assert!(!answer.contains("HTTP/1.1 2"), "it could not be sure of it: {answer}");
    drop(occupier);
    stage.again();
    assert_eq!(reactor_json(stage.dir(), &["list"]).len(), 0, "nothing of it was written");
    until_taken(port, &headers, body);
    until_taken(port, &headers, body);
    stage.until_effects(&["one"]);
    assert_eq!(reactor_json(stage.dir(), &["list"]).len(), 1);
}

#[test]
fn while_the_journal_can_not_be_written_nobody_is_told_that_it_can_forget() {
    let stage = Stage::new("http-journal");
    let occupier = hold_journal(stage.dir(), LONG);
    let body = r#"{"line": "one"}"#;
    let said = stage.push("d-1", body);
    assert_eq!((said.status, said.headers.contains_key("retry-after")), (503, true), "{said:?}");
    assert_eq!(stage.push("d-1", body).status, 503, "at once, while it is known");
    assert_eq!(stage.effects(), Vec::<String>::new());
    drop(occupier);
    wait_until("it is taken", LONG, || matches!(stage.push("d-1", body).status, 200 | 202));
    stage.until_effects(&["one"]);
    assert_eq!(reactor_json(stage.dir(), &["list"]).len(), 1, "though it was posted several times");
}

#[test]
fn slow_clients_make_room_and_many_are_served() {
    let stage = Stage::new("http-slow");
    let body = r#"{"line": "good"}"#;
    let mut slow = stage.connect().expect("a connection");
    let head = format!(
        "POST /hook/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{{",
        body.len()
    );
    slow.write_all(head.as_bytes()).expect("half a request");
    let half: Vec<TcpStream> = (1..CONNECTIONS_AT_ONCE_MAX)
        .map(|_| {
            let mut stream = stage.connect().expect("a connection");
            stream.write_all(b"POST /hook/github HTTP/1.1\r\nHost: ").expect("half a head");
            stream
        })
        .collect();
    assert_eq!(stage.push("d-1", body).status, 202, "when the first of them are hung up on");
    stage.until_effects(&["good"]);
    half.into_iter().for_each(|stream| assert!(!rest(stream).contains("HTTP/1.1 2")));
    let said = rest(slow);
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("longer than"), "{said}");

    let many = CONNECTIONS_AT_ONCE_MAX * 2;
    let lines: Vec<String> = (0..many).map(|n| format!(r#"{{"lane": "l{}", "line": "good"}}"#, n % 2)).collect();
    let headers: Vec<Vec<String>> = lines.iter().take(2).map(|line| github("push", "x", line)).collect();
    let answers: Vec<String> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..many)
            .map(|n| {
                let (mut headers, line, port) = (headers[n % 2].clone(), &lines[n], stage.port);
                headers[2] = format!("X-GitHub-Delivery: many-{n}");
                scope.spawn(move || raw_post(port, &headers, line))
            })
            .collect();
        posts.into_iter().map(|post| post.join().expect("no panic")).collect()
    });
    let other = answers.iter().find(|answer| !answer.starts_with("HTTP/1.1 202"));
    assert!(other.is_none(), "{other:?}");
}

#[test]
fn an_address_that_is_taken_is_said_at_the_start() {
    let stage = Stage::new("http-taken");
    let second = reactor_tests::Scratch::new("http-taken-2");
    for file in ["rules.yaml", "github.secret", "compose.secret", "compose.new"] {
        std::fs::copy(stage.dir().join(file), second.path().join(file)).expect("copied");
    }
    let output = reactor_output(second.path(), &["run", "rules.yaml"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("127.0.0.1:{} can't be listened on", stage.port)) && said.contains("ss -ltnp"),
        "{said}"
    );
}
