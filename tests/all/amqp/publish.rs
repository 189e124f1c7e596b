//! `reactor publish` on a broker: what a real consumer is given, and what is told of what nobody takes.

use reactor_tests::amqp_peers::SCHEMA;
use reactor_tests::rabbitmq::{PEER, RabbitMq};
use reactor_tests::wait_until;
use serde_json::{Value, json};

use super::site::{LONG, Site};

const PUBLISH: [&str; 5] = ["publish", "--bus", "ours", "--site", "rules.yaml"];

#[test]
fn what_reactor_publishes_is_a_message_of_fedora_messaging_to_its_own_consumer() {
    let broker = RabbitMq::shared();
    let site = Site::new("publish", broker.amqp(), "");
    let (peers, topic) = (site.peers(), site.topic("fas.user.update"));
    let mut listener = peers.listener(site.dir(), &broker, PEER);
    let mut consumer = peers.consumer(site.dir(), &broker, PEER, None);
    assert_eq!(listener.line(), "ready");
    wait_until("it consumes", LONG, || consumer.log().contains("Successfully registered AMQP consumer"));
    let (fine, id) = site.say(&[&PUBLISH[..], &["fas.user.update", "{\"user\": \"lmacken\"}"]].concat());
    assert!(fine, "{id}");
    let mut told: Value = serde_json::from_str(&listener.line()).expect("JSON");
    let sent = told["properties"]["headers"]["sent-at"].take();
    assert!(sent[0] == "S" && sent[1].as_str().is_some_and(|time| time.ends_with("+00:00")), "{sent}");
    assert_eq!(
        told,
        json!({
            "exchange": "amq.topic", "routing_key": topic, "redelivered": false,
            "properties": {
                "content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2,
                "message_id": id.trim(),
                "headers": {
                    "fedora_messaging_schema": ["S", "base.message"],
                    "fedora_messaging_schema_package": ["S", "fedora_messaging"],
                    "fedora_messaging_severity": ["I", 20], "priority": ["I", 0], "sent-at": null,
                },
            },
            "body": "{\"user\":\"lmacken\"}",
        })
    );
    let consumed: Value = serde_json::from_str(&consumer.line()).expect("JSON");
    assert_eq!((&consumed["id"], &consumed["topic"]), (&json!(id.trim()), &json!(topic)));
    assert_eq!((&consumed["class"], &consumed["body"]), (&json!("Message"), &json!({"user": "lmacken"})));
}

#[test]
fn a_message_that_no_queue_wants_is_told() {
    let broker = RabbitMq::shared();
    let site = Site::new("nobody", broker.amqp(), "");
    let (fine, said) = site.say(&[&PUBLISH[..], &["user", "{}"]].concat());
    assert!(!fine && said.contains("no queue wants") && said.contains("rabbitmqctl"), "{said}");
    let (fine, said) = site.say(&[&PUBLISH[..], &["--listener", "0s", "user", "{}"]].concat());
    assert!(fine, "{said}");
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(100_000));
    let (fine, said) = site.say(&[&PUBLISH[..], &["--listener", "0s", "user", &large]].concat());
    assert!(fine, "of several frames: {said}");
}

/// Writes the schemas of the real packages into `schemas/`, with the program that docs/amqp.md gives for it.
fn write_schemas(site: &Site) {
    let docs = include_str!("../../../docs/amqp.md");
    let program = docs.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    std::fs::create_dir(site.dir().join("schemas")).expect("a directory");
    site.peers().python(&program.replace("/etc/reactor/schemas", "schemas"), site.dir());
}

