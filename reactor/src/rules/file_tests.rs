//! The corpus in `testdata`: every broken file, and how its errors read. `UPDATE_GOLDEN=1 cargo test -p reactor` writes
//! the renderings anew; look at each as someone would who has to mend the file.

use std::fs;

use serde_json::json;

use super::*;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/testdata")
}

fn compare(name: &str, rendered: &str) -> Result<(), String> {
    let golden = testdata().join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, rendered).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    if expected == rendered { Ok(()) } else { Err(format!("{name}.txt should be:\n{rendered}\nbut is:\n{expected}")) }
}

#[test]
fn every_broken_file_reads_as_recorded() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(testdata()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let loaded = if path.is_dir() {
            read(std::slice::from_ref(&path))
        } else if path.extension().is_some_and(|ext| ext == "yaml") {
            read_str(&format!("{name}.yaml"), &fs::read_to_string(&path).unwrap(), Path::new("/site"))
        } else {
            continue;
        };
        seen += 1;
        let rendered = loaded.diagnostics.to_string().replace(&format!("{}/", testdata().display()), "");
        assert_eq!(loaded.site.is_none(), loaded.diagnostics.has_errors(), "{name}");
        wrong.extend(compare(&name, &rendered).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "the corpus is gone: {seen}");
}

/// The example of the design, without what needs files or built-in handlers.
const EXAMPLE: &str = r#"
version: 1
bus:
  fedora:
    fedmsg: [tcp://127.0.0.1:9940]
    topics: [org.fedoraproject.prod]
    trust:
      x509: { ca: /etc/pki/fedmsg/ca.crt, crl: crl.pem }
      policy:
        org.fedoraproject.prod.fas.**: [shell-fas01.example.org]
      unlisted: refuse
      unsigned: refuse
handlers:
  hosts: { exec: bin/hosts, args: [-v], env: { A: b }, secrets: { token: t, key: { file: /k, plan: true } }, at_once: 2 }
  mail-map: { exec: /etc/reactor/handlers/mail-alias, user: mail, config: { from: root, on: yes } }
  mirrors: { exec: /usr/bin/mirrors }
journal: { history: all, keep: 7d, messages: 5000 }
defaults:
  timeout: 1m
  retry: { times: 8, wait: 10s, up_to: 15m }
  guard: { changes: 20, deletes: 5 }
rules:
  - name: ssh key changed
    why: a withdrawn key must stop working within a minute
    on: org.fedoraproject.prod.fas.user.update
    where: { fields: ssh_key, user.age: [1, true, x] }
    unless: { user: root }
    when: msg.user != "x"
    key: "{{msg.user}}"
    do: hosts
    with: { user: "{{msg.user}}" }
    guard: { changes: 5 }
  - name: master tree synced
    on: org.fedoraproject.prod.bodhi.updates.*.sync
    key: "{{msg.path}}"
    coalesce: { quiet: 2m, at_most: 20m }
    do: mirrors
    with: { paths: "{{unique (pluck messages 'path')}}" }
    timeout: 30m
    mode: plan
  - name: drift
    on: { every: 6h }
    coalesce: 30s
    do: mail-map
    retry: { times: 0 }
  - name: more drift
    every: 1d
    do: mail-map
tests:
  - name: a new ssh key is set at once
    given: [ { topic: org.fedoraproject.prod.fas.user.update, msg: { user: ralph, fields: [ssh_key] } } ]
    expect: [ { at: 0s, rule: ssh key changed, key: ralph, with: { user: ralph } } ]
  - name: a steady stream cannot hold the mirrors back for ever
    given: [ { repeat: 30, after: 1m, topic: org.fedoraproject.prod.bodhi.updates.fedora.sync, msg: { path: pub/fedora } },
             { message: m.json, signer: s, plan: { changes: 9, deletes: 8 } } ]
    expect:
      - { at: 20m, rule: master tree synced, key: pub/fedora, messages: 21 }
      - { rule: master tree synced, held: true }
"#;

fn example() -> Site {
    load_str("rules.yaml", EXAMPLE, Path::new("/etc/reactor")).unwrap_or_else(|found| panic!("{found}"))
}

#[test]
fn the_example_says_what_it_says() {
    use std::time::Duration;
    let site = example();
    let bus = &site.buses["fedora"];
    assert_eq!((bus.fedmsg.as_slice(), bus.queue_messages_max), (&["tcp://127.0.0.1:9940".to_owned()][..], 10_000));
    let x509 = bus.trust.x509.as_ref().unwrap();
    assert_eq!(x509.crl.as_deref(), Some(Path::new("/etc/reactor/crl.pem")), "relative to the file");
    assert_eq!(bus.trust.policy["org.fedoraproject.prod.fas.**"], ["shell-fas01.example.org"]);
    assert!(!bus.trust.accept_unlisted && !bus.trust.accept_unsigned);
    assert_eq!((site.journal.history_all, site.journal.messages_max), (true, 5_000));
    assert_eq!(site.journal.keep, Duration::from_secs(7 * 86_400));
    let hosts = &site.handlers["hosts"];
    assert_eq!(hosts.program, crate::rules::site::Program::Exec("/etc/reactor/bin/hosts".into()));
    assert_eq!(
        (hosts.args.as_slice(), hosts.at_once, hosts.secrets["token"].in_plan),
        (&["-v".to_owned()][..], 2, false)
    );
    assert!(hosts.secrets["key"].in_plan && hosts.place.line == 14);
    assert_eq!(site.handlers["mail-map"].config["on"], "yes", "YAML 1.2: yes is a text");
}

#[test]
fn the_journal_may_be_on_a_server() {
    let journal = |words: &str| {
        let text = format!("version: 1\njournal: {{ postgresql: {{ name: r, user: u, {words} }} }}\n");
        load_str("rules.yaml", &text, Path::new("/etc/reactor"))
    };
    let server = |words: &str| journal(words).unwrap_or_else(|found| panic!("{found}")).journal.server.unwrap();
    let near = server("host: /run/postgresql");
    assert_eq!((near.port, near.tls, near.schema.as_str(), &near.password), (5432, false, "reactor", &None));
    let far = server("host: db.example.org, port: 5433, password: { file: secret }, ca: ca.pem, schema: site_2");
    assert_eq!((far.port, far.tls, far.schema.as_str()), (5433, true, "site_2"));
    assert_eq!(far.password.as_deref(), Some(Path::new("/etc/reactor/secret")));
    assert_eq!(far.ca.as_deref(), Some(Path::new("/etc/reactor/ca.pem")));
    for (words, said) in [
        ("port: 1", "`host`"),
        ("host: h, password: hunter2", "`password` must be"),
        ("host: 127.0.0.1, ca: ca.pem", "counts only with TLS"),
        ("host: h, schema: 'a; DROP'", "can't be the name of a schema"),
        ("host: h, schema: pg_a", "can't be the name of a schema"),
    ] {
        let found = journal(words).unwrap_err().to_string();
        assert!(found.contains(said) && !found.contains("unwrap"), "{words}: {found}");
    }
}

#[test]
fn a_rule_takes_from_the_defaults_what_it_does_not_say() {
    use crate::rules::site::{Coalesce, GuardLimits, Mode, On};
    use std::time::Duration;
    let site = example();
    let seconds = Duration::from_secs;
    let [key, tree, drift, more] = &site.rules[..] else { panic!("{:?}", site.rules) };
    assert_eq!(key.guard, GuardLimits { changes: 5, deletes: 5 });
    assert_eq!((key.timeout, key.retry.times, key.mode), (seconds(60), 8, Mode::Apply));
    assert_eq!(key.where_all[1].path, ["user", "age"]);
    assert_eq!(key.where_all[1].any_of.len(), 3);
    assert_eq!(tree.coalesce, Some(Coalesce { quiet: seconds(120), at_most: seconds(1_200) }));
    assert_eq!((tree.timeout, tree.mode), (seconds(1_800), Mode::Plan));
    assert_eq!(
        drift.coalesce,
        Some(Coalesce { quiet: seconds(30), at_most: seconds(300) }),
        "at most: ten times quiet"
    );
    assert_eq!((drift.retry.times, drift.retry.wait), (0, seconds(10)));
    assert!(
        matches!((&drift.on, &more.on), (On::Every(six), On::Every(day)) if *six == seconds(21_600) && *day == seconds(86_400))
    );
    assert_eq!(drift.key.as_ref().map(|key| key.source().to_owned()), None);
}

#[test]
fn the_tests_of_the_example_are_read() {
    use crate::rules::site::{GivenMessage, PlannedSize};
    let site = example();
    let steady = &site.tests[1];
    assert_eq!((steady.given[0].repeat, steady.given[0].after.as_secs()), (30, 60));
    assert!(matches!(&steady.given[1].message, GivenMessage::File(path) if path == Path::new("/etc/reactor/m.json")));
    assert_eq!(steady.given[1].plan, Some(PlannedSize { changes: 9, deletes: 8 }));
    assert_eq!((steady.expect[0].messages, steady.expect[0].at.map(|at| at.as_secs())), (Some(21), Some(1_200)));
    assert!(steady.expect[1].held && steady.expect[1].key.is_none());
}

#[test]
fn a_directory_is_merged_in_the_order_of_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("20-rules.yml", "version: 1\nrules:\n  - { name: two, on: a.b, do: h }\n");
    write(
        "10-base.yaml",
        "version: 1\ndefaults: { timeout: 5m }\nhandlers: { h: { exec: run } }\nrules:\n  - { name: one, on: a.b, do: h }\n",
    );
    write(".hidden.yaml", "broken: [");
    write("README.txt", "not yaml: [");
    let site = load(&[dir.path().to_owned()]).unwrap_or_else(|found| panic!("{found}"));
    let rules: Vec<(&str, u64)> = site.rules.iter().map(|rule| (&*rule.name, rule.timeout.as_secs())).collect();
    assert_eq!(rules, [("one", 300), ("two", 300)], "defaults hold for the whole site");
    assert_eq!(site.handlers["h"].program, crate::rules::site::Program::Exec(dir.path().join("run")));
    assert_eq!(site.rules[1].place.file, dir.path().join("20-rules.yml"));
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let text = load(&["/nowhere/rules.yaml".into()]).unwrap_err().to_string();
    assert!(text.contains("/nowhere/rules.yaml") && text.contains("No such file") && text.contains("hint: "), "{text}");
}

