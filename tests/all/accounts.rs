//! Where accounts come from, against the real servers: OpenLDAP with both schemas. FASJSON is in
//! `accounts_kerberos`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::accounts::{Account, Accounts, Members};
use handler_api::Failure;
use reactor_tests::Scratch;
use reactor_tests::kdc::Kdc;
use reactor_tests::process::command;
use reactor_tests::relay::Relay;
use reactor_tests::slapd::{BASE, PASSWORD, People, READER, Settings, Slapd};
use serde_json::{Value, json};

/// Says to a test that it is the inner one, and where its directory is.
const ALONE: &str = "REACTOR_TEST_ALONE";

pub(crate) const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q ralph@laptop";

/// Runs a test in a process of its own, with the environment that a handler gets: secrets, and Kerberos' configuration. A
/// process can't change its own.
pub(crate) fn alone<F: Future<Output = ()>>(test: &str, body: impl FnOnce(PathBuf) -> F) {
    if let Some(dir) = std::env::var_os(ALONE) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        return runtime.block_on(body(PathBuf::from(dir)));
    }
    let scratch = Scratch::new("accounts");
    let secrets = scratch.path().join("secrets");
    std::fs::create_dir(&secrets).expect("a directory");
    let mut again = command(std::env::current_exe().expect("this program"));
    again.args([test, "--exact", "--nocapture"]);
    again.env(ALONE, scratch.path()).env("REACTOR_SECRETS", &secrets).env("KRB5_CONFIG", Kdc::config(scratch.path()));
    secret(scratch.path(), "ldap-password", PASSWORD);
    let output = again.output().expect("it runs");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    eprint!("{out}");
    assert!(output.status.success() && out.contains("1 passed"), "{out}{error}");
}

/// Puts a secret where the handler finds it.
pub(crate) fn secret(dir: &Path, name: &str, text: impl AsRef<[u8]>) {
    use std::os::unix::fs::PermissionsExt;
    let file = dir.join("secrets").join(name);
    std::fs::write(&file, text).expect("a secret");
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).expect("its mode");
}

pub(crate) fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(crate) fn account(keys: &[&str], groups: &[&str]) -> Account {
    Account { keys: keys.iter().map(|key| (*key).to_owned()).collect(), groups: set(groups) }
}

pub(crate) fn hint(failure: &Failure) -> &str {
    failure.hint().unwrap_or_default()
}

/// The block for an LDAP server, bound as the reader, with more words.
fn ldap(url: &str, schema: &str, more: Value) -> Accounts {
    let bind = json!({"dn": READER, "password": "ldap-password"});
    let mut block = json!({"ldap": url, "base": BASE, "schema": schema, "bind": bind, "timeout": "20s"});
    for (word, value) in more.as_object().expect("a map") {
        block[word] = value.clone();
    }
    Accounts::open(&block).expect("a good block")
}

pub(crate) fn staff() -> People {
    People::new()
        .person("ralph", &[KEY, "ssh-rsa AAAA second"])
        .person("toshio", &[KEY])
        .person("kevin+test", &[KEY])
        .person("nokeys", &[])
        .person("nobody.else", &[KEY])
        .locked("pingou", &[KEY])
        .group("sysadmin-web", &["ralph", "kevin+test", "nokeys", "pingou"])
        .group("sysadmin-main", &["toshio"])
        .nested("sysadmin", &["nokeys"], &["sysadmin-main"])
        .nested("outer", &["ralph"], &["sysadmin"])
        .group("empty", &[])
}

