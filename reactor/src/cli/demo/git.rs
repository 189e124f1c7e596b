//! The step with the built-in handler gitolite: a first reconcile that waits for a person, somebody who is let in. The admin
//! repository is a bare one in the scratch site, with no gitolite behind it: so the commit is seen, and nothing is compiled.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::json;

use super::stage::Stage;
use super::{out, show, site};
use crate::engine::control::Asked;
use crate::journal::State;

macro_rules! example {
    ($name:literal) => {
        (
            concat!("handlers/gitolite/example/", $name),
            include_bytes!(concat!("../../../../handlers/gitolite/example/", $name)).as_slice(),
        )
    };
}

/// Who may push where: the truth of the example.
const REPOS: &str = "handlers/gitolite/example/repos.yaml";
/// The admin repository, from the site's directory.
const ADMIN: &str = "handlers/gitolite/example/admin.git";
/// The file with the rules of `rpms/foo` begins so.
const RULES: &str = "conf/reactor/repos";
/// Lines of one commit that are shown.
const LINES_MAX: usize = 12;

/// What the example consists of.
pub const FILES: [(&str, &[u8]); 9] = [
    example!("accounts.yaml"),
    example!("repos.yaml"),
    example!("admin.git/HEAD"),
    example!("admin.git/config"),
    example!("admin.git/refs/heads/master"),
    example!("admin.git/objects/2c/71dd7e158ec6f7b453af721541a2d7a2f4cb9a"),
    example!("admin.git/objects/63/11471ce080e24b17045a0c77014a1a8c5e2b71"),
    example!("admin.git/objects/c4/d3e7e54b460634d80b593dbb57054ed4a51d61"),
    example!("admin.git/objects/f0/9645b56d3456324d8212dbceec89969787551a"),
];

/// Shows it.
pub fn git(stage: &mut Stage) -> anyhow::Result<()> {
    out("3. git access (built in): who may push where, one commit a reaction in gitolite's admin repository");
    let first = stage.until_row("the first reconcile", |row| {
        row.rule == "git access as the truth has it" && row.state == State::Held
    })?;
    out("   at its start the daemon compared all of it. Where everyone would be let in, a person looks first:");
    out(&format!("   held  {}", first.reason.as_deref().unwrap_or("")));
    out(&format!("   $ reactor approve {}", first.id));
    for said in stage.ask(&Asked::Approve { ids: vec![first.id.clone()] })? {
        out(&format!("   {said}"));
    }
    stage.until("the approved reconcile", |rows| {
        rows.iter().any(|row| row.id == first.id && row.state == State::Done)
    })?;

    site::replace(stage.dir(), REPOS, "commit: [alice, ", "commit: [alice, carol, ")?;
    let project = json!({"name": "foo", "namespace": "rpms", "fullname": "rpms/foo", "parent": null});
    let let_in = json!({"agent": "alice", "new_user": "carol", "access": "commit", "project": project});
    stage.say("pagure.project.user.added", let_in)?;
    out("   sent: «alice let carol into rpms/foo», as pagure tells it");
    let is_let_in =
        |row: &crate::journal::ReactionRow| row.rule.starts_with("project changed") && row.state == State::Done;
    show(&[stage.until_row("who was let in", is_let_in)?]);
    let commit = last_commit(&stage.dir().join(ADMIN))?;
    ensure!(commit.lines().any(|line| line.contains("{+carol+}")), "not in the commit:\n{commit}");
    out("   admin.git, its last commit (`git show --word-diff`):");
    commit.lines().take(LINES_MAX).for_each(|line| out(&format!("      {}", super::super::print::cut(line, 110))));
    out("");
    Ok(())
}

/// The last commit: its message without the list of all changes, and the lines that it changes in a rule file.
#[allow(clippy::disallowed_methods, reason = "looks at what a handler did; it is none")]
fn last_commit(admin: &Path) -> anyhow::Result<String> {
    let shown = Command::new("git")
        .arg("--git-dir")
        .arg(admin)
        .args([
            "show",
            "--no-color",
            "--no-ext-diff",
            "--unified=0",
            "--word-diff=plain",
            "--format=%s%n%b",
            "master",
            "--",
            RULES,
        ])
        .stdin(Stdio::null())
        .output()
        .context("git can't be started")?;
    ensure!(shown.status.success(), "git show: {}", String::from_utf8_lossy(&shown.stderr));
    let text = String::from_utf8_lossy(&shown.stdout);
    let is_noise = |line: &&str| {
        ["give ", "diff ", "index ", "--- ", "+++ ", "@@ "].iter().any(|noise| line.starts_with(noise))
            || line.is_empty()
    };
    let subject = text.lines().take(1);
    Ok(subject.chain(text.lines().skip(1).filter(|line| !is_noise(line))).collect::<Vec<_>>().join("\n"))
}
