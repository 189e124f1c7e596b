//! The whole daemon on a broker with real publishers and consumers: what comes in, and that it comes once.

use reactor_tests::amqp_peers::configuration;
use reactor_tests::rabbitmq::{PEER, REACTOR, RabbitMq};
use reactor_tests::relay::Relay;
use reactor_tests::wait_until;
use serde_json::{Value, json};

use super::site::{LONG, Site, until_empty};
use crate::running::handler;

#[test]
fn what_a_real_publisher_says_is_done_and_can_be_traced_back_to_it() {
    let broker = RabbitMq::shared();
    let mut site = Site::at("story", "config: config.toml", "");
    site.file("config.toml", &configuration(&broker, REACTOR, Some("story"), &site.prefix()));
    site.start();
    let mut publisher = site.publisher(&broker);
    publisher.publish("unwanted", &json!({}));
    let id = publisher.publish("user", &json!({"user": "ralph"}));
    site.until_applied(&["ralph"]);
    until_empty(&broker, "story");
    let reaction = &site.list(&[])[0];
    let (fine, story) = site.say(&["show", reaction["id"].as_str().expect("an id")]);
    for part in [id.as_str(), "signed by broker", &site.topic("user")] {
        assert!(fine && story.contains(part), "{part} is not in\n{story}");
    }
}

#[test]
fn what_can_be_no_message_costs_itself_alone() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("hostile", broker.amqp(), "");
    site.start();
    let mut hostile = site.peers().bare_publisher(site.dir(), &broker, PEER);
    assert_eq!(hostile.line(), "ready");
    let deep = (0..100).fold(json!({}), |inner, _| json!({"a": inner}));
    let topic = site.topic("user");
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    for (asked, why) in [
        (json!({"body": "{}", "properties": {"headers": deep}}), "deeper than"),
        (json!({"body": "{}", "properties": {"headers": {"a": vec![true; 2_000]}}}), "more than 1000 values"),
        (json!({"body": "x".repeat(3 * 1024 * 1024)}), "3145728 bytes"),
        (json!({"body": "{}", "properties": {"content_encoding": "no-such"}}), "no-such"),
        (json!({"body": "{}", "properties": {"headers": {"sent-at": 5}}}), "sent-at"),
        (json!({"base64": "/w=="}), "UTF-8"),
        (json!({"body": "[]"}), "not a JSON object"),
        (json!({"body": "{\"user\": NaN}"}), "NaN"),
        (json!({"body": nested}), "nest"),
        (json!({"body": ""}), "JSON"),
    ] {
        let mut asked = asked;
        asked["routing_key"] = json!(topic);
        assert_eq!(hostile.ask(&asked), "ok");
        wait_until(&format!("it is refused: {why}"), LONG, || {
            let refused = site.list(&["--refused"]);
            refused.iter().any(|row| row["reason"].as_str().is_some_and(|reason| reason.contains(why)))
        });
    }
    let user = json!({"routing_key": topic, "body": "{\"user\": \"ralph\"}"});
    assert_eq!(hostile.ask(&user), "ok");
    site.until_applied(&["ralph"]);
    until_empty(&broker, "hostile");
    site.until("it was one connection all the time", |bus| bus["connects"] == 1 && bus["disconnects"] == 0);
}

#[test]
fn killed_at_any_moment_each_message_leads_to_its_effect_once() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("killed", broker.amqp(), "");
    site.start();
    let mut publisher = site.publisher(&broker);
    let users: Vec<String> = (0..24).map(|n| format!("user{n}")).collect();
    for (n, user) in users.iter().enumerate() {
        publisher.publish("user", &json!({"user": user}));
        if n % 6 == 5 {
            site.kill_9();
            // What is published now waits in the queue, with what was delivered and not journaled.
            publisher.publish("user", &json!({"user": format!("away{n}")}));
            site.start();
        }
    }
    let away = [5, 11, 17, 23].map(|n| format!("away{n}"));
    site.until_applied(&users.iter().chain(&away).map(String::as_str).collect::<Vec<_>>());
    until_empty(&broker, "killed");
}

