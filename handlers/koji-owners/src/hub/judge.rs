//! What a fault means for who sent the call: try again, or let a person look. Pure.

use handler_api::Failure;
use handler_api::words::quoted;

use super::xml::Fault;

/// Koji's numbers of faults (`faultCode` of the exceptions in its `koji/__init__.py`; those a hub 1.35.3 sent are recorded).
pub(super) mod code {
    /// `LockError`: somebody else is at it.
    pub(in crate::hub) const LOCK: i64 = 1001;
    /// `AuthError`: of a session, that it is no (longer) one.
    pub(in crate::hub) const AUTH: i64 = 1002;
    /// `ActionNotAllowed`
    pub(in crate::hub) const NOT_ALLOWED: i64 = 1004;
    /// `AuthExpired`
    pub(in crate::hub) const EXPIRED: i64 = 1007;
    /// `SequenceError`: a call with a higher number came before.
    pub(in crate::hub) const SEQUENCE: i64 = 1008;
    /// `RetryError`: a call with this number was done.
    pub(in crate::hub) const RETRY: i64 = 1009;
    /// `ServerOffline`
    pub(in crate::hub) const OFFLINE: i64 = 1014;
    /// `ParameterError`
    pub(in crate::hub) const PARAMETER: i64 = 1019;
    /// `NameValidationError`: a name that this hub does not allow.
    pub(in crate::hub) const NAME: i64 = 1024;
    /// After which another login may help.
    pub(in crate::hub) const SESSION_IS_OVER: [i64; 2] = [AUTH, EXPIRED];
}

/// Texts of faults that say that the list is not as it was when the change was planned.
const MOVED: [&str; 6] = [
    " is blocked in tag ",
    " NOT blocked in tag ",
    " has no data for package ",
    "no data (blocked or otherwise) for package ",
    " is not in tag listing for ",
    "No such entry in table package: ",
];
/// Texts of faults that name a tag that is not there.
const NO_TAG: [&str; 3] = ["No such tagInfo: ", "No such entry in table tag: ", "No such tag: "];

/// The failure that `fault` is. `what` begins its sentence: where, and which call or change; `owner` is who was to own it.
pub(super) fn judge(what: &str, fault: &Fault, owner: Option<&str>) -> Failure {
    let Fault { code, text } = fault;
    let says = |any: &[&str]| any.iter().any(|part| text.contains(part));
    let said = format!("{what}: Koji says {} ({code})", quoted(text));
    match *code {
        code::OFFLINE => Failure::retry(format!("{what}: the hub is offline: {}", quoted(text))),
        code::LOCK => Failure::retry(said),
        code::NOT_ALLOWED => Failure::permanent(said).hinting(
            "as an admin of Koji: koji grant-permission tag USER (who USER is says: reactor doctor), then: reactor retry ID",
        ),
        code::PARAMETER | code::NAME => Failure::permanent(said),
        _ if says(&["No such user: "]) => {
            let owner = owner.unwrap_or("them");
            Failure::permanent(said).hinting(format!("let {owner} log in to Koji once, then: reactor retry ID"))
        }
        _ if says(&NO_TAG) => {
            Failure::permanent(said).hinting("mend the handler's `tags`; which there are says: koji list-tags")
        }
        _ if says(&MOVED) => Failure::retry(format!("{said}: the list has changed since the plan")),
        _ if says(&["Invalid method: "]) => Failure::permanent(said).hinting("is it a Koji hub? try: koji version"),
        _ => Failure::retry(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: i64, text: &str) -> Failure {
        judge("https://x: f45: owner of bash", &Fault { code, text: text.into() }, Some("alice"))
    }

    #[test]
    fn what_a_person_must_mend_is_permanent_and_says_how() {
        for (code, text, hint) in [
            (
                1004,
                "policy violation (package_list): Only admin/tag can do this via default policy",
                "grant-permission",
            ),
            (1000, "No such user: 'alice'", "let alice log in to Koji once, then: reactor retry ID"),
            (1000, "No such tagInfo: 'f45'", "koji list-tags"),
            (1000, "No such entry in table tag: f45", "koji list-tags"),
            (1000, "Invalid method: multiCall", "koji version"),
        ] {
            let failure = judged(code, text);
            assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
            assert!(failure.hint().unwrap().contains(hint), "{failure:?}");
        }
        for (code, text) in [(1019, "missing argument"), (1024, "Invalid name a@b")] {
            assert!(matches!(judged(code, text), Failure::Permanent { .. }));
        }
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (code, text) in [
            (1014, "database outage"),
            (1001, "locked"),
            (1000, "package bash is blocked in tag f45"),
            (1000, "package bash NOT blocked in tag f45"),
            (1000, "cannot update: tag f45 has no data for package bash"),
            (1000, "no data (blocked or otherwise) for package bash in tag f45"),
            (1000, "Package bash is not in tag listing for f45"),
            (1000, "No such entry in table package: bash"),
            (1, "deadlock detected"),
        ] {
            assert!(matches!(judged(code, text), Failure::Retry { .. }), "{text}");
        }
    }

    #[test]
    fn a_faults_text_can_not_fill_or_drive_a_terminal() {
        let failure = judged(1000, &format!("\u{1b}[2J\n{}", "x".repeat(1_000_000)));
        assert!(failure.message().len() < 300 && !failure.message().contains(['\u{1b}', '\n']), "{failure}");
    }
}
