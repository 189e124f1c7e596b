//! What to ask publishers for: ZeroMQ's subscriptions are plain byte prefixes of the topic. Pure.

use std::collections::BTreeSet;

/// Most prefixes that are sent to each publisher. With more, they are cut shorter: more arrives than is wanted, and our own
/// look at the whole topic drops it.
pub const SUBSCRIPTIONS_MAX: usize = 1_000;

/// The fewest prefixes that cover all of `wanted`: none is a prefix of another, and there are at most `at_most`, if need
/// be by leaving out the last words.
#[must_use]
pub fn cover(wanted: &[String], at_most: usize) -> BTreeSet<String> {
    let mut prefixes = without_covered(wanted.iter().cloned());
    while prefixes.len() > at_most {
        let words_max = prefixes.iter().map(|prefix| prefix.matches('.').count()).max().unwrap_or(0);
        if words_max == 0 {
            return BTreeSet::from([String::new()]);
        }
        prefixes = without_covered(prefixes.into_iter().map(|prefix| cut(prefix, words_max)));
    }
    prefixes
}

/// Leaves out the last word where there are `dots` of them.
fn cut(mut prefix: String, dots: usize) -> String {
    if prefix.matches('.').count() == dots {
        prefix.truncate(prefix.rfind('.').unwrap_or(0));
    }
    prefix
}

/// In their order a prefix comes right before all that begin with it.
fn without_covered(prefixes: impl Iterator<Item = String>) -> BTreeSet<String> {
    let mut kept: Vec<String> = Vec::new();
    for prefix in prefixes.collect::<BTreeSet<_>>() {
        if !kept.last().is_some_and(|last| prefix.starts_with(last.as_str())) {
            kept.push(prefix);
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered(wanted: &[&str], at_most: usize) -> Vec<String> {
        cover(&wanted.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), at_most).into_iter().collect()
    }

    #[test]
    fn a_prefix_of_another_is_enough() {
        assert_eq!(covered(&["a.b.c", "a.b", "a.bc", "x", "a.b"], 9), ["a.b", "x"]);
        assert_eq!(covered(&["a", ""], 9), [""]);
        assert!(covered(&[], 9).is_empty(), "nothing wanted, nothing asked for");
    }

    #[test]
    fn too_many_are_cut_shorter_word_by_word() {
        assert_eq!(covered(&["a.b.c1", "a.b.c2", "a.d", "x.y"], 3), ["a.b", "a.d", "x.y"]);
        assert_eq!(covered(&["a.b.c1", "a.b.c2", "a.d", "x.y"], 2), ["a", "x"]);
        assert_eq!(covered(&["a", "b", "c"], 2), [""]);
    }

    proptest! {
        #[test]
        fn whatever_was_wanted_is_covered(wanted in prop::collection::vec("[ab](\\.[abc]{1,2}){0,3}", 0..40), at_most in 1_usize..9) {
            let cover = cover(&wanted, at_most);
            prop_assert!(cover.len() <= at_most);
            for topic in &wanted {
                prop_assert_eq!(cover.iter().filter(|prefix| topic.starts_with(prefix.as_str())).count(), 1);
            }
        }
    }
}
