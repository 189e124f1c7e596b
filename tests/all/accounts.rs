//! Where accounts come from, against the real servers: OpenLDAP with both schemas, FASJSON over Kerberos.

use std::path::Path;

use reactor_tests::Scratch;
use reactor_tests::fasjson::{self, Fasjson};
use reactor_tests::kdc::Kdc;
use reactor_tests::process::command;
use reactor_tests::slapd::{People, Settings, Slapd};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q ralph@laptop";

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
