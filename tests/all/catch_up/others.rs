//! The daemon catches up from another reactor, and on a bus whose queue ends with its connection.

use reactor_tests::amqp_peers::{AmqpPeers, configuration};
use reactor_tests::pki::now;
use reactor_tests::rabbitmq::{PEER, REACTOR, RabbitMq};
use reactor_tests::{free_port, wait_until};
use serde_json::json;

use super::daemon::{SOON, Says as _, Site};

/// What the topics on the shared broker begin with that are of this test.
const PREFIX: &str = "org.test.catch-up";

#[test]
fn another_reactor_hands_over_what_it_heard_with_its_signatures() {
    let http = free_port();
    let keeper = Site::new("keeper", "");
    let history = format!("http: {{ listen: 127.0.0.1:{http}, history: true }}\njournal: {{ history: all }}\n");
    let text = std::fs::read_to_string(keeper.dir().join("rules.yaml")).expect("the site");
    std::fs::write(keeper.dir().join("rules.yaml"), text + &history).expect("the site");
    let _keeper = keeper.start();
    let mut publisher = keeper.voice();
    keeper.meet(&mut publisher);

    let more = format!("catch_up: {{ datagrepper: 'http://127.0.0.1:{http}/raw' }}");
    let site = Site { port: keeper.port, ..Site::new("behind", "") };
    site.write(&more);
    let mut daemon = site.start();
    site.meet(&mut publisher);
    daemon.kill_9();
    ["away-1", "away-2"].iter().for_each(|user| drop(publisher.says(user)));
    keeper.until_lines("lines", &["met", "away-1", "away-2"]);
    let _daemon = site.start();
    site.until_lines("lines", &["met", "away-1", "away-2"]);
    assert!(site.lines("gaps").is_empty(), "{}", site.scratch.log());
}

#[test]
fn a_queue_that_ended_with_its_connection_is_made_up_for_and_what_came_by_both_ways_leads_to_one_reaction() {
    let site = Site::new("broker", "");
    let broker = RabbitMq::shared();
    std::fs::write(site.dir().join("fm.toml"), configuration(&broker, REACTOR, None, PREFIX)).expect("written");
    let text = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    let (head, rest) = (text.find("    fedmsg:").expect("a bus"), text.find("handlers:").expect("handlers"));
    let bus =
        "    amqp: { config: fm.toml }\n    trust: { broker: accept, policy: { 'org.**': [broker, datagrepper] } }\n";
    let catch_up = format!("    catch_up: {{ datagrepper: '{}', believe: all }}\n", site.server.url());
    let text = format!("{}{bus}{catch_up}{}", &text[..head], &text[rest..]);
    let text = text.replace("org.fedoraproject.dev.peer.", &format!("{}.", PREFIX));
    std::fs::write(site.dir().join("rules.yaml"), text).expect("the site");

    let mut publisher = AmqpPeers::about(PREFIX).publisher(site.dir(), &broker, PEER);
    let mut say = |user: &str| {
        let id = publisher.publish("user.new", &json!({"user": user}));
        let topic = format!("{}.user.new", PREFIX);
        let kept = json!({"topic": topic, "msg": {"user": user}, "msg_id": id, "i": 0, "timestamp": now().as_second()});
        site.server.keep(&kept.to_string());
    };
    let mut daemon = site.start();
    wait_until("the queue is read", SOON, || site.run(&["status"]).1.contains("connected 1×"));
    say("live");
    site.until_lines("lines", &["live"]);
    daemon.kill_9();
    say("away");
    let _daemon = site.start();
    site.until_lines("lines", &["live", "away"]);
    say("newer");
    site.until_lines("lines", &["live", "away", "newer"]);
    let rows = reactor_tests::reactor_json(site.dir(), &["list"]);
    assert_eq!(rows.len(), 3, "what came by the queue and from the server is one message: {rows:?}");
}
