//! What `reactor check` and `reactor doctor` ask. Changes nothing.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use handler_api::{Failure, Finding};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::hub::{Hub, Who};
use crate::names::{BranchName, PackageName, TagName, UserName};
use crate::plan;
use crate::tags::Tags;
use crate::truth::{All, Truth, Wanted};

/// From when on a certificate that ends is worth a word, in days before its end.
pub const CERTIFICATE_DAYS_MIN: i64 = 14;
/// A permission with which package lists may be written.
const PERMISSIONS: [&str; 2] = ["admin", "tag"];
/// Tags that one finding names; the rest is counted.
const TAGS_SHOWN_MAX: usize = 5;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Looks at every word of the block without asking anybody.
///
/// # Errors
/// What is wrong with them.
pub fn check_config(words: &Map<String, Value>) -> Result<(), Failure> {
    Config::read(words).map(drop)
}

/// Looks at the files that a good block names: the certificates, the truth in a YAML file. Nobody is asked, and no command started.
/// Not to be called by what runs in an asynchronous runtime.
#[must_use]
pub fn check_files(words: &Map<String, Value>) -> Vec<Failure> {
    // What is wrong with the words is told already.
    let Ok(config) = Config::read(words) else { return Vec::new() };
    let mut found = Vec::new();
    if let Some(ca) = &config.place.ca
        && let Err(error) = std::fs::File::open(ca)
    {
        let shown = ca.display();
        found.push(Failure::retry(format!("the certificates, {shown}: {error}")).hinting(format!("ls -lL {shown}")));
    }
    if config.packages.get("yaml").is_some() {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => found.extend(runtime.block_on(wrong_in_truth(&config))),
            Err(error) => found.push(Failure::retry(format!("no runtime to look at the truth: {error}"))),
        }
    }
    found
}

/// What is wrong with the truth in a file; where bodhi has the tags, whether it can be read at all.
async fn wrong_in_truth(config: &Config) -> Vec<Failure> {
    let read = async {
        let truth = Truth::open(&config.packages)?;
        if config.tags.get("bodhi").is_some() {
            return truth.package(&some_package()?, &Wanted::new()).await.map(|_| All::default());
        }
        truth.all(&Tags::open(&config.tags)?.read().await?.into_keys().collect()).await
    };
    let alone = |why: &String| {
        Failure::permanent(why.clone()).hinting("until it is mended, this package stays as it is in Koji")
    };
    let note = |why: &String| Failure::permanent(why.clone()).hinting("mend it, then `reactor check`");
    match read.await {
        Err(failure) => vec![failure],
        Ok(all) => all.left_alone.values().map(alone).chain(all.notes.iter().map(note)).collect(),
    }
}

/// A package to ask about, where it does not matter which.
fn some_package() -> Result<PackageName, Failure> {
    PackageName::parse("bash").map_err(Failure::permanent)
}

/// Asks the hub and the truth, and says how each is: whether they answer, who we are there and what we may do, how long the certificate
/// is good, whether there are all tags. Changes nothing.
pub async fn doctor(words: &Map<String, Value>) -> Vec<Finding> {
    let config = match Config::read(words) {
        Ok(config) => config,
        Err(failure) => return vec![failure.into()],
    };
    let hub = Hub::new(config.place.clone());
    let (answers, finding) = accounts(&hub, &config).await;
    let mut findings = vec![finding];
    if answers {
        findings.extend(rights(&hub, &config).await);
    } else if config.place.login.is_some() {
        // The hub does not answer: how long the certificate is good is known all the same.
        let ends = hub.certificate_ends().map(|ends| ends.map(|ends| certificate(ends, now())));
        findings.extend(ends.unwrap_or_else(|failure| Some(failure.into())));
    }
    match read_tags(&config).await {
        Err(failure) => findings.push(failure.into()),
        Ok((tags, branches)) => {
            if answers {
                findings.push(missing(&hub, &config, &tags).await);
            }
            findings.push(truth(&config, &branches).await);
        }
    }
    findings
}