#[test]
fn a_file_of_five_megabytes_or_of_other_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rules.yaml");
    fs::write(&path, "version: 1\n".repeat(500_000)).unwrap();
    let text = load(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(text.contains("larger than 4 MiB"), "{text}");
    fs::write(&path, b"version: 1\n# caf\xe9\n").unwrap();
    let text = load(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert!(text.contains("line 2 is not UTF-8") && text.contains("iconv"), "{text}");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_no_errors() {
    let windows = format!("\u{feff}{}", EXAMPLE.trim_start().replace('\n', "\r\n"));
    let site = load_str("rules.yaml", &windows, Path::new("/site")).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(site.rules.len(), 4);
    assert_eq!((site.handlers["hosts"].place.line, site.handlers["hosts"].place.column), (13, 3));
}

#[test]
fn a_trust_block_is_read_with_and_without_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trust.yaml");
    let load = |text: &str| {
        fs::write(&path, text).unwrap();
        load_trust(&path)
    };
    let bare = load("x509: { ca: ca.crt }\ngpg: { keys: one.asc }\npolicy: { a.**: [b] }\nunlisted: accept\n").unwrap();
    assert_eq!(bare.x509.as_ref().unwrap().ca, dir.path().join("ca.crt"), "which need not be there");
    assert_eq!(bare.gpg_keys, Some(vec![dir.path().join("one.asc")]));
    assert!(bare.accept_unlisted && !bare.accept_unsigned);
    let wrapped =
        load("trust:\n  x509: { ca: ca.crt }\n  gpg: { keys: [one.asc] }\n  policy: { a.**: b }\n  unlisted: accept\n");
    assert_eq!(wrapped.unwrap(), bare);
    for (wrong, says) in [
        ("", "empty"),
        ("x509: {}\n", "needs `ca`"),
        ("trst: {}\n", "x509, gpg, policy"),
        ("bus: {}\n", "not a trust block"),
        ("unsigned: yes\n", "refuse or accept"),
    ] {
        let text = load(wrong).unwrap_err().to_string();
        assert!(text.contains(says), "{wrong}: {text}");
    }
}

#[test]
fn a_file_that_the_site_names_and_that_is_missing_is_a_warning() {
    let mut loaded = read_str("rules.yaml", EXAMPLE, Path::new("/nowhere"));
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics);
    loaded.warn_of_missing_files();
    let text = loaded.diagnostics.to_string();
    assert!(text.contains("/nowhere/crl.pem") && !loaded.diagnostics.has_errors(), "{text}");
}

