//! FASJSON on top of OpenLDAP, over Kerberos: what it answers, and what the accounts crate makes of it.

use std::path::Path;
use std::time::{Duration, Instant};

use ::accounts::Accounts;
use handler_api::Failure;
use reactor_tests::Scratch;
use reactor_tests::fasjson::{self, Fasjson};
use reactor_tests::kdc::Kdc;
use reactor_tests::process::command;
use reactor_tests::slapd::{People, Settings, Slapd};
use serde_json::json;

use crate::accounts::{KEY, account, alone, crowd, hint, is_the_crowd, secret, set, staff};

fn kerberos(dir: &Path, people: &People) -> (Kdc, Slapd, Fasjson) {
    let kdc = Kdc::start(dir, &[&fasjson::PRINCIPALS[..], &["stranger"]].concat());
    let slapd = Slapd::start(dir, people, Settings { env: Fasjson::slapd_env(&kdc), ..Settings::default() });
    let fasjson = Fasjson::start(dir, &kdc, &slapd);
    (kdc, slapd, fasjson)
}

#[test]
fn the_servers_negotiate_for_real() {
    let scratch = Scratch::new("negotiate");
    let people =
        People::new().person("ralph", &[KEY]).locked("toshio", &[KEY]).group("sysadmin-web", &["ralph", "toshio"]);
    let (kdc, _slapd, fasjson) = kerberos(scratch.path(), &people);
    let curl = |cache: Option<&str>, path: &str| {
        let cache = cache.map_or("/nonexistent".into(), |principal| {
            let cache = scratch.path().join(principal);
            kdc.ticket(principal, &cache);
            cache
        });
        let mut curl = command("curl");
        curl.args(["-s", "--negotiate", "-u", ":", "-w", "\n%{http_code}", &format!("{}{path}", fasjson.url())]);
        let out = curl.envs(kdc.env()).env("KRB5CCNAME", cache).output().expect("curl runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let answer = curl(Some("reactor"), "/v1/users/ralph/");
    assert!(answer.ends_with("\n200") && answer.contains(KEY), "{answer}\n{}", fasjson.log());
    assert!(fasjson.log().contains("negotiated reactor@REACTOR.TEST"), "{}", fasjson.log());
    let answer = curl(Some("reactor"), "/v1/users/ralph/groups/?page_size=10");
    assert!(answer.contains(r#""groupname": "sysadmin-web""#), "{answer}");
    let answer = curl(Some("reactor"), "/v1/users/toshio/");
    assert!(answer.ends_with("\n404") && answer.contains("User not found"), "{answer}");
    assert!(curl(Some("stranger"), "/v1/users/ralph/").ends_with("\n403"));
    assert!(curl(None, "/v1/users/ralph/").ends_with("\n401"));
    let forged = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Authorization: Negotiate YIIabc0="];
    let forged = command("curl").args(forged).arg(fasjson.url() + "/v1/users/ralph/").output().expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&forged.stdout), "401");
}

/// The block for a FASJSON, with a keytab in a secret.
fn over_kerberos(fasjson: &Fasjson, keytab: &str, page_size: usize) -> Accounts {
    let kerberos = json!({"keytab": keytab});
    let block = json!({"fasjson": fasjson.url(), "kerberos": kerberos, "page_size": page_size, "timeout": "3s"});
    Accounts::open(&block).expect("a good block")
}

#[test]
fn fasjson_is_asked_over_kerberos_with_a_keytab() {
    alone("accounts_kerberos::fasjson_is_asked_over_kerberos_with_a_keytab", async |dir| {
        let (kdc, mut slapd, fasjson) = kerberos(&dir, &staff());
        let keytab = |principal| std::fs::read(kdc.keytab(principal)).expect("a keytab");
        secret(&dir, "reactor.keytab", keytab(fasjson::CALLER));
        secret(&dir, "stranger.keytab", keytab("stranger"));
        secret(&dir, "broken.keytab", "not a keytab");
        let source = over_kerberos(&fasjson, "reactor.keytab", 500);
        let groups = set(&["sysadmin-web", "sysadmin", "outer"]);
        let user = async |name: &str| source.user(name, &groups).await;
        assert_eq!(user("ralph").await, Ok(Some(account(&[KEY, "ssh-rsa AAAA second"], &["sysadmin-web", "outer"]))));
        assert!(fasjson.log().contains("negotiated reactor@REACTOR.TEST"), "{}", fasjson.log());
        assert_eq!(user("toshio").await, Ok(Some(account(&[KEY], &["sysadmin", "outer"]))), "nested groups");
        assert_eq!(user("pingou").await, Ok(None), "locked");
        assert_eq!(user("who").await, Ok(None), "not there");
        let members = source.members(&groups).await.expect("members");
        let names: Vec<&str> = members.accounts.keys().map(String::as_str).collect();
        assert_eq!(names, ["kevin+test", "nokeys", "ralph", "toshio"]);
        // A private profile hides a name, and no key.
        let dn = reactor_tests::slapd::user_dn("ralph");
        slapd.modify(&format!("dn: {dn}\nchangetype: modify\nreplace: fasIsPrivate\nfasIsPrivate: TRUE\n"));
        slapd.set_keys("ralph", &["ssh-ed25519 new"]);
        assert_eq!(user("ralph").await, Ok(Some(account(&["ssh-ed25519 new"], &["sysadmin-web", "outer"]))));

        let nowhere = set(&["sysadmin-web", "sysadmin-nowhere"]);
        for failure in [source.user("ralph", &nowhere).await.err(), source.members(&nowhere).await.err()] {
            let failure = failure.expect("a group that is not there");
            assert!(failure.message().contains("sysadmin-nowhere"), "{failure}");
        }
        assert!(source.members(&set(&["empty"])).await.is_err(), "an empty group is not believed");
        for name in ["stranger.keytab", "broken.keytab", "absent.keytab"] {
            let wrong = over_kerberos(&fasjson, name, 500);
            for failure in [
                wrong.user("ralph", &groups).await.err(),
                wrong.user("who", &groups).await.err(),
                wrong.members(&groups).await.err(),
            ] {
                let failure = failure.unwrap_or_else(|| panic!("{name} is believed"));
                assert!(!hint(&failure).is_empty(), "{name}: {failure}");
            }
        }
        let plain = Accounts::open(&json!({"fasjson": fasjson.url()})).expect("a good block");
        assert!(plain.user("ralph", &groups).await.is_err(), "401 without a ticket");

        slapd.stop();
        for failure in [user("ralph").await.err(), user("who").await.err(), source.members(&groups).await.err()] {
            let failure = failure.expect("FASJSON answers nobody without its slapd");
            assert!(matches!(failure, Failure::Retry { .. }), "{failure}");
        }
        slapd.resume();
        let began = Instant::now();
        loop {
            match user("ralph").await {
                Ok(found) => break assert!(found.is_some(), "never nobody"),
                Err(failure) => assert!(began.elapsed() < Duration::from_secs(60), "it does not come back: {failure}"),
            }
        }
        drop(fasjson);
        assert!(matches!(user("ralph").await, Err(Failure::Retry { .. })), "nobody listens");
    });
}

#[test]
fn fasjsons_pages_come_whole() {
    alone("accounts_kerberos::fasjsons_pages_come_whole", async |dir| {
        const PEOPLE: usize = 600;
        let (kdc, _slapd, fasjson) = kerberos(&dir, &crowd(PEOPLE));
        secret(&dir, "reactor.keytab", std::fs::read(kdc.keytab(fasjson::CALLER)).expect("a keytab"));
        for size in [500, 89] {
            let source = over_kerberos(&fasjson, "reactor.keytab", size);
            let began = Instant::now();
            is_the_crowd(&source.members(&set(&["packager", "sysadmin"])).await.expect("members"), PEOPLE);
            println!("FASJSON, pages of {size}: {PEOPLE} people in {:?}", began.elapsed());
        }
        let source = over_kerberos(&fasjson, "reactor.keytab", 500);
        let began = Instant::now();
        for n in 0..10 {
            assert!(source.user(&format!("user{n:05}"), &set(&["packager"])).await.expect("an answer").is_some());
        }
        println!("FASJSON: one person in {:?}", began.elapsed() / 10);
    });
}
