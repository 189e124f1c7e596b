//! From the tree of a file (or of JSON) to the inventory. Pure; every mistake is told at once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::{Debug, Display};
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;

use handler_api::ParamType;

use super::{Access, Host, Inventory, Place, Reach, options, place};
use crate::config::node::{Node, Value};
use crate::config::words::{Problems, Words, cut};

/// Most hosts.
pub const HOSTS_MAX: usize = 10_000;
/// Most account groups that may log in on one host.
pub const ACCESS_MAX: usize = 1_000;

const KEYS: &str = "/etc/ssh/authorized_keys.d/%u";
const ADDRESS_BYTES_MAX: usize = 253;
const USER_BYTES_MAX: usize = 64;

const TOP_WORDS: [&str; 5] = ["keys", "groups", "user", "port", "sudo"];
const GROUP_WORDS: [&str; 7] = ["hosts", "access", "keys", "user", "port", "sudo", "local"];
const HOST_WORDS: [&str; 6] = ["address", "keys", "user", "port", "sudo", "local"];

/// Reads the tree. `beside` is the directory of the file, for `keys: ./…` of local hosts.
pub(super) fn inventory(tree: &Node, beside: Option<&Path>, problems: &mut Problems) -> Inventory {
    let mut reader = Reader { beside, problems, hosts: BTreeMap::new(), top: Settings::default() };
    reader.top(tree);
    reader.finish()
}

/// A value, with where it was said.
#[derive(Clone, Debug)]
struct Said<T> {
    value: T,
    line: usize,
    by: String,
}

/// Where keys stand: the pattern, and whether it was given relative to the inventory.
#[derive(Clone, Debug, PartialEq)]
struct Keys {
    pattern: String,
    beside: bool,
}

impl Display for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.pattern)
    }
}

#[derive(Clone, Debug, Default)]
struct Settings {
    keys: Option<Said<Keys>>,
    address: Option<Said<String>>,
    port: Option<Said<u16>>,
    user: Option<Said<String>>,
    sudo: Option<Said<bool>>,
    local: Option<Said<bool>>,
}

impl Settings {
    /// What is said here, and where nothing is, what is said there.
    fn or(self, other: &Self) -> Self {
        Self {
            keys: self.keys.or_else(|| other.keys.clone()),
            address: self.address.or_else(|| other.address.clone()),
            port: self.port.or_else(|| other.port.clone()),
            user: self.user.or_else(|| other.user.clone()),
            sudo: self.sudo.or_else(|| other.sudo.clone()),
            local: self.local.or_else(|| other.local.clone()),
        }
    }

    /// Puts together what several groups say of one host. Two that say different things are a mistake.
    fn join(&mut self, other: Self, host: &str, problems: &mut Problems) {
        join("keys", host, &mut self.keys, other.keys, problems);
        join("address", host, &mut self.address, other.address, problems);
        join("port", host, &mut self.port, other.port, problems);
        join("user", host, &mut self.user, other.user, problems);
        join("sudo", host, &mut self.sudo, other.sudo, problems);
        join("local", host, &mut self.local, other.local, problems);
    }
}

fn join<T: PartialEq + Display>(
    word: &str,
    host: &str,
    first: &mut Option<Said<T>>,
    other: Option<Said<T>>,
    problems: &mut Problems,
) {
    match (&first, other) {
        (Some(first), Some(other)) if first.value != other.value => {
            let place = |line: usize| if line > 0 { format!(", line {line}") } else { String::new() };
            problems.add(
                other.line,
                format!(
                    "`{word}` of host `{host}` is {} ({}{}) and {} ({}{}); say it once",
                    first.value,
                    first.by,
                    place(first.line),
                    other.value,
                    other.by,
                    place(other.line)
                ),
            );
        }
        (None, Some(other)) => *first = Some(other),
        _ => {}
    }
}

/// A host while the groups are read.
struct Draft {
    line: usize,
    settings: Settings,
    /// `None` = no group of it has said who may log in.
    access: Option<Vec<Access>>,
}

