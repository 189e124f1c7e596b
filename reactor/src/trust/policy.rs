//! Who may say what: topic → signers. Pure.

use std::collections::{BTreeMap, HashMap};

/// The policy of one bus, ready to be asked.
#[derive(Debug, Default)]
pub struct Policy {
    exact: HashMap<String, Vec<String>>,
    patterns: Vec<Pattern>,
    accept_unlisted: bool,
}

#[derive(Debug)]
struct Pattern {
    words: Vec<String>,
    literal_words: usize,
    signers: Vec<String>,
}

impl Policy {
    /// From topic patterns (`*` is one word, `**` any number of words) and their signers.
    #[must_use]
    pub fn new(entries: &BTreeMap<String, Vec<String>>, accept_unlisted: bool) -> Self {
        let mut policy = Self { accept_unlisted, ..Self::default() };
        for (topic, signers) in entries {
            let signers = signers.iter().map(|signer| normal(signer)).collect();
            let words: Vec<String> = topic.split('.').map(str::to_owned).collect();
            let literal_words = words.iter().filter(|word| !matches!(word.as_str(), "*" | "**")).count();
            if literal_words == words.len() {
                policy.exact.insert(topic.clone(), signers);
            } else {
                policy.patterns.push(Pattern { words, literal_words, signers });
            }
        }
        policy
    }

    /// Whether `signer` may say `topic`. An entry for exactly this topic decides; else, of the patterns that match it, the
    /// one with the most literal words (several of the same rank together); else `unlisted`. An empty list is nobody.
    ///
    /// # Errors
    /// The reason why not.
    pub fn allows(&self, topic: &str, signer: &str) -> Result<(), String> {
        if let Some(signers) = self.exact.get(topic) {
            return listed(topic, signer, &[signers]);
        }
        let words: Vec<&str> = topic.split('.').collect();
        let matching = || self.patterns.iter().filter(|pattern| matches(&pattern.words, &words));
        match matching().map(|pattern| pattern.literal_words).max() {
            Some(most) => {
                let deciding = matching().filter(|pattern| pattern.literal_words == most);
                listed(topic, signer, &deciding.map(|pattern| &pattern.signers).collect::<Vec<_>>())
            }
            None if self.accept_unlisted => Ok(()),
            None => Err(format!("the policy does not list the topic {topic}, and what is not listed is refused")),
        }
    }
}

fn listed(topic: &str, signer: &str, lists: &[&Vec<String>]) -> Result<(), String> {
    if lists.iter().any(|signers| signers.iter().any(|allowed| allowed == signer)) {
        return Ok(());
    }
    Err(format!("the policy does not let {signer} say {topic}"))
}

/// A GPG fingerprint as people write it, with spaces and in any case, becomes upper-case hex; other names stay.
fn normal(signer: &str) -> String {
    let joined: String = signer.chars().filter(|c| !c.is_whitespace()).collect();
    let is_fingerprint = matches!(joined.len(), 40 | 64) && joined.bytes().all(|b| b.is_ascii_hexdigit());
    if is_fingerprint { joined.to_ascii_uppercase() } else { signer.to_owned() }
}

/// Word by word; on a mismatch only the last `**` takes one word more, so that no pattern costs more than
/// words × words steps.
fn matches(pattern: &[String], words: &[&str]) -> bool {
    let (mut p, mut w) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while w < words.len() {
        match pattern.get(p).map(String::as_str) {
            Some("**") => {
                last_any = Some((p, w));
                p += 1;
            }
            Some(word) if word == "*" || word == words[w] => {
                p += 1;
                w += 1;
            }
            _ => {
                let Some((any, taken)) = last_any else { return false };
                last_any = Some((any, taken + 1));
                p = any + 1;
                w = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|word| word == "**")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(entries: &[(&str, &[&str])], accept_unlisted: bool) -> Policy {
        let owned = entries.iter().map(|(topic, who)| ((*topic).into(), who.iter().map(|s| (*s).into()).collect()));
        Policy::new(&owned.collect(), accept_unlisted)
    }

    #[test]
    fn what_is_not_listed_is_refused_unless_the_site_says_otherwise() {
        assert!(policy(&[], false).allows("a.b", "x").is_err());
        assert!(policy(&[], true).allows("a.b", "x").is_ok());
        assert!(policy(&[("a.b", &["y"])], true).allows("a.b", "x").is_err());
        assert!(policy(&[("a.b", &["y"])], true).allows("a.b.c", "x").is_ok());
    }

    #[test]
    fn an_empty_list_is_nobody() {
        assert!(policy(&[("a.b", &[])], true).allows("a.b", "x").is_err());
        assert!(policy(&[("a.b", &[]), ("a.**", &["x"])], true).allows("a.b", "x").is_err());
    }

    #[test]
    fn the_exact_entry_beats_patterns_and_more_literal_words_beat_fewer() {
        let site = policy(&[("a.b.c", &["exact"]), ("a.b.*", &["two"]), ("a.**", &["one"]), ("**", &["any"])], false);
        for (topic, who) in [("a.b.c", "exact"), ("a.b.d", "two"), ("a.x.y", "one"), ("a", "one"), ("z", "any")] {
            for signer in ["exact", "two", "one", "any"] {
                assert_eq!(site.allows(topic, signer).is_ok(), signer == who, "{topic} {signer}");
            }
        }
    }

    #[test]
    fn patterns_of_the_same_rank_count_together() {
        let site = policy(&[("a.*.c", &["x"]), ("a.b.*", &["y"])], false);
        assert!(site.allows("a.b.c", "x").is_ok() && site.allows("a.b.c", "y").is_ok());
        assert!(site.allows("a.b.d", "x").is_err());
    }

    #[test]
    fn stars_stand_for_whole_words() {
        let pattern = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        let fits = |p: &str, t: &str| matches(&pattern(p), &t.split('.').collect::<Vec<_>>());
        for (p, t) in [
            ("a.*", "a.b"),
            ("a.**", "a"),
            ("a.**", "a.b.c"),
            ("**.c", "a.b.c"),
            ("**", "x"),
            ("a.**.c", "a.c"),
            ("a.**.c.**.e", "a.c.b.c.d.e"),
            ("**.*", "a"),
            ("**.a.**.a", "a.b.a"),
        ] {
            assert!(fits(p, t), "{p} {t}");
        }
        for (p, t) in [("a.*", "a"), ("a.*", "a.b.c"), ("a.**", "ab"), ("a.b", "a.b.c"), ("a.**.c", "a.c.d")] {
            assert!(!fits(p, t), "{p} {t}");
        }
        let many = format!("{}x", "**.".repeat(20));
        assert!(!fits(&many, &["a"; 24].join(".")));
    }

    #[test]
    fn names_are_compared_exactly_and_fingerprints_as_people_write_them() {
        let fingerprint = "77AC4DF4F9A7DC392E15FB55B38EA51F5DEF971D";
        let site = policy(&[("a", &["Host", "77ac 4df4 f9a7 dc39 2e15  fb55 b38e a51f 5def 971d"])], false);
        assert!(site.allows("a", fingerprint).is_ok());
        assert!(site.allows("a", "Host").is_ok());
        assert!(site.allows("a", "host").is_err());
    }
}
