//! The command line: one file a verb. Each has `Args` (clap) and `run`, which returns the exit code: 0 fine, 1 the answer
//! is no, 2 wrong usage (clap's own). Only here: `anyhow`, printing, and the wall clock beside the engine's.

pub mod check;
mod confirmed;
mod confirms;
pub mod decide;
pub mod demo;
pub mod doctor;
pub mod handler;
pub mod journal;
pub mod list;
pub mod plan;
pub mod print;
pub mod publish;
pub mod reconcile;
pub mod replay;
pub mod run;
pub mod schema;
pub mod status;
pub mod tail;
pub mod test;
pub mod verify;
pub mod warden;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;

use crate::engine::control::Asked;

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
    /// What the answer looks like: human, or json, one object a line
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, hide_possible_values = true)]
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
    /// Show all of it at once: a bus, signed messages, reactions, and a kill -9 in the middle. Needs nothing installed
    Demo(demo::DemoArgs),
    /// Run the daemon
    Run(run::RunArgs),
    /// Check a site: all that can be known without running it
    Check(check::Args),
    /// Say whether every bus, journal, handler and target can be reached, and with which rights
    Doctor(doctor::Args),
    /// Dry run: which rules match a message and why not, and what each handler would change, as a diff
    #[command(visible_alias = "dry-run")]
    Plan(plan::PlanArgs),
    /// Compare all that a handler keeps with the source of truth, and show what differs; or mend it
    Reconcile(reconcile::ReconcileArgs),
    /// Ask a bus's server for what was missed: show what would come of it, or (--yes) let the daemon get it
    Replay(replay::ReplayArgs),
    /// Run the rule tests, in virtual time
    Test(test::TestArgs),
    /// Say whether messages are genuine: signer, verdict, reason
    Verify(verify::Args),
    /// Put a signed message on a fedmsg bus, and print its id
    Publish(publish::Args),
    /// Watch a fedmsg bus: what is on it, and whether we believe it
    Tail(tail::Args),
    /// Show what is running, waiting, held, failed, and what a kill would lose now
    #[command(after_help = "Example: reactor status
         reactor --state /var/lib/reactor status --format json
Exit code: 0 a daemon answered; 1 none runs, and what the journal holds is shown.")]
    Status,
    /// List reactions, the newest first; or the messages that were refused
    List(list::ListArgs),
    /// Show one reaction's whole story: messages, plan, what was done
    Show(list::ShowArgs),
    /// Let held reactions go on: each is planned again and may do what was seen, and no more
    #[command(after_help = "Example: reactor list held
         reactor approve 01J9ZK3")]
    Approve(decide::Ids),
    /// Try reactions again: failed ones anew, waiting ones now
    #[command(after_help = "Example: reactor list failed
         reactor retry 01J9ZK3")]
    Retry(decide::Ids),
    /// Give up reactions: they will not be tried again
    #[command(after_help = "Example: reactor drop 01J9ZK3")]
    Drop(decide::Ids),
    /// Let a rule's reactions wait, in the journal, until `resume`
    #[command(after_help = "Example: reactor pause 'e-mail address changed'")]
    Pause(decide::RuleName),
    /// Let a paused rule's reactions run again
    #[command(after_help = "Example: reactor resume 'e-mail address changed'")]
    Resume(decide::RuleName),
    /// Read the rules again, as SIGHUP does, and say what came of it
    #[command(after_help = "Example: reactor reload
A broken file changes nothing, and is told with line and caret.")]
    Reload,
    /// Move the journal elsewhere
    Journal(journal::Args),
    /// Write a handler, and test that it keeps the contract
    Handler(handler::HandlerArgs),
    /// Print the JSON Schema of the site's file, for editors
    Schema(schema::Args),
    /// Watch over a daemon that shares its journal; the daemon starts it
    #[command(hide = true)]
    Warden(warden::Args),
    /// Print the completions of a shell
    #[command(after_help = "Example: reactor completions bash > /etc/bash_completion.d/reactor
         reactor completions zsh > ~/.zfunc/_reactor
         reactor completions fish > ~/.config/fish/completions/reactor.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Exit code 1: the answer is no.
pub const NO: u8 = 1;

/// Runs one verb.
///
/// # Errors
/// What could not be done at all; `main` prints it and exits with 1.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let common = &cli.common;
    match cli.verb {
        Verb::Run(args) => run::run(args, common),
        Verb::Check(args) => check::run(&args, common),
        Verb::Doctor(args) => doctor::run(&args, common),
        Verb::Schema(args) => schema::run(&args, common),
        Verb::Journal(args) => journal::run(&args, common),
        Verb::Handler(args) => handler::run(args, common),
        Verb::Verify(args) => verify::run(args, common),
        Verb::Publish(args) => publish::run(&args, common),
        Verb::Tail(args) => tail::run(&args, common),
        Verb::Plan(args) => plan::run(&args, common),
        Verb::Reconcile(args) => reconcile::run(&args, common),
        Verb::Replay(args) => replay::run(&args, common),
        Verb::Test(args) => test::run(&args, common),
        Verb::Demo(args) => demo::run(&args, common),
        Verb::Warden(args) => warden::run(&args, common),
        Verb::Status => status::run(common),
        Verb::List(args) => list::list(args, common),
        Verb::Show(args) => list::show(&args, common),
        Verb::Approve(ids) => decide::run(&Asked::Approve { ids: ids.ids }, common),
        Verb::Retry(ids) => decide::run(&Asked::Retry { ids: ids.ids }, common),
        Verb::Drop(ids) => decide::run(&Asked::Drop { ids: ids.ids }, common),
        Verb::Pause(rule) => decide::run(&Asked::Pause { rule: rule.rule }, common),
        Verb::Resume(rule) => decide::run(&Asked::Resume { rule: rule.rule }, common),
        Verb::Reload => decide::run(&Asked::Reload, common),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "reactor", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
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

/// Prints a line on stdout. A reader that went away (`reactor list | head`) ends the program quietly.
pub fn out(line: &str) {
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// The wall clock, for what people ask.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "the command line may know the time")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A runtime with as many threads as there is work for: one for the engine, one for what waits.
///
/// # Errors
/// When the system gives no threads.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Sends the log to stderr: `-q` errors, else what an operator should know; `-v` and `-vv` more; `RUST_LOG` decides alone
/// where it is set. Without times under systemd, which adds its own.
pub fn log(common: &Common) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("warn,reactor={level}")));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let log = log.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // Only the first of two calls counts; the second is harmless.
    let _ = match (common.format, std::env::var_os("JOURNAL_STREAM")) {
        (Format::Json, _) => log.json().try_init(),
        (Format::Human, Some(_)) => log.without_time().try_init(),
        (Format::Human, None) => log.try_init(),
    };
}
