//! `reactor`: arguments → one function in `cli` → exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    reactor::cli::run(reactor::cli::Cli::parse()).unwrap_or_else(|error| reactor::cli::print::failure(&error))
}
