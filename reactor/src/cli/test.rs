//! `reactor test`: the site's rule tests, in virtual time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::print::clean;
use super::{Common, Format, NO, out, site_paths};
use crate::rehearsal::rehearse;
use crate::rules::file;
use handler_api::units::show_duration;

/// Arguments of `test`.
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor test rules.yaml
Exit code: 0 all passed; 1 one failed, or the site has an error.")]
pub struct TestArgs {
    /// The site's files or directories [default: /etc/reactor, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
}

/// Runs all tests and says what came of each.
///
/// # Errors
/// When the site can't be read.
pub fn run(args: &TestArgs, common: &Common) -> anyhow::Result<ExitCode> {
    let site = file::load(&site_paths(&args.site))?;
    let mut failed = 0;
    for test in &site.tests {
        let (passed, about, different) = match rehearse(&site, test) {
            Ok(one) => {
                let many = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
                let (given, done) = (many(one.messages, "message"), many(one.reactions, "reaction"));
                let about = format!("{given}, {done}, {} of virtual time", show_duration(one.time));
                (one.passed, about, one.different)
            }
            Err(why) => (false, "could not be run".to_owned(), vec![why]),
        };
        failed += usize::from(!passed);
        if common.format == Format::Json {
            out(&json!({"test": test.name, "passed": passed, "about": about, "different": different}).to_string());
        } else if !passed || !common.quiet {
            out(&format!("{} {} ({about})", if passed { "ok  " } else { "FAIL" }, test.name));
            different.iter().for_each(|line| out(&format!("       {}", clean(line))));
        }
    }
    if common.format == Format::Human {
        out(&format!("{} passed, {failed} failed", site.tests.len() - failed));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}
