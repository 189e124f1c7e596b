//! The block `accounts: {ldap: …}`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use handler_api::Failure;
use serde_json::Value;

use super::dn::Dn;
use handler_api::words::{Words, quoted, unknown_words};

/// Most servers in the list.
pub const SERVERS_MAX: usize = 16;
/// How long one answer of a server may take where `timeout` does not say, in seconds.
pub const TIMEOUT_SECONDS_DEFAULT: u64 = 20;
/// Longest `timeout`, in seconds.
pub const TIMEOUT_SECONDS_MAX: u64 = 300;
/// Entries in one page where `page_size` does not say.
pub const PAGE_SIZE_DEFAULT: u64 = 500;
/// Largest `page_size`, in entries.
pub const PAGE_SIZE_MAX: u64 = 10_000;

/// The words of the block.
const WORDS: [&str; 11] =
    ["ldap", "base", "schema", "bind", "starttls", "ca", "users", "groups", "key_attribute", "timeout", "page_size"];

/// How a directory holds people and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// FreeIPA: `memberOf` of the user, nested groups included.
    Freeipa,
    /// openssh-lpk: `memberUid`, or `member` DNs, of the group.
    OpensshLpk,
}

/// Who reactor is to the server.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    pub(super) dn: String,
    /// The name of the secret with the password.
    pub(super) password: String,
}

/// The block, checked.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// `ldap://host:port`, in the order in which they are tried.
    pub(super) servers: Vec<String>,
    pub(super) schema: Schema,
    pub(super) bind: Option<Bind>,
    pub(super) starttls: bool,
    pub(super) ca: Option<PathBuf>,
    /// Where people stand.
    pub(super) users: String,
    /// Where groups stand.
    pub(super) groups: String,
    pub(super) key_attribute: String,
    /// Of one page, or any other single answer.
    pub(super) timeout: Duration,
    pub(super) page_size: i32,
}

impl Config {
    pub(super) fn read(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "accounts: ldap", &WORDS)?;
        let starttls = match words.get("starttls") {
            None => false,
            Some(Value::Bool(yes)) => *yes,
            Some(other) => return Err(words.wrong("starttls", "is not true or false", other)),
        };
        let schema = match words.text("schema")? {
            None | Some("freeipa") => Schema::Freeipa,
            Some("openssh-lpk") => Schema::OpensshLpk,
            Some(_) => {
                let value = words.get("schema").unwrap_or(&Value::Null);
                return Err(words.wrong("schema", "is not freeipa or openssh-lpk", value));
            }
        };
        let ca = words.text("ca")?.map(PathBuf::from);
        if let Some(ca) = ca.as_ref().filter(|ca| !ca.is_absolute()) {
            let value = Value::String(ca.display().to_string());
            return Err(words.wrong("ca", "is not an absolute path", &value));
        }
        let (users, groups) = places(&words, schema)?;
        let attribute = if schema == Schema::Freeipa { "ipaSshPubKey" } else { "sshPublicKey" };
        let attribute = words.text("key_attribute")?.unwrap_or(attribute);
        if !is_attribute(attribute) {
            let value = Value::String(attribute.to_owned());
            return Err(words.wrong("key_attribute", "is not the name of an attribute", &value));
        }
        let page_size = words.number("page_size", PAGE_SIZE_DEFAULT, 1, PAGE_SIZE_MAX)?;
        let (default, max) = (Duration::from_secs(TIMEOUT_SECONDS_DEFAULT), Duration::from_secs(TIMEOUT_SECONDS_MAX));
        Ok(Self {
            servers: servers(&words, starttls)?,
            schema,
            bind: bind(&words)?,
            starttls,
            ca,
            users,
            groups,
            key_attribute: attribute.to_owned(),
            timeout: words.duration("timeout", default, max)?,
            page_size: i32::try_from(page_size).unwrap_or(i32::MAX),
        })
    }
}

