//! The command line: one file a verb. Each has `Args` (clap) and `run`, which returns the exit code: 0 fine, 1 the answer
//! is no, 2 wrong usage (clap's own). Only here: `anyhow`, printing, and the wall clock beside the engine's.

pub mod handler;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Turns signed messages on a bus into planned, guarded, journaled changes.
#[derive(Debug, Parser)]
#[command(name = "reactor", version, max_term_width = 110)]
pub struct Cli {
    /// Options that every verb has.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options that every verb has.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Where the journal, the socket and the handlers' directories are [default: $STATE_DIRECTORY, else ./.reactor]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// What the answer looks like; json is one object a line
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    pub format: Format,
    /// Say more (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only what is wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// What the answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a handler, and test that it keeps the contract
    Handler(handler::HandlerArgs),
}

/// Exit code 1: the answer is no.
pub const NO: u8 = 1;

/// Runs one verb.
///
/// # Errors
/// What could not be done at all; `main` prints it and exits with 1.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.verb {
        Verb::Handler(args) => handler::run(args, &cli.common),
    }
}

/// The site's files: what was named, else /etc/reactor if it exists, else ./rules.yaml.
#[must_use]
pub fn site_paths(named: &[PathBuf]) -> Vec<PathBuf> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let etc = PathBuf::from("/etc/reactor");
    vec![if etc.exists() { etc } else { PathBuf::from("rules.yaml") }]
}

impl Common {
    /// The state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.state
            .clone()
            .or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(".reactor"))
    }
}
