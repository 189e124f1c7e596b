//! The step with the built-in handler ssh-keys: a reconcile at the start, a changed key, a member who leaves.

use std::fs;

use anyhow::ensure;
use serde_json::json;

use super::stage::Stage;
use super::{out, show, site};
use crate::journal::{ReactionRow, State};

/// The keys of one host, from the site's directory.
const KEYS: &str = "handlers/ssh-keys/example/authorized_keys.d";
const NEW_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDXUR8JtHFlOTTw2i9rPM2y67+KtxvfI3Qx69UvYKLra ralph@new-laptop";

/// Shows it; the host is a directory of the scratch site.
pub fn keys(stage: &mut Stage) -> anyhow::Result<()> {
    out("2. ssh keys (built in): the accounts are the truth, a message says where to look");
    let reconciled =
        stage.until_row("the first reconcile", |row| row.rule == "keys as the accounts have them" && is_done(row))?;
    out("   at its start the daemon compared all of them (every: 6h); for who had left no message ever came");
    show(&[reconciled]);

    let old = user_key(stage, "ralph")?;
    site::replace(stage.dir(), site::SSH_ACCOUNTS, &old, NEW_KEY)?;
    stage.say("fas.user.update", json!({"agent": "ralph", "user": "ralph", "fields": ["ssh_key"]}))?;
    out("   sent: «ralph changed his key»");
    let changed = stage.until_row("the changed key", |row| row.rule == "ssh key changed" && is_done(row))?;
    show(&[changed]);
    let file = fs::read_to_string(stage.dir().join(KEYS).join("ralph"))?;
    ensure!(file.contains(NEW_KEY) && !file.contains(&old), "the file has another key:\n{file}");
    out("   authorized_keys.d/ralph:");
    file.lines().for_each(|line| out(&format!("      {}", super::super::print::cut(line, 90))));

    site::replace(stage.dir(), site::SSH_ACCOUNTS, "[ralph, toshio]", "[ralph]")?;
    let parameters = json!({"cn": "sysadmin-web", "user": ["toshio"]}).to_string();
    let entry =
        json!({"IPA_API_RESULT": "SUCCESS", "IPA_API_ACTOR": "admin@EXAMPLE.ORG", "IPA_API_PARAMS": parameters});
    stage.say("ipa.group_remove_member.v1", entry)?;
    out("   sent: «toshio has left sysadmin-web», as FreeIPA's journal tells it");
    let left = stage.until_row("who left", |row| row.rule.ends_with("says FreeIPA") && is_done(row))?;
    show(&[left]);
    ensure!(!stage.dir().join(KEYS).join("toshio").exists(), "authorized_keys.d/toshio is still there");
    out("");
    Ok(())
}

fn is_done(row: &ReactionRow) -> bool {
    row.state == State::Done
}

/// The first key of somebody in the accounts, as it stands there.
fn user_key(stage: &Stage, user: &str) -> anyhow::Result<String> {
    let accounts = fs::read_to_string(stage.dir().join(site::SSH_ACCOUNTS))?;
    let below = accounts.split(&format!("\n  {user}:")).nth(1).unwrap_or_default();
    let key = below.split('"').nth(1).unwrap_or_default().to_owned();
    ensure!(key.starts_with("ssh-"), "the accounts have no key of {user}");
    Ok(key)
}
