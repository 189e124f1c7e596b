//! HTTP through the program `curl`: GET here, POST in [`post`].
//!
//! Why a program and not a crate: it speaks Negotiate (Kerberos) on every system, with the system's own Kerberos
//! configuration and certificates, and it costs no crate. It is started seldom, and several requests share one start.
//!
//! Everything goes in on stdin (`curl --config -`), so nothing secret is in the arguments. No redirect is followed, no
//! proxy and no `.curlrc` is used, only `http` and `https` are spoken, and what comes back is bounded in bytes and time.

pub mod post;

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use handler_api::Failure;

use crate::program::{self, Run};

pub use self::post::{ClientCertificate, NoAnswer, Post};

/// Most requests in one run of curl.
pub const REQUESTS_MAX: usize = 50;
/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 4_096;
/// Most that all answers of one run may have together, in bytes.
pub const ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Room for what stands between two answers, in bytes.
const META_BYTES_MAX: usize = 4_096;
/// How long a connection may take to be made, in seconds.
const CONNECT_SECONDS_MAX: u64 = 10;
/// What a run may take beside its requests, in seconds.
const START_SECONDS: u64 = 5;

/// How to ask one server.
#[derive(Clone, Debug)]
pub struct Curl {
    /// The certificates that the server's is checked against; `None` = the system's.
    pub ca: Option<PathBuf>,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether and how to log in with Kerberos.
    pub kerberos: Kerberos,
}

/// Whether and how to log in with Kerberos (`Negotiate`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kerberos {
    /// Not at all.
    No,
    /// With the tickets that are there already: the `KRB5…` variables of the handler's environment are passed on.
    Environment,
    /// With the keytab in the secret of this name; the tickets are kept in a directory that only this process uses.
    Keytab(String),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Get {
    /// The URL; see [`check_url`] for its first part, the rest must be percent-encoded.
    pub url: String,
    /// Header lines without line ends, `Name: value`. May be secret.
    pub headers: Vec<String>,
}

