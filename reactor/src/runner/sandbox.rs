//! `plan` and `describe` may read the world and write nothing: Landlock holds them to it where the kernel has it.
//!
//! A Landlock domain belongs to a thread and is inherited over fork and exec, and `unsafe` code (a hook between fork and
//! exec) is forbidden here. So the thread that starts the child restricts *itself* first, and ends right after.
//!
//! What it does not cover: the network, Unix sockets that are already there, signals, and files that the child was given
//! open. With Landlock comes `no_new_privs`: in `plan`, set-user-ID programs such as `sudo` gain nothing.

use std::io;
use std::path::Path;

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};

/// What may be written to beside the working directory.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx"];
/// The version of Landlock whose rights are asked for; an older kernel enforces those it knows. Version 3 (Linux 6.2) is
/// the first that also covers truncation.
const WANTED: ABI = ABI::V3;

/// Whether this kernel has Landlock, and it is switched on.
pub(super) fn is_there() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}

/// Takes from this thread, and from all it starts, the right to write anywhere but in `work` and to a few devices.
///
/// # Errors
/// Where the kernel refuses: then nothing may be started from this thread.
pub(super) fn restrict_this_thread(work: &Path) -> io::Result<()> {
    restrict(work).map_err(|error| io::Error::other(format!("Landlock: {error}")))
}

fn restrict(work: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let write = AccessFs::from_write(WANTED);
    let mut rules = Ruleset::default().handle_access(write)?.create()?;
    rules = rules.add_rule(PathBeneath::new(PathFd::new(work)?, write))?;
    for device in DEVICES.into_iter().filter(|device| Path::new(device).exists()) {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(device)?, write & AccessFs::from_file(WANTED)))?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err("it is not enforced".into()),
        _ => Ok(()),
    }
}
