//! Sentences that a person should read beside a plan, bounded. Pure.

use std::collections::BTreeSet;

use crate::limits::NOTES_MAX;

/// Sentences; those that find no more room are counted.
#[derive(Debug)]
pub struct Notes {
    sentences: Vec<String>,
    at_most: usize,
    more: usize,
}

impl Default for Notes {
    /// At most [`NOTES_MAX`] of them.
    fn default() -> Self {
        Self::at_most(NOTES_MAX)
    }
}

impl Notes {
    /// None yet, and room for so many; at least one.
    #[must_use]
    pub const fn at_most(at_most: usize) -> Self {
        Self { sentences: Vec::new(), at_most, more: 0 }
    }

    /// Adds a sentence while there is room; the rest is counted.
    pub fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.sentences.len() + 1 < self.at_most {
            self.sentences.push(sentence());
        } else {
            self.more += 1;
        }
    }

    /// All of them, no more than there was room for; the last says how many more there were.
    #[must_use]
    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("and {} more notes", self.more));
        }
        self.sentences
    }
}

/// The first `at_most` of `notes`, each once; the last says how many more there were.
#[must_use]
pub fn few(notes: Vec<String>, at_most: usize) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut first: Vec<String> = notes.into_iter().filter(|note| seen.insert(note.clone())).collect();
    if first.len() > at_most {
        let more = first.len() - (at_most - 1);
        first.truncate(at_most - 1);
        first.push(format!("and {more} more notes"));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded() {
        let mut notes = Notes::default();
        (0..NOTES_MAX * 2).for_each(|n| notes.add(|| n.to_string()));
        let sentences = notes.into_sentences();
        assert_eq!(sentences.len(), NOTES_MAX);
        assert_eq!(sentences.last().unwrap(), &format!("and {} more notes", NOTES_MAX + 1));
    }

    #[test]
    fn few_are_said_once_each() {
        let same = vec!["the same".to_owned(); 3];
        let numbers = (0..10).map(|n| n.to_string());
        let many: Vec<String> = same.iter().cloned().chain(numbers).collect();
        assert_eq!(few(same, 5), ["the same"]);
        assert_eq!(few(many, 5), ["the same", "0", "1", "2", "and 7 more notes"]);
    }
}
