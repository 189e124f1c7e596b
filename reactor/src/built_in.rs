//! The table of built-in handlers: a new one is one more line. Each runs as a child `reactor handler NAME VERB`, as any other
//! handler does; only its settings are looked at in the process that reads the rules file.

use handler_api::Failure;
use serde_json::{Map, Value};

/// One built-in handler.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// What stands behind `use:`.
    pub name: &'static str,
    /// Runs it with this verb; the exit code.
    pub serve: fn(&str) -> i32,
    /// Looks at its settings, every word beside `use:`, without asking anybody.
    pub check: fn(&Map<String, Value>) -> Result<(), Failure>,
    /// Looks at the files that good settings name, for `reactor check`: what is wrong with each.
    pub check_files: fn(&Map<String, Value>) -> Vec<Failure>,
}

/// All of them, in the order of their names. [`crate::rules::site::BUILT_IN`] has the names.
pub const ALL: &[BuiltIn] = &[
    BuiltIn {
        name: "gitolite",
        serve: |verb| handler_api::serve(gitolite::Gitolite::new(), verb),
        check: gitolite::check_config,
        check_files: gitolite::check_files,
    },
    BuiltIn {
        name: "koji-owners",
        serve: |verb| handler_api::serve(koji_owners::KojiOwners::new(), verb),
        check: koji_owners::check_config,
        check_files: koji_owners::check_files,
    },
    BuiltIn {
        name: "mirror-db",
        serve: |verb| handler_api::serve(mirror_db::MirrorDb::new(), verb),
        check: mirror_db::check_config,
        check_files: mirror_db::check_files,
    },
    BuiltIn {
        name: "mirror-pull",
        serve: |verb| handler_api::serve(mirror_pull::MirrorPull::new(), verb),
        check: mirror_pull::check_config,
        check_files: mirror_pull::check_files,
    },
    BuiltIn {
        name: "ssh-keys",
        serve: |verb| handler_api::serve(ssh_keys::SshKeys::new(), verb),
        check: ssh_keys::check_config,
        check_files: ssh_keys::check_files,
    },
];

/// The one of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    ALL.iter().find(|one| one.name == name)
}

/// Looks at the settings of a built-in handler.
///
/// # Errors
/// What is wrong with them; that there is no such handler.
pub fn check(name: &str, settings: &Map<String, Value>) -> Result<(), Failure> {
    let one = find(name).ok_or_else(|| Failure::permanent(format!("there is no built-in handler `{name}`")))?;
    (one.check)(settings)
}

/// What is wrong with the files that the good settings of a built-in handler name. Blocks, and not for asynchronous code.
#[must_use]
pub fn check_files(name: &str, settings: &Map<String, Value>) -> Vec<Failure> {
    find(name).map(|one| (one.check_files)(settings)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::site::BUILT_IN;

    #[test]
    fn the_rules_know_the_same_names() {
        assert_eq!(ALL.iter().map(|one| one.name).collect::<Vec<_>>(), BUILT_IN);
        assert!(check("nosuch", &Map::new()).is_err());
    }
}
