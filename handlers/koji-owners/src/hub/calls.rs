//! The calls that are made.

use std::collections::BTreeSet;

use handler_api::Failure;
use handler_api::words::quoted;

use super::judge::judge;
use super::session::{Line, Told};
use super::xml::{self, Fault, Reply, Value};
use super::{Entry, Hub, Look, Place, READS_PER_CALL, Verdict, WRITES_PER_CALL, What, Who, Write, certificate};
use crate::names::{PackageName, TagName, UserName};

impl Hub {
    /// The hub at `place`. Asks nobody.
    #[must_use]
    pub fn new(place: Place) -> Self {
        Self { line: Line::new(place, std::env::var_os("REACTOR_SECRETS")) }
    }

    /// What each (tag, package) is now, inheritance in it: `None` = the package is not in that tag's list. In the order of
    /// `asked`; one `multiCall` for [`READS_PER_CALL`] questions. Without a login.
    ///
    /// # Errors
    /// The hub does not answer, or there is no such tag.
    pub async fn entries(&self, asked: &[(TagName, PackageName)]) -> Result<Vec<Option<Entry>>, Failure> {
        Ok(self.look(asked, &BTreeSet::new()).await?.entries)
    }

    /// Which of these have no account, for certain. Without a login.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn without_account(&self, users: &BTreeSet<UserName>) -> Result<BTreeSet<UserName>, Failure> {
        Ok(self.look(&[], users).await?.without_account)
    }

    /// Both of the above at once: what a single change needs is one call.
    ///
    /// # Errors
    /// The hub does not answer, or there is no such tag.
    pub async fn look(&self, asked: &[(TagName, PackageName)], users: &BTreeSet<UserName>) -> Result<Look, Failure> {
        // To a tag that is not there, the hub says what it says to a package that is not in the list.
        let tags: BTreeSet<&TagName> = asked.iter().map(|(tag, _)| tag).collect();
        let of_tags = tags.iter().map(|tag| get_tag(tag));
        let of_entries = asked.iter().map(|(tag, package)| get_entry(tag, package));
        let of_users = users.iter().map(|user| xml::element("getUser", vec![Value::text(user.as_str())]));
        let mut said = self.read(of_tags.chain(of_entries).chain(of_users).collect()).await?.into_iter();
        let missing = unknown(tags.into_iter(), &mut said);
        if let Some(tag) = missing.first() {
            return Err(Failure::permanent(format!("{}: there is no tag {tag}", self.line.server()))
                .hinting("mend the handler's `tags`; which there are says: koji list-tags"));
        }
        let entries = asked.iter().zip(&mut said).map(|((_, package), value)| self.entry_of(package, &value));
        let entries = entries.collect::<Result<_, _>>()?;
        let without_account = unknown(users.iter(), &mut said).into_iter().cloned().collect();
        Ok(Look { entries, without_account })
    }

    /// Which of these tags the hub does not have. Without a login.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn missing_tags(&self, tags: &BTreeSet<TagName>) -> Result<BTreeSet<TagName>, Failure> {
        let mut said = self.read(tags.iter().map(get_tag).collect()).await?.into_iter();
        Ok(unknown(tags.iter(), &mut said).into_iter().cloned().collect())
    }

    /// The whole list of a tag, inherited and blocked rows too: one call. Without a login.
    ///
    /// # Errors
    /// The hub does not answer, or there is no such tag.
    pub async fn list(&self, tag: &TagName) -> Result<Vec<Entry>, Failure> {
        let named = [("tagID", Value::text(tag.as_str())), ("inherited", Value::Bool(true))];
        let rows = match self.line.ask("listPackages", &[Value::keywords(named)]).await? {
            Value::Array(rows) => rows,
            other => return Err(self.strange("listPackages", &other)),
        };
        rows.iter().map(|row| entry(row).ok_or_else(|| self.strange("listPackages", row))).collect()
    }

    /// Does at most [`WRITES_PER_CALL`] of them in one `multiCall`; a verdict for each, in their order. When the answer is lost,
    /// what was done is read back before this returns.
    ///
    /// # Errors
    /// Nothing certain is known of any (the hub is gone), or nothing was done (offline, login refused).
    pub async fn write(&self, writes: &[Write]) -> Result<Vec<Verdict>, Failure> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        if writes.len() > WRITES_PER_CALL {
            return Err(Failure::permanent(format!("{} writes at once; at most {WRITES_PER_CALL}", writes.len())));
        }
        let calls = writes.iter().map(Write::call).collect();
        let why = match self.line.tell("multiCall", &[Value::Array(calls)]).await? {
            Told::Reply(Reply::Fault(fault)) => return Err(self.refused("multiCall", &fault)),
            Told::Reply(Reply::Value(value)) => match elements(value, writes.len()) {
                Some(said) => {
                    return Ok(writes.iter().zip(said).map(|(write, said)| self.verdict(write, said)).collect());
                }
                None => "its answer has another shape".to_owned(),
            },
            Told::Unknown(why) => why,
        };
        self.look_back(writes, &why).await
    }

    /// Who we are there; logs in. Changes nothing.
    ///
    /// # Errors
    /// The login is refused, or the hub does not answer.
    pub async fn who(&self) -> Result<Who, Failure> {
        let ends = self.line.certificate()?.map(|who| certificate::ends(&who.certificate)).transpose()?;
        let calls = vec![xml::element("getLoggedInUser", Vec::new()), xml::element("getPerms", Vec::new())];
        let value = match self.line.tell("multiCall", &[Value::Array(calls)]).await? {
            Told::Reply(Reply::Value(value)) => value,
            Told::Reply(Reply::Fault(fault)) => return Err(self.refused("getLoggedInUser", &fault)),
            Told::Unknown(why) => {
                return Err(Failure::retry(format!("{}: getLoggedInUser: {why}", self.line.server())));
            }
        };
        let strange = self.strange("getLoggedInUser", &value);
        let read = || {
            let [user, permissions] = <[_; 2]>::try_from(elements(value, 2)?).ok()?;
            let user = user.ok()?.get("name")?.as_str()?.to_owned();
            let Value::Array(permissions) = permissions.ok()? else { return None };
            let permissions = permissions.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>()?;
            Some(Who { user, permissions, certificate_ends: ends })
        };
        read().ok_or(strange)
    }

    /// When the client certificate ends, in seconds since 1970; `None` = the login is by Kerberos, or there is none. Asks nobody.
    ///
    /// # Errors
    /// The secret is missing, or no certificate.
    pub fn certificate_ends(&self) -> Result<Option<i64>, Failure> {
        self.line.certificate()?.map(|who| certificate::ends(&who.certificate)).transpose()
    }

    /// The values of these reads, which must all succeed.
    async fn read(&self, calls: Vec<Value>) -> Result<Vec<Value>, Failure> {
        let mut values = Vec::with_capacity(calls.len());
        for some in calls.chunks(READS_PER_CALL) {
            let value = self.line.ask("multiCall", &[Value::Array(some.to_vec())]).await?;
            let strange = self.strange("multiCall", &value);
            for said in elements(value, some.len()).ok_or(strange)? {
                values.push(said.map_err(|fault| self.refused("multiCall", &fault))?);
            }
        }
        Ok(values)
    }

    /// What was done of writes whose answer is not known.
    async fn look_back(&self, writes: &[Write], why: &str) -> Result<Vec<Verdict>, Failure> {
        let calls = writes.iter().map(|write| get_entry(&write.tag, &write.package)).collect();
        let said = self.read(calls).await?;
        let judged = writes.iter().zip(said).map(|(write, value)| {
            let entry = self.entry_of(&write.package, &value)?;
            let server = self.line.server();
            if write.is_done(entry.as_ref()) {
                Ok(())
            } else {
                Err(Failure::retry(format!("{server}: {write}: {why}, and it is not done")))
            }
        });
        Ok(judged.collect())
    }

    fn verdict(&self, write: &Write, said: Result<Value, Fault>) -> Verdict {
        said.map(drop).map_err(|fault| judge(&format!("{}: {write}", self.line.server()), &fault, write.owner()))
    }

    fn entry_of(&self, package: &PackageName, value: &Value) -> Result<Option<Entry>, Failure> {
        if *value == Value::Nil {
            return Ok(None);
        }
        let entry = entry(value).filter(|entry| entry.package == package.as_str());
        entry.map(Some).ok_or_else(|| self.strange("getPackageConfig", value))
    }

    fn refused(&self, method: &str, fault: &Fault) -> Failure {
        judge(&format!("{}: {method}", self.line.server()), fault, None)
    }

    fn strange(&self, method: &str, value: &Value) -> Failure {
        let kind = match value {
            Value::Nil => "nothing",
            Value::Array(values) if values.is_empty() => "an empty list",
            Value::Array(_) => "a list of another length or kind",
            Value::Struct(_) => "a struct without what is needed",
            _ => "another value",
        };
        let shown = value.as_str().map(|text| format!(": {}", quoted(text))).unwrap_or_default();
        Failure::retry(format!("{}: {method} answered {kind}{shown}", self.line.server()))
    }
}

