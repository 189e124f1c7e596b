//! `confirm`, where several nodes share the journal.

use std::collections::HashMap;

use reactor_tests::free_port;
use serde_json::Value;

use super::{Cluster, Node, append_rules, feed};

/// Outcomes that two nodes tell of.
const OUTCOMES: usize = 60;

#[test]
fn of_two_nodes_each_tells_publishers_what_it_decided_itself() {
    let mut cluster = Cluster::new("nodes-confirm");
    let effects = cluster.scratch.path().join("effects");
    std::fs::write(&effects, "").expect("the target");
    let (rules, ports) = (append_rules(&effects), [free_port(), free_port()]);
    let heard = zmq::Context::new().socket(zmq::SUB).expect("a socket");
    heard.set_subscribe(b"").expect("an option");
    heard.set_rcvtimeo(60_000).expect("an option");
    let start = |(name, port)| {
        let bus = format!(
            "fedmsg: ['tcp://127.0.0.1:{}'], trust: {{ unsigned: accept, unlisted: accept }}, confirm: true, \
             publish: {{ bind: 'tcp://127.0.0.1:{port}', prefix: org.example }}",
            cluster.port
        );
        let mut node = cluster.node_on(name, &bus, &rules);
        cluster.start(&mut node);
        heard.connect(&format!("tcp://127.0.0.1:{port}")).expect("connected");
        node
    };
    let nodes: Vec<Node> = ["a", "b"].into_iter().zip(ports).map(start).collect();
    nodes.iter().for_each(|node| node.until_it_serves(20));
    feed(&mut cluster, &effects, OUTCOMES);
    let mut told: HashMap<String, Vec<u8>> = HashMap::new();
    while told.len() < OUTCOMES {
        let frames =
            heard.recv_multipart(0).unwrap_or_else(|_| panic!("only {} were told of: {}", told.len(), nodes[0].log()));
        let body: Value = serde_json::from_slice(&frames[1]).expect("JSON");
        let cause = body["msg"]["messages"][0].as_str().expect("an id").to_owned();
        assert_eq!(body["msg"]["state"], "done", "{body}");
        assert!(told.insert(cause.clone(), frames[1].clone()).is_none(), "{cause} was told of twice: {body}");
    }
}
