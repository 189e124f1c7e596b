//! Reads a managed file as gitolite would (`Conf.pm`, `Explode.pm`, `Store.pm` of 3.6), and more strictly: what gitolite
//! ignores with a warning is an error here. Pure.
//!
//! Taken are comments, empty lines, and
//!
//! ```text
//! repo rpms/foo                     # one name or several, or patterns
//!     RWC  f41$ refs/tags/ = alice bob @perl-sig @commit@rpms@foo
//!     -    f[0-9][0-9]     = @all
//!     option deny-rules    = 1
//!     config hooks.mail    = list@example.org
//! ```
//!
//! A pattern that Perl could not read would pass gitolite's compile and break every later access: it is refused here too.

use std::collections::BTreeSet;

use crate::names::{GroupName, List, RepoName, UserName};

#[cfg(test)]
mod oracle_tests;
mod pattern;
#[cfg(test)]
mod tests;

/// Largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most rules in one file: one for each repository, ref and name on a line.
pub const RULES_MAX: usize = 100_000;

/// Characters of a line that an error shows.
const SHOWN_CHARS_MAX: usize = 200;
/// What may not stand in the value of an option (`UNSAFE_PATT`), nor would be what a reader takes it for.
const UNSAFE: &str = "`~#$&()|;<>\"'\\";

/// One rule of one user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The repository (or pattern) that the rule is about.
    pub repo: String,
    /// `R`, `RW`, `RW+C`, `-`, …
    pub permission: String,
    /// As it stands there; empty = all refs.
    pub refex: String,
    /// A user, or a group with its `@`.
    pub who: String,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The rules in their order, which counts: the first that matches decides. One for each name on a line.
    pub rules: Vec<Rule>,
    /// `config` and `option` lines, as they stand there, in their order, with the repository in front.
    pub options: Vec<String>,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Where, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Why, and what is expected.
    pub why: String,
}

impl Rule {
    /// Whether it lets somebody push, or make a repository.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.permission.contains(['W', 'C'])
    }

    /// Whether it is about whoever has an account.
    #[must_use]
    pub fn is_for_everyone(&self) -> bool {
        self.who == "@all"
    }

    /// Whether it is about more repositories than one can name.
    #[must_use]
    pub fn is_about_a_pattern(&self) -> bool {
        !pattern::is_plain(&self.repo)
    }

    /// The list that it names, if that is one.
    #[must_use]
    pub fn list(&self) -> Option<List> {
        self.who.strip_prefix('@').and_then(|name| List::parse(name).ok())
    }
}

impl Section {
    /// The lists that the rules name.
    #[must_use]
    pub fn lists(&self) -> BTreeSet<List> {
        self.rules.iter().filter_map(Rule::list).collect()
    }
}

/// Reads a file of ours.
///
/// # Errors
/// The first line that gitolite would refuse, ignore or understand otherwise than a reader: a word it does not know, a bad
/// name, a rule before any `repo`, a group definition, `include` or `subconf`, a continuation.
pub fn read(text: &str) -> Result<Section, Wrong> {
    let mut reader = Reader::default();
    let too_large = (text.len() > FILE_BYTES_MAX).then(|| format!("the file has more than {FILE_BYTES_MAX} bytes"));
    for (at, line) in text.split('\n').enumerate() {
        let read = match &too_large {
            Some(why) => Err(why.clone()),
            None => reader.line(line),
        };
        read.map_err(|why| Wrong { line: at + 1, text: line.chars().take(SHOWN_CHARS_MAX).collect(), why })?;
    }
    Ok(reader.section)
}