impl Write {
    fn call(&self) -> Value {
        let text = |text: &str| Value::text(text);
        let mut params = vec![text(self.tag.as_str()), text(self.package.as_str())];
        let method = match &self.what {
            What::Add { owner, extra_arches } => {
                let owner = ("owner", text(owner.as_str()));
                params.push(match extra_arches {
                    Some(arches) => Value::keywords([owner, ("extra_arches", text(arches))]),
                    None => Value::keywords([owner]),
                });
                "packageListAdd"
            }
            What::SetOwner(owner) => {
                params.push(text(owner.as_str()));
                "packageListSetOwner"
            }
            What::Block => "packageListBlock",
            What::Unblock => "packageListUnblock",
        };
        xml::element(method, params)
    }

    fn owner(&self) -> Option<&str> {
        match &self.what {
            What::Add { owner, .. } | What::SetOwner(owner) => Some(owner.as_str()),
            What::Block | What::Unblock => None,
        }
    }

    /// Whether the list, whose row is `entry`, has what this write is to make. Of an inherited row, an owner can't be told.
    fn is_done(&self, entry: Option<&Entry>) -> bool {
        let Some(entry) = entry else { return false };
        match &self.what {
            What::Add { owner, .. } | What::SetOwner(owner) => {
                entry.tag == self.tag.as_str() && entry.owner == owner.as_str()
            }
            What::Block => entry.blocked,
            What::Unblock => !entry.blocked,
        }
    }
}

