//! The rules of a repository, compared rule by rule.

use std::collections::BTreeMap;

use handler_api::{Action, Failure};

use super::Work;
use super::tell::{Of, change, held, shown};
use crate::files::{self, Branch};
use crate::grammar::{self, Rule, Section};
use crate::layout::{Membership, Rendered};
use crate::names::RepoName;

impl Work<'_> {
    /// The rules and lists of one repository; `None` = there is none of that name any more.
    pub(super) fn repo(&mut self, name: &RepoName, wanted: Option<&Rendered>) -> Result<(), Failure> {
        let Some(wanted) = wanted else { return self.repo_goes(name) };
        self.rules(name, &wanted.text)?;
        match self.membership {
            Membership::Compiled => Ok(()),
            Membership::Asked => self.lists(name, &wanted.lists),
        }
    }

    /// What a repository that is no more has left.
    pub(super) fn repo_goes(&mut self, name: &RepoName) -> Result<(), Failure> {
        self.rules(name, "")?;
        match self.membership {
            Membership::Compiled => Ok(()),
            Membership::Asked => self.lists_go(name),
        }
    }

    fn rules(&mut self, name: &RepoName, wanted: &str) -> Result<(), Failure> {
        let path = files::conf_repo(name);
        let before = self.now.read(Branch::Master, &path)?;
        let after = (!wanted.is_empty()).then(|| wanted.as_bytes().to_vec());
        if before == after {
            return Ok(());
        }
        let of = Of::Rules(name.clone());
        match (&before, &after) {
            (Some(before), None) => {
                let gone = change(Action::Delete, format!("{name}: all rules"), Some(shown(before)), None);
                self.tell(of, held(gone, Some(format!("{name}: all access by its rules goes"))));
            }
            (Some(before), Some(after)) => self.compare(name, before, after, wanted)?,
            (None, _) => {
                let (new, from) = (read(name, wanted)?, self.tellings.len());
                new.rules.iter().for_each(|rule| self.comes(&of, rule, false));
                if new.rules.is_empty() {
                    let target = format!("{name}: rules");
                    self.tell(of, change(Action::Create, target, None, Some(shown(wanted.as_bytes()))));
                }
                if let Some(why) = self.new_repo_waits(name)? {
                    self.hold_from(from, &why);
                }
            }
        }
        self.edit(Branch::Master, path, before.as_deref(), after);
        Ok(())
    }

    fn compare(&mut self, name: &RepoName, before: &[u8], after: &[u8], wanted: &str) -> Result<(), Failure> {
        let of = Of::Rules(name.clone());
        let new = read(name, wanted)?;
        let target = format!("{name}: rules");
        let whole = change(Action::Update, target, Some(shown(before)), Some(shown(after)));
        let old = match std::str::from_utf8(before).map_err(|_| "it is no UTF-8".to_owned()) {
            Ok(text) => grammar::read(text).map_err(|wrong| format!("line {}: {}", wrong.line, wrong.why)),
            Err(why) => Err(why),
        };
        let old = match old {
            Ok(old) => old,
            Err(why) => {
                let path = files::conf_repo(name);
                self.notes.push(format!("{path} was changed by hand and can't be read ({why}); it is written anew"));
                let why = "what stood there can't be read: who loses access is not known";
                self.tell(of, held(whole, Some(why.to_owned())));
                return Ok(());
            }
        };
        let counts = counts(&old, &new);
        let mut differ = false;
        for (rule, n) in &counts {
            for _ in 0..n.unsigned_abs() {
                differ = true;
                if *n > 0 { self.comes(&of, rule, true) } else { self.goes(&of, rule) }
            }
        }
        let moved = common(&old, &counts, -1) != common(&new, &counts, 1);
        if !differ || moved || old.options != new.options {
            self.tell(of, held(whole, why_whole_waits(&old, &new, moved)));
        }
        Ok(())
    }

    /// What was told from this place on waits.
    fn hold_from(&mut self, from: usize, why: &str) {
        for told in self.tellings.iter_mut().skip(from) {
            told.change.hold.get_or_insert_with(|| why.to_owned());
        }
    }

    /// A new rule. In a section that stands there already, a new denial takes access away.
    fn comes(&mut self, of: &Of, rule: &Rule, was_there: bool) {
        let why = if rule.permission == "-" && was_there {
            self.waits(&rule.who).map(|why| format!("takes access away from {}: {why}", rule.who))
        } else if !rule.writes() {
            None
        } else if rule.is_about_a_pattern() {
            Some(format!("{} is a pattern: writing in every repository that it matches", rule.repo))
        } else {
            rule.is_for_everyone().then(|| "everyone may write".to_owned())
        };
        self.tell(of.clone(), held(change(Action::Create, words(rule), None, None), why));
    }

    fn goes(&mut self, of: &Of, rule: &Rule) {
        let why = self.waits(&rule.who);
        self.tell(of.clone(), held(change(Action::Delete, words(rule), None, None), why));
    }
}

/// Why it waits that the same rules stand in another order, or under other options. The first rule that matches decides, so a
/// denial that moves takes access away, or gives it; so does `option deny-rules`.
fn why_whole_waits(old: &Section, new: &Section, moved: bool) -> Option<String> {
    let denies = |section: &Section| section.rules.iter().any(|rule| rule.permission == "-");
    if moved && (denies(old) || denies(new)) {
        return Some(
            "its denials count in another order: who gains or loses access is not told name by name".to_owned(),
        );
    }
    (old.options != new.options).then(|| "other options: what they give or take is not told name by name".to_owned())
}

/// Reads what is to be written. The layout has read it already: this is for whoever gives something else.
fn read(name: &RepoName, wanted: &str) -> Result<Section, Failure> {
    grammar::read(wanted).map_err(|wrong| {
        let place = format!("the rules of {name}, line {}, `{}`", wrong.line, wrong.text);
        Failure::permanent(format!("{place}: {}", wrong.why))
    })
}

/// `rpms/foo: RW f41: alice`
fn words(Rule { repo, permission, refex, who }: &Rule) -> String {
    let space = if refex.is_empty() { "" } else { " " };
    format!("{repo}: {permission}{space}{refex}: {who}")
}

/// How many times a rule comes (above 0) or goes (below 0).
fn counts<'a>(old: &'a Section, new: &'a Section) -> BTreeMap<&'a Rule, i64> {
    let mut counts = BTreeMap::new();
    new.rules.iter().for_each(|rule| *counts.entry(rule).or_default() += 1);
    old.rules.iter().for_each(|rule| *counts.entry(rule).or_default() -= 1);
    counts
}

/// The rules that neither come nor go, in their order. `sign`: of a rule in `section`, those that count on this side are left
/// out.
fn common<'a>(section: &'a Section, counts: &BTreeMap<&'a Rule, i64>, sign: i64) -> Vec<&'a Rule> {
    let mut counts = counts.clone();
    let mut stay = Vec::new();
    for rule in &section.rules {
        match counts.get_mut(rule) {
            Some(n) if *n * sign > 0 => *n -= sign,
            _ => stay.push(rule),
        }
    }
    stay
}
