//! `reactor doctor`: can every bus, journal, handler and target be reached, with which rights. Changes nothing, and needs no
//! daemon; run it as the user that the daemon runs as.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use handler_api::{Failure, Finding};
use serde_json::{Value, json};

use super::print::clean;
use super::{Common, Format, NO, out};
use crate::built_in;
use crate::bus::amqp;
use crate::bus::amqp::config::AmqpBus;
use crate::bus::amqp::look::{self, Seen};
use crate::bus::catch_up::{self, CatchUp};
use crate::engine::control::{Asked, ask};
use crate::journal::place::open_read_only;
use crate::rules::file;
use crate::rules::site::{BusConfig, HandlerConfig, Program};
use crate::runner::{self, Runner};

/// How long a bus may take to accept a connection, in seconds.
const CONNECT_SECONDS_MAX: u64 = 5;
/// How long one handler may look around, in seconds.
const HANDLER_SECONDS_MAX: u64 = 120;

/// What to look at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: reactor doctor
         sudo -u reactor reactor doctor /etc/reactor --state /var/lib/reactor
Exit code: 0 all is well; 1 something is not, and a hint says what to do.")]
pub struct Args {
    /// The site: files or directories [default: /etc/reactor if it exists, else ./rules.yaml]
    #[arg(value_name = "FILE|DIR")]
    pub site: Vec<PathBuf>,
}

/// What was found, and how it is told.
struct Told {
    format: Format,
    wrong: usize,
}

impl Told {
    fn tell(&mut self, place: &str, finding: &Finding) {
        self.wrong += usize::from(!finding.good);
        if self.format == Format::Json {
            out(&json!({"place": place, "ok": finding.good, "what": finding.what, "hint": finding.hint}).to_string());
            return;
        }
        let word = if finding.good { "ok  " } else { "FAIL" };
        out(&format!("{word} {place}: {}", clean(&finding.what)));
        if let Some(hint) = &finding.hint {
            out(&format!("     hint: {}", clean(hint)));
        }
    }
}

