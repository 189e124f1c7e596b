//! What was written lately, and by whom: so that an answer from before is not written over it. Pure.
//!
//! A reconcile asks for minutes. Meanwhile somebody may be let in and taken out again by messages; the old answer still lets
//! them in, and what stands there is what stood there when it was asked, so the files alone do not tell.

use std::collections::{BTreeMap, BTreeSet};

/// Most subjects that are remembered; over it all are forgotten, and every answer from before is asked for again.
pub const SUBJECTS_MAX: usize = 50_000;

/// Who wrote about what, counted in writings.
#[derive(Debug, Default)]
pub(super) struct Written {
    now: u64,
    /// Of what was written before this nothing is known.
    forgotten: u64,
    subjects: BTreeMap<String, (u64, String)>,
}

impl Written {
    /// To be kept with what is asked from now on.
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    /// `reaction` is about to write about these, by what it began to ask at `began`. False = somebody else has written about
    /// one of them since: it must ask again.
    pub(super) fn may_write(&mut self, reaction: &str, began: u64, subjects: &BTreeSet<String>) -> bool {
        let is_older =
            |subject: &String| self.subjects.get(subject).is_some_and(|(when, by)| *when > began && by != reaction);
        if began < self.forgotten || subjects.iter().any(is_older) {
            return false;
        }
        self.now += 1;
        if self.subjects.len() + subjects.len() > SUBJECTS_MAX {
            self.subjects.clear();
            self.forgotten = self.now;
        }
        let known =
            subjects.iter().take(SUBJECTS_MAX).map(|subject| (subject.clone(), (self.now, reaction.to_owned())));
        self.subjects.extend(known);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(subjects: &[&str]) -> BTreeSet<String> {
        subjects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_answer_from_before_is_not_written_over_what_came_since() {
        let mut written = Written::default();
        let reconcile = written.now();
        for _ in 0..2 {
            let message = written.now();
            assert!(written.may_write("message", message, &about(&["foo: bob"])), "it comes, and it goes");
        }
        assert!(!written.may_write("reconcile", reconcile, &about(&["foo: alice", "foo: bob"])));
        assert!(written.may_write("reconcile", reconcile, &about(&["foo: alice"])), "others do not matter");
        assert!(written.may_write("reconcile", written.now(), &about(&["foo: bob"])), "asked again");
    }

    #[test]
    fn its_own_try_is_no_reason() {
        let mut written = Written::default();
        assert!(written.may_write("a", 0, &about(&["x"])));
        assert!(written.may_write("a", 0, &about(&["x"])), "the push was rejected, and is made again");
    }

    #[test]
    fn what_was_forgotten_is_asked_for_again() {
        let mut written = Written::default();
        let before = written.now();
        let many = (0..=SUBJECTS_MAX).map(|n| n.to_string()).collect();
        assert!(written.may_write("large", before, &many));
        assert!(!written.may_write("b", before, &about(&["x"])));
        assert!(written.may_write("b", written.now(), &about(&["x"])));
        assert!(written.subjects.len() <= SUBJECTS_MAX + 1);
    }
}
