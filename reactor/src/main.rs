//! `reactor`: arguments → one function in `cli` → exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match reactor::cli::run(reactor::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(reactor::cli::NO)
        }
    }
}
