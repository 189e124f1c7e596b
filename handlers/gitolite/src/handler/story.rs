//! What a commit says of its cause, and whom the messages speak of. Pure.

use std::collections::BTreeSet;

use handler_api::{Action, Change, Request};
use serde_json::Value;

/// Messages that a commit names; further ones are counted.
pub const MESSAGES_NAMED_MAX: usize = 20;
/// Changes that a commit names; further ones are counted.
pub const CHANGES_NAMED_MAX: usize = 20;
/// Longest text of a message that a commit quotes, in characters.
pub const QUOTED_CHARS_MAX: usize = 200;
/// Most texts of all messages that are looked at for names.
pub const NAMES_TOLD_MAX: usize = 100_000;
/// How pkgdb marks a group among users.
const GROUP_MARK: &str = "group::";

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

/// Somebody else's text as part of one line: nothing that ends it, nothing that a terminal would act on.
fn line(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED_CHARS_MAX).collect();
    if text.chars().count() > QUOTED_CHARS_MAX {
        shown.push('…');
    }
    shown
}

/// Every text that stands anywhere in the messages, as a name: whom they speak of.
pub(super) fn told(request: &Request) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut left: Vec<&Value> = request.messages.iter().map(|message| &message.body).collect();
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) if names.len() < NAMES_TOLD_MAX => {
                let name = text.strip_prefix(GROUP_MARK).unwrap_or(text);
                names.insert(name.to_owned());
            }
            Value::Array(list) => left.extend(list),
            Value::Object(map) => left.extend(map.values()),
            _ => {}
        }
    }
    names
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
                "signer": "pkgdb.example.org\nReactor: forged",
                "body": {"username": "alice", "acl": {"who": ["group::perl-sig", 7]}},
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
             sent 2026-11-21T10:00:00Z, signed by pkgdb.example.org Reactor: forged\nReactor: 01R\n"
        );
    }

    #[test]
    fn a_large_commit_counts_what_it_does_not_name() {
        let changes: Vec<Change> = (0..30).map(|n| change(&format!("rpms/p{n}: commit: alice"))).collect();
        let text = message(&request(), &changes);
        assert!(text.starts_with("give rpms/p0: commit: alice and 29 more\n\n"), "{text}");
        assert!(text.contains("\n… and 10 more\n"), "{text}");
    }

    #[test]
    fn whom_the_messages_speak_of_is_found_at_any_depth() {
        let told = told(&request());
        assert!(told.contains("alice") && told.contains("perl-sig") && !told.contains("username"), "{told:?}");
    }
}
