//! Which package a message means, as the rule's parameters say it. Pure.
//!
//! A request is the text of an issue of fedora-scm-requests, which `fedpkg request-repo` and `request-branch` write: JSON, mostly
//! between backticks, `{"action": "new_repo", "repo": "foo", "namespace": "rpms", "branch": "rawhide", …}`. Only the package's name
//! counts: what became of the request the truth knows.

use std::collections::BTreeSet;

use handler_api::words::quoted;
use handler_api::{Failure, Params};
use serde_json::Value;

use crate::names::{PackageName, TagName};

/// Most names in `tags`.
pub const TAGS_MAX: usize = crate::plan::TAGS_MAX;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Which packages.
    pub packages: Packages,
    /// Only in these tags; `None` = in all that are looked after.
    pub tags: Option<BTreeSet<TagName>>,
}

/// Which packages are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packages {
    /// This one.
    One(PackageName),
    /// All that the truth has.
    All,
    /// None, and why: a sentence.
    None(String),
}

impl Scope {
    /// `package` or `request`, and `tags`; neither of the first two = all packages. `namespace` is the one of the truth: what is in
    /// another is no package.
    ///
    /// # Errors
    /// Permanent: a name that is none, a request that can't be read, both at once.
    pub fn read(with: &Params, namespace: &str) -> Result<Self, Failure> {
        let text = |word: &str| with.get(word).and_then(Value::as_str);
        let packages = match (text("package"), text("request")) {
            (Some(_), Some(_)) => {
                let message = "both `package` and `request` say which package is meant";
                return Err(Failure::permanent(message).hinting("give the rule's `with` one of them"));
            }
            (Some(name), None) => named(name, namespace)?,
            (None, Some(issue)) => requested(issue, namespace)?,
            (None, None) => Packages::All,
        };
        let tags = with.get("tags").and_then(Value::as_array).map(|list| tags(list)).transpose()?;
        match tags {
            Some(tags) if tags.is_empty() => {
                let packages = Packages::None("`tags` names no tag: nothing was looked at".into());
                Ok(Self { packages, tags: Some(tags) })
            }
            tags => Ok(Self { packages, tags }),
        }
    }
}

/// `foo` or `rpms/foo`.
fn named(name: &str, namespace: &str) -> Result<Packages, Failure> {
    let (space, name) = name.split_once('/').unwrap_or((namespace, name));
    if space != namespace {
        return Ok(Packages::None(elsewhere(space, name, namespace)));
    }
    let package = PackageName::parse(name).map_err(|why| {
        let message = format!("the package that is asked about, {}, {why}", quoted(name));
        Failure::permanent(message).hinting("see `with` of the rule, and the message: reactor show ID")
    })?;
    Ok(Packages::One(package))
}

fn requested(issue: &str, namespace: &str) -> Result<Packages, Failure> {
    let failed = |why: &str| {
        let message = format!("the text of the issue is no request for a package: {why}: {}", quoted(issue.trim()));
        Failure::permanent(message).hinting("if it asks for none: reactor drop ID")
    };
    let bare = issue.trim_matches(|c: char| c == '`' || c.is_whitespace());
    // The language, behind the first backticks.
    let bare = bare.strip_prefix("json").unwrap_or(bare);
    let request: Value = serde_json::from_str(bare).map_err(|_| failed("it is not JSON"))?;
    let text = |word: &str| request.get(word).and_then(Value::as_str);
    let Some(repo) = text("repo") else { return Err(failed("it has no `repo`")) };
    match (text("namespace"), request.get("namespace")) {
        (Some(space), _) if space != namespace => Ok(Packages::None(elsewhere(space, repo, namespace))),
        (None, Some(other)) if !other.is_null() => Err(failed("its `namespace` is no text")),
        // A repository's name has no namespace in it.
        _ if repo.contains('/') => Err(failed("its `repo` is no name")),
        _ => named(repo, namespace),
    }
}

fn elsewhere(space: &str, name: &str, namespace: &str) -> String {
    format!("{} is no package of {namespace}: nothing is to do", quoted(&format!("{space}/{name}")))
}

