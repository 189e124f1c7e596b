//! One of 2,000 ssh keys changes: in keydir, of which gitolite makes an authorized_keys file, and on `members`, where sshd asks
//! for it at each login. No repositories here: compiling them comes on top of keydir.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use reactor_tests::gitolite::Gitolite;
use ring::digest::{SHA256, digest};

use super::admin::Admin;
use super::conf::File;
use super::site::{self, Rc};
use super::{BENCH, TIMES, row};
use crate::Env;
use crate::ssh_keys::new_keys;
use crate::ssh_keys::work::{Cost, median};
use crate::table::Row;

/// Changes of a key, each of which costs gitolite an `ssh-keygen` for every key that there is.
const CHANGES: usize = 3;

/// Runs it.
///
/// # Errors
/// When something does not work at all.
pub fn run(env: &Env) -> Result<Vec<Row>> {
    let (all, changes) = (env.size(2_000, 20), env.size(CHANGES, 1));
    eprintln!("  {all} keys …");
    let keys = new_keys(all + TIMES)?;
    let keydir = measure(env, &keys[..all], &keys[all..all + changes], false)?;
    let asked = measure(env, &keys[..all], &keys[all..], true)?;
    let what = |what: &str| format!("{all} keys: {what}");
    let cpu = format!("processor time {:.2} s beside {:.2} s", super::cpu(&asked.change), super::cpu(&keydir.change));
    Ok(vec![
        Row::new(BENCH, what("one changed, pushed to `members`"), median(asked.change).wall, "s")
            .beside("in keydir, authorized_keys made anew", median(keydir.change).wall)
            .note(cpu),
        row(what("a login (`ssh … help`), sshd asks for the key"), &asked.login)
            .beside("a line for each key in authorized_keys", median(keydir.login).wall),
    ])
}

struct Measured {
    change: Vec<Cost>,
    login: Vec<Cost>,
}

fn measure(env: &Env, keys: &[String], new: &[String], asked: bool) -> Result<Measured> {
    let gitolite = site::start(0, asked)?;
    site::write_rc(&gitolite, Rc::default())?;
    let mut admin = Admin::new(&gitolite)?;
    let branch = if asked { "members" } else { "master" };
    let file = |n: usize, key: &str| if asked { on_members(n, key) } else { Ok(in_keydir(n, key)) };
    let mut files = (0..).zip(keys).map(|(n, key)| file(n, key)).collect::<Result<Vec<File>>>()?;
    if asked {
        // So that alice, too, comes in by what sshd asks for, and not by the line that keydir made.
        files.push(on_members(0, &gitolite.keys["alice"].public).map(|(path, line)| (path, renamed(&line)))?);
        admin.commit("master", &["keydir/alice.pub"], &[])?;
        admin.push("master")?;
    }
    admin.commit(branch, &[], &files)?;
    admin.push(branch)?;
    let once = |(n, key): (usize, &String)| {
        admin.commit(branch, &[], &[file(n, key)?])?;
        admin.push(branch)
    };
    let change = (0..).zip(new).map(once).collect::<Result<_>>()?;
    let login = logins(env, &gitolite, &admin)?;
    Ok(Measured { change, login })
}

fn logins(env: &Env, gitolite: &Gitolite, admin: &Admin) -> Result<Vec<Cost>> {
    let once = |_| {
        let mut ssh = std::process::Command::new("ssh");
        ssh.arg("-F").arg(gitolite.dir.join("ssh_config")).args(["-n", "as-alice", "help"]);
        let (output, cost) = admin.cost(|| Ok(ssh.output()?))?;
        ensure!(output.status.success(), "alice: {}", String::from_utf8_lossy(&output.stderr));
        Ok(cost)
    };
    (0..env.size(TIMES, 3)).map(once).collect()
}

fn in_keydir(n: usize, key: &str) -> File {
    (format!("keydir/bench/user{n:04}.pub"), format!("{key}\n"))
}

/// As the handler writes it: `handlers/gitolite/src/files.rs`.
fn on_members(n: usize, key: &str) -> Result<File> {
    let mut words = key.split(' ');
    let (kind, blob) = (words.next().context("a key")?, words.next().context("a key")?);
    let print = STANDARD_NO_PAD.encode(digest(&SHA256, &STANDARD.decode(blob)?));
    let print = print.replace('/', "_");
    Ok((format!("keys/{}/{print}", &print[..2]), format!("user{n:04} {kind} {blob}\n")))
}

fn renamed(line: &str) -> String {
    line.replacen("user0000", "alice", 1)
}
