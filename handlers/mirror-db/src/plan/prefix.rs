//! What yum asks for, from the site's rules.

use handler_api::Failure;

use super::PrefixRule;

/// The prefix of a repository in the directory `name`, which is `path` below the category's top.
///
/// # Errors
/// Permanent: a rule has a word in braces that is none.
pub(super) fn of(rules: &[PrefixRule], name: &str, path: &str, version: &str) -> Result<Option<String>, Failure> {
    for rule in rules {
        let Some(groups) = rule.path.captures(name) else { continue };
        let Some(template) = &rule.prefix else { return Ok(None) };
        let text = fill(template, |word| match word {
            "kind" => Some(kind(path).to_owned()),
            "version" => Some(version.to_owned()),
            group if has_group(rule, group) => {
                let found = group.parse().map_or_else(|_| groups.name(group), |number| groups.get(number));
                Some(found.map(|found| found.as_str().to_owned()).unwrap_or_default())
            }
            _ => None,
        });
        return text.map(Some).map_err(|word| unknown(rule, &word));
    }
    Ok(None)
}

/// Whether all words of a rule are known.
pub(super) fn check(rule: &PrefixRule) -> Result<(), Failure> {
    let Some(template) = &rule.prefix else { return Ok(()) };
    let known = |word: &str| matches!(word, "kind" | "version") || has_group(rule, word);
    fill(template, |word| known(word).then(String::new)).map(|_| ()).map_err(|word| unknown(rule, &word))
}

fn kind(path: &str) -> &'static str {
    if path.contains("debug") {
        "debug-"
    } else if path.contains("source") || path.contains("SRPMS") {
        "source-"
    } else {
        ""
    }
}

fn has_group(rule: &PrefixRule, word: &str) -> bool {
    match word.parse::<usize>() {
        Ok(number) => number < rule.path.captures_len(),
        Err(_) => rule.path.capture_names().flatten().any(|name| name == word),
    }
}

/// Puts in what the words in braces stand for.
///
/// # Errors
/// The word that stands for nothing, or what stands behind a brace that is not closed.
fn fill(template: &str, word: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, behind)) = after.split_once('}') else { return Err(after.to_owned()) };
        out.push_str(before);
        out.push_str(&word(name).ok_or_else(|| name.to_owned())?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

fn unknown(rule: &PrefixRule, word: &str) -> Failure {
    let template = rule.prefix.as_deref().unwrap_or_default();
    Failure::permanent(format!("prefix {template:?} for {:?}: {{{word}}} stands for nothing", rule.path.as_str()))
        .hinting("{kind}, {version}, and the groups of `path` by number ({1}) or name may stand there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_word_is_named() {
        for (path, prefix, word) in [
            ("^a", "x-{verson}", "{verson}"),
            ("^a", "x-{1}", "{1}"),
            ("^(?<n>a)", "x-{m}", "{m}"),
            ("^a", "x-{kind", "{kind}"),
        ] {
            let failure = PrefixRule::new(path, Some(prefix)).unwrap_err();
            assert!(failure.message().contains(&format!("{word} stands for nothing")), "{}", failure.message());
        }
        assert!(PrefixRule::new("(", None).unwrap_err().message().contains("no regular expression"));
    }

    #[test]
    fn the_first_rule_that_fits_makes_the_prefix() {
        let rule = |path, prefix| PrefixRule::new(path, prefix).unwrap();
        let rules = [
            rule("/nothing/", None),
            rule("/development/([0-9]+)/(?<what>x)?", Some("f-{kind}{1}{what}")),
            rule("^pub/", Some("{version}")),
        ];
        let of = |path: &str| of(&rules, &format!("pub/{path}"), path, "7").unwrap();
        assert_eq!(of("nothing/development/30/"), None);
        assert_eq!(of("development/30/debug").as_deref(), Some("f-debug-30"));
        assert_eq!(of("development/30/xSRPMS").as_deref(), Some("f-source-30x"));
        assert_eq!(of("else").as_deref(), Some("7"));
        assert_eq!(super::of(&rules, "else", "else", "7").unwrap(), None, "no rule fits");
    }
}
