use serde_json::json;

use super::*;

/// A good block with these words in place of its own; null takes one out.
fn block(more: &Value) -> Map<String, Value> {
    let block = json!({
        "database": {"sqlite": "/x/mirrors.db"},
        "root": "/srv/mirror",
        "categories": {"Fedora EPEL": {"path": "pub/epel"}, "Fedora Linux": {"path": "pub/fedora/linux"}},
        "prefixes": [],
    });
    let mut map = block.as_object().unwrap().clone();
    map.extend(more.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    map
}

fn read(more: &Value) -> Result<Config, Failure> {
    Config::read(&block(more))
}

#[test]
fn a_small_block_is_enough_and_means_what_umdl_means() {
    let config = read(&json!({})).unwrap();
    assert_eq!(config.database, Place::Sqlite("/x/mirrors.db".into()));
    let epel = &config.categories["Fedora EPEL"];
    assert!(epel.list.is_none() && config.old_list == OldList::Walk);
    for (name, out) in [
        ("pub/epel/.snapshot", true),
        ("pub/epel/9/.~tmp~", true),
        ("pub/epel/.~tmp~/x", true),
        ("pub/epel/9", false),
        ("pub/epel/snapshot", false),
    ] {
        assert_eq!(epel.excludes.is_match(name), out, "{name}");
    }
    assert_eq!(config.reading.no_repositories, ["Cloud", "Workstation", "Server"]);
    assert_eq!(config.reading.no_versions, ["pub/alt", "pub/archive"]);
    assert_eq!((config.reading.keep_days, config.list_takes.as_secs()), (4, 600));
}

#[test]
fn all_words_are_read() {
    let config = read(&json!({
        "database": {"postgresql": {"host": "db.example.org", "name": "mm2", "user": "reactor", "password": "mirror_db",
            "port": 5433, "ca": "/ca.pem", "timeout": "5m"}},
        "categories": {
            "Fedora EPEL": {"path": "/pub/epel/", "list": "pub/epel/fullfiletimelist-epel", "excludes": ["pub/epel/stage"]},
            "Fedora Linux": {"path": "pub/fedora/linux", "list": "/lists/fedora", "list_base": "pub/fedora"},
        },
        "prefixes": [{"path": "^pub/epel/(?<t>testing/)?", "prefix": "{t}{1}epel-{kind}{version}"}, {"path": "."}],
        "no_repositories": ["Cloud"], "no_versions": ["pub/alt/"], "keep_details": "7d", "old_list": "wait", "list_takes": "2m",
    }))
    .unwrap();
    let Place::Postgres(postgres) = &config.database else { panic!("{:?}", config.database) };
    assert!(postgres.tls && postgres.port == 5433 && postgres.timeout == Duration::from_secs(300));
    assert!(postgres.password.as_ref().unwrap().ends_with("mirror_db"));
    let (epel, linux) = (&config.categories["Fedora EPEL"], &config.categories["Fedora Linux"]);
    let list = List { path: "/srv/mirror/pub/epel/fullfiletimelist-epel".into(), base: "pub/epel".into() };
    assert_eq!((epel.top.as_str(), epel.list.as_ref()), ("pub/epel", Some(&list)));
    assert!(epel.excludes.is_match("pub/epel/stage/x") && !epel.excludes.is_match("x/pub/epel/stage"));
    assert_eq!(linux.list, Some(List { path: "/lists/fedora".into(), base: "pub/fedora".into() }));
    assert_eq!(config.reading.prefixes.len(), 2);
    assert!(config.reading.prefixes[1].prefix.is_none());
    assert_eq!((config.reading.no_versions[0].as_str(), config.reading.keep_days), ("pub/alt", 7));
    assert_eq!((config.old_list, config.list_takes.as_secs()), (OldList::Wait, 120));
    for (host, tls) in
        [("/run/postgresql", false), ("127.0.0.1", false), ("::1", false), ("localhost", false), ("db", true)]
    {
        let config = read(&json!({"database": {"postgresql": {"host": host, "name": "m", "user": "u"}}})).unwrap();
        assert!(matches!(config.database, Place::Postgres(place) if place.tls == tls), "{host}");
    }
}

/// Each must be refused for good, with these words.
fn refused(all: &[(Value, &str)]) {
    for (wrong, said) in all {
        let failure = read(wrong).unwrap_err();
        let all = format!("{failure} | {}", failure.hint().unwrap_or_default());
        assert!(all.contains(said), "{wrong}: {all}");
        assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
    }
}

#[test]
fn what_is_wrong_with_the_database_is_named_with_what_to_write() {
    let postgres = |words: Value| json!({"database": {"postgresql": words}});
    refused(&[
        (json!({"database": null}), "`database` is missing"),
        (json!({"database": {"sqlit": "/x"}}), "did you mean `sqlite`?"),
        (json!({"database": {}}), "neither sqlite nor postgresql"),
        (json!({"database": {"sqlite": "mirrors.db"}}), "`sqlite` is not an absolute path"),
        (postgres(json!({"host": "h", "name": "n", "user": "u", "pasword": "x"})), "did you mean `password`?"),
        (postgres(json!({"host": "h", "user": "u"})), "`name` is missing"),
        (
            postgres(json!({"host": "h", "name": "n", "user": "u", "password": "../x"})),
            "`password` is not the name of a secret",
        ),
        (postgres(json!({"host": "h", "name": "n", "user": "u", "tls": "yes"})), "`tls` is neither true nor false"),
        (postgres(json!({"host": "/run", "name": "n", "user": "u", "ca": "/ca"})), "`ca` counts only with"),
        (postgres(json!({"host": "h", "name": "n", "user": "u", "port": 0})), "`port` is not a whole number"),
    ]);
}

#[test]
fn what_is_wrong_is_named_with_what_to_write() {
    let category = |words: Value| json!({"categories": {"Fedora EPEL": words}});
    let line = |words: Value| json!({"directories": [words]});
    refused(&[
        (json!({"root": null}), "`root` is missing"),
        (json!({"root": "srv"}), "`root` is not an absolute path"),
        (json!({"rot": "/srv", "old_lst": "wait"}), "`rot`, `old_lst` are not words"),
        (json!({"rot": "/srv"}), "did you mean `root`?"),
        (json!({"categories": {}}), "`categories` is not a map"),
        (category(json!({"pth": "pub/epel"})), "category Fedora EPEL: `pth` is not a word"),
        (category(json!({})), "category Fedora EPEL: `path` is missing"),
        (category(json!({"path": "pub/../epel"})), "`path` is not the name of a directory"),
        (category(json!({"path": "/"})), "`path` is not the name of a directory"),
        (category(json!({"path": "pub/epel", "list_base": "pub"})), "there is no `list`"),
        (
            category(json!({"path": "pub/epel", "list": "l", "list_base": "pub/ep"})),
            "`list_base` is neither `path` nor above",
        ),
        (category(json!({"path": "pub/epel", "list": "../l"})), "`list` is not the name"),
        (
            category(json!({"path": "pub/epel", "excludes": ["a(b"]})),
            "`excludes` has an expression that is no regular expression (unclosed group)",
        ),
        (category(json!({"path": "pub/epel", "excludes": "a"})), "`excludes` is not a list"),
        (json!({"categories": {"A": {"path": "pub"}, "B": {"path": "pub/"}}}), "A and B have the same `path`"),
        (json!({"prefixes": null}), "`prefixes` is missing"),
        (json!({"prefixes": "p.yaml"}), "`prefixes` is not an absolute path"),
        (
            json!({"prefixes": [{"path": "(", "prefix": "x"}]}),
            "prefixes, line 1: `path` is no regular expression (unclosed group)",
        ),
        (
            json!({"prefixes": [{"path": "x"}, {"path": "x", "prefix": "a-{verson}"}]}),
            "prefixes, line 2: `prefix` has {verson}",
        ),
        (json!({"prefixes": [{"path": "x", "prefix": "a-{verson}"}]}), "did you mean {version}?"),
        (json!({"prefixes": [{"path": "(x)", "prefix": "{2}"}]}), "`prefix` has {2}"),
        (json!({"prefixes": [{"path": "x", "prefix": "{kind"}]}), "a brace without its other half"),
        (json!({"prefixes": [{"prefix": "x"}]}), "`path` is missing"),
        (json!({"keep_details": "36h"}), "`keep_details` is not a number of whole days"),
        (json!({"keep_details": 4}), "`keep_details` is not a duration"),
        (json!({"old_list": "ignore"}), "neither walk nor wait"),
        (
            line(json!({"repo": "epel", "release": "**", "directories": []})),
            "directories, line 1: `release` is not a word",
        ),
        (line(json!({"repo": "epel", "directories": ["pub/centos/{release}"]})), "in none of the categories"),
        (line(json!({"repo": "epel", "directories": ["pub/epel/{relase}"]})), "in braces that is not known"),
        (line(json!({"repo": "epel", "directories": ["pub/epel/../x"]})), "not the name of a directory"),
        (line(json!({"repo": "epel"})), "`directories` is missing"),
        (line(json!({"directories": []})), "`repo` is missing"),
        (line(json!({"repo": "x", "directory": []})), "did you mean `directories`?"),
    ]);
}

#[test]
fn the_first_line_of_the_table_that_fits_counts() {
    let config = read(&json!({"directories": [
        {"repo": "updates", "release": "*m", "directories": ["pub/fedora/linux/updates/{*}/Modular"]},
        {"repo": "updates", "release": "*", "directories": ["/pub/fedora/linux/updates/{release}"]},
        {"repo": "epel", "directories": ["pub/epel/{release}"]},
        {"repo": "epel-*", "release": "10.1", "directories": []},
    ]}))
    .unwrap();
    let found = |repo: &str, release: &str| {
        config.hints.directories(repo, release).map(|all| all.into_iter().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(found("updates", "29").unwrap(), "pub/fedora/linux/updates/29");
    assert_eq!(found("updates", "30m").unwrap(), "pub/fedora/linux/updates/30/Modular");
    assert_eq!(found("updates", "m").unwrap(), "pub/fedora/linux/updates/m", "a * stands for something");
    assert_eq!(found("epel", "10.1").unwrap(), "pub/epel/10.1");
    assert_eq!(found("epel-next", "10.1").unwrap(), "", "nothing of it is on the mirror");
    let failure = found("atomic", "21").unwrap_err();
    assert!(failure.message().contains("no line for repo atomic, release 21"), "{failure}");
    assert!(failure.hint().unwrap().contains("{ repo: atomic, release: \"*\""), "{failure:?}");
    for hostile in ["..", "", ".", "a/b", "../../etc", "-x", "{release}", "9\n", "9 ", "*", "ä", &"9".repeat(65)] {
        let failure = found("epel", hostile).unwrap_err();
        assert!(failure.message().contains("the release"), "{hostile}: {failure}");
        assert!(found(hostile, "9").is_err(), "{hostile}");
    }
}

#[test]
fn a_directory_is_in_the_category_with_the_longest_path() {
    let config = read(&json!({"categories": {"All": {"path": "pub"}, "Fedora EPEL": {"path": "pub/epel"}}})).unwrap();
    assert_eq!(config.category_of("pub/epel").unwrap(), "Fedora EPEL");
    assert_eq!(config.category_of("pub/epel/9").unwrap(), "Fedora EPEL");
    assert_eq!(config.category_of("pub/epel-old").unwrap(), "All");
    let failure = config.category_of("srv").unwrap_err();
    assert!(failure.hint().unwrap().contains("Fedora EPEL (pub/epel)"), "{failure:?}");
    let failure = config.category("Fedora EPLE").map(|_| ()).unwrap_err();
    assert!(failure.hint().unwrap().starts_with("did you mean `Fedora EPEL`?"), "{failure:?}");
}

#[test]
fn prefixes_may_stand_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prefixes.yaml");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Config::load(&block(&json!({"prefixes": file})))
    };
    let rules = "- { path: '^pub/epel/testing/', prefix: 'testing-{kind}epel{version}' }\n- { path: '^pub/epel/' }\n";
    assert_eq!(load(rules).unwrap().reading.prefixes.len(), 2);
    assert_eq!(load(&format!("prefixes:\n{rules}")).unwrap().reading.prefixes.len(), 2);
    for (text, said) in [
        ("- { path: '(', prefix: x }\n", "line 1: `path` is no regular expression"),
        ("- { pth: x }\n", "did you mean `path`?"),
        ("- { path: x\n", "prefixes.yaml"),
        ("prefixs: []\n", "did you mean `prefixes`?"),
        ("", "`prefixes` is neither"),
    ] {
        let failure = load(text).unwrap_err();
        let all = format!("{failure} | {}", failure.hint().unwrap_or_default());
        assert!(all.contains(said), "{text:?}: {all}");
    }
    std::fs::remove_file(&file).unwrap();
    let failure = Config::load(&block(&json!({"prefixes": file}))).unwrap_err();
    assert_eq!(failure.exit_code(), handler_api::exit::TRY_LATER, "it may come: {failure}");
}
