//! What must change so that package lists are as the truth says. Pure.
//!
//! One package in one tag at a time ([`Draft::judge`]); a package list is never shortened. Then [`Draft::settle`], once it is known
//! who has no account. [`tell`] makes changes of the steps, and steps of changes; [`notes`] says what is left alone.

pub mod notes;
pub mod tell;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use handler_api::Failure;

use self::notes::{Kind, Notes};
use crate::hub::{Entry, What, Write};
use crate::names::{BranchName, PackageName, TagName, UserName};
use crate::tags::ByBranch;
use crate::truth::{All, Branch};

/// Most tags that are looked after.
pub const TAGS_MAX: usize = 500;

/// What the site wants of every plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// The name of nobody: who gets it loses what stood there before.
    pub orphan: UserName,
    /// Who gets a package whose owner has no account, as Koji says for certain; `None` = it stays as it is.
    pub no_account: Option<UserName>,
    /// Whether a block always waits for a person.
    pub hold_block: bool,
    /// Whether an owner who becomes [`Self::orphan`] always waits for a person.
    pub hold_orphan: bool,
    /// What a package gets beside the tag's architectures when it is added; parted by spaces.
    pub extra_arches: BTreeMap<PackageName, String>,
}

/// One difference, and what is there before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is written.
    pub write: Write,
    /// Who owns it before; `None` = it is not in the list.
    pub was: Option<String>,
    /// Why it always waits for a person.
    pub hold: Option<String>,
}

/// The branch that each tag stands for.
///
/// # Errors
/// Permanent: there are more than [`TAGS_MAX`].
pub fn by_tag(tags: ByBranch) -> Result<BTreeMap<TagName, BranchName>, Failure> {
    // That no tag stands for two is seen to where they are read.
    let pairs = tags.into_iter().flat_map(|(branch, tags)| tags.into_iter().map(move |tag| (tag, branch.clone())));
    let by_tag: BTreeMap<TagName, BranchName> = pairs.collect();
    if by_tag.len() > TAGS_MAX {
        let message = format!("{} tags are to be looked after, at most {TAGS_MAX} can be", by_tag.len());
        return Err(Failure::permanent(message).hinting("see `tags` of the handler's block"));
    }
    Ok(by_tag)
}

/// A plan that is being made.
#[derive(Debug, Default)]
pub struct Draft {
    steps: Vec<Step>,
    notes: Notes,
}

/// One package in one tag.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The tag.
    pub tag: &'a TagName,
    /// The package.
    pub package: &'a PackageName,
    /// What the truth says of the branch that the tag stands for.
    pub truth: &'a Branch,
    /// What the tag's list has; `None` = nothing.
    pub entry: Option<&'a Entry>,
}

/// The list of a tag.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// The tag.
    pub tag: &'a TagName,
    /// The branch that it stands for.
    pub branch: &'a BranchName,
    /// All of it, inherited rows too.
    pub entries: &'a [Entry],
}

impl Draft {
    /// Compares. `looked_after` says whether another tag is kept true by this handler too.
    pub fn judge(&mut self, case: Case<'_>, ways: &Ways, looked_after: impl Fn(&str) -> bool) {
        let Case { tag, package, truth, entry } = case;
        let Some(entry) = entry else {
            // What is retired and was never there need not come.
            if truth.retired != Some(true) {
                let extra_arches = ways.extra_arches.get(package).cloned();
                self.step(case, What::Add { owner: truth.owner.clone(), extra_arches }, None);
            }
            return;
        };
        match (truth.retired, entry.blocked) {
            (Some(true), true) => return,
            // Who owned a retired package means nothing any more.
            (Some(true), false) => {
                let hold = format!("builds of {package} would be refused in {tag}");
                return self.step(case, What::Block, ways.hold_block.then_some(hold));
            }
            // Retired or not, nobody knows: neither its block nor its owner is touched.
            (None, true) => return,
            // In its own tag the block goes away; an inherited one gets a row over it that is not blocked.
            (Some(false), true) => self.step(case, What::Unblock, None),
            (_, false) => {}
        }
        if entry.owner == truth.owner.as_str() {
            return;
        }
        let stands_here = entry.tag == tag.as_str();
        if !stands_here && !entry.blocked {
            // The hub would say yes, and go on showing the other tag's owner.
            if !looked_after(&entry.tag) {
                self.notes.add(tag, Kind::OwnerInherited { from: entry.tag.clone() }, package.as_str(), None);
            }
            return;
        }
        let hold = format!("{package} would have no owner in {tag}: the truth says {}", ways.orphan);
        let hold = (ways.hold_orphan && truth.owner == ways.orphan).then_some(hold);
        self.step(case, What::SetOwner(truth.owner.clone()), hold);
    }

    fn step(&mut self, case: Case<'_>, what: What, hold: Option<String>) {
        let write = Write { tag: case.tag.clone(), package: case.package.clone(), what };
        self.steps.push(Step { write, was: case.entry.map(|entry| entry.owner.clone()), hold });
    }

