//! The daemon asks for what it missed: killed, cut off from a publisher, deaf.

use std::path::Path;
use std::time::Duration;

use reactor::bus::publish;
use reactor::trust::sign::{Outgoing, Signer};
use reactor_tests::daemon::{Daemon, reactor_json, reactor_output};
use reactor_tests::datagrepper::Datagrepper;
use reactor_tests::peers::{PREFIX, Publisher, PythonPeers};
use reactor_tests::pki::{Pki, now};
use reactor_tests::{Scratch, free_port, wait_until};
use serde_json::{Value, json};

pub const SOON: Duration = reactor_tests::PATIENCE;
/// How often the daemon is looked at before it is told once more.
const LOOKS_PER_TRY: u32 = 40;
const APPEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/append");

/// A site with one fedmsg bus and a server that keeps its messages. Each message is a line in the file `lines`, in the order in
/// which they came; each gap that could not be closed is one in `gaps`.
pub struct Site {
    pub scratch: Scratch,
    pub pki: Pki,
    pub server: Datagrepper,
    pub port: u16,
}

impl Site {
    /// `more` stands in the bus's block; `URL` in it is the server's.
    pub fn new(name: &str, more: &str) -> Self {
        let scratch = Scratch::new(name);
        let (pki, server, port) = (Pki::new(scratch.path()), Datagrepper::start(), free_port());
        let site = Self { scratch, pki, server, port };
        site.write(more);
        for file in ["lines", "gaps"] {
            std::fs::write(site.dir().join(file), "").expect("a file");
        }
        site
    }

    pub fn write(&self, more: &str) {
        let (port, more) = (self.port, more.replace("URL", &self.server.url()));
        let text = format!(
            "version: 1
bus:
  b:
    fedmsg: [tcp://127.0.0.1:{port}]
    trust: {{ x509: {{ ca: pki/ca.crt, crl: pki/crl.pem }}, unlisted: accept }}
    {more}
handlers:
  lines: {{ exec: {APPEND}, env: {{ FILE: ./lines }} }}
  gaps: {{ exec: {APPEND}, env: {{ FILE: ./gaps }} }}
rules:
  - {{ name: a line, on: {PREFIX}.user.new, key: all, do: lines, with: {{ line: '{{{{msg.user}}}}' }} }}
  - {{ name: a gap, on: reactor.bus.gap, where: {{ recovered: false }}, do: gaps, with: {{ line: '{{{{msg.bus}}}}' }} }}
"
        );
        std::fs::write(self.dir().join("rules.yaml"), text).expect("the site");
    }

    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    pub fn start(&self) -> Daemon {
        Daemon::start(self.dir(), &["run", "rules.yaml"])
    }

    pub fn publisher(&self) -> Publisher {
        PythonPeers::find().publisher(self.dir(), self.port, Some(&self.pki))
    }

    pub fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir().join(file)).expect("a file");
        text.lines().map(str::to_owned).collect()
    }

    pub fn until_lines(&self, file: &str, wanted: &[&str]) {
        wait_until(&format!("{file} is {wanted:?}"), SOON, || self.lines(file) == wanted);
    }

    /// Publishes until the daemon hears it: it can't be seen from here when it has subscribed.
    pub fn meet(&self, publisher: &mut impl Says) {
        self.say_until(publisher, "met", || self.lines("lines").contains(&"met".to_owned()));
    }

    /// Says `user` on the bus, where the server does not keep it, again and again until that has come about. It is one line.
    pub fn say_until(&self, publisher: &mut impl Says, user: &str, mut holds: impl FnMut() -> bool) {
        let mut looks = 0;
        wait_until(&format!("what {user} leads to"), SOON, || {
            // Each is a reaction: not more of them than are quickly done.
            if looks % LOOKS_PER_TRY == 0 {
                publisher.says(user);
            }
            looks += 1;
            holds()
        });
    }

    /// A publisher of our own, which starts quicker than the real one.
    pub fn voice(&self) -> Voice {
        let signer = Signer::open(&self.pki.certificate(), &self.pki.key()).expect("the signer");
        let socket = publish::Publisher::bind(&format!("tcp://127.0.0.1:{}", self.port)).expect("bound");
        Voice { socket, signer, said: 0 }
    }

    /// Says `user` on the bus, and the server keeps it too.
    pub fn say(&self, publisher: &mut impl Says, user: &str) {
        self.server.keep(&publisher.says(user));
    }

    /// Only the server has it: it was lost on the way.
    pub fn lost(&self, user: &str) {
        self.lost_with_a_clock_ahead(user, 0);
    }

    /// The same, by a publisher whose clock is so many seconds ahead of ours.
    pub fn lost_with_a_clock_ahead(&self, user: &str, seconds: i64) {
        let signer = Signer::open(&self.pki.certificate(), &self.pki.key()).expect("the signer");
        let msg = json!({"user": user});
        let outgoing = Outgoing { timestamp_s: now().as_second() + seconds, ..outgoing(user, &msg) };
        let envelope = signer.envelope(&outgoing).expect("signed");
        self.server.keep(&String::from_utf8(envelope).expect("text"));
    }

    pub fn run(&self, args: &[&str]) -> (bool, String) {
        let output = reactor_output(self.dir(), args);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What `status` says of the bus.
    pub fn status(&self) -> Value {
        reactor_json(self.dir(), &["status"])[0]["buses"][0].take()
    }

    /// What a kill would lose now.
    fn lost_if_killed_now(&self) -> u64 {
        reactor_json(self.dir(), &["status"])[0]["lost_if_killed_now"].as_u64().expect("a number")
    }

    pub fn until_answers(&self) {
        wait_until("the daemon answers", SOON, || self.run(&["status"]).0);
    }

    pub fn until_asked(&self, times: usize) {
        wait_until("the server is asked", SOON, || self.server.asked().len() >= times);
    }
}

