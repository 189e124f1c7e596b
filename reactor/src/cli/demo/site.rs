//! The scratch site: the repository's rules.yaml and example handlers, with keys and target files of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;

use super::CROWD;
use crate::trust::demo_pki::DemoPki;

/// Where the handlers' target stands, from the site's directory.
pub const ALIASES: &str = "handlers/examples/site/aliases";
const ACCOUNTS: &str = "handlers/examples/site/accounts";
/// The accounts of the handler ssh-keys.
pub const SSH_ACCOUNTS: &str = "handlers/ssh-keys/example/accounts.yaml";
/// The address in rules.yaml, which becomes one that is free.
const ADDRESS: &str = "tcp://127.0.0.1:9940";

const FILES: [(&str, &str, u32); 10] = [
    ("handlers/examples/mail-alias", include_str!("../../../../handlers/examples/mail-alias"), 0o755),
    ("handlers/examples/host-access", include_str!("../../../../handlers/examples/host-access"), 0o755),
    ("handlers/examples/notice", include_str!("../../../../handlers/examples/notice"), 0o755),
    (ALIASES, include_str!("../../../../handlers/examples/site/aliases"), 0o644),
    (ACCOUNTS, include_str!("../../../../handlers/examples/site/accounts"), 0o644),
    (
        "handlers/examples/site/access.d/sysadmin-web.conf",
        include_str!("../../../../handlers/examples/site/access.d/sysadmin-web.conf"),
        0o644,
    ),
    ("handlers/examples/site/access.d/root-keepers.conf", "+:toshio:ALL\n", 0o644),
    (SSH_ACCOUNTS, include_str!("../../../../handlers/ssh-keys/example/accounts.yaml"), 0o644),
    (
        "handlers/ssh-keys/example/authorized_keys.d/eve",
        include_str!("../../../../handlers/ssh-keys/example/authorized_keys.d/eve"),
        0o644,
    ),
    (
        "handlers/ssh-keys/example/authorized_keys.d/toshio",
        include_str!("../../../../handlers/ssh-keys/example/authorized_keys.d/toshio"),
        0o644,
    ),
];

/// Writes the site below `dir`, with its bus at `address`.
pub fn write(dir: &Path, address: &str, pki: &DemoPki) -> anyhow::Result<()> {
    let hub = super::koji::hub().context("no address for the hub of the demo")?;
    let rules = include_str!("../../../../rules.yaml").replace(ADDRESS, address).replace(super::koji::ADDRESS, &hub);
    put(dir, "rules.yaml", rules.as_bytes(), 0o644)?;
    for (name, text, mode) in FILES {
        put(dir, name, text.as_bytes(), mode)?;
    }
    let mirrors = super::mirrors::FILES.into_iter().chain(super::pull::FILES).chain(super::koji::FILES);
    for (name, bytes) in super::git::FILES.into_iter().chain(mirrors) {
        put(dir, name, bytes, 0o644)?;
    }
    let mut accounts = fs::read_to_string(dir.join(ACCOUNTS))?;
    (0..CROWD).for_each(|n| accounts.push_str(&format!("{}:{}\n", crowd_user(n), crowd_address(n))));
    fs::write(dir.join(ACCOUNTS), accounts)?;
    put(dir, "pki/ca.crt", pki.ca_pem.as_bytes(), 0o644)?;
    put(dir, "pki/crl.pem", pki.crl_pem.as_bytes(), 0o644)
}

fn put(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let path = dir.join(name);
    let parent = path.parent().unwrap_or(dir);
    fs::create_dir_all(parent).with_context(|| format!("{} can't be made", parent.display()))?;
    // As on a real mirror, whatever the umask here is; the scratch directory itself is private.
    for below in parent.ancestors().take_while(|below| *below != dir) {
        fs::set_permissions(below, fs::Permissions::from_mode(0o755))?;
    }
    fs::write(&path, bytes).with_context(|| format!("{} can't be written", path.display()))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

/// Replaces a text in a file of the site, whole or not at all: a handler may be reading it.
pub fn replace(dir: &Path, name: &str, old: &str, new: &str) -> anyhow::Result<()> {
    let (path, beside) = (dir.join(name), dir.join(format!("{name}.new")));
    fs::write(&beside, fs::read_to_string(&path)?.replace(old, new))?;
    Ok(fs::rename(&beside, &path)?)
}

/// One of the many users.
pub fn crowd_user(n: usize) -> String {
    format!("user{n:03}")
}

/// The address that the accounts have for one of them.
pub fn crowd_address(n: usize) -> String {
    format!("{}@new.example", crowd_user(n))
}
