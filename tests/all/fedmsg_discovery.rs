//! Where fedmsg publishers are: by DNS, and by what the real `fedmsg-config` prints; both while messages come in.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reactor::bus::Source as _;
use reactor::bus::fedmsg::FedmsgSource;
use reactor::bus::fedmsg::discovery::Discovery;
use reactor::bus::publish::Publisher;
use reactor::rules::site::{BusConfig, Confirm, QUEUE_MESSAGES_DEFAULT};
use reactor::trust::TrustConfig;
use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::peers::PythonPeers;
use reactor_tests::{Scratch, free_port, wait_until, wait_until_async};
use serde_json::{Value, json};

use crate::fedmsg_sockets::next;
use crate::running::handler;

/// Longest wait for what is sure to come.
const LONG: Duration = reactor_tests::PATIENCE;

fn source(discovery: Discovery) -> FedmsgSource {
    let config = BusConfig {
        name: "test".into(),
        fedmsg: Vec::new(),
        discovery,
        amqp: None,
        webhook: None,
        topics: Vec::new(),
        trust: TrustConfig::default(),
        publish: None,
        queue_messages_max: QUEUE_MESSAGES_DEFAULT,
        silence: None,
        confirm: Confirm::No,
        catch_up: None,
    };
    FedmsgSource::open(&config, Arc::new(|_| true), vec![String::new()]).expect("opened, though nobody answers yet")
}

fn publisher() -> (Publisher, u16) {
    let publisher = Publisher::bind("tcp://127.0.0.1:*").expect("bound");
    let port = publisher.address().rsplit(':').next().and_then(|port| port.parse().ok()).expect("its port");
    (publisher, port)
}

/// Writes a file so that no reader sees half of it.
fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("written");
    std::fs::rename(&new, file).expect("in its place");
}

/// A site whose bus has these words under `fedmsg`.
fn write_site(dir: &Path, fedmsg: &str) {
    let site = format!(
        "version: 1\nbus: {{ b: {{ fedmsg: {fedmsg}, trust: {{ unsigned: accept, unlisted: accept }} }} }}\n\
         handlers: {{ h: {{ exec: ./h }} }}\nrules: [ {{ name: r, on: org.example.user, do: h, with: {{ user: ralph }}, mode: plan }} ]\n"
    );
    std::fs::write(dir.join("h"), handler(":", ":")).expect("the handler");
    std::fs::set_permissions(dir.join("h"), PermissionsExt::from_mode(0o755)).expect("executable");
    put(&dir.join("rules.yaml"), &site);
}