/// A handler whose apply says that it began, and then waits for the file `go`.
fn waiting(site: &Site) -> String {
    let file = |name: &str| site.dir().join(name).display().to_string();
    let (began, go, applied) = (file("began"), file("go"), file("applied"));
    handler(
        "echo \"$change\"",
        &format!(
            "echo \"$user\" >> {began}; until [ -e {go} ]; do sleep 0.02; done; echo \"$user\" >> {applied}; echo \"$change\""
        ),
    )
}

#[test]
fn what_comes_again_after_a_partition_starts_no_second_run_beside_the_first() {
    let broker = RabbitMq::shared();
    let relay = Relay::to(broker.amqp());
    let port = relay.port();
    let mut site = Site::of_url("partition", &format!("amqp://{REACTOR}@127.0.0.1:{port}/%2Fpubsub?heartbeat=4"), "");
    site.handler(&waiting(&site));
    site.start();
    let mut publisher = site.publisher(&broker);
    // It must be there before: a broker that hears nothing of us for two heartbeats gives us up.
    publisher.publish("unwanted", &json!({}));
    let began = || std::fs::read_to_string(site.dir().join("began")).unwrap_or_default();
    // Its acknowledgement does not arrive: the broker will bring it again.
    relay.hush_clients();
    publisher.publish("user", &json!({"user": "ralph"}));
    wait_until("the handler runs", LONG, || began() == "ralph\n");
    relay.hush();
    publisher.publish("user", &json!({"user": "ada"}));
    site.until("the silence of the broker is noticed", |bus| bus["disconnects"].as_u64() >= Some(1));
    relay.begin_anew();
    site.until("both have come, one of them twice", |bus| bus["received"].as_u64() >= Some(4));
    wait_until("the other one runs", LONG, || began() == "ralph\nada\n");
    until_empty(&broker, "partition");
    site.file("go", "");
    site.until_applied(&["ada", "ralph"]);
    assert_eq!(began(), "ralph\nada\n", "each was run once");
    assert_eq!(site.list(&[]).len(), 2);
}

#[test]
fn two_daemons_share_a_queue_and_each_message_is_one_ones() {
    let broker = RabbitMq::shared();
    let mut sites = [Site::new("shared", broker.amqp(), ""), Site::new("shared", broker.amqp(), "")];
    sites.iter_mut().for_each(Site::start);
    let mut publisher = sites[0].publisher(&broker);
    let mut users: Vec<String> = (0..30).map(|n| format!("user{n}")).collect();
    users.iter().for_each(|user| drop(publisher.publish("user", &json!({"user": user}))));
    users.sort_unstable();
    let both = || [sites[0].applied(), sites[1].applied()];
    let all = || {
        let mut all = both().concat();
        all.sort_unstable();
        all
    };
    wait_until("all are done", LONG, || all().len() >= users.len());
    until_empty(&broker, "shared");
    assert_eq!(all(), users, "each once");
    assert!(both().iter().all(|mine| !mine.is_empty()), "{:?}", both());
}

#[test]
fn a_bus_that_is_connected_and_silent_is_told_until_a_message_comes() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("silent", broker.amqp(), "silence: 2s");
    site.start();
    let silent = |problems: &Value| problems.to_string().contains("no message has come");
    site.until("the silence is told", |bus| silent(&bus["problems"]) && bus["silences"] == 1);
    let (fine, said) = site.say(&["doctor", "rules.yaml"]);
    assert!(!fine && said.contains("no message has come"), "{said}");
    assert!(site.say(&["status"]).1.contains("silent for too long 1×"));
    let mut publisher = site.publisher(&broker);
    site.until("it is over when one comes", |bus| {
        publisher.publish("user", &json!({"user": "ralph"}));
        !silent(&bus["problems"])
    });
    site.until_applied(&["ralph"]);
    let log = site.scratch.log();
    assert!(log.contains("hint: does what is published") && log.contains("messages come again"), "{log}");
}
