//! "Did you mean": the known word nearest to a mistyped one. Pure.

/// Longer words, in characters, are no typing mistakes of ours.
const MISSPELT_CHARS_MAX: usize = 40;

/// The candidate that was probably meant by `word`: the nearest one, if a typing mistake or two lead there.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(MISSPELT_CHARS_MAX + 1).collect();
    if word.len() > MISSPELT_CHARS_MAX {
        return None;
    }
    candidates
        .into_iter()
        .map(|candidate| (between(&word, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(edits, candidate)| *edits <= (word.len().max(candidate.chars().count()) / 3).max(1))
        .filter(|(edits, candidate)| *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be changed, added, taken away, or swapped with their neighbour.
#[must_use]
pub fn edits(a: &str, b: &str) -> usize {
    between(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>())
}

fn between(a: &[char], b: &[char]) -> usize {
    if a.len().abs_diff(b.len()) > MISSPELT_CHARS_MAX / 3 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (row[j] + usize::from(ca != cb)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_the_word_that_was_meant() {
        let words = ["name", "why", "on", "where", "unless", "when", "key", "timeout", "retry"];
        for (wrong, right) in
            [("timout", "timeout"), ("wehn", "when"), ("Name", "name"), ("wher", "where"), ("ky", "key")]
        {
            assert_eq!(did_you_mean(wrong, words), Some(right), "{wrong}");
        }
        for other in ["schedule", "x", "", &"k".repeat(5_000)] {
            assert_eq!(did_you_mean(other, words), None, "{other}");
        }
    }
}
