//! What could not be had is said, and got by hand.

use reactor::trust::sign::unsigned_envelope;
use reactor_tests::datagrepper::Fault;
use reactor_tests::postgres::Postgres;
use reactor_tests::{daemon::reactor_json, wait_until};
use serde_json::json;

use super::daemon::{SOON, Site, Voice, outgoing};

/// A site that was read once, and stopped; `lost-1` was sent since.
fn missed_one(name: &str, more: &str) -> (Site, Voice) {
    let site = Site::new(name, more);
    let mut publisher = site.voice();
    let daemon = site.start();
    site.meet(&mut publisher);
    daemon.terminate();
    assert!(daemon.wait(SOON).is_some_and(|status| status.success()), "{}", site.scratch.log());
    site.lost("lost-1");
    (site, publisher)
}

#[test]
fn a_gap_that_stays_open_is_told_and_the_command_it_names_closes_it() {
    let (site, _publisher) = missed_one("gap", "catch_up: { datagrepper: URL }");
    site.server.fail([Fault::Status(404)]);
    let mut daemon = site.start();
    site.until_lines("gaps", &["b"]);
    let (_, status) = site.run(&["status"]);
    assert!(status.contains("may be missing (reactor was not there): http") && status.contains("HTTP 404"), "{status}");
    let told = site.status()["catch_up"].take();
    assert_eq!((&told["gaps_lacking"], &told["open"][0]["recovered"]), (&json!(1), &json!(false)));

    site.server.fail([Fault::Status(404)]);
    let (fine, text) = site.run(&["doctor"]);
    assert!(!fine && text.contains("FAIL bus b: http") && text.contains("HTTP 404"), "{text}");
    let (fine, text) = site.run(&["doctor"]);
    assert!(fine && text.contains("hands over what was missed"), "{text}");

    // It outlives the daemon; the next one, which is told nothing either, adds its own.
    daemon.kill_9();
    site.server.fail([Fault::Status(404)]);
    let _daemon = site.start();
    site.until_answers();
    wait_until("the next gap is told", SOON, || site.status()["catch_up"]["gaps_lacking"] == 1);
    let open = site.status()["catch_up"]["open"].take();
    assert_eq!(open[0]["from"], told["open"][0]["from"], "{open}");

    // The command, first without --yes: it shows and does nothing.
    let commands: Vec<&str> = open.as_array().expect("gaps").iter().filter_map(|gap| gap["command"].as_str()).collect();
    let (_, status) = site.run(&["status"]);
    assert!(commands.iter().all(|command| status.contains(command)), "{status}");
    let command = commands[0];
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    let dry = [&args[..], &["rules.yaml"]].concat();
    let (fine, text) = site.run(&dry);
    assert!(fine, "{text}");
    for wanted in ["lost-1", "1 new, 0 known already, 0 refused", "+ line lost-1", "nothing was done", "--yes"] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert_eq!(site.lines("lines"), ["met"]);
    let doing = [&args[..], &["--yes"]].concat();
    let (fine, text) = site.run(&doing);
    assert!(fine && text.contains("1 messages came, 1 of them are new"), "{text}");
    site.until_lines("lines", &["met", "lost-1"]);
    for command in &commands[1..] {
        let args: Vec<&str> = command.split(' ').skip(1).chain(["--yes"]).collect();
        assert!(site.run(&args).0, "{command}");
    }
    assert_eq!(site.status()["catch_up"]["open"], json!([]), "all are closed");
    let (fine, text) = site.run(&doing);
    assert!(fine && text.contains("1 messages came, 0 of them are new"), "{text}");
}

#[test]
fn what_nobody_signed_is_believed_only_where_the_site_says_so() {
    let (site, _publisher) = missed_one("unsigned", "catch_up: { datagrepper: URL }");
    let msg = json!({"user": "unsigned"});
    site.server.keep(&String::from_utf8(unsigned_envelope(&outgoing("u", &msg))).expect("text"));
    let _daemon = site.start();
    site.until_lines("lines", &["met", "lost-1"]);
    site.until_lines("gaps", &["b"]);
    let lacking = site.status()["catch_up"]["open"][0].take();
    let (why, hint) = (lacking["lacking"].as_str().unwrap_or(""), lacking["hint"].as_str().unwrap_or(""));
    assert!(why.contains("1 messages were refused") && hint.contains("believe: all"), "{lacking}");
    let by_hand = ["replay", "--bus", "b", "--from", "1h ago", "--yes"];
    let (fine, text) = site.run(&by_hand);
    assert!(!fine && text.contains("nobody signed them"), "{text}");

    site.write("catch_up: { datagrepper: URL, believe: all }");
    assert!(site.run(&["reload"]).0);
    let (fine, text) = site.run(&by_hand);
    assert!(fine, "{text}");
    site.until_lines("lines", &["met", "lost-1", "unsigned"]);
    let rows = reactor_json(site.dir(), &["list"]);
    let id = rows.iter().find(|row| row["with"]["line"] == "unsigned").map_or_else(|| &rows[0]["id"], |row| &row["id"]);
    let (_, story) = site.run(&["show", id.as_str().expect("an id")]);
    assert!(story.contains("signed by datagrepper"), "{story}");
}