/// Where people and groups stand.
fn places(words: &Words<'_>, schema: Schema) -> Result<(String, String), Failure> {
    let dn = |word: &str| {
        let text = words.text(word)?;
        match text.map(Dn::parse) {
            Some(None) => Err(words.wrong(
                word,
                "is not a distinguished name such as dc=example,dc=org",
                &text.unwrap_or("").into(),
            )),
            _ => Ok(text),
        }
    };
    let base = dn("base")?;
    let [users, groups] = match schema {
        Schema::Freeipa => ["cn=users,cn=accounts", "cn=groups,cn=accounts"],
        Schema::OpensshLpk => ["ou=People", "ou=Groups"],
    };
    let place = |word: &str, usual: &str| match (dn(word)?, base) {
        (Some(own), _) => Ok(own.to_owned()),
        (None, Some(base)) => Ok(format!("{usual},{base}")),
        (None, None) => {
            Err(Failure::permanent(format!("accounts: ldap: neither `base` nor `{word}` says where to look"))
                .hinting("write base: dc=example,dc=org"))
        }
    };
    Ok((place("users", users)?, place("groups", groups)?))
}

fn bind(words: &Words<'_>) -> Result<Option<Bind>, Failure> {
    let Some(block) = words.get("bind") else { return Ok(None) };
    let allowed = ["dn", "password"];
    let Some(map) = block.as_object() else {
        return Err(words.wrong("bind", "is not a map; write bind: {dn: …, password: SECRET}", block));
    };
    let unknown: Vec<&str> = map.keys().map(String::as_str).filter(|word| !allowed.contains(word)).collect();
    if !unknown.is_empty() {
        return Err(unknown_words("accounts: ldap: bind", &unknown, &allowed));
    }
    let text = |word: &str| map.get(word).and_then(Value::as_str).filter(|text| !text.is_empty());
    // What is wrong is said without the value: somebody may have put the password itself there.
    let (Some(dn), Some(password)) = (text("dn"), text("password")) else {
        return Err(Failure::permanent("accounts: ldap: `bind` needs a `dn` and a `password`, both texts").hinting(
            "password is the name of a secret: write bind: {dn: \"uid=reactor,…\", password: ldap-password}",
        ));
    };
    if Dn::parse(dn).is_none() {
        return Err(words.wrong("bind", "has a `dn` that is not a distinguished name", &dn.into()));
    }
    if !password.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) || password.starts_with('.')
    {
        return Err(Failure::permanent("accounts: ldap: `password` of `bind` is not the name of a secret").hinting(
            "put the password into a file and list it under `secrets:` of the handler; its name stands here",
        ));
    }
    Ok(Some(Bind { dn: dn.to_owned(), password: password.to_owned() }))
}

fn servers(words: &Words<'_>, starttls: bool) -> Result<Vec<String>, Failure> {
    let value = words.get("ldap").unwrap_or(&Value::Null);
    let list = match value {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().map(|server| server.as_str().unwrap_or("")).collect(),
        _ => Vec::new(),
    };
    if list.is_empty() || list.len() > SERVERS_MAX {
        return Err(words.wrong(
            "ldap",
            &format!("is not the address of a server, or 1 to {SERVERS_MAX} of them"),
            value,
        ));
    }
    for server in &list {
        let Some((tls, host)) = address(server) else {
            return Err(words.wrong(
                "ldap",
                "is not an address such as ldaps://ldap.example.org[:636]",
                &(*server).into(),
            ));
        };
        if tls && starttls {
            return Err(Failure::permanent(format!(
                "accounts: ldap: `starttls` is for ldap://, not for {}",
                quoted(server)
            )));
        }
        // Not only the password: whoever sits in between could give anyone a key.
        if !tls && !starttls && !is_loopback(host) {
            let message = format!("accounts: ldap: {} would be asked without encryption", quoted(server));
            return Err(Failure::permanent(message).hinting("write ldaps://, or add starttls: true (and ca: PATH)"));
        }
    }
    Ok(list.into_iter().map(str::to_owned).collect())
}

