//! Questions over one connection, and what counts as an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handler_api::Failure;
use handler_api::notes::Notes;
use ldap3::{Scope, ldap_escape};

use super::config::{Config, Schema};
use super::dn::Dn;
use super::wire::{Entry, Query, Trouble, Wire};
use crate::{Account, Members};
use handler_api::words::{is_name, quoted};

/// Groups, or people, in one filter.
const NAMES_IN_A_FILTER: usize = 100;

/// A connection and what is asked over it.
#[derive(Debug)]
pub(super) struct Session {
    wire: Wire,
    config: Arc<Config>,
}

/// A group that is there.
#[derive(Debug)]
struct Group {
    /// Its name in the server's spelling, for filters.
    dn: String,
    /// Names of people (`memberUid`).
    uids: BTreeSet<String>,
    /// Entries (`member`), which may be groups too.
    members: BTreeSet<Dn>,
}

/// The groups asked about, each there.
type Groups = BTreeMap<String, Group>;

impl Session {
    pub(super) fn new(wire: Wire, config: &Arc<Config>) -> Self {
        Self { wire, config: Arc::clone(config) }
    }

    /// The server at the other end.
    pub(super) fn server(&self) -> &str {
        &self.wire.server
    }

    /// One person. `None` = not there, or locked.
    pub(super) async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Trouble> {
        let filter = format!("(uid={})", ldap_escape(name));
        let mut found = self.people(&filter).await?;
        if found.len() > 1 {
            let message = format!("{}: there are {} entries for the user {name}", self.server(), found.len());
            return Err(Failure::permanent(message)
                .hinting(format!("let `users` name the one place below {}", self.config.users))
                .into());
        }
        let Some((dn, entry)) = found.pop() else {
            self.look().await?;
            return Ok(None);
        };
        if !entry.values("uid").any(|uid| uid == name) {
            let uid = entry.values("uid").next().unwrap_or_default();
            let message = format!("{}: the user {name} is there as {} only", self.server(), quoted(&uid));
            return Err(Failure::permanent(message).into());
        }
        if is_locked(&entry)? {
            return Ok(None);
        }
        let there = self.groups(groups, &["cn"]).await?;
        let groups = match self.config.schema {
            Schema::Freeipa => member_of(&entry, &there)?,
            Schema::OpensshLpk => self.groups_with(name, &dn, &entry.dn, &there).await?,
        };
        let account = Account { keys: self.keys(&entry), groups };
        if account.keys.is_empty() || account.groups.is_empty() {
            self.look().await?;
        }
        Ok(Some(account))
    }

    /// Everyone who is in one of `groups`.
    pub(super) async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Trouble> {
        self.look().await?;
        let attributes: &[&str] = match self.config.schema {
            Schema::Freeipa => &["cn", "member"],
            Schema::OpensshLpk => &["cn", "member", "memberUid"],
        };
        let groups = self.groups(groups, attributes).await?;
        let people = match self.config.schema {
            Schema::Freeipa => self.people_of_freeipa(&groups).await?,
            Schema::OpensshLpk => self.people_of_lpk(&groups).await?,
        };
        let mut notes = Notes::default();
        self.compare(&groups, &people, &mut notes)?;
        let mut members = Members::default();
        for (dn, (entry, groups)) in people {
            if is_locked(&entry)? {
                continue;
            }
            let Some(name) = name_of(&dn, &entry) else {
                notes.add(|| format!("{} was left out: its uid is no name", quoted(&entry.dn)));
                continue;
            };
            let account = Account { keys: self.keys(&entry), groups };
            if members.accounts.insert(name.clone(), account).is_some() {
                let message = format!("{}: there are two entries for the user {name}", self.server());
                return Err(Failure::permanent(message).into());
            }
        }
        members.notes = notes.into_sentences();
        Ok(members)
    }

    /// Whether keys and memberships can be seen here at all: both places are there, someone has a key, and someone is in a
    /// group. Otherwise nothing that is missing means anything.
    async fn look(&self) -> Result<(), Trouble> {
        let Config { users, groups, key_attribute, schema, .. } = &*self.config;
        for base in [users, groups] {
            let query = Query { base, scope: Scope::Base, filter: "(objectClass=*)", attributes: &["1.1"] };
            if self.wire.search(query).await?.is_empty() {
                let message = format!("{}: {base} is not there or can't be read", self.server());
                return Err(Failure::permanent(message).hinting(READ_HINT).into());
            }
        }
        let (place, memberships): (_, &[&str]) = match schema {
            Schema::Freeipa => (users, &["memberOf"]),
            Schema::OpensshLpk => (groups, &["memberUid", "member"]),
        };
        self.shows(users, &[key_attribute]).await?;
        self.shows(place, memberships).await
    }