#[test]
fn where_nobody_can_be_asked_the_gap_is_told_all_the_same() {
    let (site, _publisher) = missed_one("nobody", "");
    let _daemon = site.start();
    site.until_lines("gaps", &["b"]);
    let (_, status) = site.run(&["status"]);
    assert!(status.contains("the site names nobody to ask"), "{status}");
    let (fine, text) = site.run(&["replay", "--bus", "b", "--from", "1h ago", "--yes"]);
    assert!(!fine && text.contains("has nobody to ask") && text.contains("hint: "), "{text}");
    let (fine, text) = site.run(&["replay", "--bus", "c", "--from", "1h ago", "--yes"]);
    assert!(!fine && text.contains("reads no bus `c`; it reads: b"), "{text}");
    wait_until("it is in the log", SOON, || site.scratch.log().contains("may be missing"));
}

#[test]
fn what_is_refused_only_now_is_no_more_had_than_what_never_came() {
    let (site, _publisher) = missed_one("not-now", "catch_up: { datagrepper: URL }");
    let (crl, aside) = (site.pki.file("crl.pem"), site.pki.file("aside.pem"));
    std::fs::rename(&crl, &aside).expect("moved");
    let _daemon = site.start();
    site.until_lines("lines", &["met"]);
    wait_until("it is told", SOON, || {
        site.run(&["status"]).1.contains("messages were refused: the signature itself is good")
    });
    std::fs::rename(&aside, &crl).expect("moved back");
    let command = site.status()["catch_up"]["open"][0]["command"].take();
    let args: Vec<&str> = command.as_str().expect("a command").split(' ').skip(1).chain(["--yes"]).collect();
    wait_until("it is believed now", SOON, || site.run(&args).0);
    site.until_lines("lines", &["met", "lost-1"]);
    assert_eq!(site.status()["catch_up"]["open"], json!([]));
}

#[test]
fn topics_that_a_reload_changed_are_those_that_are_caught_up_with() {
    let catch_up = "catch_up: { datagrepper: URL }";
    let site = Site::new("topics", &format!("topics: [org.other.]\n    {catch_up}"));
    let _daemon = site.start();
    site.until_answers();
    site.lost("lost-1");
    let by_hand = ["replay", "--bus", "b", "--from", "1h ago", "--yes"];
    let (fine, text) = site.run(&by_hand);
    assert!(fine && text.contains("0 messages came"), "this bus could not have brought it: {text}");
    site.write(&format!("topics: [org.fedoraproject.]\n    {catch_up}"));
    assert!(site.run(&["reload"]).0);
    let (fine, text) = site.run(&by_hand);
    assert!(fine && text.contains("1 messages came, 1 of them are new"), "{text}");
    site.until_lines("lines", &["lost-1"]);
}

#[test]
fn on_postgresql_too_what_is_known_is_not_new() {
    let site = Site::new("new", "catch_up: { datagrepper: URL }");
    let server = Postgres::start(site.dir(), "");
    let journal = format!(
        "journal: {{ postgresql: {{ host: 127.0.0.1, port: {}, name: postgres, user: postgres }} }}\n",
        server.port()
    );
    let rules = site.dir().join("rules.yaml");
    let text = std::fs::read_to_string(&rules).expect("the site");
    std::fs::write(rules, text + &journal).expect("the site");
    let _daemon = site.start();
    site.until_answers();
    site.lost("lost-1");
    let by_hand = ["replay", "--bus", "b", "--from", "1h ago", "--yes"];
    for new in [1, 0] {
        let (fine, text) = site.run(&by_hand);
        assert!(fine && text.contains(&format!("1 messages came, {new} of them are new")), "{text}");
    }
    site.until_lines("lines", &["lost-1"]);
}

#[test]
fn what_a_publisher_sent_whose_clock_is_ahead_of_ours_is_had_too() {
    let (site, _publisher) = missed_one("ahead", "catch_up: { datagrepper: URL }");
    // Ours may be behind as well.
    site.lost_with_a_clock_ahead("ahead", 120);
    let _daemon = site.start();
    site.until_lines("lines", &["met", "lost-1", "ahead"]);
}
