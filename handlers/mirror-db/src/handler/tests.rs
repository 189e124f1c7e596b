//! What the parts do together is tested with the built program (`tests/all/mirror_db.rs`); here is what needs no mirror.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::rows::Rows;

fn words() -> Map<String, Value> {
    let words = json!({
        "database": {"sqlite": "/x/mirrors.db"}, "root": "/srv/mirror", "prefixes": [],
        "categories": {"Fedora EPEL": {"path": "pub/epel"}, "Fedora Linux": {"path": "pub/fedora/linux"}},
        "directories": [
            {"repo": "epel", "directories": ["pub/epel/{release}"]},
            {"repo": "cloud", "directories": []},
            {"repo": "both", "directories": ["pub/epel/{release}", "pub/fedora/linux/{release}"]},
        ],
    });
    words.as_object().unwrap().clone()
}

fn scope(with: Value) -> Result<Scope, Failure> {
    Scope::read(&Config::read(&words()).unwrap(), with.as_object().unwrap())
}

fn below(names: &[&str]) -> Part {
    Part::Below(names.iter().map(ToString::to_string).collect())
}

#[test]
fn parameters_say_which_parts_of_which_categories() {
    let of = |with: Value| scope(with).unwrap().parts;
    let epel = |part: Part| BTreeMap::from([("Fedora EPEL".to_owned(), part)]);
    let linux = ("Fedora Linux".to_owned(), below(&["pub/fedora/linux/9"]));
    assert_eq!(of(json!({})).values().collect::<Vec<_>>(), [&Part::Whole, &Part::Whole]);
    assert_eq!(of(json!({"directories": null, "repo": null})).len(), 2);
    assert_eq!(of(json!({"category": "Fedora EPEL"})), epel(Part::Whole));
    assert_eq!(of(json!({"repo": "epel", "release": "10.1"})), epel(below(&["pub/epel/10.1"])));
    let named = of(json!({"directories": ["/pub/epel/9/", "pub/epel/9/Everything", "pub/epel/90", "pub/epel/10/x"]}));
    assert_eq!(named, epel(below(&["pub/epel/10/x", "pub/epel/9", "pub/epel/90"])), "none below another");
    assert_eq!(of(json!({"directories": ["pub/epel/9", "pub/epel"]})), epel(Part::Whole));
    let mut both = epel(below(&["pub/epel/9"]));
    both.extend([linux]);
    assert_eq!(of(json!({"repo": "both", "release": "9"})), both);
    for none in [json!({"directories": []}), json!({"repo": "cloud", "release": "28"})] {
        let scope = scope(none.clone()).unwrap();
        assert!(scope.parts.is_empty() && scope.notes.len() == 1, "{none}: an empty list is nothing, not everything");
    }
}

#[test]
fn what_can_not_be_meant_fails_and_says_what_there_is() {
    let many: Vec<String> = (0..=scope::DIRECTORIES_MAX).map(|n| format!("pub/epel/{n}")).collect();
    let deep = format!("pub/epel/{}", "x/".repeat(scope::PARTS_MAX));
    for (with, said) in [
        (json!({"directories": ["srv/www"]}), "Fedora EPEL (pub/epel), Fedora Linux (pub/fedora/linux)"),
        (json!({"directories": ["pub"]}), "none of the categories"),
        (json!({"directories": ["pub/epel/../../etc"]}), "not the name of a directory"),
        (json!({"directories": ["pub/epel//9"]}), "not the name of a directory"),
        (json!({"directories": [""]}), "not the name of a directory"),
        (json!({"directories": [deep]}), "not the name of a directory"),
        (json!({"directories": many}), "at most 1000"),
        (json!({"repo": "epel"}), "only together"),
        (json!({"release": "9"}), "only together"),
        (json!({"repo": "epel", "release": "../9"}), "the release"),
        (json!({"repo": "eple", "release": "9"}), "no line for repo eple"),
        (json!({"category": "Fedora Lnux"}), "did you mean `Fedora Linux`?"),
        (json!({"category": "Fedora Linux", "directories": ["pub/epel/9"]}), "is in the category Fedora EPEL"),
    ] {
        let failure = scope(with.clone()).unwrap_err();
        let all = format!("{failure} | {}", failure.hint().unwrap_or_default());
        assert!(all.contains(said), "{with}: {all}");
        assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
    }
}

#[test]
fn the_newest_message_counts_and_one_without_a_time_fails() {
    let message = |sent: &str| handler_api::MessageView {
        id: "1".into(),
        topic: "t".into(),
        sent: sent.into(),
        signer: "s".into(),
        body: json!({}),
    };
    assert_eq!(source::newest(&[]).unwrap(), None);
    let two = [message("2026-11-21T05:12:15Z"), message("2026-11-21T04:00:00Z")];
    assert_eq!(source::newest(&two).unwrap(), Some(1_795_237_935));
    assert!(source::newest(&[message("yesterday")]).is_err());
}

fn planned(digest: &str, is_whole: bool) -> Planned {
    let change: Change =
        serde_json::from_value(json!({"action": "create", "target": "directory x", "rows": digest})).unwrap();
    Planned { known: Arc::default(), rows: Rows::default(), digest: digest.into(), changes: vec![change], is_whole }
}

#[test]
fn a_plan_is_applied_only_if_it_is_the_one_that_was_seen() {
    let (a, b) = (planned("a", false), planned("b", false));
    let both: Vec<Change> = a.changes.iter().chain(&b.changes).cloned().collect();
    let mut bare = a.changes.clone();
    bare[0].more.clear();
    let all = [a, b];
    assert!(is_plan(&all, &both));
    assert!(!is_plan(&all[..1], &both), "a category has nothing to do any more");
    assert!(!is_plan(&all, &all[0].changes), "a category has something to do by now");
    assert!(!is_plan(&all[..1], &bare), "a change that says not what it stands for");
    assert!(!is_plan(&all, &[]) && is_plan(&[], &[]));
}

#[test]
fn plans_are_kept_until_they_are_applied_but_not_without_end() {
    let mut memory = Memory::default();
    for n in 0..=memory::PLANS_KEPT_MAX {
        memory.keep(&n.to_string(), vec![planned("x", false)]);
    }
    assert!(memory.take("0").is_none(), "the oldest was forgotten");
    assert!(memory.take("1").is_some() && memory.take("1").is_none(), "it is taken once");
    memory.keep("large", vec![planned("x", true)]);
    memory.keep("larger", vec![planned("x", true)]);
    assert!(memory.take("large").is_none() && memory.take("larger").is_some(), "one of the large ones at a time");
    memory.keep("2", Vec::new());
    assert!(memory.take("2").is_none(), "planned again, there is nothing to do");
}

#[tokio::test]
async fn the_connection_outlives_a_new_prefix_and_the_site_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prefixes.yaml");
    let put = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    put(&file, "[]");
    let mut words = words();
    let handler = MirrorDb::new();
    let plain = handler.site(&words).await.unwrap();
    assert!(Arc::ptr_eq(&plain, &handler.site(&words).await.unwrap()));
    words.insert("prefixes".into(), json!(file));
    let before = handler.site(&words).await.unwrap();
    put(&file, "- { path: '^pub/epel/', prefix: 'epel-{version}' }");
    let after = handler.site(&words).await.unwrap();
    assert_eq!((before.config.reading.prefixes.len(), after.config.reading.prefixes.len()), (0, 1));
    assert!(Arc::ptr_eq(&before.store, &after.store));
    words.insert("database".into(), json!({"sqlite": "/x/other.db"}));
    assert!(!Arc::ptr_eq(&after.store, &handler.site(&words).await.unwrap().store));
}
