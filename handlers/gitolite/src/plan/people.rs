//! Groups, lists and keys, compared name by name.

use std::collections::{BTreeMap, BTreeSet};

use accounts::keys::{self, Key};
use handler_api::{Action, Change, Failure};

use super::tell::{Of, change, digest, held, shown};
use super::{Group, Work};
use crate::files::{self, Branch, Entry, Member, Print, Read};
use crate::layout::Membership;
use crate::names::{GroupName, List, RepoName, UserName};
use crate::truth::People;

/// Of what stands there and can't be read.
const UNREAD: &str = "what stood there can't be read: who loses access is not known";

impl Work<'_> {
    /// One group.
    pub(super) fn group(&mut self, name: &GroupName, group: &Group) -> Result<(), Failure> {
        let (branch, path) = self.group_file(name);
        let before = self.now.read(branch, &path)?;
        let old = before.as_deref().map(|bytes| self.read_group(name, bytes)).unwrap_or_default();
        let new = match group {
            Group::Whole(members) => members.clone(),
            Group::One(..) if before.is_none() => {
                let why = format!("group {name}: {path} is not there, so one member alone can't be changed in it");
                return Err(Failure::permanent(why).hinting("reactor reconcile gitolite"));
            }
            Group::One(user, is_in) => {
                let mut members = old.found.clone();
                if *is_in {
                    members.insert(user.clone())
                } else {
                    members.remove(user)
                };
                members
            }
        };
        let after = match self.membership {
            Membership::Compiled => files::group_conf(name, &new),
            Membership::Asked => files::group_lines(&new),
        };
        let of = Of::Group(name.clone());
        let target = |what: &str| format!("group {name}: {what}");
        let mut tellings = Vec::new();
        for user in new.difference(&old.found) {
            tellings.push(change(Action::Create, target(user.as_str()), None, None));
            self.index.comes(files::asked_in(&Member::User(user.clone())), name.to_string());
        }
        for user in old.found.difference(&new) {
            let gone = change(Action::Delete, target(user.as_str()), None, None);
            tellings.push(held(gone, self.waits(user.as_str())));
            self.index.goes(files::asked_in(&Member::User(user.clone())), name.to_string());
        }
        for user in &new {
            self.index.stands(files::asked_in(&Member::User(user.clone())), name.to_string(), false);
        }
        if let Group::One(user, is_in) = group {
            let path = files::asked_in(&Member::User(user.clone()));
            match is_in {
                true => self.index.stands(path, name.to_string(), true),
                false => self.index.stands_not(path, name.to_string()),
            }
        }
        let file = File { branch, path, before, after: Some(after) };
        self.file(&of, file, old.odd, &target("lines"), tellings);
        Ok(())
    }

    /// What of a group is no group of ours any more.
    pub(super) fn group_goes(&mut self, name: &GroupName) -> Result<(), Failure> {
        let (branch, path) = self.group_file(name);
        let Some(before) = self.now.read(branch, &path)? else { return Ok(()) };
        for user in self.read_group(name, &before).found {
            self.index.goes(files::asked_in(&Member::User(user)), name.to_string());
        }
        let gone = change(Action::Delete, format!("group {name}"), Some(shown(&before)), None);
        let why = format!("group {name}: all access by it goes");
        self.tell(Of::Group(name.clone()), held(gone, Some(why)));
        self.edit(branch, path, Some(&before), None);
        Ok(())
    }

    /// A group that stays as it is counts in the index.
    pub(super) fn group_stays(&mut self, name: &GroupName) -> Result<(), Failure> {
        let (branch, path) = self.group_file(name);
        let Some(bytes) = self.now.read(branch, &path)? else { return Ok(()) };
        for user in self.read_group(name, &bytes).found {
            self.index.stands(files::asked_in(&Member::User(user)), name.to_string(), true);
        }
        Ok(())
    }

    fn group_file(&self, name: &GroupName) -> (Branch, String) {
        match self.membership {
            Membership::Compiled => (Branch::Master, files::conf_group(name)),
            Membership::Asked => (Branch::Members, files::asked_group(name)),
        }
    }

    fn read_group(&self, name: &GroupName, bytes: &[u8]) -> Read<BTreeSet<UserName>> {
        match self.membership {
            Membership::Compiled => files::read_group_conf(name, bytes),
            Membership::Asked => files::read_group(bytes),
        }
    }

    /// The lists of a repository.
    pub(super) fn lists(&mut self, repo: &RepoName, lists: &BTreeMap<List, People>) -> Result<(), Failure> {
        if let Some(other) = lists.keys().find(|list| list.repo != *repo) {
            return Err(Failure::permanent(format!("{repo}: the list {other} is not one of this repository")));
        }
        let entries = |(list, people): (&List, &People)| {
            let users = people.users.iter().cloned().map(Member::User);
            let groups = people.groups.iter().cloned().map(Member::Group);
            users.chain(groups).map(|who| Entry::new(list, who)).collect::<Vec<_>>()
        };
        let new: BTreeSet<Entry> = lists.iter().flat_map(entries).collect();
        let path = files::asked_list(repo);
        let before = self.now.read(Branch::Members, &path)?;
        let old = before.as_deref().map(|bytes| files::read_entries(repo, bytes)).unwrap_or_default();
        let target = |entry: &Entry| format!("{repo}: {}: {}", entry.list, entry.who);
        let mut tellings = Vec::new();
        for entry in new.difference(&old.found) {
            tellings.push(change(Action::Create, target(entry), None, None));
            self.index.comes(files::asked_in(&entry.who), entry.name(repo));
        }
        for entry in old.found.difference(&new) {
            let gone = change(Action::Delete, target(entry), None, None);
            tellings.push(held(gone, self.waits(&entry.who.to_string())));
            self.index.goes(files::asked_in(&entry.who), entry.name(repo));
        }
        for entry in &new {
            self.index.stands(files::asked_in(&entry.who), entry.name(repo), true);
        }
        let after = (!new.is_empty()).then(|| files::list_lines(&new));
        let file = File { branch: Branch::Members, path, before, after };
        self.file(&Of::Lists(repo.clone()), file, old.odd, &format!("{repo}: lines of its lists"), tellings);
        Ok(())
    }

    /// The lists of a repository that is no more.
    pub(super) fn lists_go(&mut self, repo: &RepoName) -> Result<(), Failure> {
        let path = files::asked_list(repo);
        let Some(before) = self.now.read(Branch::Members, &path)? else { return Ok(()) };
        for entry in files::read_entries(repo, &before).found {
            self.index.goes(files::asked_in(&entry.who), entry.name(repo));
        }
        let gone = change(Action::Delete, format!("{repo}: all lists"), Some(shown(&before)), None);
        self.tell(Of::Lists(repo.clone()), held(gone, Some(format!("{repo}: all access by its lists goes"))));
        self.edit(Branch::Members, path, Some(&before), None);
        Ok(())
    }

    /// Lists that stay as they are count in the index.
    pub(super) fn lists_stay(&mut self, repo: &RepoName) -> Result<(), Failure> {
        let Some(bytes) = self.now.read(Branch::Members, &files::asked_list(repo))? else { return Ok(()) };
        for entry in files::read_entries(repo, &bytes).found {
            self.index.stands(files::asked_in(&entry.who), entry.name(repo), true);
        }
        Ok(())
    }

    /// The keys of a user.
    pub(super) fn keys(&mut self, user: &UserName, wanted: &[Key]) -> Result<(), Failure> {
        let mut new = BTreeMap::new();
        for key in wanted {
            let print = Print::of(key).ok_or_else(|| {
                Failure::permanent(format!(
                    "a key of {user} has no fingerprint by which it could be found: {}",
                    key.shown
                ))
            })?;
            new.insert(print, key);
        }
        let files = match self.membership {
            Membership::Compiled => self.key_files(user, &new)?,
            Membership::Asked => {
                let path = files::asked_people(user);
                let before = self.now.read(Branch::Members, &path)?;
                let after = (!new.is_empty()).then(|| files::keys_lines(new.values().copied()));
                vec![File { branch: Branch::Members, path, before, after }]
            }
        };
        let mut old = BTreeMap::new();
        let mut odd = 0;
        for bytes in files.iter().filter_map(|file| file.before.as_deref()) {
            let read = files::read_keys(bytes);
            old.extend(read.found);
            odd += read.odd;
        }
        let tellings = self.compare_keys(user, &old, &new);
        self.key_index(user, &old, &new);
        self.files(&Of::Keys(user.clone()), files, odd, &format!("lines of the keys of {user}"), tellings);
        Ok(())
    }

    /// One file a key; also those that are there and are none.
    fn key_files(&self, user: &UserName, new: &BTreeMap<Print, &Key>) -> Result<Vec<File>, Failure> {
        let mut after: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        for path in self.now.below(Branch::Master, &files::keydir_of(user))? {
            after.insert(path, None);
        }
        after.extend(new.iter().map(|(print, key)| (files::keydir_key(user, print), Some(files::key_file(key)))));
        let file = |(path, after): (String, Option<Vec<u8>>)| {
            let before = self.now.read(Branch::Master, &path)?;
            Ok(File { branch: Branch::Master, path, before, after })
        };
        after.into_iter().map(file).collect()
    }

    fn compare_keys(&self, user: &UserName, old: &BTreeMap<Print, Key>, new: &BTreeMap<Print, &Key>) -> Vec<Change> {
        let target = |key: &Key| format!("key of {user}: {}", key.shown);
        let mut tellings = Vec::new();
        for (print, key) in new {
            match old.get(print) {
                None => tellings.push(change(Action::Create, target(key), None, None)),
                Some(old) if old.line == key.line => {}
                Some(old) => {
                    let (before, after) = (keys::shown(&old.line), key.shown.as_str());
                    tellings.push(change(Action::Update, target(key), Some(before.into()), Some(after.into())));
                }
            }
        }
        for (_, key) in old.iter().filter(|(print, _)| !new.contains_key(print)) {
            let gone = change(Action::Delete, target(key), None, None);
            tellings.push(held(gone, self.waits(user.as_str())));
        }
        tellings
    }

    fn key_index(&mut self, user: &UserName, old: &BTreeMap<Print, Key>, new: &BTreeMap<Print, &Key>) {
        for (print, key) in new {
            let (path, line) = (files::asked_key(print), files::key_index_line(user, key));
            if !old.contains_key(print) {
                self.index.comes(path.clone(), line.clone());
            }
            self.index.stands(path, line, true);
        }
        for (print, key) in old.iter().filter(|(print, _)| !new.contains_key(print)) {
            self.index.goes(files::asked_key(print), files::key_index_line(user, key));
        }
    }

    /// A key in two accounts: sshd takes the first line that has it.
    pub(super) fn shared_keys(&mut self, wanted: &BTreeMap<UserName, Vec<Key>>) {
        let mut owners: BTreeMap<&str, Vec<&UserName>> = BTreeMap::new();
        for (user, keys) in wanted {
            keys.iter().for_each(|key| owners.entry(key.fingerprint()).or_default().push(user));
        }
        for (print, users) in owners.iter().filter(|(_, users)| users.len() > 1) {
            let names: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
            self.notes.push(format!("the key {print} is in more than one account: {}", names.join(", ")));
        }
    }

    fn file(&mut self, of: &Of, file: File, odd: usize, target: &str, tellings: Vec<Change>) {
        self.files(of, vec![file], odd, target, tellings);
    }

    /// Edits files and tells it: by the names that come and go; if there is none, or some of what stood there can't be read,
    /// by the whole text.
    fn files(&mut self, of: &Of, files: Vec<File>, odd: usize, target: &str, tellings: Vec<Change>) {
        let named = !tellings.is_empty();
        tellings.into_iter().for_each(|change| self.tell(of.clone(), change));
        let differ: Vec<File> = files.into_iter().filter(|file| file.before != file.after).collect();
        if let Some(first) = differ.first()
            && (odd > 0 || !named)
        {
            let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(shown);
            let (before, after) = match of {
                // Never the text of a key.
                Of::Keys(_) => {
                    let sha256 = digest(differ.iter().map(|file| (&file.path, &file.after)));
                    (None, Some(format!("sha256 {sha256}").into()))
                }
                _ => (text(&first.before), text(&first.after)),
            };
            let action = if first.before.is_none() { Action::Create } else { Action::Update };
            let whole = change(action, target.to_owned(), before, after);
            self.tell(of.clone(), held(whole, (odd > 0).then(|| UNREAD.to_owned())));
        }
        if odd > 0
            && let Some(first) = differ.first()
        {
            let path = &first.path;
            self.notes.push(format!("{path} was changed by hand: {odd} lines can't be read; it is written anew"));
        }
        for File { branch, path, before, after } in differ {
            self.edit(branch, path, before.as_deref(), after);
        }
    }
}

/// A file, as it is and as it must be.
struct File {
    branch: Branch,
    path: String,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}
