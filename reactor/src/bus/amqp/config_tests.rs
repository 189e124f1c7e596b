use serde_json::json;

use super::*;

/// In the form of the files that the distribution ships.
const SHIPPED: &str = r##"
# A basic configuration for Fedora's message broker.
amqp_url = "amqps://fedora:@rabbitmq.fedoraproject.org/%2Fpublic_pubsub"
callback = "fedora_messaging.example:printer"
passive_declares = true
topic_prefix = "org.fedoraproject.prod"

[tls]
ca_cert = "/etc/fedora-messaging/cacert.pem"
keyfile = "/etc/fedora-messaging/fedora-key.pem"
certfile = "/etc/fedora-messaging/fedora-cert.pem"

[client_properties]
app = "Example Application"
app_url = "https://example.org"

[exchanges."amq.topic"]
type = "topic"
durable = true
auto_delete = false
arguments = {}

[queues.00000000-0000-0000-0000-000000000000]
durable = false
auto_delete = false
exclusive = false
arguments = { x-max-length = 1000 }

[[bindings]]
queue = "00000000-0000-0000-0000-000000000000"
exchange = "amq.topic"
routing_keys = ["org.fedoraproject.prod.fas.#", "#.sync"]

[consumer_config]
example_key = "for my consumer"

[qos]
prefetch_size = 0
prefetch_count = 25

[monitoring]
port = 8080

[log_config]
version = 1
[log_config.root]
level = "ERROR"
"##;

#[test]
fn a_file_of_fedora_messaging_is_read_as_it_is() {
    let amqp = of_toml(SHIPPED).expect("read");
    assert_eq!(amqp.url.to_string(), "amqps://rabbitmq.fedoraproject.org:5671, vhost /public_pubsub");
    assert!(amqp.passive_declares && !amqp.keeps_nothing());
    assert_eq!((amqp.topic_prefix.as_str(), amqp.prefetch_messages), ("org.fedoraproject.prod", 25));
    assert_eq!(amqp.tls.keyfile.as_deref(), Some(Path::new("/etc/fedora-messaging/fedora-key.pem")));
    assert_eq!(amqp.client_properties["app"], "Example Application");
    let (name, queue) = amqp.queues.first_key_value().expect("a queue");
    assert_eq!(queue.arguments["x-max-length"], json!(1000));
    assert_eq!((amqp.bindings[0].queue.as_ref(), amqp.bindings[0].routing_keys.len()), (Some(name), 2));
    assert_eq!(amqp.exchanges["amq.topic"].kind, "topic");
}

#[test]
fn an_empty_file_is_this_machines_broker_and_every_message() {
    let amqp = of_toml("").expect("read");
    assert_eq!(amqp.url.to_string(), "amqp://localhost:5672, vhost /");
    assert_eq!(
        (amqp.bindings[0].exchange.as_str(), &amqp.bindings[0].routing_keys[..]),
        ("amq.topic", &["#".to_owned()][..])
    );
    assert!(amqp.keeps_nothing());
}

#[test]
fn a_binding_without_a_queue_is_for_the_brokers_own_as_in_python() {
    let queue = "[queues.q]\ndurable = true\nauto_delete = false\nexclusive = false\narguments = {}\n";
    let binding = |more: &str| format!("[[bindings]]\nexchange = \"amq.topic\"\nrouting_keys = [\"a.#\"]\n{more}");
    let bindings = |text: &str| of_toml(text).expect("read").bindings.len();
    assert_eq!(bindings(queue), 0, "what comes into it is said on the broker");
    assert_eq!(bindings(&format!("{queue}{}", binding(""))), 0);
    assert_eq!(bindings(&format!("{queue}{}", binding("queue = \"q\"\n"))), 1);
    assert_eq!(bindings(&binding("")), 1);
}

#[test]
fn what_is_wrong_is_said_with_its_line_and_without_the_password() {
    for (text, part) in [
        ("amqp_url = \"amqp://u:secret@h\"\nqueus = {}", "line 2: unknown field `queus`"),
        ("\n[queues.q]\ndurable = true", "missing field"),
        ("amqp_url = \"amqp://u:secret@h:port\"", "`amqp_url`: its port"),
        ("[qos]\nprefetch_count = 0", "no limit"),
        ("[[bindings]]\nexchange = \"x\"\nqueue = \"q\"\nrouting_keys = []", "the queue `q`"),
        ("amqp_url = \"amqp://u:secret@h\" x", "line 1"),
        ("[queues]\namqp_url = \"amqp://u:secret@h\"", "line 2: invalid type: string \"amqp://u:"),
        ("[client_properties]\napp = 1\n\"amqp://u:secret@h\" = 1", "line 2"),
        ("\"amqp://u:secret@h\" = 1", "unknown field"),
    ] {
        let why = of_toml(text).expect_err(text);
        assert!(why.contains(part) && !why.contains("secret"), "{text}: {why}");
    }
}

#[test]
fn a_password_comes_from_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, password) = (directory.path().join("config.toml"), directory.path().join("password"));
    std::fs::write(&file, "amqp_url = \"amqp://reactor@h\"").expect("written");
    std::fs::write(&password, "hidden\n").expect("written");
    let mut bus = AmqpBus { settings: Settings::File(file), password: Some(password) };
    let url = bus.resolve().expect("read").url;
    assert_eq!((url.user.as_str(), url.password.as_str()), ("reactor", "hidden"));
    bus.password = Some(directory.path().join("none"));
    assert!(bus.resolve().expect_err("there is none").contains("none can't be read"));
}