struct Reader<'a> {
    beside: Option<&'a Path>,
    problems: &'a mut Problems,
    hosts: BTreeMap<String, Draft>,
    top: Settings,
}

impl Reader<'_> {
    fn top(&mut self, tree: &Node) {
        let Some(words) = Words::of(tree, "the inventory", &TOP_WORDS, self.problems) else { return };
        self.top = self.settings(&words, "the inventory");
        let groups = match words.get("groups").map(|node| (&node.value, node)) {
            Some((Value::Map(groups), _)) if !groups.is_empty() => groups,
            Some((Value::Map(_) | Value::Null, node)) => {
                return self.problems.add(node.line, "there are no groups of hosts");
            }
            Some((_, node)) => {
                let why = format!("`groups` is {}, not a map of groups of hosts", node.kind());
                return self.problems.add(node.line, why);
            }
            None => {
                return self
                    .problems
                    .add(0, "`groups` is missing: the groups of hosts, as in {web: {hosts: […], access: […]}}");
            }
        };
        for (name, node) in groups {
            self.group(&format!("group `{}`", cut(&name.text)), node);
        }
    }

    fn group(&mut self, what: &str, node: &Node) {
        let Some(words) = Words::of(node, what, &GROUP_WORDS, self.problems) else { return };
        let settings = self.settings(&words, what);
        let access = words.get("access").map(|node| self.access(what, node));
        let Some(hosts) = words.get("hosts") else {
            return self.problems.add(node.line, format!("{what} has no `hosts`"));
        };
        let nothing = Node { line: 0, value: Value::Null };
        let entries: Vec<(&str, usize, &Node)> = match &hosts.value {
            Value::Map(entries) => entries.iter().map(|(key, node)| (key.text.as_str(), key.line, node)).collect(),
            Value::List(items) => items.iter().filter_map(|item| self.listed(what, item, &nothing)).collect(),
            _ => {
                let why = format!("`hosts` of {what} is {}, not a list or a map of hosts", hosts.kind());
                return self.problems.add(hosts.line, why);
            }
        };
        if entries.is_empty() {
            self.problems.add(hosts.line, format!("`hosts` of {what} is empty"));
        }
        for (name, line, node) in entries {
            self.host(what, (name, line, node), &settings, access.as_deref());
        }
    }

    /// A host in a list has no words of its own.
    fn listed<'n>(&mut self, what: &str, item: &'n Node, nothing: &'n Node) -> Option<(&'n str, usize, &'n Node)> {
        if let Value::Text(name) = &item.value {
            return Some((name, item.line, nothing));
        }
        let why = format!("a host of {what} is {}, not a name; with words of its own, `hosts` is a map", item.kind());
        self.problems.add(item.line, why);
        None
    }

    fn host(
        &mut self,
        group: &str,
        (name, line, node): (&str, usize, &Node),
        of: &Settings,
        access: Option<&[Access]>,
    ) {
        if ParamType::Name.check(&name.into()).is_err() {
            return self.problems.add(line, format!("`{}` in {group} can't be the name of a host", cut(name)));
        }
        let mut settings = Settings::default();
        if node.value != Value::Null {
            let what = format!("host `{name}` of {group}");
            if let Some(words) = Words::of(node, what.clone(), &HOST_WORDS, self.problems) {
                settings = self.settings(&words, &what);
            }
        }
        let settings = settings.or(of);
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(name) {
            return self.problems.add(line, format!("there are more than {HOSTS_MAX} hosts"));
        }
        let draft = match self.hosts.entry(name.to_owned()) {
            Entry::Vacant(entry) => entry.insert(Draft { line, settings, access: None }),
            Entry::Occupied(entry) => {
                let draft = entry.into_mut();
                draft.settings.join(settings, name, self.problems);
                draft
            }
        };
        if let Some(access) = access {
            let all = draft.access.get_or_insert_default();
            let new: Vec<Access> = access.iter().filter(|one| !all.contains(one)).cloned().collect();
            all.extend(new);
            if all.len() > ACCESS_MAX {
                self.problems.add(line, format!("more than {ACCESS_MAX} account groups may log in on host `{name}`"));
                all.truncate(ACCESS_MAX);
            }
        }
    }

    fn settings(&mut self, words: &Words<'_>, by: &str) -> Settings {
        fn said<T>(words: &Words<'_>, word: &str, by: &str, value: Option<T>) -> Option<Said<T>> {
            let line = words.get(word).map_or(0, |node| node.line);
            value.map(|value| Said { value, line, by: by.to_owned() })
        }
        let problems = &mut *self.problems;
        let keys = words.text("keys", problems).and_then(|pattern| match resolved(pattern, self.beside) {
            Ok(keys) => Some(keys),
            Err(why) => {
                words.add("keys", problems, &why);
                None
            }
        });
        let address = words.checked("address", problems, is_address).map(str::to_owned);
        let user = words.checked("user", problems, is_user).map(str::to_owned);
        let port = words.number("port", 1, usize::from(u16::MAX), problems).and_then(|port| u16::try_from(port).ok());
        Settings {
            keys: said(words, "keys", by, keys),
            address: said(words, "address", by, address),
            port: said(words, "port", by, port),
            user: said(words, "user", by, user),
            sudo: said(words, "sudo", by, words.bool("sudo", problems)),
            local: said(words, "local", by, words.bool("local", problems)),
        }
    }

    fn access(&mut self, what: &str, node: &Node) -> Vec<Access> {
        let Value::List(items) = &node.value else {
            let why = format!("`access` of {what} is {}, not a list of account groups", node.kind());
            self.problems.add(node.line, why);
            return Vec::new();
        };
        let mut all = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(group) => all.extend(self.one_access(what, group, item.line, Vec::new())),
                Value::Map(entries) if entries.len() == 1 => {
                    let (group, list) = &entries[0];
                    let options = self.options(what, &group.text, list);
                    all.extend(self.one_access(what, &group.text, group.line, options));
                }
                _ => {
                    let why = format!("`access` of {what}: each item is an account group, or {{GROUP: [OPTION…]}}");
                    self.problems.add(item.line, why);
                }
            }
        }
        all
    }

    fn one_access(&mut self, what: &str, group: &str, line: usize, options: Vec<String>) -> Option<Access> {
        if ParamType::Name.check(&group.into()).is_err() {
            self.problems
                .add(line, format!("`access` of {what}: `{}` can't be the name of an account group", cut(group)));
            return None;
        }
        Some(Access { group: group.to_owned(), options })
    }

    fn options(&mut self, what: &str, group: &str, node: &Node) -> Vec<String> {
        let at = format!("{what}, options of `{}`", cut(group));
        let Value::List(items) = &node.value else {
            let why = format!("{at}: {}, not a list; a full login is written without the colon", node.kind());
            self.problems.add(node.line, why);
            return Vec::new();
        };
        let text = |item: &Node| if let Value::Text(text) = &item.value { Some(text.clone()) } else { None };
        let options: Vec<String> = items.iter().filter_map(text).collect();
        if options.len() < items.len() {
            self.problems
                .add(node.line, format!("{at}: each is a text in quotes, as in 'command=\"/usr/bin/deploy %u\"'"));
        }
        if items.is_empty() {
            self.problems.add(node.line, format!("{at}: the list is empty; a full login is written without the colon"));
        }
        for why in options::check(&options).err().unwrap_or_default() {
            self.problems.add(node.line, format!("{at}: {why}"));
        }
        options
    }

    fn finish(mut self) -> Inventory {
        let mut inventory = Inventory::default();
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for (name, draft) in std::mem::take(&mut self.hosts) {
            let Some(host) = self.finished(&name, draft) else { continue };
            let (file, line) = (one_file(&host.0), host.1);
            if let Some(other) = seen.insert(file, name.clone()) {
                let why =
                    format!("hosts `{other}` and `{name}` are the same files of the same machine; make them one host");
                self.problems.add(line, why);
            }
            inventory.hosts.insert(name, Arc::new(host.0));
        }
        if inventory.hosts.is_empty() && !self.problems.any() {
            self.problems.add(0, "there are no hosts");
        }
        inventory
    }

    /// The host, and its line.
    fn finished(&mut self, name: &str, draft: Draft) -> Option<(Host, usize)> {
        let Draft { line, settings, access } = draft;
        let Some(access) = access else {
            let why = format!("no group of host `{name}` has `access`: who may log in; for nobody, write `access: []`");
            self.problems.add(line, why);
            return None;
        };
        let local = settings.local.as_ref().is_some_and(|local| local.value);
        let keys = settings.keys.as_ref().or(self.top.keys.as_ref());
        if let Some(keys) = keys.filter(|keys| keys.value.beside && !local) {
            let why = format!("`keys` of host `{name}`: a path beside the inventory is for hosts with `local: true`");
            self.problems.add(keys.line, why);
        }
        let place = place::read(keys.map_or(KEYS, |keys| &keys.value.pattern)).ok()?;
        let reach = if local { self.local(name, &settings) } else { self.ssh(name, line, settings)? };
        Some((Host { name: name.to_owned(), reach, place, access }, line))
    }

    fn local(&mut self, name: &str, settings: &Settings) -> Reach {
        let address = settings.address.as_ref().map(|said| ("address", said.line));
        let port = settings.port.as_ref().map(|said| ("port", said.line));
        let user = settings.user.as_ref().map(|said| ("user", said.line));
        let sudo = settings.sudo.as_ref().filter(|said| said.value).map(|said| ("sudo", said.line));
        for (word, line) in [address, port, user, sudo].into_iter().flatten() {
            self.problems.add(line, format!("host `{name}` is local: `{word}` means nothing to it"));
        }
        Reach::Local
    }

    fn ssh(&mut self, name: &str, line: usize, settings: Settings) -> Option<Reach> {
        let top = &self.top;
        let Some(address) =
            settings.address.map(|said| said.value).or_else(|| is_address(name).is_ok().then(|| name.into()))
        else {
            self.problems.add(line, format!("`{name}` can't be looked up as a host; give it an `address`"));
            return None;
        };
        Some(Reach::Ssh {
            address,
            port: settings.port.or_else(|| top.port.clone()).map(|said| said.value),
            user: settings.user.or_else(|| top.user.clone()).map(|said| said.value),
            sudo: settings.sudo.or_else(|| top.sudo.clone()).is_some_and(|said| said.value),
        })
    }
}