/// One answer, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`, as sent.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Checks the base URL of a server and takes the slashes from its end. `http` is for this machine only: whoever sits on
/// the way could put in keys.
///
/// # Errors
/// The end of a sentence that begins with the word.
pub fn check_url(url: &str) -> Result<String, &'static str> {
    let base = url.trim_end_matches('/');
    let (plain, rest) = match (base.strip_prefix("https://"), base.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("is not a URL that begins with https://"),
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:[]%".contains(&b);
    if rest.is_empty()
        || base.len() > URL_BYTES_MAX / 2
        || !rest.bytes().all(allowed)
        || rest.starts_with(['/', ':', '-'])
    {
        return Err("is not a URL of host, port and path (no user, no `?`, no `#`)");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if plain && host != "localhost" && !is_address(host) {
        return Err("is http:// to another machine, where anybody on the way could put in keys; use https://");
    }
    Ok(base.to_owned())
}

/// One part of a path or query, percent-encoded.
#[must_use]
pub fn encode(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Curl {
    /// Asks for all of `gets`, one after the other over one connection where the server keeps it, and answers in their
    /// order. An HTTP status that says "error" is an answer like any other.
    ///
    /// # Errors
    /// When not all of them were answered whole.
    pub async fn get(&self, gets: &[Get]) -> Result<Vec<Answer>, Failure> {
        let Some(first) = gets.first() else { return Ok(Vec::new()) };
        let server = server_of(&first.url).to_owned();
        if gets.len() > REQUESTS_MAX {
            return Err(Failure::permanent(format!("more than {REQUESTS_MAX} requests in one run of curl")));
        }
        let mark = random().map_err(|error| Failure::retry(format!("/dev/urandom: {error}")))?;
        let requests = u32::try_from(gets.len()).unwrap_or(u32::MAX);
        let run = Run {
            program: "curl".into(),
            // `--disable` must come first: no .curlrc.
            args: ["--disable", "--config", "-"].map(str::to_owned).to_vec(),
            env: self.environment()?,
            stdin: self.config(gets, &mark)?.into_bytes(),
            stdout_bytes_max: ANSWERS_BYTES_MAX + gets.len() * META_BYTES_MAX,
            timeout: self.timeout * requests + Duration::from_secs(START_SECONDS),
        };
        let ended = program::run(run).await.map_err(|trouble| {
            let hint = match &trouble {
                program::Trouble::Io(_) => "is curl installed? try: curl --version".to_owned(),
                _ => format!("try: curl --head {server}"),
            };
            Failure::retry(format!("{server}: the program curl {trouble}")).hinting(hint)
        })?;
        let hint = format!("try: curl --verbose {server}");
        if !ended.status.success() {
            return Err(Failure::retry(format!("{server}: {}", reason(&ended))).hinting(hint));
        }
        split(&ended.stdout, &mark, gets.len()).ok_or_else(|| {
            Failure::retry(format!("{server}: curl's answer is not whole: {}", reason(&ended))).hinting(hint)
        })
    }

    fn environment(&self) -> Result<Vec<(OsString, OsString)>, Failure> {
        if self.kerberos == Kerberos::No {
            return Ok(Vec::new());
        }
        let is_krb5 = |(name, _): &(OsString, OsString)| name.as_encoded_bytes().starts_with(b"KRB5");
        let mut env: Vec<_> = std::env::vars_os().filter(is_krb5).collect();
        if let Kerberos::Keytab(secret) = &self.kerberos {
            env.retain(|(name, _)| name != "KRB5_CLIENT_KTNAME" && name != "KRB5CCNAME");
            let mut keytab = OsString::from("FILE:");
            keytab.push(secret_file(secret)?);
            let mut tickets = OsString::from("FILE:");
            tickets.push(private_dir()?.join(format!("tickets-{secret}")));
            env.push(("KRB5_CLIENT_KTNAME".into(), keytab));
            env.push(("KRB5CCNAME".into(), tickets));
        }
        Ok(env)
    }

    /// What stands in the configuration of every request: limits, and whom to trust.
    fn common(&self) -> Result<String, Failure> {
        let seconds = self.timeout.as_secs_f64();
        let connect = self.timeout.min(Duration::from_secs(CONNECT_SECONDS_MAX)).as_secs_f64();
        let mut common = format!(
            "globoff\npath-as-is\nproto = \"=http,https\"\nnoproxy = \"*\"\ntlsv1.2\nmax-time = {seconds}\n\
             connect-timeout = {connect}\nmax-filesize = {ANSWERS_BYTES_MAX}\n"
        );
        if self.kerberos != Kerberos::No {
            common.push_str("negotiate\nuser = \":\"\n");
        }
        if let Some(ca) = &self.ca {
            common.push_str(&format!("cacert = {}\n", in_quotes(&ca.to_string_lossy())?));
        }
        Ok(common)
    }

    fn config(&self, gets: &[Get], mark: &str) -> Result<String, Failure> {
        let mut one = self.common()?;
        one.push_str(&format!("write-out = \"\\n{mark} %{{http_code}} %{{exitcode}} %{{content_type}}\\n\"\n"));
        let mut config = String::from("silent\nshow-error\nfail-early\n");
        for (at, get) in gets.iter().enumerate() {
            if at > 0 {
                config.push_str("next\n");
            }
            config.push_str(&format!("url = {}\n{one}", url_in_quotes(&get.url)?));
            for header in &get.headers {
                config.push_str(&format!("header = {}\n", in_quotes(header)?));
            }
        }
        Ok(config)
    }
}

/// The file of a secret that reactor handed over.
///
/// # Errors
/// No secrets were handed over, or not this one, or it is empty: to be tried again, for it can be mended.
pub fn secret_file(name: &str) -> Result<PathBuf, Failure> {
    secret_file_in(std::env::var_os("REACTOR_SECRETS").as_deref(), name)
}

/// As [`secret_file`], in the directory `secrets`: what `REACTOR_SECRETS` names.
///
/// # Errors
/// As [`secret_file`].
pub fn secret_file_in(secrets: Option<&OsStr>, name: &str) -> Result<PathBuf, Failure> {
    let hint = || format!("list the secret `{name}` under `secrets:` of the handler, for plan too");
    let Some(dir) = secrets else {
        return Err(
            Failure::retry(format!("the secret `{name}` is not there: no secrets were handed over")).hinting(hint())
        );
    };
    let file = PathBuf::from(dir).join(name);
    match std::fs::metadata(&file) {
        Ok(about) if about.is_file() && about.len() > 0 => Ok(file),
        Ok(_) => Err(Failure::retry(format!("the secret `{name}` is empty")).hinting(hint())),
        Err(error) => Err(Failure::retry(format!("the secret `{name}` can't be read: {error}")).hinting(hint())),
    }
}

/// A directory that only this process uses, in its working directory (`TMPDIR`), which reactor removes.
fn private_dir() -> Result<&'static PathBuf, Failure> {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    if let Some(dir) = DIR.get() {
        return Ok(dir);
    }
    let made = random().and_then(|word| {
        let dir = std::env::temp_dir().join(format!("reactor-tickets-{word}"));
        // Fails if it is there already, a link too.
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map(|()| dir)
    });
    let made = made.map_err(|error| {
        Failure::retry(format!("no directory for Kerberos tickets in {}: {error}", std::env::temp_dir().display()))
    })?;
    Ok(DIR.get_or_init(|| made))
}

