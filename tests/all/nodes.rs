//! Several daemons on one journal of a real PostgreSQL, all subscribed to the same publisher: each effect once and in order,
//! whichever of them is killed or stopped, and what a person types at one of them counts at all.
//!
//! `REACTOR_NODES_MESSAGES=100000` makes the first test long: then somebody is killed or stopped every few seconds.

mod confirm;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reactor_tests::amqp_peers::AmqpPeers;
use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::postgres::Postgres;
use reactor_tests::rabbitmq::{PASSWORD, PEER, REACTOR, RabbitMq};
use reactor_tests::{PATIENCE, Scratch, free_port, random_below, wait_until};
use serde_json::{Value, json};

use crate::amqp::site::{queue, until_empty};
use crate::running::{applied, handler, plain};

/// Lanes that the messages are spread over.
const LANES: usize = 24;
/// Messages that may be under way.
const UNDER_WAY_MAX: usize = 200;

/// Daemons with one journal and one publisher.
struct Cluster {
    scratch: Scratch,
    server: Postgres,
    socket: zmq::Socket,
    port: u16,
    sent: usize,
}

struct Node {
    dir: PathBuf,
    name: String,
    daemon: Option<Daemon>,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let server = Postgres::start(scratch.path(), "");
        let port = free_port();
        let socket = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        socket.set_xpub_verbose(true).expect("an option");
        socket.set_rcvtimeo(PATIENCE.as_millis() as i32).expect("an option");
        socket.set_sndhwm(100_000).expect("an option");
        socket.bind(&format!("tcp://127.0.0.1:{port}")).expect("bound");
        Self { scratch, server, socket, port, sent: 0 }
    }

    /// A node with these handlers and rules, that hears the publisher.
    fn node(&self, name: &str, rules: &str) -> Node {
        let bus = format!("fedmsg: ['tcp://127.0.0.1:{}'], trust: {{ unsigned: accept, unlisted: accept }}", self.port);
        let mut node = self.node_on(name, &bus, rules);
        self.start(&mut node);
        node
    }

    /// A node on a bus of these words, not started yet.
    fn node_on(&self, name: &str, bus: &str, rules: &str) -> Node {
        let dir = self.scratch.path().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        let server = self.server.port();
        let site = format!(
            "version: 1
bus:
  b: {{ {bus} }}
journal:
  postgresql: {{ host: 127.0.0.1, port: {server}, name: postgres, user: postgres, node: {name} }}
{rules}"
        );
        std::fs::write(dir.join("rules.yaml"), site).expect("the site");
        Node { dir, name: name.to_owned(), daemon: None }
    }

    /// Starts its daemon, and waits until it listens.
    fn start(&self, node: &mut Node) {
        node.daemon = Some(Daemon::start(&node.dir, &["run", "rules.yaml"]));
        loop {
            let told = self.socket.recv_bytes(0).unwrap_or_else(|_| panic!("it does not subscribe: {}", node.log()));
            if told.first() == Some(&1) {
                return;
            }
        }
    }

    fn say(&mut self, topic: &str, msg: &Value) {
        self.sent += 1;
        let n = self.sent;
        let body =
            json!({"topic": topic, "msg": msg, "msg_id": format!("2026-{n}"), "timestamp": 1_795_227_187, "i": n});
        self.socket.send_multipart([topic.as_bytes(), body.to_string().as_bytes()], 0).expect("sent");
    }
}