/// `number` people, all in `packager`, one in ten in `sysadmin`.
pub(crate) fn crowd(number: usize) -> People {
    let names: Vec<String> = (0..number).map(|n| format!("user{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let people = names.iter().fold(People::new(), |people, name| people.person(name, &[&format!("{KEY}-{name}")]));
    let tenth: Vec<&str> = names.iter().copied().step_by(10).collect();
    people.group("packager", &names).group("sysadmin", &tenth)
}

pub(crate) fn is_the_crowd(members: &Members, number: usize) {
    assert_eq!(members.accounts.len(), number);
    for (n, (name, account)) in members.accounts.iter().enumerate() {
        assert_eq!((name, &account.keys), (&format!("user{n:05}"), &vec![format!("{KEY}-user{n:05}")]));
        assert_eq!(account.groups, if n % 10 == 0 { set(&["packager", "sysadmin"]) } else { set(&["packager"]) });
    }
    assert!(members.notes.is_empty(), "{:?}", members.notes);
}

#[test]
fn freeipas_tree_is_read_nested_groups_and_all() {
    alone("accounts::freeipas_tree_is_read_nested_groups_and_all", async |dir| {
        let slapd = Slapd::start(&dir, &staff(), Settings::default());
        let source = ldap(&slapd.url(), "freeipa", json!({}));
        let groups = set(&["sysadmin-web", "sysadmin", "outer"]);
        let user = async |name: &str| source.user(name, &groups).await;
        assert_eq!(user("ralph").await, Ok(Some(account(&[KEY, "ssh-rsa AAAA second"], &["sysadmin-web", "outer"]))));
        assert_eq!(user("toshio").await, Ok(Some(account(&[KEY], &["sysadmin", "outer"]))));
        assert_eq!(user("kevin+test").await, Ok(Some(account(&[KEY], &["sysadmin-web"]))));
        assert_eq!(user("nobody.else").await, Ok(Some(account(&[KEY], &[]))));
        assert_eq!(user("nokeys").await, Ok(Some(account(&[], &["sysadmin-web", "sysadmin", "outer"]))));
        assert_eq!(user("pingou").await, Ok(None), "locked");
        assert_eq!(user("who").await, Ok(None), "not there");
        assert!(user("Ralph").await.expect_err("another name").message().contains("as \"ralph\" only"));
        let members = source.members(&groups).await.expect("members");
        let names: Vec<&str> = members.accounts.keys().map(String::as_str).collect();
        assert_eq!(names, ["kevin+test", "nokeys", "ralph", "toshio"]);
        assert_eq!(members.accounts["toshio"], account(&[KEY], &["sysadmin", "outer"]));
        // What changes there is seen at once, over the same connection.
        slapd.set_locked("pingou", false);
        assert_eq!(user("pingou").await, Ok(Some(account(&[KEY], &["sysadmin-web"]))));
        slapd.leave("ralph", "sysadmin-web");
        slapd.join("toshio", "sysadmin-web");
        slapd.set_keys("ralph", &["ssh-ed25519 new"]);
        let members = source.members(&set(&["sysadmin-web", "outer"])).await.expect("members");
        assert_eq!(members.accounts["ralph"], account(&["ssh-ed25519 new"], &["outer"]));
        assert_eq!(members.accounts["toshio"].groups, set(&["sysadmin-web", "outer"]));
    });
}

#[test]
fn the_tree_of_openssh_lpk_is_read() {
    alone("accounts::the_tree_of_openssh_lpk_is_read", async |dir| {
        let slapd = Slapd::start(&dir, &staff(), Settings::default());
        let source = ldap(&slapd.url(), "openssh-lpk", json!({}));
        let groups = set(&["sysadmin-web", "sysadmin", "outer"]);
        assert_eq!(
            source.user("ralph", &groups).await,
            Ok(Some(account(&[KEY, "ssh-rsa AAAA second"], &["sysadmin-web", "outer"])))
        );
        assert_eq!(
            source.user("toshio", &groups).await,
            Ok(Some(account(&[KEY], &[]))),
            "groups in groups are not followed"
        );
        assert_eq!(source.user("who", &groups).await, Ok(None));
        slapd.modify(&format!(
            "dn: cn=by-dn,ou=Groups,{BASE}\nchangetype: add\nobjectClass: groupOfNames\ncn: by-dn\n\
             member: UID = Toshio,ou=people,{BASE}\n\n\
             dn: uid=toshio,ou=People,{BASE}\nchangetype: modify\nadd: objectClass\nobjectClass: simpleSecurityObject\n-\n\
             add: userPassword\nuserPassword: x\n"
        ));
        let groups = set(&["sysadmin-web", "by-dn"]);
        assert_eq!(source.user("toshio", &groups).await, Ok(Some(account(&[KEY], &["by-dn"]))));
        let members = source.members(&groups).await.expect("members");
        let names: Vec<&str> = members.accounts.keys().map(String::as_str).collect();
        assert_eq!(names, ["kevin+test", "nokeys", "pingou", "ralph", "toshio"]);
        assert_eq!(members.accounts["toshio"], account(&[KEY], &["by-dn"]));
        let ghost = |name: &str| {
            let dn = format!("cn=sysadmin-main,ou=Groups,{BASE}");
            slapd.modify(&format!("dn: {dn}\nchangetype: modify\nadd: memberUid\nmemberUid: {name}\n"));
        };
        ghost("ghost");
        let left = source.members(&set(&["sysadmin-main"])).await.expect("half of them are there");
        assert_eq!(left.notes, ["group sysadmin-main lists 1 of 2 people who are not there"]);
        ghost("ghoul");
        let failure = source.members(&set(&["sysadmin-main"])).await.expect_err("a hole");
        assert!(failure.message().contains("lists 3 people, and 2 of them were not found"), "{failure}");
        slapd.modify(&format!(
            "dn: cn=by-dn,ou=Groups,{BASE}\nchangetype: modify\nadd: member\nmember: cn=sysadmin-web,ou=Groups,{BASE}\n"
        ));
        let failure = source.members(&groups).await.expect_err("a group in a group");
        assert!(hint(&failure).contains("groups in groups are not followed"), "{failure}");
    });
}

#[test]
fn two_thousand_people_come_whole_in_pages_of_any_size() {
    alone("accounts::two_thousand_people_come_whole_in_pages_of_any_size", async |dir| {
        let slapd = Slapd::start(&dir, &crowd(2_000), Settings::default());
        for (schema, size) in
            [("freeipa", 500), ("freeipa", 37), ("freeipa", 2_000), ("openssh-lpk", 500), ("openssh-lpk", 7)]
        {
            let source = ldap(&slapd.url(), schema, json!({"page_size": size}));
            let began = Instant::now();
            let members = source.members(&set(&["packager", "sysadmin"])).await.expect("members");
            println!("{schema}, pages of {size}: 2,000 people in {:?}", began.elapsed());
            is_the_crowd(&members, 2_000);
            let began = Instant::now();
            for n in 0..100 {
                let found = source.user(&format!("user{n:05}"), &set(&["packager"])).await.expect("an answer");
                assert_eq!(found.expect("a person").groups, set(&["packager"]));
            }
            println!("{schema}: one person in {:?}", began.elapsed() / 100);
        }
    });
}

#[test]
fn an_answer_that_the_server_cuts_short_is_a_failure() {
    alone("accounts::an_answer_that_the_server_cuts_short_is_a_failure", async |dir| {
        let lines = format!("limits dn.exact=\"{READER}\" size=100");
        let slapd = Slapd::start(&dir, &crowd(150), Settings { lines, ..Settings::default() });
        for (schema, size) in [("freeipa", 500), ("freeipa", 40), ("openssh-lpk", 500)] {
            let source = ldap(&slapd.url(), schema, json!({"page_size": size}));
            match source.members(&set(&["packager"])).await {
                Err(failure) => {
                    assert!(failure.message().contains("sizeLimitExceeded"), "{schema}: {failure}");
                    assert!(hint(&failure).contains("have more"), "{failure}");
                }
                // openssh-lpk asks for a hundred at a time, which the limit allows.
                Ok(members) => assert_eq!((schema, members.accounts.len()), ("openssh-lpk", 150)),
            }
        }
    });
}

#[test]
fn what_the_asker_may_not_see_is_unknown_and_not_empty() {
    alone("accounts::what_the_asker_may_not_see_is_unknown_and_not_empty", async |dir| {
        let groups = set(&["sysadmin-web"]);
        let hidden = |what: &str| {
            format!(
                "access to attrs=userPassword by anonymous auth\naccess to {what} by * none\n\
                 access to * by * read\n"
            )
        };
        let cases = [
            ("freeipa", "attrs=ipaSshPubKey", "shows ipaSshPubKey"),
            ("freeipa", "attrs=memberof", "shows memberOf"),
            ("openssh-lpk", "attrs=sshPublicKey", "shows sshPublicKey"),
            ("openssh-lpk", "attrs=memberUid,member", "shows memberUid or member"),
            (
                "freeipa",
                "dn.subtree=\"cn=users,cn=accounts,dc=reactor,dc=test\" attrs=entry,uid,ipaSshPubKey,memberof",
                "",
            ),
            ("freeipa", "dn.subtree=\"cn=groups,cn=accounts,dc=reactor,dc=test\"", ""),
            ("freeipa", "dn.children=\"cn=groups,cn=accounts,dc=reactor,dc=test\"", "no group sysadmin-web"),
        ];
        for (n, (schema, what, expected)) in cases.into_iter().enumerate() {
            let dir = dir.join(n.to_string());
            std::fs::create_dir(&dir).expect("a directory");
            let slapd = Slapd::start(&dir, &staff(), Settings { access: hidden(what), ..Settings::default() });
            // Nobody binds here: anyone may read what is not hidden.
            let block = json!({"ldap": slapd.url(), "base": BASE, "schema": schema});
            let source = Accounts::open(&block).expect("a good block");
            let failure = source.user("ralph", &groups).await.expect_err(what);
            assert!(failure.message().contains(expected), "{what}: {failure}");
            let failure = source.user("who", &groups).await;
            assert!(failure.is_err() || expected.starts_with("no group"), "{what}: {failure:?}");
            let failure = source.members(&groups).await.expect_err(what);
            assert!(failure.message().contains(expected), "{what}: {failure}");
            assert!(!hint(&failure).is_empty(), "{what}");
        }
    });
}

#[test]
fn wrong_words_about_a_real_server_are_failures_that_say_so() {
    alone("accounts::wrong_words_about_a_real_server_are_failures_that_say_so", async |dir| {
        let slapd = Slapd::start(&dir, &staff(), Settings::default());
        secret(&dir, "wrong", "incorrect-horse\n");
        secret(&dir, "line", format!("{PASSWORD}\n"));
        secret(&dir, "nothing", "\n");
        let bind = |password: &str| json!({"bind": {"dn": READER, "password": password}});
        let asked = async |more: Value, groups: &[&str]| {
            let source = ldap(&slapd.url(), "freeipa", more);
            let user = source.user("who", &set(groups)).await;
            let members = source.members(&set(groups)).await;
            match (user, members) {
                (Err(_), Err(failure)) => Some(format!("{failure} {}", hint(&failure))),
                (Ok(None), Err(failure)) => Some(format!("members only: {failure}")),
                (Ok(None), Ok(_)) => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(asked(bind("line"), &["sysadmin-web"]).await, None, "a password in a file ends with its line");
        let cases = [
            (bind("wrong"), "invalidCredentials"),
            (bind("wrong"), "the secret `wrong`"),
            (bind("nothing"), "not empty"),
            (bind("absent"), "absent"),
            (json!({"base": "dc=elsewhere"}), "cn=users,cn=accounts,dc=elsewhere"),
            (json!({"base": "dc=reactor,dc=test", "users": "cn=people,dc=reactor,dc=test"}), "noSuchObject"),
            (json!({"groups": "cn=teams,cn=accounts,dc=reactor,dc=test"}), "noSuchObject"),
            (json!({"schema": "openssh-lpk", "users": format!("cn=users,cn=accounts,{BASE}")}), "sshPublicKey"),
        ];
        for (more, expected) in cases {
            let said = asked(more.clone(), &["sysadmin-web"]).await.unwrap_or_default();
            assert!(said.contains(expected), "{more}: {said}");
        }
        assert!(
            asked(json!({}), &["sysadmin-web", "sysadmin-nowhere"])
                .await
                .expect("a failure")
                .contains("no group sysadmin-nowhere")
        );
        // A group that is empty in the directory is not believed, unless the site says so.
        assert!(asked(json!({}), &["empty"]).await.is_some());
        assert_eq!(asked(json!({"empty_groups": ["empty"]}), &["empty"]).await, None);
    });
}

#[test]
fn a_second_entry_for_one_name_is_a_failure() {
    alone("accounts::a_second_entry_for_one_name_is_a_failure", async |dir| {
        let slapd = Slapd::start(&dir, &staff(), Settings::default());
        slapd.modify(&format!(
            "dn: cn=more,cn=users,cn=accounts,{BASE}\nchangetype: add\nobjectClass: organizationalRole\ncn: more\n\n\
             dn: uid=ralph,cn=more,cn=users,cn=accounts,{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\n\
             objectClass: fasUser\nuid: ralph\ncn: r\nsn: r\nmemberof: cn=sysadmin-web,cn=groups,cn=accounts,{BASE}\n"
        ));
        let source = ldap(&slapd.url(), "freeipa", json!({}));
        let groups = set(&["sysadmin-web"]);
        assert!(
            source.user("ralph", &groups).await.expect_err("two").message().contains("2 entries for the user ralph")
        );
        assert!(source.members(&groups).await.expect_err("two").message().contains("two entries for the user ralph"));
    });
}

#[test]
fn a_line_that_breaks_anywhere_never_gives_a_part_of_the_answer() {
    alone("accounts::a_line_that_breaks_anywhere_never_gives_a_part_of_the_answer", async |dir| {
        let mut slapd = Slapd::start(&dir, &crowd(200), Settings::default());
        let relay = Relay::to(slapd.port());
        let url = format!("ldap://127.0.0.1:{}", relay.port());
        let groups = set(&["packager", "sysadmin"]);
        let source = ldap(&url, "freeipa", json!({"page_size": 30}));
        is_the_crowd(&source.members(&groups).await.expect("members"), 200);
        assert_eq!(relay.connections(), 1, "one warm connection");
        for cut in (0..80_000).step_by(3_001) {
            relay.cut_after(cut);
            match source.members(&groups).await {
                Ok(members) => is_the_crowd(&members, 200),
                Err(failure) => assert!(matches!(failure, Failure::Retry { .. }), "{cut}: {failure}"),
            }
            relay.cut_after(cut % 700);
            match source.user("user00010", &groups).await {
                Ok(found) => assert_eq!(found.expect("a person").groups, groups, "{cut}"),
                Err(failure) => assert!(matches!(failure, Failure::Retry { .. }), "{cut}: {failure}"),
            }
        }
        relay.cut_after(u64::MAX);
        is_the_crowd(&source.members(&groups).await.expect("it is mended by itself"), 200);
        // A connection that was lost while nobody asked costs nobody an answer.
        slapd.stop();
        let failure = source.user("user00010", &groups).await.expect_err("no server");
        assert!(matches!(failure, Failure::Retry { .. }) && hint(&failure).contains("ldapsearch"), "{failure}");
        slapd.resume();
        assert!(source.user("user00010", &groups).await.expect("a new connection").is_some());
        slapd.stop();
        slapd.resume();
        assert!(source.user("user00010", &groups).await.expect("a new connection").is_some());
    });
}

#[test]
fn a_server_that_answers_nothing_is_given_up_in_time_and_the_next_is_asked() {
    alone("accounts::a_server_that_answers_nothing_is_given_up_in_time_and_the_next_is_asked", async |dir| {
        let slapd = Slapd::start(&dir, &staff(), Settings::default());
        let groups = set(&["sysadmin-web"]);
        let dead = format!("ldap://127.0.0.1:{}", reactor_tests::free_port());
        let source = ldap("", "freeipa", json!({"ldap": [dead, slapd.url()], "timeout": "2s"}));
        assert!(source.user("ralph", &groups).await.expect("the second server").is_some());
        slapd.freeze();
        let began = Instant::now();
        let failure = source.user("ralph", &groups).await.expect_err("silence");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        assert!(matches!(failure, Failure::Retry { .. }) && failure.message().contains(&slapd.url()), "{failure}");
        assert!(source.members(&groups).await.is_err());
    });
}

/// A certificate authority, and a certificate of it for 127.0.0.1.
fn certificates(dir: &Path) -> [PathBuf; 3] {
    std::fs::create_dir_all(dir).expect("a directory");
    let openssl = |args: &str| {
        let output = command("openssl").args(args.split(' ')).current_dir(dir).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=authority -addext keyUsage=critical,keyCertSign"
    ));
    openssl(&format!(
        "req -x509 {key} -CA ca.crt -CAkey ca.key -keyout s.key -out s.crt -subj /CN=s -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ));
    ["ca.crt", "s.crt", "s.key"].map(|name| dir.join(name))
}

#[test]
fn over_tls_only_the_server_that_the_authority_vouches_for_is_believed() {
    alone("accounts::over_tls_only_the_server_that_the_authority_vouches_for_is_believed", async |dir| {
        let tls = certificates(&dir.join("tls"));
        let [other, ..] = certificates(&dir.join("other"));
        let slapd = Slapd::start(&dir, &staff(), Settings { tls: Some(tls.clone()), ..Settings::default() });
        let groups = set(&["sysadmin-web"]);
        let asked = async |url: &str, more: Value| ldap(url, "freeipa", more).user("ralph", &groups).await;
        let starttls = |ca: &Path| json!({"ca": ca, "starttls": true});
        assert!(asked(&slapd.tls_url(), json!({"ca": tls[0]})).await.expect("ldaps").is_some());
        assert!(asked(&slapd.url(), starttls(&tls[0])).await.expect("starttls").is_some());
        for refused in [
            asked(&slapd.tls_url(), json!({"ca": other})).await,
            asked(&slapd.url(), starttls(&other)).await,
            asked(&slapd.tls_url(), json!({})).await,
            asked(&slapd.tls_url().replace("127.0.0.1", "localhost"), json!({"ca": tls[0]})).await,
        ] {
            let failure = refused.expect_err("not vouched for");
            assert!(
                failure.message().contains("certificate") && hint(&failure).contains("authority"),
                "{failure} {}",
                hint(&failure)
            );
        }
        let failure = asked(&slapd.tls_url(), json!({"ca": tls[2]})).await.expect_err("a key is no certificate");
        assert!(failure.message().contains("there is none in it"), "{failure}");
    });
}