/// Whether the hub answers; and that whoever gets packages has an account there.
async fn accounts(hub: &Hub, config: &Config) -> (bool, Finding) {
    let (server, ways) = (&config.place.hub, &config.ways);
    let users: BTreeSet<UserName> = ways.no_account.iter().chain([&ways.orphan]).cloned().collect();
    match hub.without_account(&users).await {
        Err(failure) => (false, failure.into()),
        Ok(missing) => match missing.iter().next() {
            None => (true, Finding::good(format!("{server} answers"))),
            Some(user) => {
                let what = format!("{server} answers, and has no account {user}, who is to get packages");
                let hint = format!(
                    "koji add-user {user}, or write another name (`orphan`, `no_account`) into the handler's block"
                );
                (true, Finding::bad(what, hint))
            }
        },
    }
}

/// Who we are there and what we may do.
async fn rights(hub: &Hub, config: &Config) -> Vec<Finding> {
    let server = &config.place.hub;
    if config.place.login.is_none() {
        let what = format!("{server}: nothing can be written without `login`: only planned");
        return vec![Finding::bad(
            what,
            "write login: {certificate: SECRET}, {keytab: SECRET} or {kerberos: environment}",
        )];
    }
    match hub.who().await {
        Err(failure) => {
            let ends = hub.certificate_ends().ok().flatten().map(|ends| certificate(ends, now()));
            ends.into_iter().filter(|finding| !finding.good).chain([failure.into()]).collect()
        }
        Ok(who) => {
            let ends = who.certificate_ends.map(|ends| certificate(ends, now()));
            [permission(server, &who)].into_iter().chain(ends).collect()
        }
    }
}

fn permission(server: &str, who: &Who) -> Finding {
    let Who { user, permissions, .. } = who;
    let user = handler_api::words::quoted(user);
    match PERMISSIONS.iter().find(|one| permissions.contains(**one)) {
        Some(has) => Finding::good(format!("{server}: logged in as {user}, with the permission {has}")),
        None => Finding::bad(
            format!(
                "{server}: logged in as {user}, who may not change package lists (a hub's own policy may say otherwise)"
            ),
            "an admin of the hub: koji grant-permission tag USER",
        ),
    }
}