impl Node {
    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join(reactor_tests::daemon::LOG)).unwrap_or_default()
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a daemon")
    }

    /// What its status says of the node `name`.
    fn sees(&self, name: &str) -> Value {
        // It may not answer yet.
        let status = reactor_output(&self.dir, &["status", "--format", "json"]).stdout;
        let nodes = serde_json::from_slice::<Value>(&status).unwrap_or_default()["nodes"].take();
        let found = nodes.as_array().and_then(|all| all.iter().find(|node| node["name"] == name).cloned());
        found.unwrap_or_default()
    }

    /// Waits until it serves at least so many slots.
    fn until_it_serves(&self, slots: usize) {
        let mut seen = Value::Null;
        wait_until(&format!("{} serves {slots} slots", self.name), PATIENCE, || {
            seen = self.sees(&self.name);
            seen["slots"].as_array().is_some_and(|has| has.len() >= slots)
        });
    }

    /// What its status says of its bus.
    fn bus(&self) -> Value {
        let status = reactor_output(&self.dir, &["status", "--format", "json"]).stdout;
        serde_json::from_slice::<Value>(&status).unwrap_or_default()["buses"].get(0).cloned().unwrap_or_default()
    }

    fn type_in(&self, args: &[&str]) -> String {
        let output = reactor_output(&self.dir, args);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }

    fn rows(&self) -> Vec<Value> {
        reactor_json(&self.dir, &["list", "--at-most", "0"])
    }

    fn until(&self, state: &str, n: usize) {
        wait_until(&format!("{n} are {state}: {}", self.log()), PATIENCE, || {
            self.rows().iter().filter(|row| row["state"] == state).count() == n
        });
    }
}

fn append_rules(effects: &Path) -> String {
    let append = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/append");
    format!(
        "handlers:
  append: {{ exec: {append}, env: {{ FILE: {} }}, at_once: 4 }}
rules:
  - name: append
    on: org.example.append
    key: '{{{{msg.lane}}}}'
    do: append
    with: {{ line: '{{{{msg.line}}}}' }}
    retry: {{ times: 20, wait: 100ms, up_to: 1s }}
",
        effects.display()
    )
}

