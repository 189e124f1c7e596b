//! The step with the built-in handler mirror-db: a first look at the whole tree, then one message and the part it means. The mirror
//! and its database (SQLite) are in the scratch site.

use std::fs;

use anyhow::ensure;
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::stage::Stage;
use super::{out, show};
use crate::journal::{ReactionRow, State};

macro_rules! example {
    ($name:literal) => {
        (
            concat!("handlers/mirror-db/example/", $name),
            include_bytes!(concat!("../../../../handlers/mirror-db/example/", $name)).as_slice(),
        )
    };
}

/// The database, from the site's directory.
const DATABASE: &str = "handlers/mirror-db/example/mirrors.db";
/// A repository of the example's tree.
const REPOSITORY: &str = "pub/epel/9/Everything/x86_64";

/// What the example consists of.
pub const FILES: [(&str, &[u8]); 5] = [
    example!("mirrors.db"),
    example!("mirror/pub/epel/9/Everything/x86_64/Packages/h/hello-1.0-1.el9.x86_64.rpm"),
    example!("mirror/pub/epel/9/Everything/x86_64/repodata/repomd.xml"),
    example!("mirror/pub/fedora/linux/development/rawhide/Everything/x86_64/os/repodata/repomd.xml"),
    example!("mirror/pub/alt/atomic/stable/README"),
];

/// Shows it.
pub fn mirrors(stage: &mut Stage) -> anyhow::Result<()> {
    out("4. The mirror database (built in): a message says where to look, and only that is looked at");
    let first = stage
        .until_row("the first look at the tree", |row| row.rule == "mirror database as the tree is" && is_done(row))?;
    out(&format!("   at its start the daemon compared all of it: {} differences, written", first.plan.len()));

    let repository = stage.dir().join("handlers/mirror-db/example/mirror").join(REPOSITORY);
    // In a directory of its own: what changes twice within a second could look as if nothing had changed.
    fs::create_dir(repository.join("Packages/w"))?;
    fs::write(repository.join("Packages/w/world-1.0-1.el9.x86_64.rpm"), "not a package: an example\n")?;
    let repomd = fs::read_to_string(repository.join("repodata/repomd.xml"))?.replace("1795200000", "1795227000");
    fs::write(repository.join("repodata/repomd.xml.new"), repomd)?;
    fs::rename(repository.join("repodata/repomd.xml.new"), repository.join("repodata/repomd.xml"))?;
    stage.say(
        "bodhi.updates.epel.sync",
        json!({"repo": "epel", "release": "9", "bytes": "1 MiB", "raw_bytes": "1048576", "deleted": "0"}),
    )?;
    out("   a package was put onto the mirror; sent: «epel 9 is synced», as bodhi tells it");
    let synced =
        stage.until_row("the synced part", |row| row.rule == "updates on the master mirror" && is_done(row))?;
    show(&[synced]);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(stage.dir().join(DATABASE), flags)?;
    let files: Vec<u8> = database.query_row(
        "SELECT CAST(files AS BLOB) FROM directory WHERE name = ?1",
        [format!("{REPOSITORY}/Packages/w")],
        |row| row.get(0),
    )?;
    let files = String::from_utf8_lossy(&files).into_owned();
    ensure!(files.contains("world-1.0-1.el9.x86_64.rpm"), "the row has other files: {files}");
    out(&format!("   its row: {}\n", super::super::print::cut(&files, 110)));
    Ok(())
}

fn is_done(row: &ReactionRow) -> bool {
    row.state == State::Done
}
