//! What a commit says of its cause, and whom the messages speak of. Pure.

use std::collections::BTreeSet;

use handler_api::{Action, Change, Request};
use serde_json::Value;

use crate::admin::is_unfit;

/// Messages that a commit names; further ones are counted.
pub const MESSAGES_NAMED_MAX: usize = 20;
/// Changes that a commit names; further ones are counted.
pub const CHANGES_NAMED_MAX: usize = 20;
/// Longest text of a message that a commit quotes, in characters.
pub const QUOTED_CHARS_MAX: usize = 200;
/// Most names that are taken out of all messages.
pub const NAMES_TOLD_MAX: usize = 100_000;
/// How pkgdb marks a group among users.
const GROUP_MARK: &str = "group::";
/// Last parts of the words under which a message says to whom something was done: `user`, `new_user`, `removed_groups`.
const WHOM: [&str; 6] = ["user", "users", "username", "group", "groups", "member"];
/// Under which of its words somebody is called by name: `user: {username: ralph}`.
const CALLED: [&str; 3] = ["username", "name", "fas_name"];
/// FreeIPA's journal has what was done as JSON in a text.
const TEXT_OF_JSON: &str = "IPA_API_PARAMS";

/// The commit's message: what, by which rule, and the messages and signers that led to it.
pub(super) fn message(request: &Request, changes: &[Change]) -> String {
    let said = |change: &Change| {
        let verb = match change.action {
            Action::Create => "give",
            Action::Update => "change",
            Action::Delete => "take",
            Action::Run => "run",
        };
        format!("{verb} {}", line(&change.target))
    };
    let mut text = match changes {
        [] => "nothing".to_owned(),
        [one] => said(one),
        [first, rest @ ..] => format!("{} and {} more", said(first), rest.len()),
    };
    text.push('\n');
    if changes.len() > 1 {
        text.push('\n');
        for change in changes.iter().take(CHANGES_NAMED_MAX) {
            text.push_str(&format!("{}\n", said(change)));
        }
        more(&mut text, changes.len(), CHANGES_NAMED_MAX);
    }
    text.push_str(&format!("\nRule: {}\n", line(&request.rule)));
    for message in request.messages.iter().take(MESSAGES_NAMED_MAX) {
        let (id, topic, signer) = (line(&message.id), line(&message.topic), line(&message.signer));
        text.push_str(&format!("Message: {id} {topic}, sent {}, signed by {signer}\n", line(&message.sent)));
    }
    more(&mut text, request.messages.len(), MESSAGES_NAMED_MAX);
    if request.messages.is_empty() {
        text.push_str("Message: none; found by reconcile\n");
    }
    text.push_str(&format!("Reactor: {}\n", line(&request.reaction)));
    text
}

fn more(text: &mut String, all: usize, named: usize) {
    if all > named {
        text.push_str(&format!("… and {} more\n", all - named));
    }
}