/// What two hosts may not have in common: they would undo each other's work.
fn one_file(host: &Host) -> String {
    let (Place::Directory(place) | Place::Own(place)) = &host.place;
    match &host.reach {
        Reach::Local => format!("local {place}"),
        Reach::Ssh { address, port, .. } => format!("ssh {} {port:?} {place}", address.to_lowercase()),
    }
}

fn resolved(pattern: &str, beside: Option<&Path>) -> Result<Keys, String> {
    let (pattern, relative) = match (pattern.strip_prefix("./"), beside.and_then(Path::to_str)) {
        (Some(rest), Some(directory)) => (format!("{}/{rest}", directory.replace('%', "%%")), true),
        _ => (pattern.to_owned(), false),
    };
    place::read(&pattern)?;
    Ok(Keys { pattern, beside: relative })
}

/// A host name or an address, as one word that ssh can't take for an option, a user or a port.
fn is_address(text: &str) -> Result<(), String> {
    let marks = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    let wrong = |why: &str| Err(format!("is `{}`, not a host name or an address{why}", cut(text)));
    if text.is_empty() || text.len() > ADDRESS_BYTES_MAX || !marks || text.starts_with(['-', '.']) {
        return wrong("");
    }
    if text.contains(':') && text.parse::<Ipv6Addr>().is_err() {
        return wrong("; a port goes behind the word `port`");
    }
    Ok(())
}

fn is_user(text: &str) -> Result<(), String> {
    let sound = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if sound && !text.is_empty() && text.len() <= USER_BYTES_MAX && !text.starts_with(['-', '.']) {
        return Ok(());
    }
    Err(format!("is `{}`, not the name of a user to log in as", cut(text)))
}
