//! A template makes gitolite rules of what the truth has of a repository. Pure.
//!
//! The built-in template ([`FEDORA`]) is Fedora's layout; a site names another with `template: ./mine.hbs`. Handlebars in
//! strict mode: a value that is not there is an error; nothing is escaped, since every value is a checked name.
//!
//! | value | what it is |
//! |---|---|
//! | `repo`, `namespace`, `name` | `rpms/foo`, `rpms`, `foo` |
//! | `fork`, `pull_requests_only` | true or false |
//! | `explicit` | true or false: the source names every group that may commit, so a template adds none (pkgdb) |
//! | `commit` | who may commit, for the right side of a rule |
//! | `any` | who may commit to the repository or to a branch with people of its own |
//! | `branches` | each with `name`; `ref` (the name as a pattern: `epel10\.1`); `own` (it has people of its own); `commit` (those, or else the repository's) |
//! | `deploy_keys` | each with `name`, `write` |
//! | `nobody` | true if `any` is empty and no deploy key writes |
//!
//! How `commit` and `any` are written:
//!
//! * [`Membership::Compiled`]: `alice bob @perl-sig`. Empty if nobody may; `{{#if commit}}` asks.
//! * [`Membership::Asked`]: `@commit@rpms@foo`, the name of a list. Never empty: the list of a repository to which nobody may
//!   commit is named too, so that the first person gets in without a compile. A branch with people of its own and `/` in
//!   its name has no list; its people are written out.
//! * `@all` with both, if everyone may, so that the plan sees it.
//!
//! Helpers: `if`, `unless`, `each`, `with`, `eq`, `ne`, `and`, `or`, `not`. No partials.

use std::collections::BTreeMap;

use handlebars::{Handlebars, RenderError, RenderErrorReason, Template};
use handler_api::Failure;
use handler_api::words::quoted;

use crate::grammar::{self, Section, Wrong};
use crate::names::{List, RepoName};
use crate::truth::{People, Repo};

mod helpers;
mod output;
mod samples;
#[cfg(test)]
mod tests;
mod values;
mod walk;

/// The built-in template.
pub const FEDORA: &str = include_str!("fedora.hbs");

/// Largest template, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Most that a template may make of one repository, in bytes.
pub const RENDERED_BYTES_MAX: usize = 1024 * 1024;
/// Most that the values for one repository may be, in bytes: its people count again for each branch.
pub const VALUES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most lines that a template may make of one repository.
pub const RENDERED_LINES_MAX: usize = 10_000;

/// The name of the template within its registry.
const TEMPLATE: &str = "layout";

/// Where it stands who is in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// In the rules themselves; effective when gitolite has compiled them.
    Compiled,
    /// On the branch `members`, asked at each access (`server/reactor-groups`); the rules hold the names of lists.
    Asked,
}

/// A template that was read.
#[derive(Debug)]
pub struct Layout {
    name: String,
    registry: Handlebars<'static>,
}

/// What a template made of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The file, whole, as it goes to `conf/reactor/repos/`; every line was read by [`crate::grammar`]. Empty = nobody may do
    /// anything there, and no file stands there.
    pub text: String,
    /// With [`Membership::Asked`]: the lists that the rules name, and who is in them.
    pub lists: BTreeMap<List, People>,
}