    /// Compares the whole of a tag's list. What it has, and the truth has not, is left alone, and counted.
    pub fn judge_list(&mut self, list: List<'_>, all: &All, ways: &Ways, looked_after: impl Fn(&str) -> bool) {
        let List { tag, branch, entries } = list;
        let mut rest: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.package.as_str(), entry)).collect();
        for (package, branches) in &all.packages {
            if let Some(truth) = branches.branches.get(branch) {
                let entry = rest.remove(package.as_str());
                self.judge(Case { tag, package, truth, entry }, ways, &looked_after);
            }
        }
        let stands_here = |entry: &&Entry| entry.tag == tag.as_str() && !entry.blocked;
        for entry in entries.iter().filter(stands_here) {
            if rest.contains_key(entry.package.as_str()) && !all.left_alone.contains_key(&entry.package) {
                self.notes.add(tag, Kind::NotInTruth, &entry.package, None);
            }
        }
    }

    /// Who would get a package: whoever of them has no account can't.
    #[must_use]
    pub fn new_owners(&self) -> BTreeSet<UserName> {
        self.steps.iter().filter_map(|step| new_owner(&step.write.what).cloned()).collect()
    }

    /// The plan, now that it is known who has no account (`missing`, of [`Self::new_owners`] and `no_account`). `alone`: one package
    /// was asked for, so that leaving it as it is would look like success.
    ///
    /// # Errors
    /// Permanent: who gets a package has no account and `alone` is true; whoever should get it instead has none either.
    pub fn settle(self, missing: &BTreeSet<UserName>, ways: &Ways, alone: bool) -> Result<(Vec<Step>, Notes), Failure> {
        let Self { steps, mut notes } = self;
        let mut kept = Vec::with_capacity(steps.len());
        for mut step in steps {
            let Some(owner) = new_owner(&step.write.what).filter(|owner| missing.contains(*owner)).cloned() else {
                kept.push(step);
                continue;
            };
            let Write { tag, package, what } = &mut step.write;
            match &ways.no_account {
                Some(instead) if missing.contains(instead) => return Err(no_account_either(&owner, instead)),
                Some(instead) => {
                    notes.add(tag, Kind::OwnedInstead { instead: instead.clone() }, package.as_str(), Some(&owner));
                    if step.was.as_deref() == Some(instead.as_str()) {
                        continue;
                    }
                    if let What::Add { owner, .. } | What::SetOwner(owner) = what {
                        owner.clone_from(instead);
                    }
                    kept.push(step);
                }
                None if alone => return Err(no_account(tag, package, &owner)),
                None => notes.add(tag, Kind::NoAccount, package.as_str(), Some(&owner)),
            }
        }
        Ok((kept, notes))
    }
}

/// How a step stands to what is there by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It is still to be done.
    Open,
    /// It is done already.
    Done,
    /// Something else is there than when it was planned.
    Moved,
}

impl Step {
    /// Compares with what is there now. `unblocked`: the same plan unblocks the package first.
    #[must_use]
    pub fn stand(&self, now: Option<&Entry>, unblocked: bool) -> Stand {
        let Some(entry) = now else {
            return if matches!(self.write.what, What::Add { .. }) { Stand::Open } else { Stand::Moved };
        };
        let stands_here = entry.tag == self.write.tag.as_str();
        let (is_done, is_open) = match &self.write.what {
            What::Add { owner, .. } => (entry.owner == owner.as_str() && !entry.blocked, false),
            What::SetOwner(owner) => {
                let may_be_set = unblocked || (stands_here && !entry.blocked);
                (entry.owner == owner.as_str(), may_be_set && self.was.as_ref() == Some(&entry.owner))
            }
            What::Block => (entry.blocked, true),
            What::Unblock => (!entry.blocked, true),
        };
        match (is_done, is_open) {
            (true, _) => Stand::Done,
            (false, true) => Stand::Open,
            (false, false) => Stand::Moved,
        }
    }
}

/// Who gets the package.
const fn new_owner(what: &What) -> Option<&UserName> {
    match what {
        What::Add { owner, .. } | What::SetOwner(owner) => Some(owner),
        What::Block | What::Unblock => None,
    }
}

fn no_account(tag: &TagName, package: &PackageName, owner: &UserName) -> Failure {
    Failure::permanent(format!("{tag}: {package} belongs to {owner}, who has no account in Koji")).hinting(format!(
        "let {owner} log in to Koji once (koji hello), then: reactor retry ID. Or say in the handler's block who gets such packages: no_account: {{owner: NAME}}"
    ))
}

fn no_account_either(owner: &UserName, instead: &UserName) -> Failure {
    Failure::permanent(format!(
        "{owner} has no account in Koji, and {instead}, who should get such packages (`no_account`), has none either"
    ))
    .hinting("write no_account: {owner: NAME} with somebody who has one, then: reactor retry ID")
}

#[cfg(test)]
mod tests;
