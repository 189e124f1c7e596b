//! Its arguments. Pure. Directories never stand in them: they are its `--files-from`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::paths::OWN;

/// Without a byte for so long, in seconds, an rsync ends with 30.
pub const SILENCE_SECONDS_MAX: u64 = 300;
/// To reach a daemon, in seconds.
pub const CONNECT_SECONDS_MAX: u64 = 60;
/// The largest marker or trace that is believed, in KiB.
pub const OWN_KIB_MAX: u64 = 512;
/// Where what has half arrived waits, beside its place.
const PARTIAL: &str = ".~tmp~";

/// What each rsync gets.
#[must_use]
pub fn each(config: &Config) -> Vec<String> {
    let silence = SILENCE_SECONDS_MAX.min(config.time.as_secs().max(1));
    let mut args = vec!["--secluded-args".to_owned(), "--no-motd".to_owned(), format!("--timeout={silence}")];
    if config.is_remote() {
        args.push(format!("--contimeout={}", CONNECT_SECONDS_MAX.min(config.time.as_secs().max(1))));
        args.extend(password_file().map(|file| format!("--password-file={}", file.display())));
    }
    args.extend(config.bandwidth.map(|bytes| format!("--bwlimit={}", bytes / 1_024)));
    args
}

/// The secret `rsync_password`, where there is one.
fn password_file() -> Option<PathBuf> {
    let file = PathBuf::from(std::env::var_os("REACTOR_SECRETS")?).join("rsync_password");
    file.is_file().then_some(file)
}

/// What a mirror keeps: times, modes, links; not owners, devices, or links that lead out.
fn tree(config: &Config) -> Vec<String> {
    let mut args: Vec<String> =
        ["-rlptH", "--no-owner", "--no-group", "--no-devices", "--no-specials", "--safe-links", "--relative"]
            .map(str::to_owned)
            .to_vec();
    args.push(format!("--exclude=/{OWN}"));
    args.extend(config.excludes.iter().map(|pattern| format!("--exclude={pattern}")));
    args
}

fn between(config: &Config, mut args: Vec<String>) -> Vec<String> {
    args.extend(["--from0".into(), "--files-from=-".into(), format!("{}/", config.from)]);
    args.push(format!("{}/", config.to.display()));
    args
}

/// The dry run.
#[must_use]
pub fn dry(config: &Config) -> Vec<String> {
    let mut args = tree(config);
    args.extend(
        ["--dry-run", "--delete", "--delete-missing-args", "--info=stats2", "--no-human-readable"].map(str::to_owned),
    );
    args.push("--out-format=%i %l %n".into());
    between(config, args)
}

/// Stage 1: everything but `last`; nothing is deleted but what stands in the way of what was planned.
#[must_use]
pub fn stage_one(config: &Config, deletes: u64) -> Vec<String> {
    let mut args = tree(config);
    args.extend(config.last.iter().map(|pattern| format!("--exclude={pattern}")));
    args.extend(["--ignore-missing-args", "--force"].map(str::to_owned));
    args.push(format!("--max-delete={deletes}"));
    args.push(format!("--partial-dir={PARTIAL}"));
    args.extend(["--info=progress2,stats2", "--no-human-readable"].map(str::to_owned));
    between(config, args)
}

/// Stage 2: everything that is left, put in place at once at the end; then deletions, as many as were planned.
#[must_use]
pub fn stage_two(config: &Config, deletes: u64) -> Vec<String> {
    let mut args = tree(config);
    args.extend(["--delay-updates", "--delete-after", "--delete-missing-args"].map(str::to_owned));
    args.push(format!("--max-delete={deletes}"));
    args.extend(["--info=progress2,stats2", "--no-human-readable"].map(str::to_owned));
    between(config, args)
}

/// What the upstream says of itself, into an empty directory.
#[must_use]
pub fn look(config: &Config, into: &Path) -> Vec<String> {
    let own = [format!("--include=/{OWN}/"), format!("--include=/{OWN}/*"), "--exclude=*".to_owned()];
    let mut args = vec!["-rt".to_owned(), "--chmod=u+rwX".to_owned(), format!("--max-size={OWN_KIB_MAX}k")];
    args.extend(own);
    args.extend([format!("{}/", config.from), format!("{}/", into.display())]);
    args
}

/// Whether a directory is there: 0, or 23.
#[must_use]
pub fn exists(config: &Config, directory: &str) -> Vec<String> {
    let place = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    vec!["--dirs".into(), "--list-only".into(), "--exclude=*".into(), format!("{}/{place}", config.from)]
}

/// Directories as rsync reads them from stdin. The `./` keeps a name from meaning anything else.
#[must_use]
pub fn names(directories: &BTreeSet<String>) -> Vec<u8> {
    directories.iter().flat_map(|directory| format!("./{directory}\0").into_bytes()).collect()
}
