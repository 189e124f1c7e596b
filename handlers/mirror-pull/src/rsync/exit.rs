//! What its exit codes mean. Pure.

use handler_api::Failure;

use crate::config::Config;

/// Some files could not be transferred.
pub const PARTIAL: i32 = 23;
/// Files vanished at the upstream while it ran.
pub const VANISHED: i32 = 24;
/// There was more to delete than it may.
pub const MAX_DELETE: i32 = 25;

/// The failure for an exit code that is not 0. `doing` is what it was at: `stage 1 of fedora`.
#[must_use]
pub fn failure(config: &Config, doing: &str, code: Option<i32>, said: &str) -> Failure {
    let (passes, what, hint) = meaning(code, said);
    let from = &config.from;
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    let message = format!("{doing}: {what} (rsync from {from}){said}");
    let failure = if passes { Failure::retry(message) } else { Failure::permanent(message) };
    let hint = match hint {
        "" => format!("rsync {from}/"),
        hint => hint.replace("TO", &config.to.display().to_string()).replace("FROM", from),
    };
    failure.hinting(hint)
}

/// Whether it may pass, what it was, what to type.
fn meaning(code: Option<i32>, said: &str) -> (bool, String, &'static str) {
    let full = ["No space left", "Disk quota", "File too large"].iter().any(|words| said.contains(words));
    let Some(code) = code else { return (true, "it was ended by a signal".into(), "dmesg | tail; or `time` is short") };
    let (passes, what, hint) = match code {
        10..=12 | PARTIAL if full => (true, "the disk is full", "df -h TO; df -i TO"),
        1 | 2 | 4 | 6 => (
            false,
            "this rsync or the upstream's does not know what it is asked for",
            "rsync --version (3.2.3 or newer)",
        ),
        3 => (true, "a directory can't be used", "ls -ld TO FROM"),
        5 => (true, "the upstream let nobody in (no such module, not allowed, too many connections)", ""),
        10 => (true, "the upstream can't be reached", ""),
        11 => (true, "a file can't be read or written", "df -h TO; df -i TO"),
        12 => (true, "the connection broke, or the rsync at its other end died", ""),
        13 | 14 | 22 => (true, "rsync itself failed", "free -m; dmesg | tail"),
        19 | 20 => (true, "it was ended by a signal", "dmesg | tail; or `time` is short"),
        PARTIAL => (true, "some files could not be transferred", "see which; are they readable at the upstream?"),
        VANISHED => (true, "files vanished at the upstream meanwhile", "it is mid-update: tried again by itself"),
        MAX_DELETE => {
            (true, "there is more to delete than was planned", "it is planned again, and the guard looks at it")
        }
        30 => (true, "nothing came for too long, or `time` was over; what has arrived is kept", ""),
        35 => (true, "the upstream did not answer in time", ""),
        _ => return (true, format!("it ended with {code}"), ""),
    };
    (passes, what.into(), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_says_what_was_wrong_whether_to_try_again_and_what_to_type() {
        let words = serde_json::json!({"name": "m", "from": "rsync://h/p", "to": "/srv/p", "state": "/var/m"});
        let config = Config::read(words.as_object().unwrap()).unwrap();
        let read = |code, said| failure(&config, "stage 1 of all", code, said);
        for (code, said, has) in [
            (Some(5), "@ERROR: Unknown module", "let nobody in"),
            (Some(10), "", "can't be reached"),
            (Some(11), "write failed: No space left on device (28)", "the disk is full"),
            (Some(12), "", "connection broke"),
            (Some(20), "", "signal"),
            (None, "", "signal"),
            (Some(23), "x: Permission denied", "some files"),
            (Some(24), "", "vanished"),
            (Some(25), "", "more to delete"),
            (Some(30), "", "for too long"),
            (Some(35), "", "did not answer"),
            (Some(99), "", "ended with 99"),
        ] {
            let failure = read(code, said);
            assert!(failure.message().contains(has) && failure.message().contains("rsync://h/p"), "{failure}");
            assert_eq!(failure.exit_code(), handler_api::exit::TRY_LATER);
        }
        assert_eq!(read(Some(11), "No space left on device").hint(), Some("df -h /srv/p; df -i /srv/p"));
        assert_eq!(read(Some(1), "unknown option").exit_code(), handler_api::exit::PERMANENT);
    }
}
