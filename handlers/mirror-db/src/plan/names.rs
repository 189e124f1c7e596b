//! Which version and arch a path speaks of.

use std::collections::HashMap;

/// Names in the order in which they count; found in a path as whole parts of it. One look per part of the path, however many
/// names there are.
#[derive(Debug, Default)]
pub(super) struct Names {
    places: HashMap<String, usize>,
    /// Those with a slash in them: `5/Server`.
    long: Vec<(String, usize)>,
    next: usize,
}

impl Names {
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        names.into_iter().for_each(|name| all.push(name));
        all
    }

    /// Adds a name behind the others. A name that is empty is in no path.
    pub(super) fn push(&mut self, name: &str) {
        if name.contains('/') {
            self.long.push((format!("/{name}/"), self.next));
        } else if !name.is_empty() {
            self.places.entry(name.to_owned()).or_insert(self.next);
        }
        self.next += 1;
    }

    /// The place of exactly this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// The place of the first of them that is in the path.
    pub(super) fn first_in(&self, path: &str) -> Option<usize> {
        let short = path.split('/').filter_map(|part| self.places.get(part).copied()).min();
        if self.long.is_empty() {
            return short;
        }
        let path = format!("/{path}/");
        let long = self.long.iter().filter(|(name, _)| path.contains(name.as_str())).map(|(_, place)| *place);
        long.chain(short).min()
    }
}

/// The name of a version that the database does not have, read from a path below the category's top. `whole`: its last part
/// may be the version too.
///
/// Debian's `dists/NAME/`, then Fedora's `/29/`, `/10.1/`, `/30_Beta/`, then rawhide, whose version is called development.
pub(super) fn version_in(path: &str, whole: bool) -> Option<&str> {
    let parts: Vec<&str> = path.split('/').collect();
    let inner = if whole { parts.as_slice() } else { parts.split_last().map_or(&[][..], |(_, inner)| inner) };
    let debian = inner.windows(2).find(|pair| pair[0].ends_with("dists") && is_word(pair[1])).map(|pair| pair[1]);
    let fedora = || inner.iter().copied().find(|part| is_version(part));
    debian.or_else(fedora).or_else(|| path.contains("rawhide").then_some("development"))
}

/// Whether a repository of that path is a test only.
pub(super) fn is_test(path: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(above, _)| above.split('/').any(|part| part == "test" || part == "stage"))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

/// Digits and dots, then perhaps `-` or `_` and a word.
fn is_version(part: &str) -> bool {
    let rest = part.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    rest.len() < part.len() && (rest.is_empty() || rest.strip_prefix(['-', '_']).is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_in_order_counts_not_the_first_in_the_path() {
        let names = Names::new(["development", "5/Server", "29", "x86_64"]);
        assert_eq!(names.first_in("x86_64/29/os"), Some(2));
        assert_eq!(names.first_in("development/29/x86_64"), Some(0));
        assert_eq!(names.first_in("5/Server/29"), Some(1));
        assert_eq!(names.first_in("15/Server"), None, "only whole parts");
        assert_eq!(names.first_in("290/x86_64x"), None);
        assert_eq!(Names::new([""]).first_in("a//b"), None);
    }

    #[test]
    fn a_version_is_read_from_the_path() {
        for (path, version) in [
            ("9/Everything/x86_64", Some("9")),
            ("testing/10.1/Everything", Some("10.1")),
            ("releases/test/30_Beta/Everything/os", Some("30_Beta")),
            ("releases/29-Alpha2/os", Some("29-Alpha2")),
            ("development/rawhide/Everything", Some("development")),
            ("ubuntu/dists/maverick/main/10.10/x", Some("maverick")),
            ("ubuntu/dists/maverick-updates/main", None),
            ("updates/29rc/os", None),
            ("updates/29", None),
        ] {
            assert_eq!(version_in(path, false), version, "{path}");
        }
        assert_eq!(version_in("atomic/29", true), Some("29"));
        assert_eq!(version_in("", false), None);
    }

    #[test]
    fn below_test_and_stage_are_tests() {
        assert!(is_test("releases/test/30_Beta") && is_test("stage/9/x"));
        assert!(!is_test("testing/9/x") && !is_test("9/test"));
    }
}
