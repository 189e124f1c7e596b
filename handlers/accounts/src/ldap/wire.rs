//! One connection to a server: opening it, and searching in pages. What comes back is read without trusting its shape.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use handler_api::Failure;
use handler_api::limits::SECRET_BYTES_MAX;
use ldap3::asn1::{PL, StructureTag, parse_tag};
use ldap3::controls::{PagedResults, RawControl};
use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Scope, SearchOptions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::timeout;

use super::config::{Bind, Config};
use crate::curl::secret_file;
use handler_api::words::quoted;

/// Most entries in one answer, all pages together.
pub const ENTRIES_MAX: usize = 200_000;
/// Largest answer, all pages together, in bytes.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most pages in one answer.
pub const PAGES_MAX: usize = 20_000;
/// Largest file of certificates, in bytes.
pub const CA_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The object identifier of the control for pages (RFC 2696).
const PAGES: &str = "1.2.840.113556.1.4.319";

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection broke, or nothing came in time: a new one may do.
    Lost(String),
    /// There is an answer, and it is not one to go by.
    Failed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// One entry of a directory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its distinguished name, as the server wrote it.
    pub(super) dn: String,
    attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// The values of an attribute; none when it is not there or may not be read. Bytes that are no UTF-8 are replaced.
    pub(super) fn values<'a>(&'a self, attribute: &'a str) -> impl Iterator<Item = String> + 'a {
        let found = self.attributes.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(attribute));
        found.flat_map(|(_, values)| values).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Whether it shows any value of an attribute.
    pub(super) fn has(&self, attribute: &str) -> bool {
        self.values(attribute).next().is_some()
    }

    /// Takes a search result apart; `None` = it is none. The second number is its size in bytes.
    fn read(tag: StructureTag) -> Option<(Self, usize)> {
        let mut parts = children(tag)?.into_iter();
        let dn = String::from_utf8(bytes(parts.next()?)?).ok()?;
        let (mut attributes, mut size) = (Vec::new(), dn.len());
        for attribute in children(parts.next()?)? {
            let mut parts = children(attribute)?.into_iter();
            let name = String::from_utf8(bytes(parts.next()?)?).ok()?;
            let values = children(parts.next()?)?.into_iter().map(bytes).collect::<Option<Vec<_>>>()?;
            size += name.len() + values.iter().map(Vec::len).sum::<usize>();
            attributes.push((name, values));
        }
        Some((Self { dn, attributes }, size))
    }
}

fn children(tag: StructureTag) -> Option<Vec<StructureTag>> {
    match tag.payload {
        PL::C(children) => Some(children),
        PL::P(_) => None,
    }
}

fn bytes(tag: StructureTag) -> Option<Vec<u8>> {
    match tag.payload {
        PL::P(bytes) => Some(bytes),
        PL::C(_) => None,
    }
}

/// A search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) base: &'a str,
    pub(super) scope: Scope,
    pub(super) filter: &'a str,
    pub(super) attributes: &'a [&'a str],
}

/// A connection that is bound.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    ldap: ldap3::Ldap,
    /// Its server, for messages.
    pub(super) server: String,
    limit: Duration,
    page_size: i32,
}

impl Wire {
    /// Connects to `server`, encrypts as configured, and binds.
    pub(super) async fn open(config: &Config, server: &str) -> Result<Self, Failure> {
        let mut settings = LdapConnSettings::new().set_conn_timeout(config.timeout).set_starttls(config.starttls);
        if let Some(ca) = &config.ca {
            settings = settings.set_config(trusting(ca)?);
        }
        let connected = LdapConnAsync::with_settings(settings, server).await;
        let (connection, ldap) = connected.map_err(|error| unreachable(server, &reason(&error), config))?;
        // Ends when the last handle goes, or the connection; whoever waits for an answer then hears that it is lost.
        tokio::spawn(connection.drive());
        let mut wire = Self { ldap, server: server.to_owned(), limit: config.timeout, page_size: config.page_size };
        if let Some(bind) = &config.bind {
            wire.bind(bind).await?;
        }
        Ok(wire)
    }