/// The lines that were written, in their order.
fn lines(effects: &Path) -> Vec<String> {
    std::fs::read_to_string(effects).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Says the next messages, as many as may be under way, up to `until` in all.
fn feed(cluster: &mut Cluster, effects: &Path, until: usize) {
    while cluster.sent < until {
        let written = lines(effects).len();
        if cluster.sent >= written + UNDER_WAY_MAX {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        for _ in 0..10.min(until - cluster.sent) {
            let n = cluster.sent;
            let msg = json!({"lane": format!("lane{}", n % LANES), "line": format!("{:03}-{n:07}", n % LANES)});
            cluster.say("org.example.append", &msg);
        }
    }
}

/// Ends a daemon the hard way, in one of two ways. A stopped one is ended by its warden.
fn disturb(node: &mut Node, stop: bool) {
    if stop {
        node.daemon().pause();
        let daemon = node.daemon.take().expect("a daemon");
        let ended = daemon.wait(PATIENCE);
        assert!(ended.is_some(), "the warden did not end the stopped daemon of {}: {}", node.name, node.log());
    } else {
        node.daemon().kill_9();
        node.daemon = None;
    }
}

#[test]
fn three_nodes_do_each_thing_once_and_in_order_whoever_of_them_dies() {
    let long: Option<usize> = std::env::var("REACTOR_NODES_MESSAGES").ok().and_then(|n| n.parse().ok());
    let messages = long.unwrap_or(360);
    let mut cluster = Cluster::new("nodes");
    let effects = cluster.scratch.path().join("effects");
    std::fs::write(&effects, "").expect("the target");
    let rules = append_rules(&effects);
    let mut nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| cluster.node(name, &rules)).collect();
    nodes.iter().for_each(|node| node.until_it_serves(20));
    let (began, mut disturbed, mut away) = (Instant::now(), 0, None::<usize>);
    while cluster.sent < messages {
        let (share, until) = (if long.is_some() { 1_000 } else { messages / 3 }, cluster.sent);
        feed(&mut cluster, &effects, (until + share).min(messages));
        if long.is_none() && disturbed == 2 {
            continue;
        }
        if let Some(back) = away.take() {
            cluster.start(&mut nodes[back]);
            nodes[back].until_it_serves(1);
        }
        let (victim, stop) = match long {
            Some(_) => (random_below(3) as usize, random_below(2) == 0),
            None => (disturbed + 1, disturbed == 0),
        };
        disturb(&mut nodes[victim], stop);
        disturbed += 1;
        // The long form never leaves fewer than two; the short one shows that one is enough. Who is back before its lease has run
        // out keeps its slots, from the others they are taken.
        if long.is_some() && random_below(2) == 0 {
            cluster.start(&mut nodes[victim]);
            nodes[victim].until_it_serves(1);
        } else if long.is_some() {
            away = Some(victim);
        }
        println!("{} said, {} disturbed, {:?}", cluster.sent, disturbed, began.elapsed());
    }
    wait_until(&format!("all is done: {}", nodes[0].log()), PATIENCE, || lines(&effects).len() >= messages);
    nodes[0].until("done", messages);
    println!("{messages} effects, {disturbed} disturbed, in {:?}", began.elapsed());

    let written = lines(&effects);
    let mut times: HashMap<&str, usize> = HashMap::new();
    written.iter().for_each(|line| *times.entry(line).or_default() += 1);
    let twice: Vec<_> = times.iter().filter(|(_, n)| **n != 1).collect();
    assert!(twice.is_empty() && times.len() == messages, "more than once: {twice:?}");
    for lane in 0..LANES {
        let of_lane: Vec<&String> = written.iter().filter(|line| line.starts_with(&format!("{lane:03}-"))).collect();
        assert!(of_lane.is_sorted(), "out of order in lane {lane}: {of_lane:?}");
    }
    assert_eq!(nodes[0].rows().len(), messages, "one reaction for each message, whoever has heard it");
    if long.is_none() {
        nodes[0].until_it_serves(64);
        let gone = nodes[0].sees("b");
        assert!(gone["is_alive"] == false && gone["slots"] == json!([]), "{gone}");
        // Who was taken for dead comes back and gets its share.
        cluster.start(&mut nodes[1]);
        nodes[1].until_it_serves(32);
    }
}

/// Handler and rule that delete the access of a user; `more` is for the rule.
fn access_rules(h: &Path, more: &str) -> String {
    format!(
        "handlers:
  h: {{ exec: {} }}
rules:
  - name: access taken
    on: org.example.user
    key: '{{{{msg.user}}}}'
    do: h
    with: {{ user: '{{{{msg.user}}}}' }}
    {more}
",
        h.display()
    )
}

#[test]
fn two_nodes_share_the_deliveries_of_one_amqp_queue() {
    let broker = RabbitMq::shared();
    let cluster = Cluster::new("nodes-amqp");
    let dir = cluster.scratch.path().to_owned();
    write_program(&dir.join("h"), &plain(&dir));
    std::fs::write(dir.join("password"), PASSWORD).expect("the password");
    let url = format!("amqp://{REACTOR}@127.0.0.1:{}/%2Fpubsub", broker.amqp());
    let (queue, password) = (queue("nodes"), dir.join("password"));
    let bus = format!(
        "amqp: {{ amqp_url: '{url}', password: {{ file: {} }}, {queue} }}, trust: {{ broker: accept, unlisted: accept }}",
        password.display()
    );
    let rules = access_rules(&dir.join("h"), "mode: apply").replace("org.example.user", "org.test.nodes.user");
    let mut nodes: Vec<Node> = ["a", "b"].iter().map(|name| cluster.node_on(name, &bus, &rules)).collect();
    for node in &mut nodes {
        node.daemon = Some(Daemon::start(&node.dir, &["run", "rules.yaml"]));
        wait_until("it reads the queue", PATIENCE, || node.bus()["connects"].as_u64() == Some(1));
    }
    let mut publisher = AmqpPeers::about("org.test.nodes").publisher(&dir, &broker, PEER);
    let users: Vec<String> = (10..30).map(|n| format!("user{n}")).collect();
    for user in &users {
        publisher.publish("user", &json!({"user": user}));
    }
    nodes[0].until("done", users.len());
    let mut done = applied(&dir);
    done.sort_unstable();
    assert_eq!(done, users, "each once");
    let received: Vec<u64> = nodes.iter().map(|node| node.bus()["received"].as_u64().unwrap_or(0)).collect();
    assert!(received.iter().sum::<u64>() == 20 && received.iter().all(|n| *n > 0), "{received:?}");
    until_empty(&broker, "nodes");
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("the handler");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("executable");
}

#[test]
fn what_a_person_types_at_one_node_counts_at_all_of_them() {
    let mut cluster = Cluster::new("nodes-people");
    let dir = cluster.scratch.path().to_owned();
    write_program(&dir.join("h"), &plain(&dir));
    let rules = access_rules(&dir.join("h"), "guard: { deletes: 0 }");
    let mut nodes: Vec<Node> = ["a", "b"].iter().map(|name| cluster.node(name, &rules)).collect();
    nodes.iter().for_each(|node| node.until_it_serves(32));
    cluster.say("org.example.user", &json!({"user": "ralph"}));
    nodes[0].until("held", 1);
    let id = nodes[0].rows()[0]["id"].as_str().expect("an id").to_owned();
    // Whichever of the two serves it: one of these passes it on.
    let holds =
        |node: &Node| reactor_json(&node.dir, &["status"])[0]["held"].as_array().is_some_and(|held| !held.is_empty());
    let other = nodes.iter().find(|node| !holds(node)).expect("only one has it");
    let holder = nodes.iter().find(|node| holds(node)).expect("one has it");
    assert_eq!(other.rows()[0]["node"], *holder.name);
    let said = other.type_in(&["list"]);
    assert!(said.contains(&format!("on {}", holder.name)), "{said}");
    let text = other.type_in(&["approve", &id]);
    assert!(text.contains("another node"), "{text}");
    nodes[0].until("done", 1);
    assert_eq!(applied(&dir), ["ralph"]);
    assert!(other.type_in(&["show", &id]).contains("approved"));

    let paused = |node: &Node| reactor_json(&node.dir, &["status"])[0]["paused"].as_array().map_or(0, Vec::len);
    nodes[0].type_in(&["pause", "access taken"]);
    wait_until("both are paused", PATIENCE, || nodes.iter().all(|node| paused(node) == 1));
    for user in ["ada", "grace", "kevin"] {
        cluster.say("org.example.user", &json!({"user": user}));
    }
    nodes[0].until("waiting", 3);
    nodes[1].type_in(&["resume", "access taken"]);
    nodes[0].until("held", 3);
    assert!(nodes.iter().all(|node| paused(node) == 0));
    // What was said while the way to the server was cut counts, too.
    cluster.server.sql(
        "postgres",
        "INSERT INTO reactor.setting VALUES ('paused/access taken', '2026-11-21T00:00:00Z');
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reactor journal'",
    );
    wait_until("both know that it is paused", PATIENCE, || nodes.iter().all(|node| paused(node) == 1));
    nodes[0].type_in(&["resume", "access taken"]);
    wait_until("both go on", PATIENCE, || nodes.iter().all(|node| paused(node) == 0));

    // A clean stop gives everything back.
    let daemon = nodes[1].daemon.take().expect("a daemon");
    daemon.terminate();
    assert!(daemon.wait(PATIENCE).is_some_and(|status| status.success()), "{}", nodes[1].log());
    nodes[0].until_it_serves(64);
    let held = || reactor_json(&nodes[0].dir, &["status"])[0]["held"].as_array().map_or(0, Vec::len);
    wait_until("it has what the other had", PATIENCE, || held() == 3);
}

#[test]
fn while_the_server_is_away_handlers_are_ended_and_then_it_goes_on_by_itself() {
    let mut cluster = Cluster::new("nodes-away");
    let dir = cluster.scratch.path().to_owned();
    let (began, go, done) = (dir.join("began"), dir.join("go"), dir.join("applied"));
    let plan = format!("grep -qx \"$user\" {} 2>/dev/null || echo \"$change\"", done.display());
    // The first apply hangs until it is ended; a later one finds `go`.
    let apply = format!(
        "echo >> {}; [[ -e {} ]] || exec sleep 600; echo \"$user\" >> {}; echo \"$change\"",
        began.display(),
        go.display(),
        done.display()
    );
    write_program(&dir.join("h"), &handler(&plan, &apply));
    // No try is left over: what is cut off is no failed try.
    let mut node = cluster.node("a", &access_rules(&dir.join("h"), "retry: { times: 0 }"));
    node.until_it_serves(64);
    cluster.say("org.example.user", &json!({"user": "ralph"}));
    wait_until("the apply runs", PATIENCE, || began.exists());
    cluster.server.stop();
    wait_until("handlers are ended", PATIENCE, || node.log().contains("handlers are ended"));
    std::fs::write(&go, "").expect("the sign");
    cluster.server.resume();
    node.until("done", 1);
    assert_eq!(applied(&dir), ["ralph"]);
    assert!(!node.daemon().has_ended() && node.log().contains("in reach again"), "{}", node.log());
    let id = node.rows()[0]["id"].as_str().expect("an id").to_owned();
    assert!(node.type_in(&["show", &id]).contains("out of reach"), "{}", node.log());
}

#[test]
fn a_rule_that_reaches_one_node_after_the_other_makes_no_dead_letters() {
    let mut cluster = Cluster::new("nodes-rules");
    let dir = cluster.scratch.path().to_owned();
    write_program(&dir.join("h"), &plain(&dir));
    let new = access_rules(&dir.join("h"), "mode: apply");
    let old = new.replace("name: access taken", "name: something else").replace("org.example.user", "org.example.else");
    let nodes = [cluster.node("a", &new), cluster.node("b", &old)];
    nodes.iter().for_each(|node| node.until_it_serves(32));
    let mut users: Vec<String> = (10..40).map(|n| format!("user{n}")).collect();
    for user in &users {
        cluster.say("org.example.user", &json!({"user": user}));
    }
    // The first knows the rule and is through with what is its own; the other has the rest in its inbox.
    let waits = || nodes[1].sees("b")["inbox"].as_u64().unwrap_or(0);
    wait_until("all have come", PATIENCE, || {
        waits() + nodes[0].rows().iter().filter(|row| row["state"] == "done").count() as u64 == users.len() as u64
    });
    assert!(waits() > 0, "the test needs a user of the other's");
    let site = nodes[1].dir.join("rules.yaml");
    let text = std::fs::read_to_string(&site).expect("the site");
    let (before, _) = text.split_once("handlers:").expect("its handlers");
    std::fs::write(&site, format!("{before}{new}")).expect("the new rules");
    nodes[0].until("done", users.len());
    let mut done = applied(&dir);
    done.sort_unstable();
    users.sort_unstable();
    assert_eq!(done, users, "each once");
}

#[test]
fn a_node_whose_slots_are_anothers_without_its_doing_ends_instead_of_serving_them_too() {
    let cluster = Cluster::new("nodes-torn");
    let mut node = cluster.node("a", &append_rules(&cluster.scratch.path().join("effects")));
    node.until_it_serves(64);
    // As after a standby that was behind has taken over.
    cluster.server.sql(
        "postgres",
        "INSERT INTO reactor.node SELECT 'ghost', 1, 0, shown, home, version, since FROM reactor.node;
         UPDATE reactor.slot SET node = 'ghost' WHERE n = 7",
    );
    let daemon = node.daemon.take().expect("a daemon");
    let status = daemon.wait(PATIENCE).expect("it ends");
    assert!(!status.success() && node.log().contains("nobody here has given them back"), "{}", node.log());
}

#[test]
fn a_node_that_can_not_have_a_lease_says_why_and_begins_when_it_can() {
    let cluster = Cluster::new("nodes-no-lease");
    let mut node = cluster.node("a", &append_rules(&cluster.scratch.path().join("effects")));
    node.until_it_serves(64);
    let daemon = node.daemon.take().expect("a daemon");
    daemon.terminate();
    assert!(daemon.wait(PATIENCE).is_some_and(|status| status.success()), "{}", node.log());
    // What a pooler answers that shares connections among transactions.
    cluster.server.sql(
        "postgres",
        r#"CREATE FUNCTION reactor.no() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN RAISE 'prepared statement "s9" does not exist' USING ERRCODE = '26000'; END$$;
           CREATE TRIGGER no BEFORE INSERT OR UPDATE ON reactor.lease FOR EACH ROW EXECUTE FUNCTION reactor.no()"#,
    );
    cluster.start(&mut node);
    wait_until("it says why", PATIENCE, || {
        let log = node.log();
        log.contains("no handler starts") && log.contains("PgBouncer")
    });
    cluster.server.sql("postgres", "DROP TRIGGER no ON reactor.lease");
    node.until_it_serves(64);
}