/// Looks at all of it: 0 where nothing is wrong, else 1.
///
/// # Errors
/// When the site can't be read at all.
pub fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let site = file::load(&super::site_paths(&args.site))?;
    let mut told = Told { format: common.format, wrong: 0 };
    let runtime = super::runtime()?;
    let state = common.state_dir();
    let asked = runtime.block_on(ask(&state, &Asked::Status));
    told.tell("journal", &journal(&state, asked.is_ok()));
    let status = asked.ok().and_then(|answered| answered.status).unwrap_or_default();
    for (place, finding) in told_by_daemon(&status) {
        told.tell(&place, &finding);
    }
    for bus in site.buses.values() {
        let place = format!("bus {}", bus.name);
        if let Some(amqp) = &bus.amqp {
            runtime.block_on(look_at_broker(bus, amqp)).iter().for_each(|finding| told.tell(&place, finding));
        }
        if let Some(config) = &bus.catch_up {
            told.tell(&place, &runtime.block_on(ask_server(config)));
        }
        look_at_bus(bus).iter().for_each(|finding| told.tell(&place, finding));
    }
    runner::init();
    let scratch = tempfile::tempdir().context("no scratch directory")?;
    let runner = Runner::new(scratch.path(), runner::Options::default())?;
    for handler in site.handlers.values() {
        let place = format!("handler {}", handler.name);
        runtime.block_on(look_at_handler(&runner, handler)).iter().for_each(|finding| told.tell(&place, finding));
    }
    Ok(if told.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn journal(state: &Path, answers: bool) -> Finding {
    match open_read_only(state) {
        Ok(_) if answers => Finding::good(format!("{} can be read, and a daemon answers there", state.display())),
        Ok(_) => Finding::bad(
            format!("{} can be read, and no daemon answers there", state.display()),
            "systemctl status reactor; or start it: reactor run",
        ),
        Err(error) => Finding::bad(
            format!("{}: {error:#}", state.display()).lines().next().unwrap_or_default(),
            "name the daemon's state directory: --state /var/lib/reactor, and run this as the daemon's user",
        ),
    }
}

/// What a running daemon says of its buses: what keeps one from being read or published on, a silence that is too long.
fn told_by_daemon(status: &Value) -> Vec<(String, Finding)> {
    let mut found = Vec::new();
    for bus in status["buses"].as_array().into_iter().flatten() {
        let place = format!("bus {} of the daemon", bus["name"].as_str().unwrap_or_default());
        let problems = bus["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
        found.extend(problems.map(|why| (place.clone(), Finding::bad(why, "the daemon's log: journalctl -u reactor"))));
    }
    let problems = status["confirms"]["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
    found.extend(problems.map(|why| {
        let hint = "the daemon's log: journalctl -u reactor; docs/bus.md: telling the publisher what became of it";
        ("what the daemon publishes".to_owned(), Finding::bad(why, hint))
    }));
    found
}

/// Its addresses accept connections, and what it believes in can be read. Whether messages come is told by `reactor tail`.
fn look_at_bus(bus: &BusConfig) -> Vec<Finding> {
    let mut found: Vec<Finding> = bus.fedmsg.iter().map(|address| connect(address)).collect();
    for (place, answer) in bus.discovery.ask() {
        match answer {
            Ok(addresses) => {
                found.push(Finding::good(format!("{place} names {} publishers", addresses.len())));
                found.extend(addresses.iter().map(|address| connect(address)));
            }
            Err(why) => {
                found.push(Finding::bad(format!("{place}: {why}"), "docs/bus.md says what is looked for there"))
            }
        }
    }
    let verifier = bus.verifier();
    let problems = verifier.problems(super::now());
    if problems.is_empty() {
        found.push(Finding::good("what its messages are checked against can be read"));
    }
    found.extend(problems.into_iter().map(|why| Finding::bad(why, "docs/trust.md: where certificates and keys go")));
    found
}

/// Its broker lets us in, and has what the site names. Nothing is declared and nothing read.
async fn look_at_broker(bus: &BusConfig, amqp: &AmqpBus) -> Vec<Finding> {
    let amqp = match amqp::resolve(&bus.name, amqp) {
        Ok(amqp) => amqp,
        Err(error) => return vec![Finding::bad(error.to_string().lines().next().unwrap_or_default(), "docs/amqp.md")],
    };
    let seen = match look::look(&amqp, bus.listens()).await {
        Ok(seen) => seen,
        Err(broken) => {
            let hint = broken.hint.unwrap_or("the broker's log says more");
            return vec![Finding::bad(format!("{}: {}", amqp.url, broken.why), hint)];
        }
    };
    let mut found = vec![Finding::good(format!("{} lets us in", amqp.url))];
    found.extend(seen.into_iter().map(|Seen { what, name, found }| match found {
        Ok(has) => Finding::good(format!("{what} {name} {has}")),
        Err(broken) if what == "queue" && broken.why.contains("404") => Finding::bad(
            format!("queue {name} is not there: what is published now is kept for nobody"),
            "a daemon that starts declares it, if its user may: rabbitmqctl list_user_permissions USER",
        ),
        Err(broken) => {
            Finding::bad(format!("{what} {name}: {}", broken.why), broken.hint.unwrap_or("the broker's log says more"))
        }
    }));
    found
}

/// Whoever keeps its messages hands them over.
async fn ask_server(config: &CatchUp) -> Finding {
    match catch_up::look(config).await {
        Ok(()) => Finding::good(format!("{} hands over what was missed", config.server.place())),
        Err(failure) => failure.into(),
    }
}

fn connect(address: &str) -> Finding {
    let place = address.strip_prefix("tcp://").unwrap_or(address);
    let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
    let reached = place.to_socket_addrs().and_then(|all| {
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for one in all {
            match std::net::TcpStream::connect_timeout(&one, limit) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    });
    match reached {
        Ok(()) => Finding::good(format!("{address} accepts connections")),
        Err(error) => Finding::bad(format!("{address}: {error}"), "is the publisher up, and the way to it open?"),
    }
}

/// It can be started, the files that its settings name are there, and what it says of its truth and its target.
async fn look_at_handler(runner: &Runner, handler: &HandlerConfig) -> Vec<Finding> {
    let describe = match runner.describe(handler).await {
        Ok(describe) => describe,
        Err(failure) => return vec![failure.into()],
    };
    let mut found = vec![Finding::good(format!("it starts, as {} {}", describe.name, describe.version))];
    for (name, secret) in &handler.secrets {
        if let Err(error) = std::fs::File::open(&secret.file) {
            let file = secret.file.display();
            found.push(Finding::bad(format!("secret {name}: {file}: {error}"), format!("ls -l {file}")));
        }
    }
    if let Program::BuiltIn(name) = &handler.program {
        let (name, settings) = (name.clone(), handler.config.clone());
        let files = tokio::task::spawn_blocking(move || built_in::check_files(&name, &settings));
        found.extend(files.await.unwrap_or_default().into_iter().map(Finding::from));
        let limit = Duration::from_secs(HANDLER_SECONDS_MAX);
        match runner.doctor(handler, limit).await {
            Ok(more) => found.extend(more),
            Err(failure) => found.push(Failure::into(failure)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_has_against_a_bus_is_told() {
        let silent = "connected, but no message has come for 2h";
        let status = json!({"buses": [{"name": "good", "problems": []}, {"name": "ours", "problems": [silent]}]});
        let found = told_by_daemon(&status);
        assert_eq!(found.len(), 1);
        assert!(!found[0].1.good && found[0].1.what == silent && found[0].0.contains("ours"), "{found:?}");
        let status = json!({"confirms": {"problems": ["bus ours: nobody has subscribed"]}});
        assert!(!told_by_daemon(&status)[0].1.good, "what it can't publish is told, too");
        assert!(told_by_daemon(&Value::Null).is_empty(), "no daemon, nothing to say");
    }

    #[test]
    fn an_address_where_nobody_listens_is_found_and_one_that_listens_is_good() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        assert!(connect(&address).good);
        drop(listener);
        let finding = connect(&address);
        assert!(!finding.good && finding.hint.is_some() && finding.what.starts_with(&address), "{finding:?}");
        assert!(!connect("tcp://nosuch.invalid:1").good);
    }
}