/// Where the reading stands.
#[derive(Default)]
struct Reader {
    section: Section,
    /// Those of the last `repo` line.
    repos: Vec<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(line) = clean(line)? else { return Ok(()) };
        let first = line.split(' ').next().unwrap_or_default();
        match first {
            "repo" => self.repo(&line),
            "option" | "config" => self.option(first, &line),
            "include" | "subconf" => Err(format!("`{first}` has no place in a managed file; {EXPECTED}")),
            "desc" | "owner" | "category" => Err(format!(
                "`{first}` is short for a `config gitweb.…` line; write that one, and gitolite's rc must allow it"
            )),
            _ if first.starts_with('@') => {
                Err(format!("no group is defined here, groups have files of their own; {EXPECTED}"))
            }
            _ if is_permission(first) => self.rule(first, &line),
            _ => Err(format!("gitolite does not know {} and would ignore the line; {EXPECTED}", shown(first))),
        }
    }

    fn repo(&mut self, line: &str) -> Result<(), String> {
        if line.contains('=') {
            return Err("a `repo` line has no `=`".to_owned());
        }
        self.repos.clear();
        for name in line.split(' ').skip(1) {
            if pattern::is_plain(name) {
                RepoName::parse(name).map_err(|why| format!("the repository {} {why}", shown(name)))?;
            } else {
                pattern::check_repo(name).map_err(|why| format!("the repository {} {why}", shown(name)))?;
            }
            self.repos.push(name.to_owned());
        }
        if self.repos.is_empty() {
            return Err("`repo` names no repository; write `repo rpms/foo`".to_owned());
        }
        Ok(())
    }

    fn rule(&mut self, permission: &str, line: &str) -> Result<(), String> {
        self.check_repo_stands()?;
        let Some((before, after)) = line.split_once('=') else {
            return Err(format!("a rule is `{permission} [REF…] = NAME…`; there is no `=`"));
        };
        let refexes: Vec<&str> = before.split(' ').skip(1).filter(|word| !word.is_empty()).collect();
        if !refexes.is_empty() && (permission == "R" || permission == "C") {
            return Err(format!("a rule with `{permission}` is about the whole repository; it can't name a ref"));
        }
        for refex in &refexes {
            pattern::check_ref(refex).map_err(|why| format!("the ref {} {why}", shown(refex)))?;
        }
        let names: Vec<&str> = after.split(' ').filter(|word| !word.is_empty()).collect();
        if names.is_empty() {
            return Err("nobody stands after `=`; gitolite would ignore the line".to_owned());
        }
        names.iter().try_for_each(|name| check_who(name))?;
        let refexes = if refexes.is_empty() { vec![""] } else { refexes };
        let more = self.repos.len().saturating_mul(refexes.len()).saturating_mul(names.len());
        if self.section.rules.len().saturating_add(more) > RULES_MAX {
            return Err(format!("the file has more than {RULES_MAX} rules"));
        }
        for repo in &self.repos {
            for refex in &refexes {
                self.section.rules.extend(names.iter().map(|who| Rule {
                    repo: repo.clone(),
                    permission: permission.to_owned(),
                    refex: (*refex).to_owned(),
                    who: (*who).to_owned(),
                }));
            }
        }
        Ok(())
    }

    fn option(&mut self, word: &str, line: &str) -> Result<(), String> {
        self.check_repo_stands()?;
        let form = if word == "option" { "`option NAME = VALUE`" } else { "`config SECTION.NAME = VALUE`" };
        let Some((before, value)) = line.split_once('=') else { return Err(format!("there is no `=`; write {form}")) };
        let (key, value) = (before[word.len()..].trim(), value.trim());
        let may = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !key.starts_with(|c: char| c.is_ascii_alphanumeric()) || !key.chars().all(may) {
            return Err(format!("{} is no name of an option; write {form}", shown(key)));
        }
        if word == "config" && !key.contains('.') {
            return Err(format!("{} names no section of git's configuration; write {form}", shown(key)));
        }
        if word == "option" && value.is_empty() {
            return Err("the value is empty; gitolite would ignore the line".to_owned());
        }
        if let Some(bad) = value.chars().find(|c| UNSAFE.contains(*c) || !c.is_ascii()) {
            return Err(format!("{bad:?} may not stand in a value"));
        }
        if self.section.options.len().saturating_add(self.repos.len()) > RULES_MAX {
            return Err(format!("the file has more than {RULES_MAX} options"));
        }
        self.section.options.extend(self.repos.iter().map(|repo| format!("{repo} {word} {key} = {value}")));
        Ok(())
    }

    fn check_repo_stands(&self) -> Result<(), String> {
        if self.repos.is_empty() {
            return Err("no `repo` line stands before it, so gitolite would ignore it".to_owned());
        }
        Ok(())
    }
}

/// What may stand in a line.
const EXPECTED: &str = "a line is `repo NAME…`, `RW [REF…] = NAME…`, `option …`, `config …` or a comment";

/// The line as gitolite has it when it begins to read: no comment, one space between words and around the first `=`.
/// `None` = nothing is left.
fn clean(line: &str) -> Result<Option<String>, String> {
    if let Some(bad) = line.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("{bad:?} may not stand in a line"));
    }
    if is_mark(line) {
        return Err("gitolite would take this comment for a mark of its own, of a file and a line".to_owned());
    }
    if line.trim_start_matches([' ', '\t']).starts_with('#') {
        return Ok(None);
    }
    let code = match line.split_once('#') {
        Some((code, _)) if !code.contains('"') => code,
        Some(_) => {
            return Err("a comment after a `\"` is hard to tell from a text; put it on a line of its own".to_owned());
        }
        None => line,
    };
    if let Some(bad) = code.chars().find(|c| !c.is_ascii()) {
        return Err(format!("{bad:?} is not ASCII; it may stand in a comment only"));
    }
    let code = code.trim_end_matches([' ', '\t']);
    if code.ends_with('\\') {
        return Err("a line can't be continued on the next one".to_owned());
    }
    if code.contains("%HOSTNAME") {
        return Err("`%HOSTNAME` is written over by gitolite on some servers".to_owned());
    }
    let spaced = code.replacen('=', " = ", 1);
    let words: Vec<&str> = spaced.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    Ok((!words.is_empty()).then(|| words.join(" ")))
}

/// `# FILE 12`, as gitolite marks where lines come from when it has joined all files.
fn is_mark(line: &str) -> bool {
    let Some((file, number)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) else { return false };
    !file.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// `-`, `C`, `R`, or `RW` with `+`, with `C` and `D` in any order, with `M`.
fn is_permission(word: &str) -> bool {
    let Some(rest) = word.strip_prefix("RW") else { return matches!(word, "-" | "C" | "R") };
    let rest = rest.strip_prefix('+').unwrap_or(rest);
    matches!(rest.strip_suffix('M').unwrap_or(rest), "" | "C" | "D" | "CD" | "DC")
}

fn check_who(who: &str) -> Result<(), String> {
    let wrong = |kind: &str, why: String| format!("the {kind} {} {why}", shown(who));
    match who.strip_prefix('@') {
        None => UserName::parse(who).map(drop).map_err(|why| wrong("user", why)),
        Some("all") => Ok(()),
        Some(name) if name.contains('@') => List::parse(name).map(drop).map_err(|why| wrong("list", why)),
        Some(name) => GroupName::parse(name).map(drop).map_err(|why| wrong("group", why)),
    }
}

/// A word for an error.
fn shown(word: &str) -> String {
    handler_api::words::quoted(word)
}