    async fn bind(&mut self, bind: &Bind) -> Result<(), Failure> {
        let password = password(&bind.password)?;
        let answer = self.ldap.with_timeout(self.limit).simple_bind(&bind.dn, &password).await;
        let answer = answer.map_err(|error| {
            let why = reason(&error);
            Failure::retry(format!("{}: binding as {} had no answer: {why}", self.server, bind.dn))
                .hinting(look_there(&self.server))
        })?;
        if answer.rc == 0 {
            return Ok(());
        }
        let message = format!("{}: binding as {} was refused: {}", self.server, bind.dn, said(&answer));
        Err(Failure::retry(message)
            .hinting(format!("see whether the secret `{}` holds the password of that account", bind.password)))
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_gone(&self) -> bool {
        self.ldap.clone().is_closed()
    }

    /// All entries that a search finds, whole.
    pub(super) async fn search(&self, query: Query<'_>) -> Result<Vec<Entry>, Trouble> {
        let (mut entries, mut size, mut cookie) = (Vec::new(), 0, Vec::new());
        for page in 0..PAGES_MAX {
            let asked = PagedResults { size: self.page_size, cookie };
            let result = self.page(query, asked, &mut entries, &mut size).await?;
            self.accept(query, &result)?;
            match self.next_page(query, &result)? {
                Some(next) if !next.is_empty() => cookie = next,
                // A server without pages may say all at once, but it can't begin with pages and then forget about them.
                None if page > 0 => {
                    let message = format!("{}: page {} below {} has no number", self.server, page + 1, query.base);
                    return Err(Failure::retry(message).into());
                }
                _ => return Ok(entries),
            }
        }
        Err(too_much(self, query, &format!("more than {PAGES_MAX} pages")).into())
    }

    /// The first entry that a search finds, if there is one.
    pub(super) async fn first(&self, query: Query<'_>) -> Result<Option<Entry>, Trouble> {
        const SIZE_LIMIT_EXCEEDED: u32 = 4;
        let (mut entries, mut size) = (Vec::new(), 0);
        let options = SearchOptions::new().sizelimit(1);
        let mut ldap = self.ldap.clone();
        ldap.with_search_options(options);
        let result = self.read(ldap, query, &mut entries, &mut size).await?;
        if result.rc != SIZE_LIMIT_EXCEEDED {
            self.accept(query, &result)?;
        }
        Ok(entries.into_iter().next())
    }

    async fn page(
        &self,
        query: Query<'_>,
        page: PagedResults,
        entries: &mut Vec<Entry>,
        size: &mut usize,
    ) -> Result<LdapResult, Trouble> {
        let mut ldap = self.ldap.clone();
        ldap.with_controls(RawControl::from(page));
        self.read(ldap, query, entries, size).await
    }

    /// Sends one search and reads its entries, within the time limit.
    async fn read(
        &self,
        mut ldap: ldap3::Ldap,
        query: Query<'_>,
        entries: &mut Vec<Entry>,
        size: &mut usize,
    ) -> Result<LdapResult, Trouble> {
        let lost = |error: LdapError| Trouble::Lost(reason(&error));
        let reading = async {
            let started = ldap.streaming_search(query.base, query.scope, query.filter, query.attributes.to_vec());
            let mut stream = started.await.map_err(lost)?;
            while let Some(item) = stream.next().await.map_err(lost)? {
                if item.is_ref() {
                    return Err(self.elsewhere(query).into());
                }
                if item.is_intermediate() {
                    continue;
                }
                let Some((entry, bytes)) = Entry::read(item.0) else {
                    let message = format!("{}: an answer below {} is not an entry", self.server, query.base);
                    return Err(Failure::retry(message).into());
                };
                *size += bytes;
                if entries.len() >= ENTRIES_MAX {
                    return Err(too_much(self, query, &format!("more than {ENTRIES_MAX} entries")).into());
                }
                if *size > ANSWER_BYTES_MAX {
                    return Err(too_much(self, query, &format!("more than {ANSWER_BYTES_MAX} bytes")).into());
                }
                entries.push(entry);
            }
            Ok(stream.finish().await)
        };
        match timeout(self.limit, reading).await {
            Ok(read) => read,
            Err(_) => Err(Trouble::Lost(format!("no answer within {} s", self.limit.as_secs()))),
        }
    }

    /// Whether the server says that this was all.
    fn accept(&self, query: Query<'_>, result: &LdapResult) -> Result<(), Failure> {
        let at = format!("{}: searching below {}", self.server, query.base);
        let said = said(result);
        match result.rc {
            0 if result.refs.is_empty() => Ok(()),
            0 | 10 => Err(self.elsewhere(query)),
            3 | 4 | 11 => Err(Failure::retry(format!("{at} was cut short: {said}"))
                .hinting("let the account that reactor binds as have more (entries, time) in one answer")),
            32 => Err(Failure::permanent(format!("{at} is not possible, there is nothing there: {said}")).hinting(
                "see `base`, `schema`, `users` and `groups` of accounts, and what the account of `bind` may read",
            )),
            1 | 8 | 13 | 48 | 50 => Err(Failure::permanent(format!("{at} was refused: {said}"))
                .hinting("let reactor bind as an account that may read it: bind: {dn: …, password: SECRET}")),
            _ => Err(Failure::retry(format!("{at} failed: {said}"))),
        }
    }

    /// The mark of the next page: `None` when the server did not speak of pages, an empty one at the end.
    fn next_page(&self, query: Query<'_>, result: &LdapResult) -> Result<Option<Vec<u8>>, Failure> {
        let Some(control) = result.ctrls.iter().map(|control| &control.1).find(|control| control.ctype == PAGES) else {
            return Ok(None);
        };
        let cookie = control.val.as_ref().and_then(|value| {
            let (_, tag) = parse_tag(value).ok()?;
            bytes(children(tag)?.into_iter().nth(1)?)
        });
        let wrong =
            || Failure::retry(format!("{}: the number of a page below {} can't be read", self.server, query.base));
        cookie.map(Some).ok_or_else(wrong)
    }

    fn elsewhere(&self, query: Query<'_>) -> Failure {
        let message = format!("{}: a part of {} is on another server", self.server, query.base);
        Failure::permanent(message).hinting("name a server that holds all of it")
    }
}

fn too_much(wire: &Wire, query: Query<'_>, what: &str) -> Failure {
    let message = format!("{}: the answer below {} has {what}", wire.server, query.base);
    Failure::permanent(message).hinting("ask about fewer groups, or a smaller part of the directory (`users`)")
}

/// Trust in the certificates of a file, and in no others.
fn trusting(ca: &Path) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let wrong = |why: &str| {
        let message = format!("accounts: ldap: the certificates in {} can't be used: {why}", ca.display());
        Failure::retry(message).hinting("`ca` is a file with PEM certificates")
    };
    let text = read_bounded(ca, CA_BYTES_MAX).map_err(|why| wrong(&why))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(&error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(&error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is none in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| wrong(&error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// The password in a secret. An empty one would be a bind as nobody that every server accepts.
fn password(secret: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::retry(format!("the secret `{secret}` is no password: {why}"));
    let text = read_bounded(&secret_file(secret)?, SECRET_BYTES_MAX).map_err(|why| wrong(&why))?;
    let text = String::from_utf8(text).map_err(|_| wrong("it is not UTF-8"))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() || password.contains(['\0', '\n']) {
        return Err(wrong("it must be one line that is not empty"));
    }
    Ok(password.to_owned())
}

fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(max + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > max {
        return Err(format!("it has more than {max} bytes"));
    }
    Ok(text)
}

fn unreachable(server: &str, why: &str, config: &Config) -> Failure {
    let hint = match (&config.ca, why.contains("certificate")) {
        (None, true) => {
            "add ca: PATH, the file with the certificate authority of that server (FreeIPA: /etc/ipa/ca.crt)".to_owned()
        }
        (Some(ca), true) => format!(
            "see whether {} is the authority of that server, and its name the one in the certificate",
            ca.display()
        ),
        _ => look_there(server),
    };
    Failure::retry(format!("{server} can't be reached: {why}")).hinting(hint)
}

/// The command that shows whether a server answers anyone.
pub(super) fn look_there(server: &str) -> String {
    format!("ldapsearch -x -H {server} -s base -b ''")
}

/// What a server answered, without anything a terminal would act on.
fn said(result: &LdapResult) -> String {
    let word = match result.rc {
        1 => "operationsError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        8 => "strongerAuthRequired",
        11 => "adminLimitExceeded",
        13 => "confidentialityRequired",
        32 => "noSuchObject",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        _ => "result code",
    };
    let text = if result.text.is_empty() { String::new() } else { format!(" {}", quoted(&result.text)) };
    format!("{word} ({}){text}", result.rc)
}

/// Why there was no answer, in words.
fn reason(error: &LdapError) -> String {
    match error {
        LdapError::Timeout { .. } => "no answer in time".to_owned(),
        LdapError::EndOfStream | LdapError::ResultRecv { .. } | LdapError::OpSend { .. } => {
            "the connection was lost".to_owned()
        }
        LdapError::LdapResult { result } => said(result),
        LdapError::Io { source } => source.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use ldap3::asn1::TagClass;

    use super::*;

    fn leaf(bytes: &[u8]) -> StructureTag {
        StructureTag { class: TagClass::Universal, id: 4, payload: PL::P(bytes.to_vec()) }
    }

    fn tree(children: Vec<StructureTag>) -> StructureTag {
        StructureTag { class: TagClass::Universal, id: 16, payload: PL::C(children) }
    }

    #[test]
    fn an_entry_is_read_whatever_the_case_of_its_attributes() {
        let keys = tree(vec![leaf(b"IPASSHPUBKEY"), tree(vec![leaf(b"ssh-rsa a"), leaf(b"ssh-rsa \xff")])]);
        let (entry, size) = Entry::read(tree(vec![leaf(b"uid=a"), tree(vec![keys])])).expect("an entry");
        assert_eq!(entry.values("ipaSshPubKey").collect::<Vec<_>>(), ["ssh-rsa a", "ssh-rsa \u{fffd}"]);
        assert_eq!((entry.dn.as_str(), size, entry.has("uid")), ("uid=a", 5 + 12 + 9 + 9, false));
    }

    #[test]
    fn an_answer_of_another_shape_is_no_entry_and_no_panic() {
        let attributes = || tree(vec![]);
        for wrong in [
            leaf(b"uid=a"),
            tree(vec![]),
            tree(vec![leaf(b"uid=a")]),
            tree(vec![leaf(b"\xff"), attributes()]),
            tree(vec![attributes(), attributes()]),
            tree(vec![leaf(b"uid=a"), tree(vec![leaf(b"uid")])]),
            tree(vec![leaf(b"uid=a"), tree(vec![tree(vec![leaf(b"uid")])])]),
            tree(vec![leaf(b"uid=a"), tree(vec![tree(vec![leaf(b"uid"), tree(vec![attributes()])])])]),
        ] {
            assert!(Entry::read(wrong.clone()).is_none(), "{wrong:?}");
        }
    }
}
