//! The options in front of a key: those of sshd(8), AUTHORIZED_KEYS FILE FORMAT. A key whose options sshd does not
//! understand is no key to it, and somebody is locked out: so they are checked here.

use std::net::IpAddr;

use accounts::keys::is_shown;
use handler_api::spelling::did_you_mean;

use crate::config::words::cut;

/// Most options of one account group.
pub const OPTIONS_MAX: usize = 32;
/// Longest option, in bytes.
pub const OPTION_BYTES_MAX: usize = 2_048;
/// All options of one account group together, in bytes.
pub const OPTIONS_BYTES_MAX: usize = 4_096;

/// Options without a value.
const FLAGS: [&str; 13] = [
    "agent-forwarding",
    "no-agent-forwarding",
    "no-port-forwarding",
    "no-pty",
    "no-touch-required",
    "no-user-rc",
    "no-X11-forwarding",
    "port-forwarding",
    "pty",
    "restrict",
    "user-rc",
    "verify-required",
    "X11-forwarding",
];
/// Options with a value in quotes.
const VALUED: [&str; 7] = ["command", "environment", "expiry-time", "from", "permitlisten", "permitopen", "tunnel"];
/// Valued options that sshd takes once.
const ONCE: [&str; 2] = ["command", "from"];
/// Options that would make a certificate authority of each user's key.
const AUTHORITY: [&str; 2] = ["cert-authority", "principals"];

/// Checks the options of one account group.
///
/// # Errors
/// A sentence for each that is wrong.
pub(super) fn check(options: &[String]) -> Result<(), Vec<String>> {
    let mut wrong: Vec<String> = options.iter().filter_map(|option| check_one(option).err()).collect();
    for name in ONCE {
        if options.iter().filter(|option| name_of(option).eq_ignore_ascii_case(name)).count() > 1 {
            wrong.push(format!("`{name}` is given twice; sshd takes it once"));
        }
    }
    if options.len() > OPTIONS_MAX || options.iter().map(String::len).sum::<usize>() > OPTIONS_BYTES_MAX {
        wrong.push(format!("more than {OPTIONS_MAX} options, or more than {OPTIONS_BYTES_MAX} bytes of them"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn name_of(option: &str) -> &str {
    option.split_once('=').map_or(option, |(name, _)| name)
}

fn check_one(option: &str) -> Result<(), String> {
    let name = name_of(option);
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    if AUTHORITY.iter().any(|known| is(known)) {
        return Err(format!("`{name}` would make a certificate authority of every user's key"));
    }
    if option.len() > OPTION_BYTES_MAX {
        return Err(format!("`{}` is longer than {OPTION_BYTES_MAX} bytes", cut(option)));
    }
    if let Some(known) = VALUED.iter().find(|known| is(known)) {
        let text = value(option)?;
        return check_value(known, &text).map_err(|why| format!("`{}` {why}", cut(option)));
    }
    if FLAGS.iter().any(|known| is(known)) {
        return if name == option { Ok(()) } else { Err(format!("`{name}` has no value; leave out the `=…`")) };
    }
    if option.contains(',') && name_of(option.split(',').next().unwrap_or_default()) != name {
        return Err(format!("`{}` is more than one option; make it several items of the list", cut(option)));
    }
    let all: Vec<&str> = FLAGS.iter().chain(&VALUED).copied().collect();
    let hint = did_you_mean(name, all.iter().copied()).map_or_else(
        || "they are in `man sshd`, AUTHORIZED_KEYS FILE FORMAT".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    Err(format!("`{}` is not an option of a key; {hint}", cut(option)))
}

/// The text between the quotes, as sshd reads it: `\"` is a quote, any other backslash is itself.
fn value(option: &str) -> Result<String, String> {
    let name = name_of(option);
    let form = || format!("`{}` needs a value in quotes: {name}=\"…\"", cut(option));
    let inner = option.split_once('=').and_then(|(_, value)| value.strip_prefix('"')).ok_or_else(form)?;
    let mut text = String::new();
    let mut chars = inner.chars().peekable();
    loop {
        match chars.next() {
            None => return Err(format!("the quotes of `{}` are never closed", cut(option))),
            Some('"') => break,
            Some('\\') if chars.peek() == Some(&'"') => {
                text.push('"');
                chars.next();
            }
            Some(c) if is_shown(c) => text.push(c),
            Some(c) => return Err(format!("`{}` has {c:?} in it, which must not stand in a key file", cut(option))),
        }
    }
    if chars.next().is_some() {
        let why = "something stands behind the closing quote; a quote inside is written \\\"";
        return Err(format!("`{}`: {why}", cut(option)));
    }
    if text.is_empty() { Err(form()) } else { Ok(text) }
}

fn check_value(name: &str, text: &str) -> Result<(), String> {
    let fits = match name {
        "command" => true,
        "from" => text.split(',').all(is_from),
        "environment" => text.split_once('=').is_some_and(|(name, _)| is_variable(name)),
        "expiry-time" => is_time(text),
        "permitlisten" => is_port(text) || is_host_port(text),
        "permitopen" => is_host_port(text),
        _ => text == "any" || text.parse::<u16>().is_ok(),
    };
    let wanted = match name {
        "from" => "is not a list of patterns or NETWORK/BITS, with commas and without spaces",
        "environment" => "is not NAME=value",
        "expiry-time" => "is not a time such as 20271231 or 202712312359Z",
        "permitlisten" => "is not [HOST:]PORT",
        "permitopen" => "is not HOST:PORT",
        _ => "is not the number of a tunnel, or any",
    };
    if fits { Ok(()) } else { Err(wanted.to_owned()) }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// sshd takes a list for nobody if one network in it is wrong, also one with bits behind its mask.
fn is_from(pattern: &str) -> bool {
    let bare = pattern.strip_prefix('!').unwrap_or(pattern);
    let Some((address, bits)) = bare.split_once('/') else { return !bare.is_empty() && !bare.contains(' ') };
    let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let (number, all) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    bits <= all && number.checked_shl(bits).unwrap_or(0) == 0
}

fn is_port(text: &str) -> bool {
    text == "*" || text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let address = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let sound = !host.is_empty() && !host.contains([' ', ',', '"']);
        is_port(port) && sound && (address.is_some() || !host.contains(':'))
    })
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, each with `Z` for UTC or without.
fn is_time(text: &str) -> bool {
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return false;
    }
    let limits = [(4..6, 1, 12), (6..8, 1, 31), (8..10, 0, 23), (10..12, 0, 59), (12..14, 0, 59)];
    limits.into_iter().all(|(at, least, most)| {
        digits.get(at).is_none_or(|two| two.parse::<u8>().is_ok_and(|number| (least..=most).contains(&number)))
    })
}