fn tags(list: &[Value]) -> Result<BTreeSet<TagName>, Failure> {
    if list.len() > TAGS_MAX {
        return Err(Failure::permanent(format!("`tags` names {} tags, at most {TAGS_MAX} are allowed", list.len())));
    }
    let name = |item: &Value| {
        let text = item.as_str().unwrap_or_default();
        TagName::parse(text).map_err(|why| Failure::permanent(format!("`tags`: {} {why}", quoted(text))))
    };
    list.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(with: &Value) -> Result<Scope, Failure> {
        Scope::read(with.as_object().unwrap(), "rpms")
    }

    fn one(name: &str) -> Packages {
        Packages::One(PackageName::parse(name).unwrap())
    }

    #[test]
    fn a_package_is_named_with_or_without_its_namespace() {
        assert_eq!(read(&json!({"package": "bash"})).unwrap().packages, one("bash"));
        assert_eq!(read(&json!({"package": "rpms/gtk+", "request": null})).unwrap().packages, one("gtk+"));
        assert_eq!(read(&json!({})).unwrap(), Scope { packages: Packages::All, tags: None });
        assert_eq!(read(&json!({"package": null, "tags": null})).unwrap().packages, Packages::All);
    }

    #[test]
    fn the_text_of_an_issue_says_which_package_is_asked_for() {
        let request = json!({"action": "new_repo", "repo": "python-foo", "namespace": "rpms", "branch": "rawhide"});
        for issue in [
            format!("{request}"),
            format!("```\n{request:#}\n```"),
            format!("```json\n{request:#}\n```\n"),
            format!("`{request}`"),
            json!({"action": "new_branch", "repo": "python-foo", "branch": "f44"}).to_string(),
        ] {
            assert_eq!(read(&json!({"request": issue})).unwrap().packages, one("python-foo"), "{issue}");
        }
    }

    #[test]
    fn what_is_in_another_namespace_is_no_package_and_that_is_said() {
        let issue = json!({"action": "new_repo", "repo": "bash", "namespace": "tests"}).to_string();
        for with in [json!({"package": "tests/bash"}), json!({"request": issue})] {
            let Packages::None(why) = read(&with).unwrap().packages else { panic!("{with}") };
            assert_eq!(why, "\"tests/bash\" is no package of rpms: nothing is to do");
        }
    }

    #[test]
    fn an_empty_list_of_tags_is_no_tag_and_not_all_of_them() {
        let Packages::None(why) = read(&json!({"package": "bash", "tags": []})).unwrap().packages else { panic!() };
        assert!(why.contains("names no tag"), "{why}");
        let scope = read(&json!({"tags": ["f45", "f44"]})).unwrap();
        assert_eq!(scope.tags.unwrap().len(), 2);
    }

    #[test]
    fn what_can_not_be_meant_fails_for_good() {
        for (with, said) in [
            (json!({"package": ""}), "is empty"),
            (json!({"package": "<x>&\""}), "is no name"),
            (json!({"package": "zsh evil;name"}), "is no name"),
            (json!({"package": "rpms/../x"}), "is no name"),
            (json!({"package": "bash", "request": "{}"}), "both `package` and `request`"),
            (json!({"request": ""}), "not JSON"),
            (json!({"request": "please make me a repo"}), "not JSON"),
            (json!({"request": "{\"action\": \"new_repo\"}"}), "no `repo`"),
            (json!({"request": "[1]"}), "no `repo`"),
            (json!({"request": "{\"repo\": \"x y\"}"}), "is no name"),
            (json!({"request": "{\"repo\": \"tests/x\"}"}), "is no name"),
            (json!({"request": "{\"repo\": \"x\", \"namespace\": 5}"}), "is no text"),
            (json!({"tags": ["a b"]}), "is no name"),
        ] {
            let told = match read(&with) {
                Err(failure) => {
                    assert_eq!(failure.exit_code(), handler_api::exit::PERMANENT);
                    failure.to_string()
                }
                Ok(Scope { packages: Packages::None(why), .. }) => why,
                Ok(scope) => panic!("{with}: {scope:?}"),
            };
            assert!(told.contains(said) && told.len() < 400, "{with}: {told}");
        }
    }
}