impl Layout {
    /// Reads a template; `name` is its path, for errors. It is tried on made-up repositories, so that a mistyped value is
    /// found before the first message comes.
    ///
    /// # Errors
    /// A permanent failure with the line of the template.
    pub fn read(name: &str, source: &str) -> Result<Self, Failure> {
        let wrong = |line: Option<usize>, why: &str| Failure::permanent(at(name, line, why)).hinting(HINT);
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(wrong(
                None,
                &format!("it has {} bytes; at most {TEMPLATE_BYTES_MAX} are allowed", source.len()),
            ));
        }
        let template = Template::compile(source)
            .map_err(|err| wrong(err.pos().map(|(line, _)| line), &unreadable(&err.reason().to_string())))?;
        walk::check(&template).map_err(|(line, why)| wrong(line, &why))?;
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::no_escape);
        helpers::register(&mut registry);
        registry.register_template(TEMPLATE, template);
        let layout = Self { name: name.to_owned(), registry };
        for (repo, truth) in samples::all().map_err(|why| wrong(None, &why))? {
            for membership in [Membership::Compiled, Membership::Asked] {
                layout.render(&repo, &truth, membership)?;
            }
        }
        Ok(layout)
    }

    /// The file of one repository.
    ///
    /// # Errors
    /// A permanent failure: the template names a value that is not there, or made a line that gitolite would not take;
    /// the line is named and shown.
    pub fn render(&self, name: &RepoName, repo: &Repo, membership: Membership) -> Result<Rendered, Failure> {
        if values::bytes(repo, membership) > VALUES_BYTES_MAX {
            let why = format!(
                "{name} has so many people and branches that its rules have more than {RENDERED_BYTES_MAX} bytes"
            );
            return Err(self.wrong(None, &why));
        }
        let values::Values { context, lists } = values::of(name, repo, membership);
        let body = self.fill(name, &context)?;
        let lines: Vec<&str> = body.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        if lines.len() > RENDERED_LINES_MAX {
            return Err(self.wrong(None, &format!("it makes more than {RENDERED_LINES_MAX} lines of {name}")));
        }
        let mut text = format!("# {name}: written by reactor; what is changed here by hand is undone\n");
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        let section = grammar::read(&text).map_err(|bad| self.bad_line(name, &bad))?;
        self.check_about(name, &section)?;
        let mut named = BTreeMap::new();
        for list in section.lists() {
            let people = lists.get(&list).cloned().ok_or_else(|| {
                let made =
                    format!("it makes a rule of {name} that names the list `@{list}`, which {name} does not have");
                self.wrong(None, &made)
            })?;
            named.insert(list, people);
        }
        if section.rules.is_empty() && section.options.is_empty() {
            text.clear();
        }
        Ok(Rendered { text, lists: named })
    }

    /// The template with its values in it.
    fn fill(&self, name: &RepoName, context: &serde_json::Value) -> Result<String, Failure> {
        let mut output = output::Bounded::new(RENDERED_BYTES_MAX);
        if let Err(err) = self.registry.render_to_write(TEMPLATE, context, &mut output) {
            if output.is_full() {
                return Err(self.wrong(None, &format!("it makes more than {RENDERED_BYTES_MAX} bytes of {name}")));
            }
            return Err(self.wrong(err.line_no, &render_error(&err)));
        }
        String::from_utf8(output.into_bytes())
            .map_err(|_| self.wrong(None, &format!("what it makes of {name} is no text")))
    }

    /// Rules may be about this repository, or one whose name is this one with something before it.
    fn check_about(&self, name: &RepoName, section: &Section) -> Result<(), Failure> {
        let of_rules = section.rules.iter().map(|rule| rule.repo.as_str());
        let of_options = section.options.iter().filter_map(|option| option.split(' ').next());
        let ours = |other: &str| {
            let about =
                other == name.as_str() || other.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('/'));
            about && RepoName::parse(other).is_ok()
        };
        match of_rules.chain(of_options).find(|other| !ours(other)) {
            None => Ok(()),
            Some(other) => {
                let other = quoted(other);
                Err(self.wrong(
                    None,
                    &format!("it makes a rule about {other} of {name}; only {name} and SOMETHING/{name} may be"),
                ))
            }
        }
    }

    fn bad_line(&self, name: &RepoName, bad: &Wrong) -> Failure {
        let Wrong { line, text, why } = bad;
        self.wrong(None, &format!("line {line} of what it makes of {name} is {}: {why}", quoted(text.trim())))
    }

    fn wrong(&self, line: Option<usize>, why: &str) -> Failure {
        Failure::permanent(at(&self.name, line, why)).hinting(HINT)
    }
}

/// For whoever mends a template.
const HINT: &str = "mend the template, then `reactor check`; its values are repo, namespace, name, fork, explicit, \
                    pull_requests_only, commit, any, branches (name, ref, own, commit), deploy_keys (name, write), nobody";

/// Why a template can't be read. Its grammar's own words are a list of rules that help nobody.
fn unreadable(reason: &str) -> String {
    if reason.starts_with("invalid handlebars syntax") {
        let blocks = "{{#if …}} … {{/if}}, {{#each …}} … {{/each}}";
        return format!(
            "it can't be read from there on: a {{{{…}}}} is not whole, or a block is not closed ({blocks})"
        );
    }
    format!("it can't be read: {reason}")
}

fn at(name: &str, line: Option<usize>, why: &str) -> String {
    line.map_or_else(
        || format!("the template {name}: {why}"),
        |line| format!("the template {name}, line {line}: {why}"),
    )
}

/// What went wrong in the middle of a template, in words of ours where they say more.
fn render_error(err: &RenderError) -> String {
    match err.reason() {
        RenderErrorReason::MissingVariable(Some(path)) => format!("`{path}` is no value here"),
        RenderErrorReason::MissingVariable(None) | RenderErrorReason::ParamNotFoundForIndex(..) => {
            format!("a value is not there: {}", err.reason())
        }
        RenderErrorReason::HelperNotFound(helper) => format!("`{helper}` is neither a value nor a helper here"),
        other => other.to_string(),
    }
}
