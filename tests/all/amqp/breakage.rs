//! What a broker does to a daemon in its life. It has one of its own, because the others would suffer.

use std::process::Stdio;

use reactor_tests::daemon::reactor;
use reactor_tests::process::Child;
use reactor_tests::rabbitmq::RabbitMq;
use reactor_tests::{Scratch, wait_until};
use rusqlite::Connection;
use serde_json::json;

use super::site::{LONG, Site, until_empty};

const QUEUE: &str = "breakage";

/// Publishes a user, as a person would.
fn publish(site: &Site, user: &str) {
    let body = json!({"user": user}).to_string();
    let (fine, said) = site.say(&["publish", "--bus", "ours", "--site", "rules.yaml", "user", &body]);
    assert!(fine, "{said}");
}

#[test]
fn whatever_the_broker_does_nothing_is_lost_and_nothing_done_twice() {
    // The others run beside this one, perhaps one after the other: theirs is not to end between them.
    let _theirs = RabbitMq::shared();
    let scratch = Scratch::new("amqp-broker");
    let mut broker = RabbitMq::start(scratch.path());
    let mut site = Site::new(QUEUE, broker.amqp(), "");
    site.start();
    publish(&site, "one");
    site.until_applied(&["one"]);

    broker.close_connections();
    site.until("the cut is noticed", |bus| bus["disconnects"] == 1);
    publish(&site, "two");
    site.until_applied(&["one", "two"]);

    broker.delete_queue(QUEUE);
    site.until("the end of the queue is noticed, and it is declared again", |bus| bus["connects"] == 3);
    publish(&site, "three");
    site.until_applied(&["one", "three", "two"]);
    assert!(site.scratch.log().contains("its queue was deleted"), "{}", site.scratch.log());

    unacknowledged_for_too_long(&broker, &site);
    with_a_full_disk(&broker, &mut site);

    broker.kill_9();
    site.until("its end is noticed", |bus| bus["problems"].to_string().contains("the broker"));
    broker.resume();
    site.until_read();
    publish(&site, "after");
    site.until_applied(&["after", "four", "full", "one", "room", "three", "two"]);
    until_empty(&broker, QUEUE);
    broker.stop();
    wait_until("it says goodbye", LONG, || site.scratch.log().contains("320 CONNECTION_FORCED"));
    site.stop();
}

/// While the journal can't be written nothing is acknowledged, and the broker takes the channel away.
fn unacknowledged_for_too_long(broker: &RabbitMq, site: &Site) {
    broker.consumer_timeout(500);
    broker.close_connections();
    site.until("it is connected anew", |bus| bus["connects"] == 4);
    let journal = Connection::open(site.dir().join("state/journal.db")).expect("the journal");
    journal.busy_timeout(LONG).expect("an option");
    journal.execute_batch("BEGIN IMMEDIATE").expect("the journal's lock");
    publish(site, "four");
    wait_until("the broker takes the delivery back", LONG, || {
        broker.log().contains("delivery acknowledgement on channel 1")
    });
    drop(journal);
    site.until_applied(&["four", "one", "three", "two"]);
    site.until("it is connected anew", |bus| bus["connects"].as_u64() >= Some(5));
    assert!(site.scratch.log().contains("consumer_timeout"), "{}", site.scratch.log());
    broker.consumer_timeout(1_800_000);
}

/// A broker in need takes nothing, and gives what it has.
fn with_a_full_disk(broker: &RabbitMq, site: &mut Site) {
    site.stop();
    publish(site, "full");
    broker.disk_alarm(true);
    site.start();
    site.until_applied(&["four", "full", "one", "three", "two"]);
    let mut blocked = reactor(site.dir());
    blocked.args(["publish", "--bus", "ours", "--site", "rules.yaml", "user", "{\"user\": \"room\"}"]);
    let log = std::fs::File::create(site.dir().join("blocked")).expect("its log");
    blocked.stdin(Stdio::null()).stdout(log.try_clone().expect("its log")).stderr(log);
    let mut blocked = Child::start(&mut blocked);
    let said = || std::fs::read_to_string(site.dir().join("blocked")).unwrap_or_default();
    wait_until("it says why it waits", LONG, || said().contains("takes no messages now: low on disk"));
    broker.disk_alarm(false);
    if !blocked.wait(LONG).is_some_and(|status| status.success()) {
        // On a busy machine rabbitmqctl alone takes longer than it waits.
        assert!(said().contains("no answer within 30 s"), "{}", said());
        publish(site, "room");
    }
    site.until_applied(&["four", "full", "one", "room", "three", "two"]);
}
