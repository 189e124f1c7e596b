//! mirror-db: the changed part of a master mirror into the mirror database, beside the real umdl and `find`.
//!
//! The handler process is asked over its stdin as the daemon asks it; processor time is that process's own (SQLite is in it),
//! as /proc says, over several in a row where one is short. Trees are made by `mirror_db/tree_maker.rs`: on disk with 20,000 and 200,000
//! files, and lists of 20 thousand, 200 thousand and 2 million whose trees are there only as far as a list needs them.
//! scan-primary-mirror is not run; its figures are quoted.

mod place;
mod tree_maker;
mod umdl;

use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Result, ensure};
use reactor_tests::postgres::Postgres;

use crate::Env;
use crate::ssh_keys::work::cost_with;
use crate::table::Row;
use place::{Costs, Kind, Place, Used};
use tree_maker::{TOP, Tree};
use umdl::Umdl;

const BENCH: &str = "mirror-db";
/// A walk must take less than this many times the processor time of `find -printf`: that finds what is broken.
const FIND_TIMES: f64 = 10.0;
const SCAN_FILL: &str = "scan-primary-mirror: 30.5 s, 65 MB (quoted)";
const SCAN_SAME: &str = "scan-primary-mirror: 30 to 40 s, 0.36 without excludes, 56 MB (quoted)";
const SCAN_WALK: &str = "scan-primary-mirror: 46.1 s (quoted)";
const SCAN_CHANGED: &str = "scan-primary-mirror: 30.7 s (quoted)";

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let umdl = Umdl::find(env);
    let mut rows = on_disk(env, umdl.as_ref(), &Kind::Sqlite)?;
    let scratch = tempfile::tempdir()?;
    if Path::new("/usr/lib/postgresql").exists() {
        let server = Postgres::start(scratch.path(), "");
        rows.extend(on_disk(env, umdl.as_ref(), &Kind::Postgres(Rc::new(server)))?);
    } else {
        eprintln!("  PostgreSQL is left out: scripts/install-test-deps");
    }
    let sizes: &[usize] = if env.short { &[1, 10] } else { &[1, 10, 100] };
    let mut first: Option<(usize, Costs)> = None;
    for times in sizes {
        let (files, costs) = list_only(env, *times)?;
        let base = *first.get_or_insert((files, costs));
        rows.extend(linear(files, &costs, base));
    }
    if umdl.is_none()
        && let Some(row) = rows.pop()
    {
        rows.push(row.note(umdl::QUOTED));
    }
    Ok(rows)
}

/// What umdl cost, on a database of its own.
#[derive(Clone, Copy, Debug)]
struct Theirs {
    fill: Used,
    /// What its first run left out.
    second: Used,
    same: Used,
    changed: Option<Used>,
    /// Directories, repositories, checksums.
    counts: [i64; 3],
}

/// A tree on disk: walked, then with its list.
fn on_disk(env: &Env, umdl: Option<&Umdl>, kind: &Kind) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("mirror");
    let mut tree = Tree::of(10, env.short);
    let (directories, files) = tree.count()?;
    eprintln!("  {files} files on disk …");
    tree.write(&root, false)?;
    let what = |what: &str| format!("{files} files in {directories} directories, {}: {what}", kind.name());

    // umdl looks first: after it the tree changes.
    let walk = umdl.map(|umdl| theirs(umdl, kind, dir.path(), &root, None)).transpose()?;
    let find = find(&root)?;
    let database = kind.database(dir.path(), "walk", umdl)?;
    let place = Place { dir: dir.path().join("walk"), root: root.clone(), list: None, database };
    eprintln!("  the handler walks …");
    let ours = place.costs(env, Some(&mut tree))?;
    let mut rows = pair(what("walk, first fill"), ours.fill, walk.map(|all| all.fill.and(all.second)), SCAN_FILL);
    let plan = Row::new(BENCH, what("walk, the first plan: processor time"), ours.first_plan.cpu, "s");
    let plan = plan.beside("`find -printf`", find.cpu);
    rows.push(if env.short { plan } else { plan.sane(0.0..=FIND_TIMES) });
    rows.push(
        Row::new(BENCH, what("walk, the first plan"), ours.first_plan.wall, "s").beside("`find -printf`", find.wall),
    );
    rows.extend(pair(what("walk, nothing changed"), ours.same, walk.map(|all| all.same), SCAN_WALK));
    rows.extend(
        ours.whole.map(|used| pair(what("walk, one repository changed"), used, None, "")).into_iter().flatten(),
    );

    let list = tree.write_list(&root)?;
    let database = kind.database(dir.path(), "list", umdl)?;
    let place = Place { dir: dir.path().join("list"), root: root.clone(), list: Some(list), database };
    eprintln!("  the handler reads the list …");
    let costs = place.costs(env, Some(&mut tree))?;
    let list = umdl.map(|umdl| theirs(umdl, kind, dir.path(), &root, Some(&mut tree))).transpose()?;
    let changed = list.and_then(|all| all.changed);
    rows.extend(pair(what("list, first fill"), costs.fill, list.map(|all| all.fill.and(all.second)), SCAN_FILL));
    rows.extend(pair(what("list, nothing changed"), costs.same, list.map(|all| all.same), SCAN_SAME));
    rows.extend(
        costs
            .whole
            .map(|used| pair(what("list, one repository changed"), used, changed, SCAN_CHANGED))
            .into_iter()
            .flatten(),
    );
    rows.extend(
        ours.hinted
            .map(|used| pair(what("that repository hinted, its directory walked"), used, changed, SCAN_CHANGED))
            .into_iter()
            .flatten(),
    );
    if let Some(theirs) = list {
        let (ours, theirs) = (place.database.counts()?, theirs.counts);
        ensure!(ours[..2] == theirs[..2], "directories, repositories, checksums: ours {ours:?}, umdl's {theirs:?}");
    }
    Ok(rows)
}