/// The bus as `status` has it.
fn bus_of(dir: &Path) -> Value {
    let output = reactor_output(dir, &["--format", "json", "status"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    status["buses"][0].clone()
}

fn publish(publisher: &mut Publisher, id: &str) {
    let body = json!({"topic": "org.example.user", "msg": {}, "msg_id": id, "timestamp": 1_795_227_187, "i": 1});
    publisher.publish("org.example.user", body.to_string().as_bytes()).expect("published");
}

#[test]
fn other_addresses_in_the_rules_file_are_followed_without_a_restart() {
    let scratch = Scratch::new("discovery-reload");
    let ((mut one, one_port), (mut other, other_port)) = (publisher(), publisher());
    let came = |n: usize| {
        wait_until(&format!("{n} came in"), LONG, || reactor_json(scratch.path(), &["list"]).len() == n);
    };
    write_site(scratch.path(), &format!("[\"tcp://127.0.0.1:{one_port}\"]"));
    let _daemon = Daemon::start(scratch.path(), &["run", "rules.yaml"]);
    assert!(one.wait_for_subscriber_of("org.example.user", LONG).expect("a socket"), "{}", scratch.log());
    publish(&mut one, "2026-1");
    came(1);
    write_site(scratch.path(), &format!("[\"tcp://127.0.0.1:{other_port}\"]"));
    assert!(other.wait_for_subscriber_of("org.example.user", LONG).expect("a socket"), "{}", scratch.log());
    assert!(one.wait_for_nobody(LONG).expect("a socket"), "{}", scratch.log());
    publish(&mut other, "2026-2");
    came(2);

    // A place that has not said anything yet is no reason to leave anybody.
    write_site(scratch.path(), "{ config: endpoints.json }");
    wait_until("the missing file is said", LONG, || {
        bus_of(scratch.path())["problems"][0].as_str().is_some_and(|why| why.contains("no address of it is known yet"))
    });
    publish(&mut other, "2026-3");
    came(3);
    let endpoints = json!({"endpoints": {"one": [format!("tcp://127.0.0.1:{one_port}")], "other": [other.address()]}});
    put(&scratch.path().join("endpoints.json"), &endpoints.to_string());
    assert!(one.wait_for_subscriber_of("org.example.user", LONG).expect("a socket"), "{}", scratch.log());
    let log = scratch.log();
    assert!(!log.contains(&format!("leaving tcp://127.0.0.1:{other_port}")), "{log}");
    assert!(log.contains(&format!("leaving tcp://127.0.0.1:{one_port}")) && !log.contains("takes a restart"), "{log}");

    // Whoever is named before and after is not left in between.
    write_site(scratch.path(), &format!("[\"tcp://127.0.0.1:{one_port}\"]"));
    assert!(other.wait_for_nobody(LONG).expect("a socket"), "{}", scratch.log());
    publish(&mut one, "2026-4");
    came(4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dns_names_is_connected_to_and_left_without_losing_what_others_say() {
    let scratch = Scratch::new("discovery");
    let port = free_port();
    let mut dns = PythonPeers::find().dns(scratch.path(), port);
    let server = Some(([127, 0, 0, 1], port).into());
    let mut source = source(Discovery { domains: vec!["example.test".into()], server, config: None });
    let counters = source.counters();
    wait_until_async("it says that nobody is known", LONG, || {
        counters.trouble().is_some_and(|why| why.contains("there is no _fedmsg._tcp.example.test"))
    })
    .await;
    let ((mut one, one_port), (mut other, other_port)) = (publisher(), publisher());
    let srv = |ports: &[u16]| ports.iter().map(|port| json!(["localhost", port])).collect::<Vec<_>>();
    assert_eq!(dns.ask(&json!({"srv": srv(&[one_port])})), "ok");
    assert!(one.wait_for_subscriber_of("a", LONG).expect("a socket"));
    wait_until_async("nothing is wrong any more", LONG, || counters.trouble().is_none()).await;
    assert_eq!(counters.addresses(), ["1 from DNS of example.test"]);

    // The answer does not fit into a packet: it is asked for over TCP. Meanwhile the first one goes on talking.
    assert_eq!(dns.ask(&json!({"srv": srv(&[one_port, other_port]), "cut": true})), "ok");
    let mut said = 0;
    while !other.wait_for_subscriber_of("b", Duration::from_millis(10)).expect("a socket") {
        one.publish("a", said.to_string().as_bytes()).expect("published");
        said += 1;
    }
    other.publish("b", b"other").expect("published");
    assert_eq!(dns.ask(&json!({"srv": srv(&[other_port])})), "ok");
    while !one.wait_for_nobody(Duration::from_millis(10)).expect("a socket") {
        other.publish("b", said.to_string().as_bytes()).expect("published");
        said += 1;
    }
    let mut heard: Vec<u64> = Vec::new();
    while heard.len() < said {
        let raw = next(&mut source).await;
        heard.extend(String::from_utf8(raw.body).expect("text").parse::<u64>());
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..said as u64).collect::<Vec<_>>(), "nothing is lost, nothing comes twice");

    assert_eq!(dns.ask(&json!({"srv": [], "rcode": "SERVFAIL"})), "ok");
    wait_until_async("the trouble is said", LONG, || {
        counters.trouble().is_some_and(|why| why.contains("the 1 addresses from before stay"))
    })
    .await;
    other.publish("b", b"still").expect("published");
    assert_eq!(next(&mut source).await.body, b"still");
}

#[test]
fn what_the_real_fedmsg_config_prints_is_read_again_when_it_changes() {
    let (scratch, peers) = (Scratch::new("discovery"), PythonPeers::find());
    let ((mut one, one_port), (mut other, other_port)) = (publisher(), publisher());
    let file = scratch.path().join("endpoints.json");
    let endpoint = |port: u16| json!([format!("tcp://127.0.0.1:{port}")]);
    let write = |text: &str| put(&file, text);
    write_site(scratch.path(), "{ config: endpoints.json }");
    write("{}");
    let checked = reactor_output(scratch.path(), &["check", "rules.yaml"]);
    let text = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(text.contains("it has no map `endpoints`"), "{text}");
    let _daemon = Daemon::start(scratch.path(), &["run", "rules.yaml"]);
    let bus = || bus_of(scratch.path());
    wait_until("it runs without any address, and says so", LONG, || {
        bus()["problems"][0].as_str().is_some_and(|why| why.contains("no address of it is known yet"))
    });
    write(&peers.printed_config(scratch.path(), &json!({"one.test": endpoint(one_port)})));
    assert!(one.wait_for_subscriber_of("org.example.user", LONG).expect("a socket"), "{}", scratch.log());
    let both = json!({"one.test": endpoint(one_port), "other.test": endpoint(other_port)});
    write(&peers.printed_config(scratch.path(), &both));
    assert!(other.wait_for_subscriber_of("org.example.user", LONG).expect("a socket"), "{}", scratch.log());
    let from: PathBuf = scratch.path().join("endpoints.json");
    // fedmsg's own defaults are in what it prints, too.
    wait_until("status says where they come from", LONG, || {
        bus()["addresses"][0].as_str().is_some_and(|line| line.ends_with(&format!("from {}", from.display())))
    });
    write("{ cut off");
    wait_until("a broken file is said, and changes nothing", LONG, || {
        bus()["problems"][0].as_str().is_some_and(|why| why.contains("not JSON") && why.contains("from before stay"))
    });
    publish(&mut other, "2026-1");
    wait_until("it came in", LONG, || reactor_json(scratch.path(), &["list"]).len() == 1);
    write(&peers.printed_config(scratch.path(), &json!({"other.test": endpoint(other_port)})));
    assert!(one.wait_for_nobody(LONG).expect("a socket"), "{}", scratch.log());
    let doctor = reactor_output(scratch.path(), &["doctor", "rules.yaml"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    let reached = format!("tcp://127.0.0.1:{other_port} accepts connections");
    assert!(text.contains("endpoints.json") && text.contains(&reached), "{text}");
}
