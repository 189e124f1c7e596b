//! What is asked of a hub, and what becomes of its answers. Behaviour as recorded from a hub 1.35.3.

mod stub;
mod trouble;

use super::xml::Value;
use super::xml::tests::{parts, read_call, recorded};
use super::*;
use stub::{Act, Stub, fault, members_of};

fn tag(name: &str) -> TagName {
    TagName::parse(name).unwrap()
}

fn package(name: &str) -> PackageName {
    PackageName::parse(name).unwrap()
}

fn user(name: &str) -> UserName {
    UserName::parse(name).unwrap()
}

fn write(name: &str, what: What) -> Write {
    Write { tag: tag("f-test"), package: package(name), what }
}

fn set_owner(name: &str, owner: &str) -> Write {
    write(name, What::SetOwner(user(owner)))
}

/// A row of `f-test`.
fn row(package: &str, owner: &str, blocked: bool) -> Value {
    members_of([
        ("package_name", Value::text(package)),
        ("owner_name", Value::text(owner)),
        ("blocked", Value::Bool(blocked)),
        ("extra_arches", Value::Nil),
        ("tag_name", Value::text("f-test")),
    ])
}

fn done() -> Value {
    Value::Array(vec![Value::Nil])
}

fn one(value: Value) -> Value {
    Value::Array(vec![value])
}

fn say(values: Vec<Value>) -> Act {
    Act::Say(Value::Array(values))
}

fn is_retry(failure: &Failure) -> bool {
    matches!(failure, Failure::Retry { .. })
}

/// A recorded call, if the recordings are here.
fn recorded_call(number: u32) -> Option<(String, Vec<Value>)> {
    recorded(&format!("{number:03}.req")).map(|text| read_call(parts(&text).1))
}

#[tokio::test]
async fn one_session_numbers_its_calls_and_ends_with_the_hub() {
    let stub = Stub::start(vec![say(vec![done()]), say(vec![done()])]).await;
    for _ in 0..2 {
        assert_eq!(stub.hub.write(&[set_owner("bash", "bob")]).await.unwrap(), [Ok(())]);
    }
    assert_eq!(stub.asked()[0].path, "/kojihub/ssllogin");
    assert_eq!(stub.asked()[1].path, "/kojihub");
    if let Some((_, params)) = recorded_call(3) {
        assert_eq!(stub.asked()[0].params, params);
    }
    assert_eq!(stub.end().await, ["sslLogin", "multiCall 1#0", "multiCall 1#1", "logout 1#2"]);
}

#[tokio::test]
async fn without_writing_there_is_no_login() {
    let stub = Stub::start(vec![say(vec![]), say(vec![])]).await;
    assert_eq!(stub.hub.list(&tag("f-test")).await.unwrap(), []);
    assert_eq!(stub.hub.entries(&[]).await.unwrap(), []);
    assert_eq!(stub.hub.write(&[]).await.unwrap(), []);
    assert_eq!(stub.hub.list(&tag("f-test")).await.unwrap(), []);
    assert_eq!(stub.end().await, ["listPackages", "listPackages"]);
}

/// Each write is, as an element of a `multiCall`, what the real client sent alone.
#[tokio::test]
async fn writes_are_what_the_real_client_sends() {
    let add = |extra_arches| What::Add { owner: user("alice"), extra_arches };
    let writes = [
        (10, write("bash", add(None))),
        (16, set_owner("bash", "bob")),
        (26, write("bash", What::Block)),
        (33, write("bash", What::Unblock)),
    ];
    let stub = Stub::start(vec![say(vec![done(), done(), done(), done(), done()])]).await;
    let mut all: Vec<Write> = writes.iter().map(|(_, write)| write.clone()).collect();
    all.push(write("kernel", add(Some("i386 noarch".into()))));
    assert_eq!(stub.hub.write(&all).await.unwrap(), vec![Ok(()); 5]);
    let asked = &stub.asked()[1];
    let Value::Array(elements) = &asked.params[0] else { panic!("{asked:?}") };
    for ((number, _), element) in writes.iter().zip(elements) {
        let Some((method, params)) = recorded_call(*number) else { break };
        assert_eq!(*element, super::xml::element(&method, params), "{number}");
    }
    let Some(Value::Array(params)) = elements[4].get("params") else { panic!() };
    assert_eq!(params[2].get("extra_arches"), Some(&Value::text("i386 noarch")), "a text, never a list");
}

