//! What can be known of the handler's block of the rules file without asking anybody: for `reactor check`.

use accounts::Accounts;
use handler_api::Failure;
use serde_json::{Map, Value};

use crate::access::Inventory;
use crate::config::{Config, HostsFrom};

/// Whether a handler's block of the rules file can be used; nothing is read or connected.
///
/// # Errors
/// What is wrong with it.
pub fn check_config(words: &Map<String, Value>) -> Result<(), Failure> {
    let config = Config::read(words)?;
    Accounts::open(&config.accounts).map(drop)
}

/// What is wrong with the files that a good block names: the inventory, accounts in a YAML file, ssh's own. No command is
/// started and no host asked. Not to be called by what runs in an asynchronous runtime.
#[must_use]
pub fn check_files(words: &Map<String, Value>) -> Vec<Failure> {
    let (Ok(config), Ok(runtime)) =
        (Config::read(words), tokio::runtime::Builder::new_current_thread().enable_all().build())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for file in config.ssh.known_hosts.iter().chain(&config.ssh.config) {
        if let Err(error) = std::fs::metadata(file) {
            let shown = file.display();
            found.push(Failure::retry(format!("{shown}: {error}")).hinting(format!("ls -lL {shown}")));
        }
    }
    if matches!(config.hosts, HostsFrom::Command(_)) {
        return found;
    }
    let in_a_file = config.accounts.get("yaml").is_some();
    let looked = runtime.block_on(async {
        let groups = Inventory::load(&config.hosts).await?.groups();
        if in_a_file {
            Accounts::open(&config.accounts)?.members(&groups).await?;
        }
        Ok(())
    });
    found.extend(looked.err());
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(dir: &std::path::Path, hosts: &str, accounts: &str) -> Vec<String> {
        std::fs::write(dir.join("hosts.yaml"), hosts).unwrap();
        std::fs::write(dir.join("accounts.yaml"), accounts).unwrap();
        let words = json!({
            "accounts": {"yaml": dir.join("accounts.yaml")},
            "hosts": dir.join("hosts.yaml"),
            "ssh": {"known_hosts": dir.join("known_hosts")},
        });
        let words = words.as_object().cloned().unwrap();
        check_config(&words).unwrap();
        check_files(&words).iter().map(|failure| failure.message().to_owned()).collect()
    }

    #[test]
    fn a_wrong_word_in_a_file_is_found_before_the_first_message() {
        let dir = tempfile::tempdir().unwrap();
        let good = "groups: {web: {hosts: [web01], access: [sysadmin]}}\n";
        let people = "users: {ada: {keys: []}}\ngroups: {sysadmin: [ada]}\n";
        let missing = said(dir.path(), good, people);
        assert!(missing.len() == 1 && missing[0].contains("known_hosts: No such file"), "{missing:?}");
        std::fs::write(dir.path().join("known_hosts"), "").unwrap();
        assert_eq!(said(dir.path(), good, people), [""; 0]);
        let misspelt = said(dir.path(), &good.replace("access", "acess"), people);
        assert!(misspelt[0].contains("did you mean `access`"), "{misspelt:?}");
        let renamed = said(dir.path(), good, &people.replace("sysadmin:", "admins:"));
        assert!(renamed[0].contains("has no group `sysadmin`"), "{renamed:?}");
    }
}
