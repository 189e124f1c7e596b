//! `amqp://user:password@host:port/vhost?…` as pika reads it (`pika.URLParameters`), because that is what stands in
//! fedora-messaging's files. Pure. A password is never part of what is printed.

use std::fmt;

/// A broker's address, and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS is spoken (`amqps`).
    pub tls: bool,
    /// Name or address.
    pub host: String,
    /// 5672, with TLS 5671, where it is not given.
    pub port: u16,
    /// `guest` where it is not given.
    pub user: String,
    /// `guest` where there is no user either; a secret.
    pub password: String,
    /// `/` where it is not given.
    pub vhost: String,
    /// `heartbeat=`, in seconds.
    pub heartbeat_s: Option<u16>,
}

/// What else pika takes behind the `?`. Its tries and waits are our own matter.
const IGNORED: [&str; 11] = [
    "backpressure_detection",
    "blocked_connection_timeout",
    "channel_max",
    "client_properties",
    "connection_attempts",
    "frame_max",
    "locale",
    "retry_delay",
    "socket_timeout",
    "stack_timeout",
    "tcp_options",
];
/// Longest host, user, password or vhost, in bytes.
const PART_BYTES_MAX: usize = 255;

impl Url {
    /// The broker on this machine, as its guest.
    #[must_use]
    pub fn local() -> Self {
        let guest = || "guest".to_owned();
        let (host, vhost) = ("localhost".to_owned(), "/".to_owned());
        Self { tls: false, host, port: 5672, user: guest(), password: guest(), vhost, heartbeat_s: None }
    }

    /// Whether the password is one that nobody should read: it is not empty, and not what everyone knows.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        !self.password.is_empty() && self.password != "guest"
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: there may be a password in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("amqp", rest)) => (false, rest),
            Some(("amqps", rest)) => (true, rest),
            _ => return Err("it begins neither with amqp:// nor with amqps://".into()),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = place.rsplit_once('@').map_or((None, place), |(login, place)| (Some(login), place));
        let (user, password) = match login {
            None => ("guest".to_owned(), "guest".to_owned()),
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (decode("user", user)?, decode("password", password)?)
            }
        };
        let (host, port) = host_and_port(place, if tls { 5671 } else { 5672 })?;
        let vhost = decode("vhost", path.split('/').next().unwrap_or_default())?;
        let vhost = if vhost.is_empty() { "/".to_owned() } else { vhost };
        Ok(Self { tls, host, port, user, password, vhost, heartbeat_s: heartbeat(query)? })
    }
}

fn host_and_port(place: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("its address begins with [ and has no ]")?;
            (host, after.strip_prefix(':'))
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        None => default,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or("its port is not a number from 1 to 65535")?,
    };
    Ok((if host.is_empty() { "localhost".into() } else { decode("host", host)? }, port))
}

fn heartbeat(query: &str) -> Result<Option<u16>, String> {
    let mut heartbeat = None;
    for (name, value) in query.split('&').filter(|part| !part.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
    {
        match name {
            "heartbeat" => {
                heartbeat = Some(value.parse().map_err(|_| "its heartbeat is not a number of seconds up to 65535")?);
            }
            "ssl_options" => return Err("it has `ssl_options`, which are not read; certificates go to `tls`".into()),
            _ if IGNORED.contains(&name) => {}
            _ => return Err(format!("it has the unknown parameter `{}`", name.escape_debug())),
        }
    }
    Ok(heartbeat)
}

/// `%2F` → `/` (RFC 3986, section 2.1).
fn decode(what: &str, text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(format!("in its {what} a % is not followed by two hexadecimal digits"));
        };
        bytes.push((high << 4 | low) as u8);
    }
    if bytes.len() > PART_BYTES_MAX {
        return Err(format!("its {what} has {} bytes, at most {PART_BYTES_MAX} are allowed", bytes.len()));
    }
    String::from_utf8(bytes).map_err(|_| format!("its {what} is not UTF-8"))
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        write!(f, "{scheme}://{}:{}, vhost {}", self.host, self.port, self.vhost)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (bool, String, u16, String, String, String) {
        let url = Url::parse(text).expect(text);
        (url.tls, url.host, url.port, url.user, url.password, url.vhost)
    }

    #[test]
    fn urls_are_read_as_pika_reads_them() {
        let of = |tls, host: &str, port, user: &str, password: &str, vhost: &str| {
            (tls, host.to_owned(), port, user.to_owned(), password.to_owned(), vhost.to_owned())
        };
        assert_eq!(
            parts("amqps://fedora:@rabbitmq.fedoraproject.org/%2Fpublic_pubsub"),
            of(true, "rabbitmq.fedoraproject.org", 5671, "fedora", "", "/public_pubsub")
        );
        assert_eq!(
            parts("amqp://?connection_attempts=3&retry_delay=5"),
            of(false, "localhost", 5672, "guest", "guest", "/")
        );
        assert_eq!(parts("amqp://u:p%40%2F@h:1234/%2F"), of(false, "h", 1234, "u", "p@/", "/"));
        assert_eq!(parts("amqp://[::1]:5672/v"), of(false, "::1", 5672, "guest", "guest", "v"));
        assert_eq!(Url::parse("amqp://h/?heartbeat=30").expect("a URL").heartbeat_s, Some(30));
        assert!(Url::parse("amqp://h/?stack_timeout=15&tcp_options=%7B%27TCP_KEEPIDLE%27:%2060%7D").is_ok());
    }

    #[test]
    fn what_is_no_url_is_said_without_its_password() {
        for wrong in ["h:5672", "https://h", "amqp://u:secret@h:x", "amqp://u:secret%4@h", "amqp://u:secret@h/?what=1"]
        {
            let why = Url::parse(wrong).expect_err(wrong);
            assert!(!why.contains("secret"), "{why}");
        }
        let url = Url::parse("amqp://u:secret@h").expect("a URL");
        assert!(!format!("{url} {url:?}").contains("secret"));
    }
}
