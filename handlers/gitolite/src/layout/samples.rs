//! Made-up repositories, to try a template on. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{BranchName, GroupName, RepoName, UserName};
use crate::truth::{People, Repo};

/// One of each kind: a package, one whose branches have people of their own, one to which nobody or everyone may commit, a
/// fork, pull requests only.
pub(super) fn all() -> Result<Vec<(RepoName, Repo)>, String> {
    let package = RepoName::parse("rpms/sample")?;
    let fork = RepoName::parse("forks/alice/rpms/sample")?;
    let people = People {
        users: BTreeSet::from([UserName::parse("alice")?, UserName::parse("bob")?]),
        groups: BTreeSet::from([GroupName::parse("perl-sig")?]),
        everyone: false,
    };
    let everyone = People { everyone: true, ..People::default() };
    let (f41, epel) = (BranchName::parse("f41")?, BranchName::parse("epel10.1")?);
    let deploy_keys =
        BTreeMap::from([(UserName::parse("deploykey_1")?, true), (UserName::parse("deploykey_2")?, false)]);
    let shared = BTreeMap::from([(f41.clone(), None), (epel.clone(), None)]);
    let full = Repo { commit: people.clone(), branches: shared, deploy_keys, ..Repo::default() };
    let own = BTreeMap::from([(f41, Some(people.clone())), (epel, Some(everyone.clone()))]);
    Ok(vec![
        (package.clone(), full.clone()),
        (package.clone(), Repo { branches: own, ..full.clone() }),
        (package.clone(), Repo::default()),
        (package.clone(), Repo { commit: everyone, ..full.clone() }),
        (package, Repo { pull_requests_only: true, ..full }),
        (fork, Repo { commit: people, fork: true, ..Repo::default() }),
    ])
}