/// umdl on a database of its own: with the list that is there and is changed then, or else a walk.
fn theirs(umdl: &Umdl, kind: &Kind, dir: &Path, root: &Path, tree: Option<&mut Tree>) -> Result<Theirs> {
    let walk = tree.is_none();
    eprintln!("  umdl {} …", if walk { "walks" } else { "reads the list" });
    let database = kind.database(dir, if walk { "umdl-walk" } else { "umdl-list" }, Some(umdl))?;
    let once = || umdl.run(&database, dir, root, walk);
    let (fill, second, same) = (once()?, once()?, once()?);
    let changed = tree.map(|tree| {
        let repository = tree.repositories().into_iter().nth(1).unwrap_or_default();
        tree.update(&repository);
        tree.write_update(root, &repository)?;
        tree.write_list(root)?;
        once()
    });
    Ok(Theirs { fill, second, same, changed: changed.transpose()?, counts: database.counts()? })
}

/// Three lines: processor time, time and memory.
fn pair(what: String, ours: Used, theirs: Option<Used>, note: &str) -> Vec<Row> {
    let row = |kind: &str, ours: f64, theirs: Option<f64>, unit| {
        let row = Row::new(BENCH, format!("{what}{kind}"), ours, unit);
        theirs.into_iter().fold(row, |row, theirs| row.beside("umdl", theirs))
    };
    let server = theirs.map_or_else(String::new, |used| format!(", umdl's {:.2}", used.server));
    let server =
        if ours.server > 0.0 { format!("and the server {:.2} s{server}; ", ours.server) } else { String::new() };
    vec![
        row(": processor time", ours.cpu, theirs.map(|used| used.cpu), "s").note(format!("{server}{note}")),
        row("", ours.wall, theirs.map(|used| used.wall), "s"),
        row(": memory at most", ours.peak_mib, theirs.map(|used| used.peak_mib), "MiB"),
    ]
}

/// `find` over the whole tree.
fn find(root: &Path) -> Result<Used> {
    let mut command = Command::new("find");
    command.arg(root.join(TOP)).args(["-printf", r"%P\t%y\t%m\t%s\t%T@\t%C@\n"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // The first one fills the kernel's memory of the tree, for all.
    command.status()?;
    let (status, cost) = cost_with(&[], || Ok(command.status()?))?;
    ensure!(status.success(), "find: {status}");
    Ok(Used { wall: cost.wall, cpu: cost.ours, ..Used::default() })
}

/// A list, and only those files that are read.
fn list_only(env: &Env, times: usize) -> Result<(usize, Costs)> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("mirror");
    let tree = Tree::of(times, env.short);
    let (_, files) = tree.count()?;
    eprintln!("  a list of {files} files …");
    tree.write(&root, true)?;
    let list = Some(tree.write_list(&root)?);
    let database = Kind::Sqlite.database(dir.path(), "list", None)?;
    let costs = Place { dir: dir.path().join("handler"), root, list, database }.costs(env, None)?;
    Ok((files, costs))
}

/// Beside the smallest.
fn linear(files: usize, costs: &Costs, (base_files, base): (usize, Costs)) -> Vec<Row> {
    let row = |kind: &str, ours: f64, theirs: f64, unit| {
        let row = Row::new(BENCH, format!("a list of {files}: {kind}"), ours, unit);
        if files == base_files { row } else { row.beside(format!("a list of {base_files}"), theirs) }
    };
    let each = |used: Used, files: usize| used.cpu * 1e6 / files as f64;
    vec![
        row("first fill: processor time a file", each(costs.fill, files), each(base.fill, base_files), "µs"),
        row("nothing changed: processor time a file", each(costs.same, files), each(base.same, base_files), "µs"),
        row("first fill: processor time", costs.fill.cpu, base.fill.cpu, "s"),
        row("nothing changed: processor time", costs.same.cpu, base.same.cpu, "s"),
        row("first fill: memory at most", costs.fill.peak_mib, base.fill.peak_mib, "MiB"),
        row("nothing changed: memory at most", costs.same.peak_mib, base.same.peak_mib, "MiB"),
    ]
}
