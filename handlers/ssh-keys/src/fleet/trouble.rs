//! From what programs say to what a person can do about it.

use super::edge::Answer;
use super::{Trouble, TroubleKind};
use crate::access::{Host, Reach};

/// Longest part of what a program said that is shown, in characters.
const SAID_CHARS_MAX: usize = 300;

impl Trouble {
    pub(super) fn may_pass(host: &Host, what: impl AsRef<str>) -> Self {
        Self::new(host, what.as_ref(), TroubleKind::MayPass)
    }

    pub(super) fn lasting(host: &Host, what: impl AsRef<str>) -> Self {
        Self::new(host, what.as_ref(), TroubleKind::Lasting)
    }

    pub(super) fn moved(host: &Host, what: impl AsRef<str>) -> Self {
        Self::new(host, what.as_ref(), TroubleKind::Moved)
    }

    fn new(host: &Host, what: &str, kind: TroubleKind) -> Self {
        Self { message: format!("host {}: {}", host.name, clean(what.as_bytes())), hint: None, kind }
    }

    /// The same trouble with this hint; one that it has already stays.
    #[must_use]
    pub(super) fn hinting(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }
}

/// One line without control characters and without what turns the direction of a line, of bounded length.
pub(super) fn clean(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let unfit = |c: &char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
    };
    let line = words.join("; ");
    let mut chars = line.chars().filter(|c| !unfit(c));
    let mut shown: String = chars.by_ref().take(SAID_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

/// How a person gets there.
pub(super) fn login(host: &Host) -> String {
    match &host.reach {
        Reach::Local => String::new(),
        Reach::Ssh { address, port, user, .. } => {
            let port = port.map(|port| format!("-p {port} ")).unwrap_or_default();
            let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
            format!("ssh {port}{user}{address} ")
        }
    }
}

/// What is wrong when a program on a host failed and said this.
pub(super) fn of_text(host: &Host, what: &str, said: &[u8]) -> Trouble {
    let text = clean(said);
    let has = |part: &str| String::from_utf8_lossy(said).contains(part);
    let message = if text.is_empty() { what.to_owned() } else { format!("{what}: {text}") };
    if has("No space left on device") || has("Disk quota exceeded") {
        Trouble::may_pass(host, format!("{what}: no space left on device; what stood there still stands: {text}"))
            .hinting(format!("{}df -h", login(host)))
    } else if has("sudo:") && (has("password is required") || has("not allowed") || has("not in the sudoers")) {
        Trouble::lasting(host, message)
            .hinting("let this user run `sudo -n sh` without a password (visudo), or log in as root")
    } else if has("unrecognized option") || has("invalid option") || has("unknown option") {
        Trouble::lasting(host, message).hinting("GNU tar, coreutils and findutils are needed there, and util-linux")
    } else if has("Read-only file system") {
        Trouble::lasting(host, message).hinting(format!("{}mount | grep ro,", login(host)))
    } else if has("Operation not permitted") {
        Trouble::lasting(host, message).hinting("is it immutable? lsattr -d on the file and its directory")
    } else if has("Permission denied") {
        Trouble::lasting(host, message).hinting("log in as root, or set `sudo: true` for this host in the inventory")
    } else {
        Trouble::may_pass(host, message)
    }
}

/// What an exit code of ours means; the codes are in the programs. `about` = the directory or pattern worked on.
pub(super) fn of_answer(host: &Host, about: &str, answer: &Answer) -> Trouble {
    let said = clean(&answer.stderr);
    let login = login(host);
    match answer.code {
        101 => missing(host, &said),
        102 => {
            Trouble::lasting(host, format!("directory {about} is not there, or we may not see it")).hinting(format!(
                "{login}install -d -m 755 -o root -g root {about}; and in sshd_config: AuthorizedKeysFile {about}/%u"
            ))
        }
        103 => Trouble::lasting(host, format!("directory {about} can't be read by who we log in as"))
            .hinting("log in as root, or set `sudo: true` for this host in the inventory"),
        104 => Trouble::lasting(host, format!("{about} is not a directory")).hinting(format!("{login}ls -ld {about}")),
        105 => Trouble::lasting(host, format!("{said} belongs to somebody else than root, so {about} is not safe"))
            .hinting(format!("{login}chown root:root {said}")),
        106 => Trouble::lasting(host, format!("others than the owner can write to {said}, so {about} is not safe"))
            .hinting(format!("{login}chmod go-w {said}")),
        108 => Trouble::may_pass(host, format!("{about}: somebody else has held its lock for too long: {said}"))
            .hinting(format!("{login}lsof {about}")),
        112 => Trouble::may_pass(host, format!("{about}: what arrived was cut short; nothing was written")),
        124 | 137 => Trouble::may_pass(host, format!("{about}: the program there took too long and was ended"))
            .hinting("`ssh: {command_timeout: …}` in the handler's block; is a file system there hanging?"),
        127 => missing(host, &said),
        _ => of_text(host, about, &answer.stderr).or_code(answer.code, said.is_empty()),
    }
}

impl Trouble {
    fn or_code(mut self, code: i32, silent: bool) -> Self {
        if silent {
            self.message.push_str(&format!(": the program there ended with {code} and said nothing"));
        }
        self
    }
}

fn missing(host: &Host, said: &str) -> Trouble {
    let said = if said.is_empty() { "a program" } else { said };
    Trouble::lasting(host, format!("needed there and missing: {said}"))
        .hinting("install sh, GNU tar, coreutils, findutils, grep, util-linux (flock, setpriv) and getent there")
}

/// What is wrong when ssh could not connect and said this.
pub(super) fn of_ssh(host: &Host, address: &str, port: Option<u16>, said: &[u8]) -> Trouble {
    let has = |part: &str| String::from_utf8_lossy(said).contains(part);
    let port_word = port.map(|port| format!("-p {port} ")).unwrap_or_default();
    let scan = format!("ssh-keyscan {port_word}{address}");
    let changed = has("REMOTE HOST IDENTIFICATION HAS CHANGED");
    // The long warning says the same in 12 lines.
    let text = if changed { "its host key is not the one we know".to_owned() } else { clean(said) };
    let message = format!("ssh {address}: {text}");
    let login = login(host);
    let login = login.trim_end();
    if changed {
        Trouble::lasting(host, message).hinting(format!(
            "was it installed anew? compare `{scan} | ssh-keygen -lf -` with what its console says, then put the new line into known_hosts"
        ))
    } else if has("Host key verification failed") || has("host key is known for") {
        Trouble::lasting(host, message).hinting(format!(
            "`{scan}`; compare with what its console says, then put the line into known_hosts (`ssh: {{known_hosts: …}}`)"
        ))
    } else if has("Permission denied (") || has("Too many authentication failures") {
        Trouble::lasting(host, message)
            .hinting(format!("our public key must be in its authorized_keys; try: {login} true"))
    } else if has("Name or service not known") || has("No address associated") {
        Trouble::lasting(host, message)
            .hinting(format!("getent hosts {address}; `address:` of this host in the inventory"))
    } else if has("Bad configuration option")
        || has("bad permissions")
        || has("error in libcrypto")
        || has("invalid format")
    {
        Trouble::lasting(host, message).hinting("look at `ssh: {key: …, config: …}` in the handler's block")
    } else {
        Trouble::may_pass(host, message).hinting(format!("try: {login} true"))
    }
}