#[test]
fn a_built_in_handler_keeps_every_other_word_as_its_own() {
    let text = "version: 1\nhandlers:\n  hosts: { use: ssh-keys, at_once: 3, hosts: [a, b], accounts: { file: x } }\n";
    let load = |built_in: &[&str]| {
        let mut found = Diagnostics::default();
        let source = Source::new(Path::new("r.yaml"), "/site".into(), text, &mut found);
        build(source.into_iter().collect(), vec!["r.yaml".into()], found, built_in)
    };
    let site = load(&["ssh-keys"]).into_result().unwrap_or_else(|found| panic!("{found}"));
    let hosts = &site.handlers["hosts"];
    assert_eq!(hosts.at_once, 3);
    assert_eq!(serde_json::to_string(&hosts.config).unwrap(), r#"{"hosts":["a","b"],"accounts":{"file":"x"}}"#);
    let text = load(&["ssh-key", "mirror-db"]).diagnostics.to_string();
    assert!(text.contains("did you mean `ssh-key`?"), "{text}");
}

#[test]
fn a_text_in_a_built_in_handlers_settings_that_begins_with_a_dot_and_a_slash_is_a_path_beside_the_file() {
    let text = "version: 1\nhandlers:\n  hosts:\n    use: ssh-keys\n    accounts: { yaml: ./a.yaml, other: a/b }\n    \
                hosts: { groups: { web: { keys: ./keys.d/%u, hosts: [./x, ../y, .z] } } }\n    block: ./\n  \
                own: { exec: ./own, config: { file: ./stays } }\n";
    let site = load_str("rules.yaml", text, Path::new("/site")).unwrap_or_else(|found| panic!("{found}"));
    let settings = serde_json::to_value(&site.handlers["hosts"].config).unwrap();
    assert_eq!(settings["accounts"], json!({"yaml": "/site/a.yaml", "other": "a/b"}));
    assert_eq!(
        settings["hosts"]["groups"]["web"],
        json!({"keys": "/site/keys.d/%u", "hosts": ["/site/x", "../y", ".z"]})
    );
    assert_eq!(site.handlers["own"].config["file"], json!("./stays"), "a program's `config` is handed over as it is");
}

#[test]
fn a_bomb_of_aliases_is_refused_before_it_takes_room() {
    let wide = format!("version: 1\na: &a [{}]\nb: [{}]\n", "x, ".repeat(5_000), "*a, ".repeat(5_000));
    let long: String = (0..2_000).map(|n| format!("k{n}: &k{n} [*k{}]\n", if n == 0 { 0 } else { n - 1 })).collect();
    let long = format!("version: 1\nk: &k0 [x]\n{}", &long[long.find('\n').unwrap() + 1..]);
    for (bomb, says) in [(wide, "500000 values"), (long, "inside each other")] {
        let text = read_str("r.yaml", &bomb, Path::new("/")).diagnostics.to_string();
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_thousand_errors_are_counted_and_the_first_are_shown() {
    let text: String = (0..1_000).map(|n| format!("wrong{n}: 1\n")).collect();
    let found = read_str("r.yaml", &text, Path::new("/")).diagnostics.to_string();
    assert!(found.contains("… and 801 more\n1001 errors\n"), "{}", &found[found.len() - 200..]);
}

mod never_panics {
    use super::*;
    use proptest::prelude::*;

    fn look(text: &str) {
        let mut loaded = read_str("r.yaml", text, Path::new("/"));
        loaded.warn_of_missing_files();
        let rendered = loaded.diagnostics.render(true) + &loaded.diagnostics.to_json();
        assert!(loaded.site.is_some() || !rendered.is_empty(), "neither a site nor an error: {text:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn on_any_text(text in "\\PC{0,200}") {
            look(&text);
        }

        #[test]
        fn on_anything_that_yaml_is_made_of(text in "[-:?,\\[\\]{}#&*!|>'\"%@`~<\\\\ \t\n\ra0é.]{0,60}") {
            look(&format!("version: 1\nrules:\n  - name: {text}\n    key: \"{text}\n"));
            look(&text);
        }

        #[test]
        fn on_the_example_with_parts_moved_about(cuts in prop::collection::vec((0usize..3_000, 0usize..3_000, 0usize..40), 1..4)) {
            let mut text: Vec<char> = EXAMPLE.chars().collect();
            for (from, to, len) in cuts {
                let (from, to) = (from % text.len(), to % text.len());
                let piece: Vec<char> = text[from..(from + len).min(text.len())].to_vec();
                if len % 2 == 0 {
                    text.splice(to..to, piece);
                } else {
                    text.splice(to..(to + piece.len()).min(text.len()), piece);
                }
            }
            look(&text.into_iter().collect::<String>());
        }

        #[test]
        fn on_the_example_with_a_value_of_another_kind(at in 0usize..200, other in 0usize..8) {
            let other = ["5", "[]", "{}", "~", "\"\"", "[[x]]", "{ a: { b: c } }", "'{{'"][other];
            let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
            let at = at % lines.len();
            if let Some(colon) = lines[at].find(": ") {
                lines[at].truncate(colon + 2);
                lines[at].push_str(other);
            }
            look(&lines.join("\n"));
        }
    }
}

#[test]
fn a_broker_is_read_as_its_words_say() {
    use crate::bus::amqp::config::{Amqp, Settings};
    let text = r##"
version: 1
bus:
  fedora:
    amqp:
      amqp_url: amqps://reactor@broker.example.org/%2Fpubsub
      password: { file: password }
      tls: { ca_cert: ca.pem }
      queues: { reactor: { durable: true, auto_delete: false, exclusive: false, arguments: { x-max-length: 5 } } }
      bindings: [ { exchange: amq.topic, routing_keys: "org.fedoraproject.#" } ]
      qos: { prefetch_count: 50 }
      topic_prefix: org.example
      client_properties: { app: reactor of example.org }
    silence: 10m
    trust: { broker: accept, policy: { org.fedoraproject.**: [broker] } }
  outer:
    amqp: { config: /etc/fedora-messaging/config.toml }
"##;
    let site = read_str("amqp.yaml", text, Path::new("/site")).site.expect("a site");
    let (fedora, outer) = (&site.buses["fedora"], &site.buses["outer"]);
    assert!(fedora.listens() && !outer.listens(), "a broker that is not believed is not read");
    let bus = fedora.amqp.as_ref().expect("a broker");
    assert_eq!(bus.password.as_deref(), Some(Path::new("/site/password")));
    assert_eq!((fedora.silence.map(|silence| silence.as_secs()), outer.silence), (Some(600), None));
    let Settings::Words(amqp) = &bus.settings else { panic!("{bus:?}") };
    let Amqp { queues, bindings, prefetch_messages, topic_prefix, client_properties, .. } = &**amqp;
    assert_eq!(amqp.url.to_string(), "amqps://broker.example.org:5671, vhost /pubsub");
    assert_eq!(amqp.tls.ca_cert.as_deref(), Some(Path::new("/site/ca.pem")));
    assert!(queues["reactor"].durable && queues["reactor"].arguments["x-max-length"] == json!(5));
    assert_eq!((bindings[0].routing_keys[0].as_str(), *prefetch_messages), ("org.fedoraproject.#", 50));
    assert_eq!((topic_prefix.as_str(), client_properties["app"].as_str()), ("org.example", "reactor of example.org"));
    let file = Settings::File("/etc/fedora-messaging/config.toml".into());
    assert_eq!(outer.amqp.as_ref().expect("a broker").settings, file);
}
