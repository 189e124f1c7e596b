//! The step with the built-in handler mirror-pull: a mirror that holds while its master changes, and pulls when it is done. Both are
//! directories of the scratch site; yours are on two machines, with an rsync daemon between them.

use std::fs;

use anyhow::ensure;
use serde_json::json;

use super::stage::Stage;
use super::{out, show};
use crate::journal::{ReactionRow, State};

/// The handler's name in the site.
pub const HANDLER: &str = "mirror";
/// What the master has, from the site's directory.
const MASTER: &str = "handlers/mirror-pull/example/master";
/// What the mirror has.
const MIRROR: &str = "handlers/mirror-pull/example/mirror";
/// The package that is new.
const NEW: &str = "fedora/updates/foo-1.1.rpm";

macro_rules! example {
    ($name:literal) => {
        (
            concat!("handlers/mirror-pull/example/", $name),
            include_bytes!(concat!("../../../../handlers/mirror-pull/example/", $name)).as_slice(),
        )
    };
}

/// What the example consists of.
pub const FILES: [(&str, &[u8]); 4] = [
    example!("master/fedora/updates/foo-1.0.rpm"),
    example!("master/fedora/updates/repodata/repomd.xml"),
    example!("master/epel/bar-2.0.rpm"),
    example!("mirror/epel/bar-1.0.rpm"),
];

/// Shows it.
pub fn pull(stage: &mut Stage) -> anyhow::Result<()> {
    out("4. mirrors (built in): hold while the master changes, then pull what changed, and only that");
    let first =
        stage.until_row("the first pull", |row| row.rule == "the mirror as the master has it" && is_done(row))?;
    out("   at its start the daemon pulled what was missing (every: 6h)");
    show(&[first]);

    let about = json!({"directories": ["fedora/updates"], "serial": 1});
    stage.say("mirror.master.unsynced", about.clone())?;
    let held = stage.until_row("the hold", |row| row.rule == "the master mirror changes" && is_done(row))?;
    show(&[held]);
    fs::write(stage.dir().join(MASTER).join(NEW), "This is package foo, 1.1\n")?;
    fs::write(
        stage.dir().join(MASTER).join("fedora/updates/repodata/repomd.xml"),
        "<repomd><revision>second</revision></repomd>\n",
    )?;
    ensure!(!stage.dir().join(MIRROR).join(NEW).exists(), "{NEW} was pulled while the master was changing");
    out("   sent: «fedora/updates changes», and now «it is done»");
    stage.say("mirror.master.synced", about)?;
    let pulled = stage.until_row("the pull", |row| row.rule == "the master mirror is done" && is_done(row))?;
    show(&[pulled]);
    ensure!(stage.dir().join(MIRROR).join(NEW).exists(), "{NEW} was not pulled");
    out("");
    Ok(())
}

fn is_done(row: &ReactionRow) -> bool {
    row.state == State::Done
}