    /// Whether an entry below `base` shows one of `attributes`.
    async fn shows(&self, base: &str, attributes: &[&str]) -> Result<(), Trouble> {
        let filter: String = attributes.iter().map(|attribute| format!("({attribute}=*)")).collect();
        let query = Query { base, scope: Scope::Subtree, filter: &format!("(|{filter})"), attributes };
        let found = self.wire.first(query).await?;
        if found.is_some_and(|entry| attributes.iter().any(|attribute| entry.has(attribute))) {
            return Ok(());
        }
        let message = format!(
            "{}: nothing below {base} shows {}: what is missing means nothing",
            self.server(),
            attributes.join(" or ")
        );
        Err(Failure::permanent(message).hinting(READ_HINT).into())
    }

    /// The people that a filter finds, each once.
    async fn people(&self, filter: &str) -> Result<Vec<(Dn, Entry)>, Trouble> {
        let Config { users, key_attribute, .. } = &*self.config;
        let attributes = ["uid", key_attribute, "memberOf", "nsAccountLock", "pwdAccountLockedTime"];
        let query = Query { base: users, scope: Scope::Subtree, filter, attributes: &attributes };
        self.entries(query).await
    }

    /// What a search finds below its base, each entry once.
    async fn entries(&self, query: Query<'_>) -> Result<Vec<(Dn, Entry)>, Trouble> {
        let base = Dn::parse(query.base);
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for entry in self.wire.search(query).await? {
            let Some(dn) = Dn::parse(&entry.dn) else {
                let message = format!("{}: {} is no distinguished name", self.server(), quoted(&entry.dn));
                return Err(Failure::retry(message).into());
            };
            if Some(&dn) == base.as_ref() {
                continue;
            }
            if !seen.insert(dn.clone()) {
                let message = format!("{}: {} came twice in one answer", self.server(), quoted(&entry.dn));
                return Err(Failure::retry(message).into());
            }
            found.push((dn, entry));
        }
        Ok(found)
    }

    /// The groups of these names. One that is not there is a failure.
    async fn groups(&self, names: &BTreeSet<String>, attributes: &[&str]) -> Result<Groups, Trouble> {
        let names: Vec<&String> = names.iter().collect();
        let mut groups = Groups::new();
        for names in names.chunks(NAMES_IN_A_FILTER) {
            let filter = any(names.iter().map(|name| format!("(cn={})", ldap_escape(name.as_str()))));
            let query = Query { base: &self.config.groups, scope: Scope::Subtree, filter: &filter, attributes };
            for (_, entry) in self.entries(query).await? {
                let Some(name) = entry.values("cn").find(|cn| names.contains(&cn)) else { continue };
                let members = entry.values("member").map(|member| self.dn(&member)).collect::<Result<_, _>>()?;
                let group = Group { dn: entry.dn.clone(), uids: entry.values("memberUid").collect(), members };
                if groups.insert(name.clone(), group).is_some() {
                    let message =
                        format!("{}: there are two groups {name} below {}", self.server(), self.config.groups);
                    return Err(Failure::permanent(message).into());
                }
            }
            if let Some(missing) = names.iter().find(|name| !groups.contains_key(name.as_str())) {
                let message = format!("{}: there is no group {missing} below {}", self.server(), self.config.groups);
                let hint = "make the group, or take it out of the configuration; its members are not known to be none";
                return Err(Failure::permanent(message).hinting(hint).into());
            }
        }
        Ok(groups)
    }

    fn dn(&self, text: &str) -> Result<Dn, Failure> {
        let wrong = || Failure::retry(format!("{}: {} is no distinguished name", self.server(), quoted(text)));
        Dn::parse(text).ok_or_else(wrong)
    }

    /// Which of the groups say that they have this person.
    async fn groups_with(
        &self,
        name: &str,
        dn: &Dn,
        spelled: &str,
        there: &Groups,
    ) -> Result<BTreeSet<String>, Trouble> {
        let names: Vec<&String> = there.keys().collect();
        let mut found = BTreeSet::new();
        for names in names.chunks(NAMES_IN_A_FILTER) {
            let of = any(names.iter().map(|name| format!("(cn={})", ldap_escape(name.as_str()))));
            let who = format!("(|(memberUid={})(member={}))", ldap_escape(name), ldap_escape(spelled));
            let query = Query {
                base: &self.config.groups,
                scope: Scope::Subtree,
                filter: &format!("(&{of}{who})"),
                attributes: &["cn"],
            };
            for (at, entry) in self.entries(query).await? {
                let group = entry.values("cn").find(|cn| names.contains(&cn));
                found.extend(group.filter(|group| at != *dn && there.contains_key(group)));
            }
        }
        Ok(found)
    }

    /// Everyone whose `memberOf` names one of the groups.
    async fn people_of_freeipa(&self, groups: &Groups) -> Result<People, Trouble> {
        let dns: Vec<&str> = groups.values().map(|group| group.dn.as_str()).collect();
        let mut people = People::new();
        for dns in dns.chunks(NAMES_IN_A_FILTER) {
            let filter = any(dns.iter().map(|dn| format!("(memberOf={})", ldap_escape(*dn))));
            for (dn, entry) in self.people(&filter).await? {
                let of = member_of(&entry, groups)?;
                people.insert(dn, (entry, of));
            }
        }
        Ok(people)
    }