#[tokio::test]
async fn a_look_at_one_change_is_one_call() {
    let found = |value: Value| one(value);
    let known = found(members_of([("id", Value::Int(1))]));
    let answers =
        vec![known.clone(), found(row("bash", "alice", true)), one(Value::Nil), known.clone(), one(Value::Nil)];
    let stub = Stub::start(vec![say(answers)]).await;
    let asked = [(tag("f-test"), package("bash")), (tag("f-test"), package("nosuchpkg"))];
    let look = stub.hub.look(&asked, &[user("alice"), user("ghost")].into()).await.unwrap();
    let bash = Entry {
        package: "bash".into(),
        owner: "alice".into(),
        blocked: true,
        extra_arches: None,
        tag: "f-test".into(),
    };
    assert_eq!(look, Look { entries: vec![Some(bash), None], without_account: [user("ghost")].into() });
    if let Some((method, params)) = recorded_call(22) {
        let Value::Array(elements) = &stub.asked()[0].params[0] else { panic!() };
        assert_eq!(elements[1], super::xml::element(&method, params));
    }
    assert_eq!(stub.end().await, ["multiCall"]);
}

#[tokio::test]
async fn a_tag_that_is_not_there_is_not_one_without_packages() {
    let stub = Stub::start(vec![say(vec![one(Value::Nil), one(Value::Nil)]), say(vec![one(Value::Nil)])]).await;
    let failure = stub.hub.entries(&[(tag("f99"), package("bash"))]).await.unwrap_err();
    assert!(!is_retry(&failure) && failure.message().contains("no tag f99"), "{failure}");
    assert_eq!(stub.hub.missing_tags(&[tag("f99")].into()).await.unwrap(), [tag("f99")].into());
}

#[tokio::test]
async fn a_list_is_whole_or_a_failure() {
    let good = vec![row("bash", "alice", false), row("zsh evil;name", "bob", true)];
    let mut nameless = row("bash", "alice", false);
    if let Value::Struct(members) = &mut nameless {
        members.remove("owner_name");
    }
    let stub = Stub::start(vec![
        say(good.clone()),
        say(vec![good[0].clone(), nameless]),
        Act::Say(Value::Nil),
        Act::Fault(1000, "No such entry in table tag: f-test".into()),
    ])
    .await;
    let list = stub.hub.list(&tag("f-test")).await.unwrap();
    assert_eq!((list.len(), list[1].package.as_str(), list[1].blocked), (2, "zsh evil;name", true));
    assert!(is_retry(&stub.hub.list(&tag("f-test")).await.unwrap_err()));
    assert!(is_retry(&stub.hub.list(&tag("f-test")).await.unwrap_err()));
    assert!(!is_retry(&stub.hub.list(&tag("f-test")).await.unwrap_err()));
    if let Some((method, params)) = recorded_call(25) {
        let mut ours = stub.asked()[0].params.clone();
        if let Value::Struct(members) = &mut ours[0] {
            members.insert("tagID".into(), Value::text("f-child"));
        }
        assert_eq!((stub.asked()[0].method.clone(), ours), (method, params));
    }
}

#[tokio::test]
async fn who_says_what_the_doctor_needs() {
    let me = one(members_of([("id", Value::Int(2)), ("name", Value::text("reactor"))]));
    let permissions = one(Value::Array(vec![Value::text("tag")]));
    let stub = Stub::start(vec![say(vec![me, permissions])]).await;
    let who = stub.hub.who().await.unwrap();
    let ends = Some(1_795_368_917);
    assert_eq!(who, Who { user: "reactor".into(), permissions: ["tag".to_owned()].into(), certificate_ends: ends });
    assert_eq!(stub.hub.certificate_ends().unwrap(), ends);
}

/// A batch of the longest names is one that the hub takes.
#[tokio::test]
async fn the_largest_batches_are_sent() {
    let name = |at: usize| format!("{at:0>128}");
    let long = name(0);
    let arches = Some("x".repeat(1_000));
    let writes: Vec<Write> = (0..WRITES_PER_CALL)
        .map(|at| Write {
            tag: tag(&long),
            package: package(&name(at)),
            what: What::Add { owner: user(&long), extra_arches: arches.clone() },
        })
        .collect();
    let asked: Vec<_> = (0..READS_PER_CALL).map(|at| (tag(&name(at)), package(&name(at)))).collect();
    let known = one(members_of([("id", Value::Int(1))]));
    let nothing = || say(vec![one(Value::Nil); READS_PER_CALL]);
    let stub = Stub::start(vec![say(vec![done(); WRITES_PER_CALL]), say(vec![known; READS_PER_CALL]), nothing()]).await;
    assert!(stub.hub.write(&writes).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(stub.hub.entries(&asked).await.unwrap(), vec![None; READS_PER_CALL]);
    let too_many = vec![writes[0].clone(); WRITES_PER_CALL + 1];
    assert!(!is_retry(&stub.hub.write(&too_many).await.unwrap_err()));
    let mut endless = writes[0].clone();
    endless.what = What::Add { owner: user("a"), extra_arches: Some("x".repeat(5_000_000)) };
    assert!(!is_retry(&stub.hub.write(&[endless]).await.unwrap_err()));
    assert_eq!(stub.end().await.len(), 5);
}