/// 32 letters that nobody can guess.
fn random() -> std::io::Result<String> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A value as curl's configuration has it. What it has no need of is refused rather than escaped.
fn in_quotes(text: &str) -> Result<String, Failure> {
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(Failure::permanent(
            "a URL, header or path for curl holds a quote, a backslash or a control character",
        ));
    }
    Ok(format!("\"{text}\""))
}

/// A URL as curl's configuration has it.
fn url_in_quotes(url: &str) -> Result<String, Failure> {
    if url.len() > URL_BYTES_MAX {
        let server = server_of(url);
        return Err(Failure::permanent(format!("a URL of {server} is longer than {URL_BYTES_MAX} bytes")));
    }
    in_quotes(url)
}

/// The head of a URL, up to the path: all of it that may be logged.
#[must_use]
pub fn server_of(url: &str) -> &str {
    let from = url.find("://").map_or(0, |at| at + 3);
    url[from..].find('/').map_or(url, |at| &url[..from + at])
}

fn reason(ended: &program::Ended) -> String {
    if ended.stderr.is_empty() { format!("curl ended with {}", ended.status) } else { ended.stderr.clone() }
}

/// Cuts what curl printed into answers; `None` when it is not exactly `count` whole ones. The mark can't be guessed, so
/// no body can hold it.
fn split(stdout: &[u8], mark: &str, count: usize) -> Option<Vec<Answer>> {
    let needle = format!("\n{mark} ").into_bytes();
    let mut rest = stdout;
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let at = find(rest, &needle)?;
        let (body, after) = (&rest[..at], &rest[at + needle.len()..]);
        let end = after.iter().position(|byte| *byte == b'\n')?;
        let meta = std::str::from_utf8(&after[..end]).ok()?;
        let mut words = meta.splitn(3, ' ');
        let (status, exit, content_type) =
            (words.next()?.parse().ok()?, words.next()?, words.next().unwrap_or_default());
        if exit != "0" || status < 200 {
            return None;
        }
        answers.push(Answer { status, content_type: content_type.to_owned(), body: body.to_vec() });
        rest = &after[end + 1..];
    }
    rest.is_empty().then_some(answers)
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == first) {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_this_machine_are_asked() {
        for good in [
            "https://fasjson.example.org",
            "https://x:8443/a/b",
            "http://127.0.0.1:80",
            "http://localhost/x",
            "http://[::1]:8",
        ] {
            assert_eq!(check_url(good).unwrap(), good);
        }
        assert_eq!(check_url("https://x.org//").unwrap(), "https://x.org");
        for wrong in [
            "",
            "x.org",
            "ftp://x",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "https://a@b",
            "https://x/?a",
            "https://x/#a",
            "https://x y",
            "https://x\ny",
            "https://x\"y",
            "http://fasjson.example.org",
            "http://127.0.0.1.example.org",
            "http://10.0.0.1",
            "http://localhost.example.org",
            "https://-x",
        ] {
            assert!(check_url(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_can_end_a_line_of_the_configuration() {
        let curl = Curl { ca: None, timeout: Duration::from_secs(5), kerberos: Kerberos::No };
        let get = |url: &str, header: &str| [Get { url: url.into(), headers: vec![header.into()] }];
        assert!(curl.config(&get("https://x/", "A: b"), "m").is_ok());
        for (url, header) in [
            ("https://x/\"", "A: b"),
            ("https://x/\n", "A: b"),
            ("https://x/", "A: b\r\nC: d"),
            ("https://x/\\", "A: b"),
        ] {
            assert!(curl.config(&get(url, header), "m").is_err(), "{url:?} {header:?}");
        }
        assert_eq!(encode("a/b?c&d%\"\n"), "a%2Fb%3Fc%26d%25%22%0A");
    }

    #[test]
    fn answers_are_cut_apart_only_when_all_are_whole() {
        let whole = b"one\n\nM 200 0 application/json\n\nM 404 0 \n";
        let answers = split(whole, "M", 2).unwrap();
        assert_eq!(
            (answers[0].status, answers[0].body.as_slice(), answers[0].content_type.as_str()),
            (200, &b"one\n"[..], "application/json")
        );
        assert_eq!((answers[1].status, answers[1].body.as_slice()), (404, &b""[..]));
        for (bytes, count) in [
            (&whole[..], 1),
            (&whole[..], 3),
            (&whole[..whole.len() - 1], 2),
            (b"", 1),
            (b"x\nM 200 18 \n", 1),
            (b"x\nM 000 0 \n", 1),
            (b"x\nN 200 0 \n", 1),
        ] {
            assert_eq!(split(bytes, "M", count), None, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_mark_is_never_the_same() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