impl std::fmt::Display for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tag, package, what } = self;
        match what {
            What::Add { owner, .. } => write!(f, "{tag}: add {package} for {owner}"),
            What::SetOwner(owner) => write!(f, "{tag}: {owner} as owner of {package}"),
            What::Block => write!(f, "{tag}: block {package}"),
            What::Unblock => write!(f, "{tag}: unblock {package}"),
        }
    }
}

fn get_tag(tag: &TagName) -> Value {
    xml::element("getTag", vec![Value::text(tag.as_str())])
}

fn get_entry(tag: &TagName, package: &PackageName) -> Value {
    xml::element("getPackageConfig", vec![Value::text(tag.as_str()), Value::text(package.as_str())])
}

/// What each element of a `multiCall` came to; `None` when these are not `count` answers.
fn elements(value: Value, count: usize) -> Option<Vec<Result<Value, Fault>>> {
    let Value::Array(values) = value else { return None };
    let one = |value: Value| match value {
        Value::Array(mut one) if one.len() == 1 => one.pop().map(Ok),
        other => Fault::of(&other).map(Err),
    };
    (values.len() == count).then(|| values.into_iter().map(one).collect()).flatten()
}

/// Those of `asked` to which the hub said that it has nothing of that name.
fn unknown<T>(asked: impl Iterator<Item = T>, said: &mut impl Iterator<Item = Value>) -> Vec<T> {
    asked.zip(said).filter(|(_, value)| *value == Value::Nil).map(|(one, _)| one).collect()
}

fn entry(row: &Value) -> Option<Entry> {
    let text = |name: &str| row.get(name)?.as_str().map(str::to_owned);
    let extra_arches = match row.get("extra_arches")? {
        Value::Nil => None,
        arches => Some(arches.as_str()?.to_owned()),
    };
    Some(Entry {
        package: text("package_name")?,
        owner: text("owner_name")?,
        blocked: row.get("blocked")?.as_bool()?,
        extra_arches,
        tag: text("tag_name")?,
    })
}
