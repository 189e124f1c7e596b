//! Faults of FASJSON and of what stands before it, from a small HTTP server on loopback that speaks the shapes of the real
//! FASJSON 1.7.0. The real one is asked in `tests/all/accounts.rs`.

use std::collections::HashMap as Map;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What the server does with a path.
#[derive(Clone)]
enum Act {
    Say(u16, &'static str, String),
    /// Says that more is coming than comes.
    CutOff(String),
    Hang,
    Flood,
}

type Acts = Map<String, Act>;

struct Stub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn start(acts: Acts) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (acts, seen) = (Arc::new(acts), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&acts), Arc::clone(&seen)));
            }
        });
        Self { url, asked }
    }

    fn client(&self, page_size: u64) -> Fasjson {
        Fasjson::open(&json!({"fasjson": self.url, "page_size": page_size, "timeout": "2s"})).unwrap()
    }
}

async fn answer(stream: TcpStream, acts: Arc<Acts>, asked: Arc<Mutex<Vec<String>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        asked.lock().unwrap().push(head.clone());
        let mut answer = String::new();
        match acts.get(&path) {
            Some(Act::Say(status, kind, body)) => {
                write!(answer, "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nLocation: /v1/users/ralph/\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
            Some(Act::CutOff(body)) => {
                write!(
                    answer,
                    "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len() + 1
                )
                .unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Flood) => {
                let head = "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
                let mut going = stream.write_all(head.as_bytes()).await.is_ok();
                while going {
                    going = stream.write_all(&[b' '; 65_536]).await.is_ok();
                }
                return;
            }
            None => {
                // Flask's words for a path without a route.
                let body = json!({"message": "The requested URL was not found on the server."}).to_string();
                write!(
                    answer,
                    "HTTP/1.1 404 X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        }
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn say(body: &Value) -> Act {
    Act::Say(200, "application/json", body.to_string())
}

fn not_there(body: &Value) -> Act {
    Act::Say(404, "application/json", body.to_string())
}

fn groups(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// One page as FASJSON cuts it.
fn page(items: &[Value], size: usize, number: usize) -> Value {
    let pages = items.len().div_ceil(size);
    let from = ((number - 1) * size).min(items.len());
    let mut page =
        json!({"total_results": items.len(), "page_size": size, "page_number": number, "total_pages": pages});
    if number < pages {
        page["next_page"] = json!("http://x/next");
    }
    json!({"result": items[from..(from + size).min(items.len())], "page": page})
}

fn members(count: usize) -> Vec<Value> {
    (0..count)
        .map(|n| json!({"username": format!("user{n}"), "sshpubkeys": [format!("ssh-ed25519 AAAA{n}")]}))
        .collect()
}

fn list(acts: &mut Acts, group: &str, items: &[Value], size: usize) {
    for number in 1..=items.len().div_ceil(size).max(1) {
        acts.insert(
            format!("/v1/groups/{group}/members/?page_size={size}&page_number={number}"),
            say(&page(items, size, number)),
        );
    }
}

fn person(acts: &mut Acts, name: &str, body: &Value, in_groups: &[&str]) {
    let items: Vec<Value> = in_groups.iter().map(|group| json!({"groupname": group})).collect();
    acts.insert(format!("/v1/users/{name}/"), say(&json!({"result": body})));
    acts.insert(format!("/v1/users/{name}/groups/?page_size=5&page_number=1"), say(&page(&items, 5, 1)));
}

fn group(acts: &mut Acts, name: &str) {
    acts.insert(format!("/v1/groups/{name}/"), say(&json!({"result": {"groupname": name}})));
}

fn gone(acts: &mut Acts, name: &str) {
    acts.insert(format!("/v1/users/{name}/"), not_there(&json!({"name": name, "message": "User not found"})));
    let groups = format!("/v1/users/{name}/groups/?page_size=5&page_number=1");
    acts.insert(groups, not_there(&json!({"name": name, "message": "User does not exist"})));
}

fn ralph() -> Value {
    json!({"username": "ralph", "sshpubkeys": ["ssh-ed25519 AAAA r", "ssh-rsa BBBB r"], "locked": false})
}

#[tokio::test]
async fn a_person_comes_with_keys_and_groups_in_one_connection() {
    let mut acts = Acts::new();
    person(&mut acts, "ralph", &ralph(), &["web", "other"]);
    person(&mut acts, "nokeys", &json!({"username": "nokeys", "sshpubkeys": null, "locked": false}), &[]);
    group(&mut acts, "db");
    group(&mut acts, "web");
    let stub = Stub::start(acts).await;
    let client = stub.client(5);
    let found = client.user("ralph", &groups(&["web", "db"])).await.unwrap().unwrap();
    assert_eq!(
        found,
        Account { keys: vec!["ssh-ed25519 AAAA r".into(), "ssh-rsa BBBB r".into()], groups: groups(&["web"]) }
    );
    let head = stub.asked.lock().unwrap()[0].clone();
    assert!(head.contains("X-Fields: {username,sshpubkeys,locked}"), "{head}");
    let nokeys = client.user("nokeys", &groups(&["web"])).await.unwrap().unwrap();
    assert!(nokeys.keys.is_empty() && nokeys.groups.is_empty());
}

#[tokio::test]
async fn only_fasjsons_own_404_about_this_person_means_nobody() {
    let mut acts = Acts::new();
    group(&mut acts, "web");
    gone(&mut acts, "ghost");
    person(&mut acts, "locked", &json!({"username": "locked", "sshpubkeys": ["k"], "locked": true}), &["web"]);
    let stub = Stub::start(acts).await;
    let client = stub.client(5);
    assert_eq!(client.user("ghost", &groups(&["web"])).await.unwrap(), None);
    assert_eq!(client.user("locked", &groups(&["web"])).await.unwrap(), None);
    let unknown = client.user("ghost", &groups(&["web", "gone"])).await.unwrap_err();
    assert!(unknown.message().contains("/v1/groups/gone/"), "a 404 without a name: {unknown}");

    let own = json!({"name": "ghost", "message": "User not found"});
    for (user, part) in [
        (not_there(&json!({"name": "other", "message": "User not found"})), "404"),
        (not_there(&json!({"message": "Not Found"})), "404"),
        (Act::Say(404, "text/html", "<html>not found</html>".into()), "404"),
        (Act::Say(404, "text/html", own.to_string()), "404"),
        (Act::Say(404, "application/json", String::new()), "404"),
        (Act::Say(410, "application/json", own.to_string()), "HTTP status 410"),
        (Act::Say(302, "text/html", String::new()), "HTTP status 302"),
        (
            Act::Say(401, "application/json", json!({"message": "Authentication failed"}).to_string()),
            "Authentication failed",
        ),
        (
            Act::Say(500, "application/json", json!({"message": "LDAP server is down"}).to_string()),
            "LDAP server is down",
        ),
        (say(&json!({"result": null})), "`result`"),
        (say(&json!({})), "`result`"),
        (say(&json!({"result": ralph()})), "came or went"),
        (Act::Say(200, "application/json", String::new()), "not a JSON object"),
        (Act::Say(200, "text/html", "<html>log in</html>".into()), "not a JSON object"),
    ] {
        let mut acts = Acts::new();
        group(&mut acts, "web");
        gone(&mut acts, "ghost");
        acts.insert("/v1/users/ghost/".into(), user);
        let stub = Stub::start(acts).await;
        let failure = stub.client(5).user("ghost", &groups(&["web"])).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{part}: {failure:?}");
    }
}

#[tokio::test]
async fn a_person_of_another_shape_is_a_failure() {
    for body in [
        json!({"username": "ralph", "locked": false}),
        json!({"username": "ralph", "sshpubkeys": "ssh-rsa", "locked": false}),
        json!({"username": "ralph", "sshpubkeys": [null], "locked": false}),
        json!({"username": "ralph", "sshpubkeys": [], "locked": null}),
        json!({"username": "ralph", "sshpubkeys": []}),
        json!({"username": "toshio", "sshpubkeys": [], "locked": false}),
        json!({"sshpubkeys": [], "locked": false}),
    ] {
        let mut acts = Acts::new();
        person(&mut acts, "ralph", &body, &["web"]);
        let stub = Stub::start(acts).await;
        let failure = stub.client(5).user("ralph", &groups(&["web"])).await;
        assert!(failure.is_err(), "{body}: {failure:?}");
    }
}

#[tokio::test]
async fn a_group_that_is_gone_takes_nobodys_keys_away() {
    let mut acts = Acts::new();
    person(&mut acts, "ralph", &ralph(), &["web"]);
    acts.insert("/v1/groups/db/".into(), not_there(&json!({"groupname": "db", "message": "Group not found"})));
    let at = "/v1/groups/db/members/?page_size=5&page_number=1";
    acts.insert(at.into(), not_there(&json!({"groupname": "db", "message": "Group not found"})));
    list(&mut acts, "web", &members(2), 5);
    let stub = Stub::start(acts).await;
    let client = stub.client(5);
    for failure in [
        client.user("ralph", &groups(&["db", "web"])).await.unwrap_err(),
        client.members(&groups(&["db", "web"])).await.unwrap_err(),
    ] {
        assert!(failure.message().contains("has no group db"), "{failure}");
    }
}

#[tokio::test]
async fn groups_that_were_there_are_not_asked_about_again_at_once() {
    let mut acts = Acts::new();
    person(&mut acts, "ralph", &ralph(), &[]);
    group(&mut acts, "web");
    let stub = Stub::start(acts).await;
    let client = stub.client(5);
    for _ in 0..3 {
        client.user("ralph", &groups(&["web"])).await.unwrap();
    }
    let asked = stub.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|head| head.starts_with("GET /v1/groups/web/ ")).count(), 1);
    assert_eq!(asked.len(), 7);
}

#[tokio::test]
async fn every_page_of_every_group_is_read() {
    let mut acts = Acts::new();
    list(&mut acts, "web", &members(23), 2);
    list(&mut acts, "db", &members(4)[2..], 2);
    list(&mut acts, "exact", &members(2), 2);
    list(&mut acts, "empty", &[], 2);
    let stub = Stub::start(acts).await;
    let found = stub.client(2).members(&groups(&["web", "db", "exact", "empty"])).await.unwrap();
    assert_eq!(found.accounts.len(), 23);
    assert_eq!(found.accounts["user3"].groups, groups(&["web", "db"]));
    assert_eq!(found.accounts["user0"].groups, groups(&["web", "exact"]));
    assert_eq!(found.accounts["user22"].keys, ["ssh-ed25519 AAAA22"]);
    assert_eq!(found.notes, Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_is_not_whole_is_a_failure() {
    let good = page(&members(3), 2, 2);
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        say(&body)
    };
    for (second, part) in [
        (broken(&|body| body["page"]["total_results"] = json!(4)), "counts 4 in all, the first counted 3"),
        (broken(&|body| body["page"]["page_number"] = json!(1)), "answers with page 1"),
        (broken(&|body| body["page"]["page_size"] = json!(40)), "with 40"),
        (broken(&|body| body["page"]["total_pages"] = json!(1)), "of 1"),
        (broken(&|body| body["result"] = json!([])), "page 2 has 0 entries"),
        (broken(&|body| body["result"] = json!(null)), "page 2 is not a page"),
        (
            broken(&|body| body["result"][0] = json!({"username": "user0", "sshpubkeys": []})),
            "\"user0\" is in the list twice",
        ),
        (broken(&|body| body["result"][0] = json!({"username": "user2"})), "sshpubkeys"),
        (broken(&|body| drop(body.as_object_mut().unwrap().shift_remove("page"))), "page"),
        (not_there(&json!({"groupname": "web", "message": "Group not found"})), "went away between two pages"),
        (Act::Say(502, "text/html", "<html>Bad gateway</html>".into()), "502"),
        (Act::CutOff(good.to_string()), "curl: (18)"),
        (Act::Hang, "curl: (28)"),
    ] {
        let mut acts = Acts::new();
        list(&mut acts, "web", &members(3), 2);
        acts.insert("/v1/groups/web/members/?page_size=2&page_number=2".into(), second);
        let stub = Stub::start(acts).await;
        let failure = stub.client(2).members(&groups(&["web"])).await.unwrap_err();
        assert!(failure.message().contains(part) && failure.hint().is_some(), "{part}: {failure:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let at = "/v1/groups/web/members/?page_size=5&page_number=1";
    let stub = Stub::start(Acts::from([(at.into(), Act::Flood)])).await;
    let mut client = stub.client(5);
    client.curl.timeout = Duration::from_secs(60);
    let failure = client.members(&groups(&["web"])).await.unwrap_err();
    assert!(failure.message().contains("printed more than"), "{failure}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Fasjson::open(&json!({"fasjson": url})).unwrap();
    let failure = client.user("ralph", &groups(&["web"])).await.unwrap_err();
    assert!(failure.message().contains("curl: (7)") && failure.message().contains(&url), "{failure}");
}

#[tokio::test]
async fn names_that_are_no_names_are_left_out_with_a_note() {
    let mut items = members(2);
    items.push(json!({"username": "../../etc/x", "sshpubkeys": ["k"]}));
    let mut acts = Acts::new();
    list(&mut acts, "web", &items, 5);
    let found = Stub::start(acts).await.client(5).members(&groups(&["web"])).await.unwrap();
    assert_eq!(found.accounts.len(), 2);
    assert!(found.notes.len() == 1 && found.notes[0].contains("../../etc/x"), "{:?}", found.notes);
}

#[tokio::test]
async fn many_people_without_a_single_key_are_not_believed() {
    let keyless =
        |count: usize| (0..count).map(|n| json!({"username": format!("u{n}"), "sshpubkeys": null})).collect::<Vec<_>>();
    let mut acts = Acts::new();
    list(&mut acts, "few", &keyless(KEYLESS_PEOPLE_MAX), 500);
    list(&mut acts, "many", &keyless(KEYLESS_PEOPLE_MAX + 1), 500);
    let client = Stub::start(acts).await.client(500);
    assert_eq!(client.members(&groups(&["few"])).await.unwrap().accounts.len(), KEYLESS_PEOPLE_MAX);
    assert!(client.members(&groups(&["many"])).await.unwrap_err().message().contains("not one key"));
}

#[tokio::test]
async fn twenty_thousand_members_come_whole() {
    let mut acts = Acts::new();
    list(&mut acts, "all", &members(20_000), 500);
    let client = Stub::start(acts).await.client(500);
    assert_eq!(client.members(&groups(&["all"])).await.unwrap().accounts.len(), 20_000);
}

#[test]
fn wrong_words_say_what_is_expected() {
    for (config, part) in [
        (json!({"fasjson": "fasjson.example.org"}), "https://"),
        (json!({"fasjson": "http://fasjson.example.org"}), "another machine"),
        (json!({"fasjson": 5}), "https://"),
        (json!({"fasjson": "https://x", "kerberos": "yes"}), "`kerberos`"),
        (json!({"fasjson": "https://x", "kerberos": {"keytab": "/etc/krb5.keytab"}}), "`kerberos`"),
        (json!({"fasjson": "https://x", "kerberos": {"keytab": "k", "x": 1}}), "`kerberos`"),
        (json!({"fasjson": "https://x", "ca": "ca.pem"}), "`ca`"),
        (json!({"fasjson": "https://x", "page_size": 0}), "`page_size`"),
        (json!({"fasjson": "https://x", "timeout": "1d"}), "`timeout`"),
        (json!({"fasjson": "https://x", "keytab": "k"}), "`keytab`"),
    ] {
        let failure = Fasjson::open(&config).unwrap_err();
        assert!(failure.message().contains(part), "{config}: {failure}");
    }
    let open =
        |kerberos: Value| Fasjson::open(&json!({"fasjson": "https://x", "kerberos": kerberos})).unwrap().curl.kerberos;
    assert_eq!(open(json!(true)), Kerberos::Environment);
    assert_eq!(open(json!(null)), Kerberos::No);
    assert_eq!(open(json!({"keytab": "fasjson"})), Kerberos::Keytab("fasjson".into()));
}
