//! The source `fasjson`: FASJSON 1.7 over HTTP.
//!
//! A person is two requests (the person, the person's groups); the members of a group come with their keys, page by page
//! (`X-Fields` says which fields). Locked people are left out by FASJSON itself: for one of them it answers 404, in a list
//! they do not stand. What an answer must look like to be believed is in `pages.rs` and `reply.rs`, which are pure.

mod pages;
mod reply;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use handler_api::Failure;
use handler_api::notes::Notes;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::curl::{Answer, Curl, Get, Kerberos, check_url, encode};
use crate::{Account, GROUPS_MAX, Members};
use handler_api::words::{Words, is_name, quoted};
use pages::{Listing, Reader};
use reply::{GroupName, Member, Person, Reply, reply};

/// How long one request may take unless `timeout` says otherwise, in seconds.
pub const FASJSON_SECONDS: u64 = 20;
/// Longest `timeout`, in seconds.
pub const FASJSON_SECONDS_MAX: u64 = 600;
/// Entries of one page unless `page_size` says otherwise.
pub const PAGE_ENTRIES: u64 = 1_000;
/// Largest `page_size`, in entries.
pub const PAGE_ENTRIES_MAX: u64 = 5_000;
/// Most members of one group.
pub const MEMBERS_MAX: u64 = 200_000;
/// Most requests in one run of curl, which share a connection.
const REQUESTS_PER_RUN: u64 = 4;
/// Most entries that one run of curl asks for, so that its answers stay far below what it may print.
const ENTRIES_PER_RUN: u64 = 5_000;
/// Runs of curl at the same time.
const RUNS_AT_ONCE: usize = 4;
/// How long it is remembered that a group is there, in seconds. Only saves asking again for each person.
const GROUP_KNOWN_SECONDS: u64 = 300;
/// More people than this, and not one with a key: the keys are hidden from us.
const KEYLESS_PEOPLE_MAX: usize = 10;

/// The source, as configured.
#[derive(Debug)]
pub struct Fasjson {
    base: String,
    curl: Curl,
    page_size: u64,
    /// Groups that were there lately, and when.
    known: Mutex<HashMap<String, Instant>>,
}

