//! `reactor check`: everything about a site that can be known without running it. It asks each handler to describe itself; it
//! opens no bus and writes nothing.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use handler_api::{Describe, ParamType, Params};
use serde_json::{Value, json};

use super::{Common, Format, NO};
use crate::built_in;
use crate::bus::amqp::config;
use crate::bus::fedmsg::discovery;
use crate::rules::diagnostics::Diagnostic;
use crate::rules::file::{self, Loaded};
use crate::rules::site::{HandlerConfig, Program, Rule};
use crate::runner::{self, Runner};

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: reactor check rules.yaml
         reactor check /etc/reactor --format json
Exit code: 0 it can be used (warnings or not); 1 it has an error.")]
pub struct Args {
    /// The site: files or directories [default: /etc/reactor if it exists, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
}

/// Runs it: 0 where the site has no error, else 1.
///
/// # Errors
/// Only what stands in the way of saying so (stdout closed).
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let mut loaded = file::read(&super::site_paths(&args.site));
    // One thing after the other: a missing program is told once, and a typo is not buried under warnings.
    if !loaded.diagnostics.has_errors() {
        ask_handlers(&mut loaded)?;
    }
    if !loaded.diagnostics.has_errors() {
        loaded.warn_of_missing_files();
        warn_of_wrong_files(&mut loaded);
        warn_of_wrong_brokers(&mut loaded);
        warn_of_wrong_endpoints(&mut loaded);
    }
    let good = loaded.site.is_some() && !loaded.diagnostics.has_errors();
    match common.format {
        Format::Json => print_json(&loaded, good)?,
        Format::Human => print_human(&loaded, common.quiet)?,
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn print_human(loaded: &Loaded, quiet: bool) -> anyhow::Result<()> {
    if !loaded.diagnostics.is_empty() {
        let mut stderr = std::io::stderr().lock();
        let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        write!(stderr, "{}", loaded.diagnostics.render(colour))?;
    }
    if let (Some(site), false, false) = (&loaded.site, quiet, loaded.diagnostics.has_errors()) {
        let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
        writeln!(
            std::io::stdout(),
            "ok: {}, {}, {} ({})",
            count(site.rules.len(), "rule"),
            count(site.handlers.len(), "handler"),
            count(site.tests.len(), "test"),
            names(&loaded.files)
        )?;
    }
    Ok(())
}

/// What is wrong with the files that settings of built-in handlers name. Warnings, as for every file that may come later.
fn warn_of_wrong_files(loaded: &mut Loaded) {
    let Some(site) = &loaded.site else { return };
    let mut found = Vec::new();
    for handler in site.handlers.values() {
        if let Program::BuiltIn(name) = &handler.program {
            let wrong = built_in::check_files(name, &handler.config);
            found.extend(wrong.into_iter().map(|failure| (handler.name.clone(), handler.place.clone(), failure)));
        }
    }
    for (name, place, failure) in found {
        let message = format!("handler {name}: {}", failure.message());
        let warning = Diagnostic::warning(loaded.diagnostics.span_in_block(&place, failure.message()), message);
        let hint = failure.hint().unwrap_or("until it is mended the handler fails, and is tried again");
        loaded.diagnostics.push(warning.hint(hint));
    }
    loaded.diagnostics.sort();
}

/// What is wrong with the files of fedora-messaging that buses name; that one is missing is told already.
fn warn_of_wrong_brokers(loaded: &mut Loaded) {
    for file in loaded.named_files.iter().filter(|file| file.what == config::FILE_WHAT && file.path.exists()) {
        if let Err(why) = config::read(&file.path).and_then(|text| config::of_toml(&text)) {
            let message = format!("{}: {}: {why}", file.what, file.path.display());
            let hint = "docs/amqp.md says what of it is read; the daemon does not start with it as it is";
            loaded.diagnostics.push(Diagnostic::warning(file.span, message).hint(hint));
        }
    }
    loaded.diagnostics.sort();
}

/// What is wrong with the files that fedmsg buses take their publishers from; that one is missing is told already.
fn warn_of_wrong_endpoints(loaded: &mut Loaded) {
    for file in loaded.named_files.iter().filter(|file| file.what == discovery::FILE_WHAT && file.path.exists()) {
        if let Err(why) = discovery::of_file(&file.path) {
            let message = format!("{}: {}: {why}", file.what, file.path.display());
            let hint =
                format!("fedmsg-config > {}; until it names somebody, nobody is listened to", file.path.display());
            loaded.diagnostics.push(Diagnostic::warning(file.span, message).hint(hint));
        }
    }
    loaded.diagnostics.sort();
}

/// Every handler describes itself, and takes the parameters that the rules give it.
fn ask_handlers(loaded: &mut Loaded) -> anyhow::Result<()> {
    let Some(site) = &loaded.site else { return Ok(()) };
    runner::init();
    let state = tempfile::tempdir().context("no scratch directory")?;
    let runner = Runner::new(state.path(), runner::Options::default())?;
    let runtime = super::runtime()?;
    let mut found = Vec::new();
    for handler in site.handlers.values() {
        match runtime.block_on(runner.describe(handler)) {
            Err(failure) => {
                let message = failure.message();
                let span = loaded.diagnostics.span_in_block(&handler.place, message);
                found.push((span, message.to_owned(), failure.hint().map(str::to_owned)));
            }
            Ok(describe) => {
                let rules = site.rules.iter().filter(|rule| rule.handler == handler.name);
                for rule in rules {
                    let span = loaded.diagnostics.span_of(&rule.place);
                    let said = |why| (span, format!("`with` of `{}`: {why}", rule.name), Some(parameters_of(handler)));
                    found.extend(unfit(rule, &describe).into_iter().map(said));
                }
            }
        }
    }
    for (span, message, hint) in found {
        let error = Diagnostic::error(span, message);
        loaded.diagnostics.push(error.hint(hint.unwrap_or_else(|| "mend it, then `reactor check`".to_owned())));
    }
    loaded.diagnostics.sort();
    Ok(())
}

/// How to see which parameters a handler takes.
fn parameters_of(handler: &HandlerConfig) -> String {
    match &handler.program {
        Program::BuiltIn(name) => format!("`reactor handler {name} describe` prints its parameters and their types"),
        Program::Exec(_) => "`PROGRAM describe` prints the handler's parameters and their types".to_owned(),
    }
}

/// What can be known of a rule's parameters without a message: all are there, none is unknown, and what is no template fits.
fn unfit(rule: &Rule, describe: &Describe) -> Vec<String> {
    let none = Params::new();
    let with = rule.with.source().as_object().unwrap_or(&none);
    let is_template = |value: &Value| value.to_string().contains("{{");
    let constant = |(name, kind): (&String, &ParamType)| match with.get(name) {
        Some(value) if is_template(value) => None,
        _ => Some((name.clone(), kind.clone())),
    };
    let declared: BTreeMap<String, ParamType> = describe.params.iter().filter_map(constant).collect();
    let given = with.iter().filter(|(name, value)| !(is_template(value) && describe.params.contains_key(*name)));
    let given: Params = given.map(|(name, value)| (name.clone(), value.clone())).collect();
    handler_api::params::check(&declared, &given).err().unwrap_or_default()
}

fn print_json(loaded: &Loaded, good: bool) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{}", loaded.diagnostics.to_json())?;
    if let (Some(site), true) = (&loaded.site, good) {
        let (rules, handlers, tests) = (site.rules.len(), site.handlers.len(), site.tests.len());
        let line = json!({"ok": true, "rules": rules, "handlers": handlers, "tests": tests, "files": loaded.files});
        writeln!(stdout, "{line}")?;
    }
    Ok(())
}

/// Most files that are named one by one.
const NAMED_FILES_MAX: usize = 5;

fn names(files: &[PathBuf]) -> String {
    let shown = files.iter().take(NAMED_FILES_MAX).map(|path| path.display().to_string());
    let mut list = shown.collect::<Vec<_>>().join(", ");
    if files.len() > NAMED_FILES_MAX {
        list.push_str(&format!(", … {} files", files.len()));
    }
    list
}
