//! Who is not let in, and whom we do not believe: what `doctor`, `status` and `publish` say then.

use std::process::Stdio;

use reactor_tests::amqp_peers::configuration;
use reactor_tests::process::{Child, mortal};
use reactor_tests::rabbitmq::{ENDED, EXPIRED, FEDORA, PASSWORD, REACTOR, RabbitMq, STRANGER};
use reactor_tests::relay::Relay;
use reactor_tests::{free_port, wait_until};

use super::site::{LONG, Site, queue};

/// A site that logs in with this certificate at this address.
fn with_certificate(broker: &RabbitMq, name: &str, host: &str, port: u16) -> Site {
    let (ca, certificate, key) = (broker.ca(), broker.certificate(name), broker.key(name));
    let tls = format!("tls: {{ ca_cert: {ca:?}, certfile: {certificate:?}, keyfile: {key:?} }}");
    Site::at("refused", &format!("amqp_url: 'amqps://{host}:{port}/%2Fpubsub', {tls}, {}", queue("refused")), "")
}

/// What `doctor` says of it, which is never well.
fn doctor(site: &Site) -> String {
    let (fine, said) = site.say(&["doctor", "rules.yaml"]);
    assert!(!fine, "{said}");
    let of_bus = said.split_once("bus ours").unwrap_or_else(|| panic!("{said}")).1;
    of_bus.to_owned()
}

#[test]
fn who_logs_in_with_a_wrong_certificate_is_told_and_a_daemon_goes_on_trying() {
    let broker = RabbitMq::shared();
    for name in [EXPIRED, STRANGER] {
        let said = doctor(&with_certificate(&broker, name, "localhost", broker.amqps()));
        assert!(said.contains("our certificate") && said.contains("openssl x509"), "{name}: {said}");
    }
    let mut site = with_certificate(&broker, STRANGER, "localhost", broker.amqps());
    site.daemon = Some(reactor_tests::Daemon::start(site.dir(), &["run", "rules.yaml"]));
    site.until("status says so", |bus| bus["problems"].to_string().contains("no connection to the broker"));
    // A renewed certificate needs no restart.
    let of = |name: &str| (broker.certificate(name).display().to_string(), broker.key(name).display().to_string());
    let ((_, bad), (_, good)) = (of(STRANGER), of(REACTOR));
    assert_ne!(bad, good);
    let rules = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    site.stop();
    site.file("rules.yaml", &rules.replace(STRANGER, REACTOR).replace("others", "pki"));
    site.start();
}

#[test]
fn a_broker_that_is_not_the_one_is_not_told_who_we_are() {
    let broker = RabbitMq::shared();
    let elsewhere = Relay::at("127.0.0.2", broker.amqps());
    let said = doctor(&with_certificate(&broker, REACTOR, "127.0.0.2", elsewhere.port()));
    assert!(said.contains("TLS") && said.contains("write the broker's name as its certificate has it"), "{said}");

    let mut site = with_certificate(&broker, REACTOR, "localhost", broker.amqps());
    let rules = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    let (ours, theirs) = (broker.ca(), broker.ca().parent().expect("a directory").with_file_name("others/ca.crt"));
    site.file("rules.yaml", &rules.replace(ours.to_str().expect("UTF-8"), theirs.to_str().expect("UTF-8")));
    let said = doctor(&site);
    assert!(said.contains("not of the CA in `tls.ca_cert`"), "{said}");

    let port = free_port();
    let mut server = mortal("/usr/bin/openssl");
    server.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
    server.arg(broker.certificate(ENDED)).arg("-key").arg(broker.key(ENDED));
    let mut server = Child::start(server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("it listens", LONG, || {
        assert!(!server.has_ended(), "openssl has ended");
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    site = with_certificate(&broker, REACTOR, "localhost", port);
    let said = doctor(&site);
    assert!(said.contains("the broker's certificate has ended"), "{said}");
}

#[test]
fn a_wrong_password_is_told_and_no_password_ever_shown() {
    let broker = RabbitMq::shared();
    let mut site = Site::new("password", broker.amqp(), "");
    site.file("password", "hunter2\n");
    let said = doctor(&site);
    assert!(said.contains("403") && !said.contains("hunter2"), "{said}");
    site.daemon = Some(reactor_tests::Daemon::start(site.dir(), &["run", "rules.yaml", "-v"]));
    site.until("status says so", |bus| bus["problems"].to_string().contains("403"));
    let (_, status) = site.say(&["status", "--format", "json"]);
    // The file is read again at each try.
    site.file("password", PASSWORD);
    site.until_read();
    let log = site.scratch.log();
    for text in [&status, &log] {
        assert!(!text.contains("hunter2") && !text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn a_password_in_a_wrong_place_is_in_no_answer() {
    let broker = RabbitMq::shared();
    let site = Site::at("leak", "amqp_url: 'amqp://reactor:hunter2@broker.example.org/%2Fpubsub'", "");
    for args in [&["check", "rules.yaml"][..], &["check", "rules.yaml", "--format", "json"], &["run", "rules.yaml"]] {
        let (fine, said) = site.say(args);
        assert!(!fine && said.contains("a password in `amqp_url`") && !said.contains("hunter2"), "{said}");
    }
    let rules = std::fs::read_to_string(site.dir().join("rules.yaml")).expect("the site");
    let url = "amqp_url: 'amqp://reactor:hunter2@broker.example.org/%2Fpubsub'";
    site.file("rules.yaml", &rules.replace(url, "config: config.toml"));
    for text in ["[queues]\namqp_url = \"amqp://reactor:hunter2@h\"\n", "amqp_url = \"amqp://reactor:hunter2@h:x\"\n"] {
        site.file("config.toml", text);
        for args in [&["check", "rules.yaml"][..], &["doctor", "rules.yaml"], &["run", "rules.yaml"]] {
            let (_, said) = site.say(args);
            assert!(said.contains("config.toml: ") && !said.contains("hunter2"), "{args:?}: {said}");
        }
    }
    // A file of fedora-messaging with the password in it, as the distribution's brokers have them.
    let url = format!("amqp://{REACTOR}:{PASSWORD}@127.0.0.1:{}/%2Fpubsub", broker.amqp());
    site.file("config.toml", &format!("amqp_url = \"{url}\"\nunknown = 1\n"));
    let (_, said) = site.say(&["check", "rules.yaml"]);
    assert!(said.contains("line 2: unknown field `unknown`"), "{said}");
    site.file("config.toml", &format!("amqp_url = \"{url}\"\n"));
    let (fine, said) =
        site.say(&["publish", "--bus", "ours", "--site", "rules.yaml", "--format", "json", "org.test.leak", "{}"]);
    assert!(!said.contains(PASSWORD), "{fine} {said}");
}

#[test]
fn what_we_may_not_is_told_with_the_command_that_shows_it() {
    let broker = RabbitMq::shared();
    let site = Site::at("may", "config: config.toml", "");
    site.file("config.toml", &configuration(&broker, FEDORA, None, &site.prefix()));
    let publish = ["publish", "--bus", "ours", "--site", "rules.yaml", "user", "{\"user\": \"ralph\"}"];
    let (fine, said) = site.say(&publish);
    assert!(!fine && said.contains("403") && said.contains("rabbitmqctl list_user_permissions"), "{said}");
    site.file("config.toml", &configuration(&broker, FEDORA, Some("not-a-uuid"), &site.prefix()));
    let said = doctor(&site);
    assert!(said.contains("not-a-uuid") && said.contains("rabbitmqctl"), "{said}");
}