impl Fasjson {
    /// Reads `{fasjson: URL, kerberos: {keytab: SECRET} | true?, ca: PATH?, timeout: 20s?, page_size: 1000?}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "accounts: fasjson", &["fasjson", "kerberos", "ca", "timeout", "page_size"])?;
        let url = words.get("fasjson").unwrap_or(&Value::Null);
        let base = url.as_str().ok_or("is not a URL that begins with https://").and_then(check_url);
        let base = base.map_err(|why| words.wrong("fasjson", why, url).hinting("write https://HOST, without /v1"))?;
        let ca = words.text("ca")?;
        if let Some(relative) = ca.filter(|path| !path.starts_with('/')) {
            return Err(words.wrong("ca", "is not the absolute path of a file", &relative.into()));
        }
        let max = Duration::from_secs(FASJSON_SECONDS_MAX);
        let timeout = words.duration("timeout", Duration::from_secs(FASJSON_SECONDS), max)?;
        let curl = Curl { ca: ca.map(Into::into), timeout, kerberos: kerberos(&words)? };
        let page_size = words.number("page_size", PAGE_ENTRIES, 1, PAGE_ENTRIES_MAX)?;
        Ok(Self { base, curl, page_size, known: Mutex::default() })
    }

    /// See [`crate::Accounts::user`].
    ///
    /// # Errors
    /// Whatever is not a certain answer of FASJSON's own.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        let user = format!("/v1/users/{}/", encode(name));
        let first = self.page(&format!("{user}groups/"), 1, GroupName::FIELDS);
        let answers = self.ask(vec![self.request(&user, Person::FIELDS), first]).await?;
        let [person, listed] = &answers[..] else { return Err(self.odd(&user, "not all was answered")) };
        let is_user = |body: &Value| body["name"] == name;
        let person = self.certain(&user, reply(person, is_user).and_then(Reply::one::<Person>))?;
        let listed = self.certain(&user, reply(listed, is_user))?;
        let (person, listed) = match (person, listed) {
            (None, Reply::NotThere) => {
                self.are_there(groups.iter().collect(), true).await?;
                return Ok(None);
            }
            (Some(person), Reply::Found(listed)) => (person, listed),
            _ => return Err(self.odd(&user, "the person came or went between two requests")),
        };
        if person.username != name {
            return Err(self.odd(&user, &format!("it is about {} instead", quoted(&person.username))));
        }
        if person.locked {
            return Ok(None);
        }
        let mut reader = Reader::new(self.page_size);
        self.certain(&user, reader.take(1, listed))?;
        let mine = self.rest(&format!("{user}groups/"), reader, GroupName::FIELDS).await?;
        let mine: BTreeSet<String> = mine.into_iter().map(|group: GroupName| group.groupname).collect();
        self.are_there(groups.difference(&mine).collect(), false).await?;
        Ok(Some(Account { keys: person.keys(), groups: groups.intersection(&mine).cloned().collect() }))
    }

    /// See [`crate::Accounts::members`].
    ///
    /// # Errors
    /// Whatever is not a certain and whole answer of FASJSON's own.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        let paths: Vec<(&String, String)> =
            groups.iter().map(|group| (group, format!("/v1/groups/{}/members/", encode(group)))).collect();
        let firsts = self.ask(paths.iter().map(|(_, path)| self.page(path, 1, Member::FIELDS)).collect()).await?;
        let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
        let mut notes = Notes::default();
        for ((group, path), first) in paths.iter().zip(&firsts) {
            let Reply::Found(first) = self.certain(path, reply(first, |body| body["groupname"] == **group))? else {
                return Err(self.no_group(group));
            };
            let mut reader = Reader::new(self.page_size);
            self.certain(path, reader.take(1, first))?;
            for member in self.rest::<Member>(path, reader, Member::FIELDS).await? {
                let (name, keys) = member.into_parts();
                if !is_name(&name) {
                    notes.add(|| format!("{}: group {group}: {} is not a user name", self.base, quoted(&name)));
                    continue;
                }
                let account = accounts.entry(name).or_insert_with(|| Account { keys, groups: BTreeSet::new() });
                account.groups.insert((*group).clone());
            }
        }
        if accounts.len() > KEYLESS_PEOPLE_MAX && accounts.values().all(|account| account.keys.is_empty()) {
            let why = format!("it shows {} people and not one key: they are hidden from us", accounts.len());
            return Err(self
                .odd("", &why)
                .hinting("may this principal read ipaSshPubKey? try: ipa user-show --all NAME"));
        }
        Ok(Members { accounts, notes: notes.into_sentences() })
    }

    /// The pages after the first, and then all entries.
    async fn rest<T: Listing>(&self, path: &str, mut reader: Reader<T>, fields: &str) -> Result<Vec<T>, Failure> {
        let numbers = reader.missing();
        let answers = self.ask(numbers.clone().map(|number| self.page(path, number, fields)).collect()).await?;
        for (number, answer) in numbers.zip(&answers) {
            let Reply::Found(body) = self.certain(path, reply(answer, |_| true))? else {
                return Err(self.odd(path, "it went away between two pages"));
            };
            self.certain(path, reader.take(number, body))?;
        }
        self.certain(path, reader.whole())
    }

    /// Fails unless all of these groups are there: else a group that was renamed would take its members' keys away. After
    /// "no such person" (`anew`) one at least is asked anew: it shows that the server sees anything at all.
    async fn are_there(&self, groups: Vec<&String>, anew: bool) -> Result<(), Failure> {
        let unknown: Vec<&String> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let lately = |group: &&String| {
                known.get(*group).is_some_and(|when| when.elapsed() < Duration::from_secs(GROUP_KNOWN_SECONDS))
            };
            let ask = |(at, group): &(usize, &String)| (anew && *at == 0) || !lately(group);
            groups.into_iter().enumerate().filter(ask).map(|(_, group)| group).collect()
        };
        let path = |group: &str| format!("/v1/groups/{}/", encode(group));
        let asked = unknown.iter().map(|group| self.request(&path(group), GroupName::FIELDS)).collect();
        let answers = self.ask(asked).await?;
        for (group, answer) in unknown.iter().zip(&answers) {
            let replied = reply(answer, |body| body["groupname"] == **group).and_then(Reply::one::<GroupName>);
            match self.certain(&path(group), replied)? {
                Some(found) if found.groupname == **group => {}
                Some(other) => {
                    return Err(self.odd(&path(group), &format!("it is about {} instead", quoted(&other.groupname))));
                }
                None => return Err(self.no_group(group)),
            }
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + unknown.len() > 2 * GROUPS_MAX {
            known.clear();
        }
        known.extend(unknown.into_iter().map(|group| (group.clone(), Instant::now())));
        Ok(())
    }

    fn request(&self, path: &str, fields: &str) -> Get {
        Get {
            url: format!("{}{path}", self.base),
            headers: vec![format!("X-Fields: {{{fields}}}"), "Accept: application/json".into()],
        }
    }

    fn page(&self, path: &str, number: u64, fields: &str) -> Get {
        self.request(&format!("{path}?page_size={}&page_number={number}", self.page_size), fields)
    }

    /// Asks for all of them, in several runs of curl at once, and answers in their order.
    async fn ask(&self, gets: Vec<Get>) -> Result<Vec<Answer>, Failure> {
        let per_run = usize::try_from((ENTRIES_PER_RUN / self.page_size).clamp(1, REQUESTS_PER_RUN)).unwrap_or(1);
        let mut chunks: Vec<Vec<Get>> = gets.chunks(per_run).map(<[Get]>::to_vec).collect();
        if let [only] = &chunks[..] {
            return self.curl.get(only).await;
        }
        let mut answers: BTreeMap<usize, Vec<Answer>> = BTreeMap::new();
        let mut running = JoinSet::new();
        chunks.reverse();
        let mut next = 0;
        loop {
            while running.len() < RUNS_AT_ONCE
                && let Some(chunk) = chunks.pop()
            {
                let (curl, at) = (self.curl.clone(), next);
                running.spawn(async move { curl.get(&chunk).await.map(|answers| (at, answers)) });
                next += 1;
            }
            let Some(ended) = running.join_next().await else { break };
            let (at, got) = ended.map_err(|error| Failure::retry(format!("{}: {error}", self.base)))??;
            answers.insert(at, got);
        }
        Ok(answers.into_values().flatten().collect())
    }

    fn certain<T>(&self, path: &str, read: Result<T, String>) -> Result<T, Failure> {
        read.map_err(|why| self.odd(path, &why))
    }

    /// The failure for an answer that is not believed.
    fn odd(&self, path: &str, why: &str) -> Failure {
        let how = match &self.curl.kerberos {
            Kerberos::No => "curl -i",
            Kerberos::Environment => "klist && curl -i --negotiate -u :",
            Kerberos::Keytab(_) => "kinit -k -t KEYTAB PRINCIPAL && curl -i --negotiate -u :",
        };
        let path = if path.is_empty() { "/v1/me/" } else { path };
        Failure::retry(format!("FASJSON {}{path}: {why}", self.base))
            .hinting(format!("look for yourself: {how} '{}{path}'", self.base))
    }

    fn no_group(&self, group: &str) -> Failure {
        Failure::retry(format!("FASJSON {} has no group {group}", self.base))
            .hinting("was it renamed? correct the name where the groups are listed, or take it out there")
    }
}

fn kerberos(words: &Words<'_>) -> Result<Kerberos, Failure> {
    match words.get("kerberos") {
        None | Some(Value::Bool(false)) => Ok(Kerberos::No),
        Some(Value::Bool(true)) => Ok(Kerberos::Environment),
        Some(value) => {
            let keytab = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("keytab"));
            let secret = keytab.and_then(Value::as_str).filter(|name| is_name(name));
            secret.map(|name| Kerberos::Keytab(name.to_owned())).ok_or_else(|| {
                let failure = words.wrong("kerberos", "is neither true nor {keytab: SECRET}", value);
                failure.hinting("SECRET is the name of a secret of the handler, not a path")
            })
        }
    }
}

#[cfg(test)]
#[path = "fasjson/tests.rs"]
mod tests;
