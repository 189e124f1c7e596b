//! Sentences that a person should read, bounded. Pure.

/// Most sentences.
pub const NOTES_MAX: usize = 100;

/// Sentences; those that find no more room are counted.
#[derive(Debug, Default)]
pub struct Notes {
    sentences: Vec<String>,
    more: usize,
}

impl Notes {
    /// Adds a sentence while there is room; the rest is counted.
    pub fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.sentences.len() + 1 < NOTES_MAX {
            self.sentences.push(sentence());
        } else {
            self.more += 1;
        }
    }

    /// All of them, at most [`NOTES_MAX`]; the last says how many more there were.
    #[must_use]
    pub fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.sentences.push(format!("and {} more such notes", self.more));
        }
        self.sentences
    }
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
        assert_eq!(sentences.last().unwrap(), &format!("and {} more such notes", NOTES_MAX + 1));
    }
}
