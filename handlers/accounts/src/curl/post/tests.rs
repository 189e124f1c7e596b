//! What a POST tells when there is no answer, against small servers on loopback.

use std::os::unix::fs::PermissionsExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::Kerberos;
use super::*;

const BODY: &str = "<a>\"b\\\n</a>";

fn curl() -> Curl {
    Curl { ca: None, timeout: Duration::from_secs(2), kerberos: Kerberos::No }
}

fn post(url: &str) -> Post {
    let headers = vec!["Key: secret".to_owned()];
    Post { url: url.into(), headers, content_type: "text/xml", body: BODY.into(), certificate: None }
}

/// A server that reads one request whole, says `answer` and closes; `None` = it says nothing and stays.
async fn server(answer: Option<&'static str>) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hub", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(BODY.as_bytes()) {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "the request is cut short");
        }
        match answer {
            Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            None => assert_eq!(stream.read_buf(&mut Vec::new()).await.unwrap(), 0),
        }
        String::from_utf8(seen).unwrap()
    });
    (url, seen)
}

#[tokio::test]
async fn the_body_arrives_as_it_is_and_its_file_is_gone() {
    let (url, seen) = server(Some("HTTP/1.1 400 X\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nno")).await;
    let answer = curl().post(&post(&url)).await.unwrap();
    assert_eq!((answer.status, answer.content_type.as_str(), &answer.body[..]), (400, "text/plain", &b"no"[..]));
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("POST /hub HTTP/1.1\r\n") && seen.ends_with(&format!("\r\n\r\n{BODY}")), "{seen}");
    assert!(seen.contains("\r\nContent-Type: text/xml\r\n") && seen.contains("\r\nKey: secret\r\n"), "{seen}");
    assert!(!seen.contains("Expect"), "{seen}");

    let (run, _, body) = curl().prepare(&post("http://127.0.0.1:1/x")).unwrap();
    assert!(!run.args.concat().contains("secret") && run.env.is_empty());
    let file = body.0.clone();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    drop(body);
    assert!(!file.exists());
}

#[tokio::test]
async fn what_never_reached_the_server_is_not_lost() {
    let (plain, _seen) = server(None).await;
    let mut no_file = post("https://127.0.0.1:1/hub");
    no_file.certificate = Some(ClientCertificate {
        certificate: "/does/not/exist:1.pem".into(),
        key: Some("/does/not/exist.key".into()),
    });
    let no_name = post("https://no-such-host.invalid/hub");
    let no_tls = post(&plain.replace("http:", "https:"));
    for one in [post("http://127.0.0.1:1/hub?secret"), no_name, no_tls, no_file] {
        let no_answer = curl().post(&one).await.unwrap_err();
        assert!(matches!(&no_answer, NoAnswer::NotSent(_)), "{no_answer:?}");
        let failure = no_answer.into_failure();
        assert!(!failure.message().contains("secret"), "{failure}");
    }
}

#[tokio::test]
async fn what_the_server_may_have_acted_on_is_lost() {
    let (no_head, cut_off) = ("HTTP/1.1", "HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n<?xml");
    for answer in [Some(""), Some(no_head), Some(cut_off), None] {
        let (url, seen) = server(answer).await;
        let no_answer = curl().post(&post(&url)).await.unwrap_err();
        assert!(matches!(&no_answer, NoAnswer::Lost(_)), "{answer:?}: {no_answer:?}");
        seen.await.unwrap();
    }
}

#[test]
fn a_certificate_with_a_colon_in_its_path_has_no_password() {
    assert_eq!(certificate_in_quotes(Path::new("/a:b.pem")).unwrap(), r#""/a\\:b.pem""#);
    assert!(certificate_in_quotes(Path::new("/a\"b")).is_err());
}

#[test]
fn a_run_says_how_much_it_sent() {
    assert_eq!(bytes_sent(b"x\nM 000 7 \nM sent 0\n", "M"), Some(0));
    assert_eq!(bytes_sent(b"\nM 200 18 \nM sent 321\n", "M"), Some(321));
    assert_eq!(bytes_sent(b"\nM 200 18 \n", "M"), None);
}