/// Whoever publishes.
pub trait Says {
    /// That there is a new `user`; what went out.
    fn says(&mut self, user: &str) -> String;
}

impl Says for Publisher {
    fn says(&mut self, user: &str) -> String {
        self.publish("user.new", &json!({"user": user}))
    }
}

/// Our own publisher, signing.
pub struct Voice {
    socket: publish::Publisher,
    signer: Signer,
    said: u64,
}

impl Says for Voice {
    fn says(&mut self, user: &str) -> String {
        self.said += 1;
        let (id, msg) = (format!("{user}-{}", self.said), json!({"user": user}));
        let outgoing = outgoing(&id, &msg);
        let envelope = self.signer.envelope(&outgoing).expect("signed");
        self.socket.publish(outgoing.topic, &envelope).expect("published");
        String::from_utf8(envelope).expect("text")
    }
}

pub fn outgoing<'a>(id: &'a str, msg: &'a Value) -> Outgoing<'a> {
    const TOPIC: &str = "org.fedoraproject.dev.peer.user.new";
    Outgoing { topic: TOPIC, msg, i: 1, msg_id: id, timestamp_s: now().as_second(), username: "peer" }
}

#[test]
fn what_was_sent_while_the_daemon_was_dead_comes_once_in_order_and_before_what_is_newer() {
    let site = Site::new("away", "catch_up: { datagrepper: URL }");
    let mut publisher = site.publisher();
    let mut daemon = site.start();
    site.meet(&mut publisher);
    site.say(&mut publisher, "live");
    site.until_lines("lines", &["met", "live"]);
    daemon.kill_9();
    ["away-1", "away-2", "away-3"].iter().for_each(|user| site.say(&mut publisher, user));

    // Killed again, while it waits for the server.
    site.server.shut(true);
    let asked = site.server.asked().len();
    let mut daemon = site.start();
    site.until_asked(asked + 1);
    daemon.kill_9();

    let asked = site.server.asked().len();
    let _daemon = site.start();
    site.until_asked(asked + 1);
    site.say_until(&mut publisher, "newer", || site.lost_if_killed_now() > 0);
    assert_eq!(site.lines("lines"), ["met", "live"]);
    site.server.shut(false);
    site.until_lines("lines", &["met", "live", "away-1", "away-2", "away-3", "newer"]);

    let question = site.server.asked().pop().expect("a question");
    let of = |name: &str| question.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!((of("topic"), of("order")), (Some(&*format!("{PREFIX}.user.new")), Some("asc")));
    assert!(site.lines("gaps").is_empty());
    assert!(site.scratch.log().contains("caught up from"), "{}", site.scratch.log());
}

#[test]
fn what_a_lost_connection_missed_comes_when_it_is_back() {
    let site = Site::new("cut-off", "catch_up: { datagrepper: URL, overlap: 10s }");
    let mut publisher = site.publisher();
    let _daemon = site.start();
    site.meet(&mut publisher);
    publisher.kill_9();
    wait_until("the connection is lost", SOON, || site.status()["disconnects"] == 1);
    site.lost("lost");
    let mut publisher = site.publisher();
    site.until_lines("lines", &["met", "lost"]);
    // It goes on as before.
    site.say(&mut publisher, "live");
    site.until_lines("lines", &["met", "lost", "live"]);
    assert_eq!(site.status()["catch_up"]["gaps_lacking"], 0);
}

#[test]
fn a_bus_that_is_silent_for_too_long_is_asked_about() {
    let site = Site::new("deaf", "catch_up: { datagrepper: URL }\n    silence: 3s");
    let mut publisher = site.publisher();
    let _daemon = site.start();
    site.meet(&mut publisher);
    site.lost("unheard");
    site.until_lines("lines", &["met", "unheard"]);
    wait_until("it is said", SOON, || site.run(&["status"]).1.contains("no message has come for"));
    site.lost("unheard-2");
    site.until_lines("lines", &["met", "unheard", "unheard-2"]);
    site.say_until(&mut publisher, "met", || !site.run(&["status"]).1.contains("no message has come"));
}