/// How long a certificate is good that ends at this time; both in seconds since 1970.
fn certificate(ends: i64, now: i64) -> Finding {
    let hint = "get a new one, put it in the place of the secret's file, then: reactor doctor";
    let days = |seconds: i64| match seconds / DAY_SECONDS {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    if ends <= now {
        return Finding::bad(format!("the certificate for Koji ended {} ago", days(now - ends)), hint);
    }
    if ends - now < CERTIFICATE_DAYS_MIN * DAY_SECONDS {
        return Finding::bad(format!("the certificate for Koji ends in {}", days(ends - now)), hint);
    }
    Finding::good(format!("the certificate for Koji is good for {}", days(ends - now)))
}

async fn read_tags(config: &Config) -> Result<(BTreeSet<TagName>, BTreeSet<BranchName>), Failure> {
    let tags = plan::by_tag(Tags::open(&config.tags)?.read().await?)?;
    Ok((tags.keys().cloned().collect(), tags.into_values().collect()))
}

/// Whether the hub has all tags.
async fn missing(hub: &Hub, config: &Config, tags: &BTreeSet<TagName>) -> Finding {
    let server = &config.place.hub;
    match hub.missing_tags(tags).await {
        Err(failure) => failure.into(),
        Ok(missing) if missing.is_empty() => Finding::good(format!("{server} has all {} tags", tags.len())),
        Ok(missing) => {
            let names: Vec<&str> = missing.iter().take(TAGS_SHOWN_MAX).map(TagName::as_str).collect();
            let more = if missing.len() > names.len() { ", …" } else { "" };
            Finding::bad(
                format!(
                    "{server} has no tag {}{more} ({} of {} are missing)",
                    names.join(", "),
                    missing.len(),
                    tags.len()
                ),
                "koji list-tags; then mend `tags` of the handler's block",
            )
        }
    }
}

/// Whether the truth answers, whatever it says.
async fn truth(config: &Config, branches: &Wanted) -> Finding {
    let ask = async { Truth::open(&config.packages)?.package(&some_package()?, branches).await };
    match ask.await {
        Err(failure) => failure.into(),
        Ok(Some(_)) => Finding::good("the truth (`packages`) answers"),
        Ok(None) => Finding::good("the truth (`packages`) answers; it has no package bash"),
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the edge; what is below takes the time as an argument")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said of the files of a block, with a truth of this text.
    fn said(truth: &str, ca: Option<&str>) -> String {
        said_with(truth, ca, &json!({"rawhide": "f45"}))
    }

    fn said_with(truth: &str, ca: Option<&str>, tags: &Value) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("packages.yaml");
        std::fs::write(&file, truth).unwrap();
        let block = json!({
            "hub": "https://koji.example.org/kojihub", "packages": {"yaml": file}, "tags": tags,
            "ca": ca.map(|name| dir.path().join(name)),
        });
        check_config(block.as_object().unwrap()).unwrap();
        let line = |failure: &Failure| format!("{failure} | {}\n", failure.hint().unwrap_or("no hint"));
        check_files(block.as_object().unwrap()).iter().map(line).collect()
    }

    const GOOD: &str = "packages:\n  bash: {owner: alice, branches: [rawhide]}\n";

    #[test]
    fn files_that_the_first_message_would_trip_over_are_told_before_it_with_a_hint() {
        assert_eq!(said(GOOD, None), "");
        let all = said(GOOD, Some("ca.pem"));
        assert!(all.contains("the certificates, ") && all.lines().count() == 1 && !all.contains("no hint"), "{all}");
        for (truth, expected) in [
            ("packages: {}\n", "not believed"),
            ("packages: [\n", "packages.yaml"),
            (&GOOD.replace("rawhide", "f39"), "none on any"),
        ] {
            let all = said(truth, None);
            assert!(all.contains(expected) && !all.contains("no hint"), "{expected}: {all}");
        }
        let bodhi = json!({"bodhi": "https://bodhi.example.org"});
        assert_eq!(said_with(GOOD, None, &bodhi), "", "bodhi is not asked");
        assert!(said_with("packages: [\n", None, &bodhi).contains("packages.yaml"));
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told_while_there_is_time() {
        let day = DAY_SECONDS;
        for (ends, good, said) in [
            (100 * day, true, "good for 100 days"),
            (14 * day, true, "good for 14 days"),
            (14 * day - 1, false, "ends in 13 days"),
            (1, false, "ends in 0 days"),
            (0, false, "ended 0 days ago"),
            (-day - 1, false, "ended 1 day ago"),
        ] {
            let finding = certificate(1_000_000 * day + ends, 1_000_000 * day);
            assert!(finding.good == good && finding.what.contains(said), "{finding:?}");
            assert_eq!(finding.hint.is_some(), !good);
        }
    }

    #[test]
    fn whoever_may_not_change_lists_is_told_so() {
        let who = |permission: &str| Who {
            user: "reactor".into(),
            permissions: BTreeSet::from([permission.to_owned()]),
            certificate_ends: None,
        };
        assert!(permission("https://koji", &who("tag")).good && permission("https://koji", &who("admin")).good);
        let finding = permission("https://koji", &who("image"));
        assert!(!finding.good && finding.hint.unwrap().contains("grant-permission"), "{}", finding.what);
    }

    #[tokio::test]
    async fn a_hub_that_does_not_answer_is_one_finding_and_the_rest_is_looked_at_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("packages.yaml");
        std::fs::write(&file, GOOD).unwrap();
        // Nothing listens on port 1.
        let block = json!({
            "hub": "http://127.0.0.1:1/kojihub", "packages": {"yaml": file}, "tags": {"rawhide": "f45"}, "timeout": "5s",
        });
        let request = json!({
            "reactor": 1, "reaction": "", "rule": "", "key": "", "attempt": 1, "with": {}, "messages": [], "config": block,
        });
        let request = serde_json::from_value(request).unwrap();
        let findings = handler_api::Handler::doctor(&crate::KojiOwners::new(), &request).await;
        assert!(!findings[0].good && findings[0].what.contains("127.0.0.1:1"), "{findings:?}");
        assert_eq!(findings.last(), Some(&Finding::good("the truth (`packages`) answers")));
        let wrong = doctor(json!({"hubb": "x"}).as_object().unwrap()).await;
        assert!(wrong.len() == 1 && !wrong[0].good, "{wrong:?}");
    }
}
