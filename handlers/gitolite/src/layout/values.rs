//! What a template is given. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Membership;
use crate::names::{List, RepoName};
use crate::truth::{People, Repo};

/// The values, and the lists whose names are among them.
pub(super) struct Values {
    pub(super) context: Value,
    pub(super) lists: BTreeMap<List, People>,
}

/// The values for one repository. With [`Membership::Asked`] they are the same whoever is in a list, so that a change of
/// people is no change of the rules.
pub(super) fn of(name: &RepoName, repo: &Repo, membership: Membership) -> Values {
    let mut lists = BTreeMap::new();
    let mut text = |list: Option<List>, people: &People| match list {
        Some(list) if membership == Membership::Asked && !people.everyone => {
            let text = format!("@{list}");
            lists.insert(list, people.clone());
            text
        }
        _ => written_out(people),
    };
    let commit = text(Some(List::commit(name)), &repo.commit);
    let branches: Vec<Value> = repo
        .branches
        .iter()
        .map(|(branch, own)| {
            let who = own.as_ref().map_or_else(|| commit.clone(), |people| text(List::of_branch(name, branch), people));
            json!({ "name": branch.as_str(), "ref": branch.refex(), "own": own.is_some(), "commit": who })
        })
        .collect();
    let any = if repo.branches.values().any(Option::is_some) {
        text(Some(List::any(name)), &union(repo))
    } else {
        commit.clone()
    };
    let deploy_keys: Vec<Value> =
        repo.deploy_keys.iter().map(|(key, write)| json!({ "name": key.as_str(), "write": write })).collect();
    let nobody = any.is_empty() && !repo.deploy_keys.values().any(|write| *write);
    let context = json!({
        "repo": name.as_str(),
        "namespace": name.namespace(),
        "name": name.base(),
        "fork": repo.fork,
        "pull_requests_only": repo.pull_requests_only,
        "commit": commit,
        "any": any,
        "branches": branches,
        "deploy_keys": deploy_keys,
        "nobody": nobody,
    });
    Values { context, lists }
}

/// Whoever may commit somewhere.
fn union(repo: &Repo) -> People {
    let mut all = repo.commit.clone();
    for people in repo.branches.values().flatten() {
        all.users.extend(people.users.iter().cloned());
        all.groups.extend(people.groups.iter().cloned());
        all.everyone |= people.everyone;
    }
    all
}

/// `alice bob @perl-sig`, sorted; empty = nobody.
fn written_out(people: &People) -> String {
    if people.everyone {
        return "@all".to_owned();
    }
    let users = people.users.iter().map(ToString::to_string);
    let groups = people.groups.iter().map(|group| format!("@{group}"));
    users.chain(groups).collect::<Vec<_>>().join(" ")
}
