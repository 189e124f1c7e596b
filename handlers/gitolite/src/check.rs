//! What can be known of the handler's block of the rules file without asking anybody: for `reactor check`.

use std::path::Path;

use accounts::Accounts;
use handler_api::Failure;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::handler::groups_of;
use crate::layout::{FEDORA, Layout, TEMPLATE_BYTES_MAX};
use crate::truth::Truth;

/// Whether the block can be used; nothing is read or connected.
///
/// # Errors
/// What is wrong with it.
pub fn check_config(words: &Map<String, Value>) -> Result<(), Failure> {
    Config::read(words).map(drop)
}

/// What is wrong with the files that a good block names: the template, the truths in YAML files (every section that the template
/// makes of them), ssh's own. No command is started and nobody asked. Not to be called by what runs in an asynchronous
/// runtime.
#[must_use]
pub fn check_files(words: &Map<String, Value>) -> Vec<Failure> {
    let (Ok(config), Ok(runtime)) =
        (Config::read(words), tokio::runtime::Builder::new_current_thread().enable_all().build())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let admin = Some(Path::new(&config.admin.url)).filter(|path| path.is_absolute());
    if let Some(Err(error)) = admin.map(std::fs::metadata) {
        let missing = format!("the admin repository {}: {error}", config.admin.url);
        let hint =
            "write where it is: admin: git@HOST:gitolite-admin, or the path of a bare repository that reactor can read";
        found.push(Failure::retry(missing).hinting(hint));
    }
    for file in config.admin.known_hosts.as_deref().into_iter().chain(config.admin.ssh_config.as_deref()) {
        if let Err(error) = std::fs::metadata(file) {
            let shown = file.display();
            found.push(Failure::retry(format!("{shown}: {error}")).hinting(format!("ls -lL {shown}")));
        }
    }
    let layout = read_template(config.template.as_deref());
    let looked = runtime.block_on(async {
        if config.accounts.get("yaml").is_some() {
            let groups = config.groups.iter().chain(config.keys.iter().flatten());
            let groups = groups.map(|group| group.as_str().to_owned()).collect();
            Accounts::open(&config.accounts)?.members(&groups).await?;
        }
        if config.repos.get("yaml").is_none() {
            return Ok(());
        }
        let all = Truth::open(&config.repos)?.all().await?;
        let alone =
            |why: &String| Failure::permanent(why).hinting("until it is mended, this repository stays as it is");
        found.extend(all.left_alone.values().map(alone));
        let note = |why: &String| Failure::permanent(why).hinting("mend it, then `reactor check`");
        found.extend(all.notes.iter().map(note));
        if let Ok(layout) = &layout {
            let broken = all.repos.iter().find_map(|(name, repo)| layout.render(name, repo, config.membership).err());
            found.extend(broken);
        }
        if config.accounts.get("yaml").is_some() {
            let named = all.repos.values().flat_map(groups_of).map(|group| group.as_str().to_owned()).collect();
            Accounts::open(&config.accounts)?.members(&named).await?;
        }
        Ok(())
    });
    found.extend(looked.err());
    found.extend(layout.err());
    found
}

/// The template of the site, or the built-in one.
///
/// # Errors
/// The file can't be read; what is wrong in it, with its line.
pub(crate) fn read_template(path: Option<&Path>) -> Result<Layout, Failure> {
    let Some(path) = path else { return Layout::read("fedora.hbs", FEDORA) };
    let shown = path.display();
    let failed = |why: &dyn std::fmt::Display| {
        Failure::retry(format!("the template {shown} can't be read: {why}")).hinting(format!("ls -lL {shown}"))
    };
    let about = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !about.is_file() || about.len() > TEMPLATE_BYTES_MAX as u64 {
        return Err(failed(&format!("it is no file of at most {TEMPLATE_BYTES_MAX} bytes")));
    }
    let source = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    Layout::read(&shown.to_string(), &source)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said of the files of a block, with each file as given.
    fn said(repos: &str, template: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let accounts = at("accounts.yaml", "users: {alice: {keys: []}}\ngroups: {perl-sig: [alice]}\n");
        let words = json!({
            "admin": dir.path().join("admin.git"), "repos": {"yaml": at("repos.yaml", repos)},
            "accounts": {"yaml": accounts}, "template": at("mine.hbs", template),
        });
        let found = check_files(words.as_object().unwrap());
        let line = |failure: &Failure| format!("{failure} | {}\n", failure.hint().unwrap_or("no hint"));
        found.iter().map(line).collect()
    }

    #[test]
    fn what_would_be_found_by_the_first_message_only_is_told_before_it_with_a_hint() {
        let good = "repos:\n  rpms/foo: {commit: [alice, \"@perl-sig\"]}\n";
        let alone = said(good, FEDORA);
        assert!(alone.starts_with("the admin repository /") && alone.lines().count() == 1, "{alone}");
        for (repos, template, expected) in [
            (good.replace("perl-sig", "perl-sgi"), FEDORA, "has no group `perl-sgi`; there is `perl-sig`"),
            (
                good.replace("@perl-sig", "@all"),
                FEDORA,
                "write `everyone: true` | until it is mended, this repository stays",
            ),
            (format!("{good}  rpms/../bar: {{commit: [alice]}}\n"), FEDORA, "rpms/../bar"),
            (good.to_owned(), "repo {{repo}}\n{{#if commit}}\nRW = alice\n", "a block is not closed"),
            (good.to_owned(), "repo {{repo}}\n{{#if comit}}\nRW = alice\n{{/if}}\n", "`comit`"),
        ] {
            let all = said(&repos, template);
            assert!(all.contains(expected) && !all.contains("no hint"), "{expected}: {all}");
        }
    }

    #[test]
    fn the_site_to_copy_has_the_rules_of_the_example_site_and_a_good_block() {
        let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
        let copied: Value = read(include_str!("../example/rules.yaml"));
        let example = read(include_str!("../../../rules.yaml"));
        let all = example["rules"].as_array().unwrap();
        let ours: Vec<&Value> = all.iter().filter(|rule| rule["do"] == "git").collect();
        assert!(ours.len() > 5);
        assert_eq!(copied["rules"].as_array().unwrap().iter().collect::<Vec<_>>(), ours);
        let mut block = copied["handlers"]["git"].as_object().unwrap().clone();
        for word in ["use", "at_once"] {
            block.remove(word);
        }
        let beside =
            |file: &Value| file.as_str().unwrap().replacen('.', concat!(env!("CARGO_MANIFEST_DIR"), "/example"), 1);
        block["admin"] = beside(&block["admin"]).into();
        for source in ["repos", "accounts"] {
            block[source]["yaml"] = beside(&block[source]["yaml"]).into();
        }
        let wrong = check_files(&block);
        assert!(wrong.is_empty(), "{wrong:?}");
        check_config(&block).unwrap();
    }
}