/// Somebody else's text as part of one line: nothing that ends it, nothing that a terminal would act on or turn round.
fn line(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if is_unfit(c) { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Whom the messages speak of, as names: what stands under a word for whom something was done to (`removed_user`,
/// `new_group`, `acl: {fas_name}`), and whom the rule took out of them (`with: {user, group}`).
///
/// Not who did it (`agent`), no free text, and nothing that only describes how things stood when the message was sent
/// (`project: {access_users}`, `group: {members}`): there everybody is named, also whoever a wrong truth would take out.
pub(super) fn told(request: &Request) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for message in &request.messages {
        speaks_of(&message.body, &mut names);
    }
    // What a rule says without any message (`every`) was told by nobody.
    if !request.messages.is_empty() {
        let params = ["user", "group"].into_iter().filter_map(|word| request.with.get(word));
        params.for_each(|name| add(name, &mut names));
    }
    names
}

fn speaks_of(body: &Value, names: &mut BTreeSet<String>) {
    for (word, value) in body.as_object().into_iter().flatten() {
        match (word.as_str(), value) {
            ("msg", inner) => speaks_of(inner, names),
            (TEXT_OF_JSON, Value::String(text)) => {
                if let Ok(params) = serde_json::from_str(text) {
                    speaks_of(&params, names);
                }
            }
            ("acl", Value::Object(_)) => add(value, names),
            (word, _) if WHOM.contains(&word.rsplit('_').next().unwrap_or_default()) => add(value, names),
            _ => {}
        }
    }
}

/// A name, a list of names, or what is called so.
fn add(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if names.len() < NAMES_TOLD_MAX => {
            names.insert(text.strip_prefix(GROUP_MARK).unwrap_or(text).to_owned());
        }
        Value::Array(list) => list.iter().for_each(|value| add(value, names)),
        Value::Object(map) => CALLED.iter().filter_map(|word| map.get(*word)).for_each(|value| add(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request() -> Request {
        serde_json::from_value(json!({
            "reactor": 1, "reaction": "01R", "rule": "package ACL changed", "key": "rpms/foo", "attempt": 1, "with": {},
            "messages": [{
                "id": "2026-1", "topic": "org.example.prod.pkgdb.acl.update", "sent": "2026-11-21T10:00:00Z",
                "signer": "pkgdb.example.org\nReactor: \u{202e}forged",
                "body": {"username": "alice", "acl": {"fas_name": "group::perl-sig", "acl": "commit"}},
            }],
        }))
        .unwrap()
    }

    fn change(target: &str) -> Change {
        serde_json::from_value(json!({"action": "create", "target": target})).unwrap()
    }

    #[test]
    fn a_commit_names_its_rule_its_messages_and_their_signers() {
        let text = message(&request(), &[change("rpms/foo: commit: alice")]);
        assert_eq!(
            text,
            "give rpms/foo: commit: alice\n\nRule: package ACL changed\nMessage: 2026-1 org.example.prod.pkgdb.acl.update, \
             sent 2026-11-21T10:00:00Z, signed by pkgdb.example.org Reactor:  forged\nReactor: 01R\n"
        );
    }

    #[test]
    fn a_large_commit_counts_what_it_does_not_name() {
        let changes: Vec<Change> = (0..30).map(|n| change(&format!("rpms/p{n}: commit: alice"))).collect();
        let text = message(&request(), &changes);
        assert!(text.starts_with("give rpms/p0: commit: alice and 29 more\n\n"), "{text}");
        assert!(text.contains("\n… and 10 more\n"), "{text}");
    }

    fn told_of(body: &Value, with: &Value) -> Vec<String> {
        let message = json!({"id": "1", "topic": "t", "sent": "2026-11-21T10:00:00Z", "signer": "s", "body": body});
        let request = json!({
            "reactor": 1, "reaction": "01R", "rule": "r", "key": "k", "attempt": 1, "with": with,
            "messages": if body.is_null() { json!([]) } else { json!([message]) },
        });
        told(&serde_json::from_value(request).unwrap()).into_iter().collect()
    }

    #[test]
    fn whom_the_messages_speak_of_is_found_in_every_shape() {
        for (body, names) in [
            (json!({"username": "alice", "acl": "commit", "agent": "limb"}), vec!["alice"]),
            (json!({"acl": {"acl": "commit", "fas_name": "group::perl-sig"}}), vec!["perl-sig"]),
            (json!({"new_user": "alice", "new_access": "commit", "branches": null}), vec!["alice"]),
            (json!({"removed_groups": ["a", "b"], "agent": "limb"}), vec!["a", "b"]),
            (
                json!({"group": {"name": "g"}, "user": {"username": "ralph"}, "agent": {"username": "t"}}),
                vec!["g", "ralph"],
            ),
            (json!({"msg": {"agent": "dude", "user": "ralph", "group": "g"}}), vec!["g", "ralph"]),
            (json!({"IPA_API_PARAMS": r#"{"cn": "g", "user": ["a", "b"]}"#, "_COMM": "httpd"}), vec!["a", "b"]),
        ] {
            assert_eq!(told_of(&body, &json!({})), names, "{body}");
        }
    }

    #[test]
    fn who_only_stands_in_a_message_as_things_were_is_not_spoken_of() {
        let people = json!({"owner": ["alice"], "admin": ["bob"], "commit": ["carol"]});
        let project = json!({
            "fullname": "rpms/foo", "access_users": people, "access_groups": {"commit": ["perl-sig"]},
            "user": {"name": "alice"}, "parent": {"user": {"name": "dave"}},
        });
        let listing = json!({"point_of_contact": "alice", "acls": [{"fas_name": "bob", "acl": "commit"}]});
        for body in [
            json!({"agent": "alice", "project": project, "fields": ["alice"]}),
            json!({"agent": "alice", "repo": project, "authors": [{"name": "bob"}], "message": "carol"}),
            json!({"package_listing": listing, "comment": "alice", "agent": ["alice"]}),
            json!({"agent": "alice", "project": {"username": "bob", "removed_user": "carol"}}),
        ] {
            assert!(told_of(&body, &json!({})).is_empty(), "{body}");
        }
        let group =
            json!({"group": {"name": "g", "creator": {"name": "alice"}, "members": ["bob"], "description": "carol"}});
        assert_eq!(told_of(&group, &json!({})), ["g"]);
    }

    #[test]
    fn whom_the_rule_took_out_of_a_message_was_told_and_by_no_message_nobody_was() {
        let with = json!({"user": "alice", "group": "g", "repo": "rpms/foo"});
        assert_eq!(told_of(&json!({"odd": {"shape": "alice"}}), &with), ["alice", "g"]);
        assert!(told_of(&Value::Null, &with).is_empty());
    }
}