    /// Everyone whom one of the groups names.
    async fn people_of_lpk(&self, groups: &Groups) -> Result<People, Trouble> {
        let mut names = BTreeSet::new();
        for (group, Group { uids, members, .. }) in groups {
            names.extend(uids.iter().cloned());
            for member in members {
                let Some(uid) = member.first("uid") else {
                    let message = format!("{}: group {group} has a member that is not named by its uid", self.server());
                    let hint =
                        "list people as memberUid: NAME or member: uid=NAME,…; groups in groups are not followed";
                    return Err(Failure::permanent(message).hinting(hint).into());
                };
                names.insert(uid.to_owned());
            }
        }
        let names: Vec<String> = names.into_iter().collect();
        let mut people = People::new();
        for names in names.chunks(NAMES_IN_A_FILTER) {
            let filter = any(names.iter().map(|name| format!("(uid={})", ldap_escape(name.as_str()))));
            for (dn, entry) in self.people(&filter).await? {
                let uids: BTreeSet<String> = entry.values("uid").collect();
                let has = |group: &Group| group.members.contains(&dn) || !group.uids.is_disjoint(&uids);
                let of: BTreeSet<String> =
                    groups.iter().filter(|(_, g)| has(g)).map(|(name, _)| name.clone()).collect();
                if !of.is_empty() {
                    people.insert(dn, (entry, of));
                }
            }
        }
        Ok(people)
    }

    /// Compares who was found with whom the groups themselves list. A few who are not there any more are normal; most of them
    /// is an answer with a hole.
    fn compare(&self, groups: &Groups, people: &People, notes: &mut Notes) -> Result<(), Failure> {
        let users = self.dn(&self.config.users)?;
        let names: BTreeSet<String> =
            people.values().flat_map(|(entry, _)| entry.values("uid").collect::<Vec<_>>()).collect();
        for (name, group) in groups {
            let listed = group.members.iter().filter(|member| member.is_within(&users));
            let missing = listed.clone().filter(|member| !people.contains_key(*member)).count();
            let missing = missing + group.uids.iter().filter(|uid| !names.contains(*uid)).count();
            let all = listed.count() + group.uids.len();
            if missing * 2 > all {
                let message =
                    format!("{}: group {name} lists {all} people, and {missing} of them were not found", self.server());
                let hint = format!("see whether `users` ({}) is where they stand, and may be read", self.config.users);
                return Err(Failure::retry(message).hinting(hint));
            }
            if missing > 0 {
                notes.add(|| format!("group {name} lists {missing} of {all} people who are not there"));
            }
        }
        Ok(())
    }

    fn keys(&self, entry: &Entry) -> Vec<String> {
        entry.values(&self.config.key_attribute).collect()
    }
}

const READ_HINT: &str = "see `base` and `schema`, and let reactor bind as an account that may read keys and memberships: \
                         bind: {dn: …, password: SECRET}";

/// People by where they stand, each with those of the groups that they are in.
type People = BTreeMap<Dn, (Entry, BTreeSet<String>)>;

/// A filter for any of these.
fn any(filters: impl Iterator<Item = String>) -> String {
    format!("(|{})", filters.collect::<String>())
}

/// Those of the groups that the entry's `memberOf` names.
fn member_of(entry: &Entry, groups: &Groups) -> Result<BTreeSet<String>, Failure> {
    let mut names = BTreeMap::new();
    for (name, group) in groups {
        names.extend(Dn::parse(&group.dn).map(|dn| (dn, name)));
    }
    let mut found = BTreeSet::new();
    for value in entry.values("memberOf") {
        let Some(dn) = Dn::parse(&value) else {
            return Err(Failure::retry(format!(
                "{}: memberOf {} is no distinguished name",
                quoted(&entry.dn),
                quoted(&value)
            )));
        };
        found.extend(names.get(&dn).map(|name| (*name).clone()));
    }
    Ok(found)
}

/// Whether nobody may log in with this account. The times of `pwdAccountLockedTime` are those of mistyped passwords, but for
/// the one that means for good.
fn is_locked(entry: &Entry) -> Result<bool, Failure> {
    let for_good = entry.values("pwdAccountLockedTime").any(|time| time == "000001010000Z");
    let mut locked = for_good;
    for value in entry.values("nsAccountLock") {
        match value.to_ascii_lowercase().as_str() {
            "true" => locked = true,
            "false" => {}
            _ => return Err(Failure::retry(format!("{}: nsAccountLock is {}", quoted(&entry.dn), quoted(&value)))),
        }
    }
    Ok(locked)
}

/// The name that a person logs in with: the only uid, or the one in the entry's own name.
fn name_of(dn: &Dn, entry: &Entry) -> Option<String> {
    let mut uids = entry.values("uid");
    let first = uids.next()?;
    let name = match uids.next() {
        None => first,
        Some(_) => entry.values("uid").find(|uid| dn.first("uid") == Some(uid.to_lowercase().as_str()))?,
    };
    is_name(&name).then_some(name)
}
