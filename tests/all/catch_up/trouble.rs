//! What could not be had is said, and got by hand.

use reactor::trust::sign::unsigned_envelope;
use reactor_tests::datagrepper::Fault;
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
    let _daemon = site.start();
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

    // The command, first without --yes: it shows and does nothing.
    let command = told["open"][0]["command"].as_str().expect("a command").to_owned();
    assert!(status.contains(&command), "{status}");
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
    assert_eq!(site.status()["catch_up"]["open"], json!([]), "it is closed");
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
