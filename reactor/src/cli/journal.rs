//! `reactor journal copy`: moves a site's journal from a file to a server, or back.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{Common, Format, out, site_paths};
use crate::journal::moving::{Moved, copy_to};
use crate::rules::file;

/// What to do with the journal.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: reactor --state /var/lib/reactor journal copy /etc/reactor")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Copy the state directory's journal to where the rules file says, with the daemon stopped
    #[command(after_help = "Example: systemctl stop reactor
         reactor --state /var/lib/reactor journal copy /etc/reactor
         systemctl start reactor
Everything is copied: messages, reactions and their stories, what was refused, settings. Then both are read and compared.
Into an empty journal only. One that was cut off goes on when it is typed again; until then no daemon starts on it.")]
    Copy {
        /// The site, with the new `journal` in it [default: /etc/reactor if it exists, else ./rules.yaml]
        #[arg(value_name = "FILE|DIR")]
        site: Vec<PathBuf>,
    },
}

/// Runs it.
///
/// # Errors
/// Why it can't be copied, and what to do.
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let What::Copy { site } = &args.what;
    super::log(common);
    let site = file::load(&site_paths(site))?;
    let moved = copy_to(&common.state_dir(), site.journal.server.as_ref())?;
    out(&match common.format {
        Format::Human => tell(&moved),
        Format::Json => json!({
            "from": moved.from, "to": moved.to, "old": moved.old, "counts": moved.summary.counts,
            "pending": moved.summary.pending, "resumed": moved.summary.resumed,
        })
        .to_string(),
    });
    Ok(ExitCode::SUCCESS)
}

fn tell(moved: &Moved) -> String {
    let counts = &moved.summary.counts;
    let reactions: u64 = counts.by_state.iter().map(|(_, n)| n).sum();
    format!(
        "copied {} messages and {reactions} reactions ({} of them not over), {} refused messages
  from {}
  to   {}
Both were compared and are the same. The old one is not used any more: {}
next: start the daemon (systemctl start reactor); once you are content, remove the old one",
        counts.messages, moved.summary.pending, counts.refused, moved.from, moved.to, moved.old
    )
}