#[test]
fn a_body_must_fit_its_schema_where_the_site_has_it() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("schema", broker.amqp(), "");
    let rules = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    site.file("rules.yaml", &rules.replace("broker: accept", "broker: accept, schemas: schemas"));
    write_schemas(&site);
    let (fine, said) = site.say(&["check", "rules.yaml"]);
    assert!(fine && !said.contains("warning"), "{said}");
    site.start();
    let good = "{\"user\": \"ralph\", \"group\": \"infra\"}";
    for (args, part) in [
        (["--schema", SCHEMA, "user", "{\"user\": \"ada\"}"], "at the top: missing"),
        (["--schema", SCHEMA, "user", "{\"user\": 5, \"group\": \"infra\"}"], "at /user: "),
    ] {
        let (fine, said) = site.say(&[&PUBLISH[..], &args].concat());
        assert!(!fine && said.contains(part), "{said}");
    }
    let mut bare = site.peers().bare_publisher(site.dir(), &broker, PEER);
    assert_eq!(bare.line(), "ready");
    let header = |name: &str| json!({"headers": {"fedora_messaging_schema": name}});
    let user = |name: &str, body: Value| json!({"routing_key": site.topic("user"), "properties": header(name), "body": body.to_string()});
    assert_eq!(bare.ask(&user(SCHEMA, json!({"user": "ada"}))), "ok");
    assert_eq!(bare.ask(&user("unknown.v1", json!({"user": "ada"}))), "ok");
    let (fine, said) = site.say(&[&PUBLISH[..], &["--schema", SCHEMA, "user", good]].concat());
    assert!(fine, "{said}");
    site.until_applied(&["ada", "ralph"]);
    let refused = site.list(&["--refused"]);
    let why = refused[0]["reason"].as_str().expect("a reason");
    assert!(refused.len() == 1 && why.contains(SCHEMA) && why.contains("at the top: missing"), "{refused:?}");
    assert!(site.scratch.log().contains("messages of the schema unknown.v1 are not checked"));

    // With a schema that can't be used, its messages wait for nobody: they are refused, and that is a problem.
    site.stop();
    site.file(&format!("schemas/{SCHEMA}.json"), "{\"$ref\": \"http://example.org/x\"}");
    site.start();
    site.until("it is told", |bus| bus["problems"].to_string().contains("nothing is fetched"));
}

#[test]
fn a_real_consumer_knows_the_schema_that_reactor_names() {
    let broker = RabbitMq::shared();
    let site = Site::new("named", broker.amqp(), "");
    let mut consumer = site.peers().consumer(site.dir(), &broker, PEER, None);
    wait_until("it consumes", LONG, || consumer.log().contains("Successfully registered AMQP consumer"));
    let body = "{\"user\": \"ralph\", \"group\": \"infra\"}";
    let (fine, said) = site.say(&[&PUBLISH[..], &["--schema", SCHEMA, "user", body]].concat());
    assert!(fine, "{said}");
    let consumed: Value = serde_json::from_str(&consumer.line()).expect("JSON");
    assert_eq!((&consumed["class"], &consumed["body"]["user"]), (&json!("GroupChangeV1"), &json!("ralph")));
}

#[test]
fn who_waits_for_an_answer_has_a_queue_also_where_the_daemons_must_be_there() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("passive", broker.amqp(), "confirm: true");
    site.start();
    let rules = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    let exchange = "exchanges: { amq.topic: { type: topic, durable: true, auto_delete: false } }";
    site.file("rules.yaml", &rules.replace("amqp: {", &format!("amqp: {{ passive_declares: true, {exchange},")));
    let (fine, said) = site.say(&[&PUBLISH[..], &["--wait=170s", "user", "{\"user\": \"ralph\"}"]].concat());
    assert!(fine && said.contains("done: access taken [ralph]"), "{said}");
}

#[test]
fn an_outcome_that_no_queue_wants_is_not_said_to_be_with_the_broker() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("unheard", broker.amqp(), "confirm: true");
    let rules = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    site.file("rules.yaml", &rules.replace("unheard.#", "unheard.user"));
    site.start();
    let (fine, said) = site.say(&[&PUBLISH[..], &["user", "{\"user\": \"ralph\"}"]].concat());
    assert!(fine, "{said}");
    site.until_applied(&["ralph"]);
    let id = site.list(&[])[0]["id"].as_str().expect("an id").to_owned();
    wait_until("the story says so", LONG, || site.say(&["show", &id]).1.contains("no queue wanted it"));
}