/// Whether it is `ldaps`, and the host. The port is checked too.
fn address(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "ldap" => false,
        "ldaps" => true,
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    let port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (port && !host.is_empty() && !host.starts_with('-') && host.bytes().all(fits)).then_some((tls, host))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_attribute(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(config: Value) -> String {
        let failure = Config::read(&config).expect_err(&config.to_string());
        format!("{} {}", failure.message(), failure.hint().unwrap_or_default())
    }

    #[test]
    fn what_is_left_out_is_freeipas() {
        let config = Config::read(&json!({"ldap": "ldaps://a.example", "base": "dc=example,dc=org"})).unwrap();
        assert_eq!(config.users, "cn=users,cn=accounts,dc=example,dc=org");
        assert_eq!((config.key_attribute.as_str(), config.page_size), ("ipaSshPubKey", 500));
        let config = json!({"ldap": ["ldaps://a", "ldaps://[::1]:1636/"], "base": "o=x", "schema": "openssh-lpk", "users": "ou=staff,o=x"});
        let config = Config::read(&config).unwrap();
        assert_eq!((config.users.as_str(), config.groups.as_str()), ("ou=staff,o=x", "ou=Groups,o=x"));
        assert_eq!((config.key_attribute.as_str(), config.servers.len()), ("sshPublicKey", 2));
    }

    #[test]
    fn nothing_is_asked_in_the_clear_but_on_this_machine() {
        for url in ["ldap://ldap.example.org", "ldap://10.0.0.1:389", "ldap://localhost.example.org"] {
            assert!(refused(json!({"ldap": url, "base": "o=x"})).contains("without encryption"), "{url}");
            assert!(Config::read(&json!({"ldap": url, "base": "o=x", "starttls": true})).is_ok(), "{url}");
        }
        for url in ["ldap://localhost", "ldap://127.0.0.1:3890", "ldap://[::1]", "ldaps://ldap.example.org:636"] {
            assert!(Config::read(&json!({"ldap": url, "base": "o=x"})).is_ok(), "{url}");
        }
        assert!(refused(json!({"ldap": "ldaps://a", "base": "o=x", "starttls": true})).contains("starttls"));
    }

    #[test]
    fn an_address_holds_a_host_and_a_port_and_nothing_else() {
        for wrong in [
            "ldap.example.org",
            "http://a",
            "ldaps://",
            "ldaps://a:0",
            "ldaps://a:99999",
            "ldaps://u@a",
            "ldaps://a/b",
            "ldaps://a?x",
            "ldaps://[zz]",
            "ldaps://[::1]x",
            "ldaps://-a",
        ] {
            assert!(refused(json!({"ldap": wrong, "base": "o=x"})).contains("`ldap`"), "{wrong}");
        }
        assert!(refused(json!({"ldap": [], "base": "o=x"})).contains("`ldap`"));
        assert!(refused(json!({"ldap": ["ldaps://a", 5], "base": "o=x"})).contains("`ldap`"));
    }

    #[test]
    fn wrong_words_are_named() {
        let with = |word: &str, value: Value| {
            let mut config = json!({"ldap": "ldaps://a", "base": "o=x"});
            config[word] = value;
            refused(config)
        };
        assert!(with("timeot", json!("5s")).contains("did you mean `timeout`"));
        assert!(with("schema", json!("rfc2307")).contains("freeipa or openssh-lpk"));
        assert!(with("base", json!("example.org")).contains("dc=example,dc=org"));
        assert!(with("key_attribute", json!("a)(b")).contains("`key_attribute`"));
        assert!(with("page_size", json!(0)).contains("`page_size`"));
        assert!(with("ca", json!("ca.pem")).contains("absolute"));
        assert!(with("starttls", json!("yes")).contains("true or false"));
        assert!(with("bind", json!({"dn": "uid=a"})).contains("needs a `dn`"));
        assert!(with("bind", json!({"dn": "uid=a", "pasword": "b"})).contains("did you mean `password`"));
        assert!(refused(json!({"ldap": "ldaps://a"})).contains("neither `base` nor `users`"));
    }

    #[test]
    fn a_password_in_place_of_a_secrets_name_is_not_shown() {
        let text =
            refused(json!({"ldap": "ldaps://a", "base": "o=x", "bind": {"dn": "uid=a", "password": "hunter2 !/"}}));
        assert!(text.contains("name of a secret") && !text.contains("hunter2"), "{text}");
    }
}
