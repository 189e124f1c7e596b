//! `reactor handler new|test`, and the hidden `reactor handler NAME VERB` by which built-in handlers run as children.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use handler_api::{Describe, MessageView, ParamType, Params};
use serde_json::{Map, Value, json};

use super::{Common, Format, NO, out};
use crate::built_in;
use crate::rules::file;
use crate::rules::site::{HandlerConfig, Place, Program, Secret, TIMEOUT_DEFAULT};
use crate::runner::contract::{self, Contract, Step};
use crate::runner::{self, Options, Runner};
use handler_api::units::parse_duration;

/// Exit code 2: wrong usage, as clap's own.
const WRONG_USAGE: u8 = 2;

/// `reactor handler …`
#[derive(Debug, Args)]
#[command(after_help = "Example: reactor handler new motd --lang bash
         touch /tmp/motd && reactor handler test ./motd --env FILE=/tmp/motd --with user=ralph")]
pub struct HandlerArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a handler that works, to change to your needs
    #[command(after_help = "Example: reactor handler new mail-alias --lang bash --dir /etc/reactor/handlers")]
    New(NewArgs),
    /// Test that a handler keeps the contract; it is really applied, so point it at a copy
    #[command(after_help = "Example: reactor handler test ./mail-alias --env ALIASES=/tmp/aliases \
                      --with user=ralph --with address=ralph@example.org
         reactor handler test --site rules.yaml hosts --with user=ralph")]
    Test(TestArgs),
    /// A built-in handler: NAME VERB, as the daemon starts it.
    #[command(external_subcommand)]
    BuiltIn(Vec<String>),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// Its name, which is also the name of the file
    name: String,
    /// What it is written in
    #[arg(long, value_enum, default_value_t = Lang::Bash)]
    lang: Lang,
    /// Where the file goes
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Lang {
    /// bash 4 and coreutils
    Bash,
    /// Python 3, standard library only
    Python,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// The handler: a program, or (with --site) its name there
    #[arg(value_name = "PROGRAM|NAME")]
    program: PathBuf,
    /// Take the handler from this site, with its settings, environment and secrets; so can built-in ones be tested
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["env", "secret"])]
    site: Vec<PathBuf>,
    /// A parameter; read as the type that the handler declares, a list as JSON
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    with: Vec<(String, String)>,
    /// An environment variable (`env:` in the rules file)
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// A secret
    #[arg(long, value_name = "NAME=FILE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// A message that it sees: an envelope or {topic, msg}
    #[arg(long, value_name = "FILE")]
    message: Vec<PathBuf>,
    /// A directory in which plan must not write; without it only Landlock is there to stop it
    #[arg(long, value_name = "DIR")]
    watch: Option<PathBuf>,
    /// How long each plan and apply may take [default: 1m]
    #[arg(long, value_parser = parse_duration)]
    timeout: Option<Duration>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not NAME=VALUE")),
    }
}

/// Runs `reactor handler …`.
///
/// # Errors
/// What could not be done at all; a contract that does not hold is exit code 1, not an error.
pub fn run(args: HandlerArgs, common: &Common) -> anyhow::Result<ExitCode> {
    match args.what {
        What::New(args) => new(&args),
        What::Test(args) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(test(args, common))
        }
        What::BuiltIn(words) => Ok(run_built_in(&words)),
    }
}

/// What the daemon starts: the name is the first word, the verb the last; between them are the `args` of the site.
fn run_built_in(words: &[String]) -> ExitCode {
    let (name, verb) = (words.first().map_or("", String::as_str), words.last().map_or("", String::as_str));
    match built_in::find(name) {
        Some(one) => u8::try_from((one.serve)(verb)).map_or(ExitCode::FAILURE, ExitCode::from),
        None => {
            eprintln!("error: there is no built-in handler `{}`", name.escape_debug());
            eprintln!("hint: `reactor handler new NAME` writes a handler, `reactor handler test PROGRAM` tests one");
            ExitCode::from(WRONG_USAGE)
        }
    }
}

fn new(args: &NewArgs) -> anyhow::Result<ExitCode> {
    if let Err(why) = ParamType::Name.check(&args.name.as_str().into()) {
        bail!(
            "the handler's name {why}\nhint: reactor handler new mail-alias --dir DIR, where --dir says the directory"
        );
    }
    let path = args.dir.join(&args.name);
    let template = match args.lang {
        Lang::Bash => BASH,
        Lang::Python => PYTHON,
    };
    fs::create_dir_all(&args.dir).with_context(|| format!("directory {}", args.dir.display()))?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&path)
        .and_then(|mut file| file.write_all(template.replace("NAME", &args.name).as_bytes()))
        .with_context(|| {
            format!("{0} can't be written\nhint: take another name or another --dir; ls -l {0}", path.display())
        })?;
    let path = path.canonicalize()?;
    out(&format!("wrote {}\n\nIt keeps a line for each user in $FILE. Try it:\n", path.display()));
    out(&format!(
        "  touch /tmp/{0} && reactor handler test {1} --env FILE=/tmp/{0} --with user=ralph\n",
        args.name,
        path.display()
    ));
    out("Then make it yours, and name it in rules.yaml:\n");
    out(&format!("  handlers:\n    {}: {{ exec: {}, env: {{ FILE: /tmp/{0} }} }}", args.name, path.display()));
    Ok(ExitCode::SUCCESS)
}

async fn test(args: TestArgs, common: &Common) -> anyhow::Result<ExitCode> {
    runner::init();
    // A state directory of its own: nothing of the site's is touched.
    let state = tempfile::tempdir().context("a directory for the test")?;
    let runner = Runner::new(state.path(), Options::default()).context("a directory for the test")?;
    let handler = handler_config(&args)?;
    let messages = args.message.iter().map(|file| message(file)).collect::<anyhow::Result<_>>()?;
    let declared = runner.describe(&handler).await.map(|describe| Describe::clone(&describe)).ok();
    let with = with_values(&args.with, declared.as_ref())?;
    let timeout = args.timeout.unwrap_or(TIMEOUT_DEFAULT);
    let steps = contract::contract(&runner, &Contract { handler, with, messages, watch: args.watch, timeout }).await;
    runner.close().await;
    for step in &steps {
        print_step(step, common.format);
    }
    Ok(if contract::holds(&steps) { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn print_step(step: &Step, format: Format) {
    let (word, detail, hint) = match &step.result {
        Ok(detail) => ("ok  ", detail, None),
        Err(wrong) => ("FAIL", &wrong.message, wrong.hint.as_ref()),
    };
    if format == Format::Json {
        out(&format!("{}", json!({"step": step.name, "ok": step.result.is_ok(), "detail": detail, "hint": hint})));
        return;
    }
    let colon = if detail.is_empty() { "" } else { ": " };
    out(&format!("{word} {}{colon}{detail}", step.name));
    if let Some(hint) = hint {
        out(&format!("     hint: {hint}"));
    }
}

fn handler_config(args: &TestArgs) -> anyhow::Result<HandlerConfig> {
    if !args.site.is_empty() {
        let site = file::load(&args.site)?;
        return Ok(site.handler(&args.program.to_string_lossy()).map_err(anyhow::Error::msg)?.clone());
    }
    let program = args.program.canonicalize().with_context(|| {
        format!("handler {} can't be tested\nhint: reactor handler new NAME writes one", args.program.display())
    })?;
    let name = program.file_name().map_or_else(|| "handler".into(), |name| name.to_string_lossy().into_owned());
    let secret = |(name, file): &(String, String)| -> anyhow::Result<(String, Secret)> {
        let file = fs::canonicalize(file).with_context(|| format!("secret {name}, file {file}"))?;
        Ok((name.clone(), Secret { file, in_plan: false }))
    };
    Ok(HandlerConfig {
        name: name.into(),
        program: Program::Exec(program),
        args: Vec::new(),
        env: args.env.iter().cloned().collect(),
        secrets: args.secret.iter().map(secret).collect::<anyhow::Result<BTreeMap<_, _>>>()?,
        user: None,
        at_once: 1,
        config: Map::new(),
        place: Place::default(),
    })
}

/// Each value as the type that the handler declares for it. What it does not declare stays text: the check names it.
fn with_values(given: &[(String, String)], declared: Option<&Describe>) -> anyhow::Result<Params> {
    let mut with = Params::new();
    for (name, text) in given {
        let kind = declared.and_then(|describe| describe.params.get(name));
        let value = kind.map_or_else(|| Ok(text.as_str().into()), |kind| value_of(kind, text));
        with.insert(name.clone(), value.with_context(|| format!("--with {name}"))?);
    }
    Ok(with)
}

fn value_of(kind: &ParamType, text: &str) -> anyhow::Result<Value> {
    Ok(match kind {
        ParamType::Optional(_) if text == "null" => Value::Null,
        ParamType::Optional(inner) => value_of(inner, text)?,
        ParamType::Int => text.parse::<i64>().map(Value::from).with_context(|| format!("`{text}` is not {kind}"))?,
        ParamType::Bool => text.parse::<bool>().map(Value::from).with_context(|| format!("`{text}` is not {kind}"))?,
        ParamType::List(_) => {
            serde_json::from_str(text).with_context(|| format!("`{text}` is not a JSON list, as in [\"a\",\"b\"]"))?
        }
        _ => text.into(),
    })
}

/// A message file as a handler sees it: an envelope as on the bus, or `{topic, msg}`.
fn message(file: &Path) -> anyhow::Result<MessageView> {
    let about = || format!("message {}", file.display());
    let read: Value = serde_json::from_slice(&fs::read(file).with_context(about)?).with_context(about)?;
    let text = |names: [&str; 2]| names.into_iter().find_map(|name| read.get(name)?.as_str()).map(str::to_owned);
    let body = read.get("msg").or_else(|| read.get("body")).cloned();
    let Some((topic, body)) = text(["topic", "topic"]).zip(body) else {
        bail!("{} has no `topic` or no `msg`", about());
    };
    let seconds = read.get("timestamp").and_then(Value::as_f64).unwrap_or_default();
    let sent = jiff::Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds)?)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let id = text(["msg_id", "id"]).unwrap_or_else(|| format!("file:{name}"));
    Ok(MessageView { id, topic, sent: sent.to_string(), signer: format!("file:{name}"), body })
}

const BASH: &str = r#"#!/bin/bash
# NAME: keeps a line for each user in $FILE. The protocol: handlers/PROTOCOL.md. Log to stderr, never to stdout.
set -euo pipefail

if [[ $1 == describe ]]; then   # no stdin, no secrets: say what you are
  echo '{"describe":{"reactor":1,"name":"NAME","version":"1.0","about":"A line for each user in a file","params":{"user":"name"}}}'
  exit
fi

# The request is one line, and `with` stands before anything that a message wrote. Its values were checked against the
# types above: a name holds no quote, brace, backslash or space, so this finds exactly it. (With jq: jq -r .with.user)
IFS= read -r request
with=${request#*\"with\":\{} with=${with%%\}*}
[[ $with =~ \"user\":\"([^\"]+)\" ]] || exit 65     # 65: bad data, no use to try again
user=${BASH_REMATCH[1]}

# Look at the truth. Unknown is not empty: what can't be read is a failure, not "nothing there".
[[ -r $FILE ]] || { echo '{"error":{"message":"the file can not be read","hint":"touch it"}}'; exit 75; }   # 75: later
if grep -Fxq -e "$user" "$FILE"; then exit; fi      # no line on stdout = nothing to do

if [[ $1 == apply ]]; then      # plan comes without this: it must write nothing
  printf '%s\n' "$user" >> "$FILE"
  sync "$FILE"
fi
echo '{"change":{"action":"create","target":"line '"$user"'"}}'   # plan: would be; apply: is done
"#;

const PYTHON: &str = r#"#!/usr/bin/python3
"""NAME: keeps a line for each user in $FILE. The protocol: handlers/PROTOCOL.md. Log to stderr, never to stdout."""
import json
import os
import sys

verb = sys.argv[1]
if verb == "describe":   # no stdin, no secrets: say what you are
    print(json.dumps({"describe": {"reactor": 1, "name": "NAME", "version": "1.0",
                                   "about": "A line for each user in a file", "params": {"user": "name"}}}))
    sys.exit()

user = json.load(sys.stdin)["with"]["user"]   # checked against the type above before you see it
path = os.environ["FILE"]
try:   # Look at the truth. Unknown is not empty: what can't be read is a failure, not "nothing there".
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
except OSError as error:
    print(json.dumps({"error": {"message": str(error), "hint": f"touch {path}"}}))
    sys.exit(75)   # 75: try later; 65: bad data, no use to try again
if user in lines:
    sys.exit()   # no line on stdout = nothing to do
if verb == "apply":   # plan comes without this: it must write nothing
    with open(path, "a", encoding="utf-8") as file:
        file.write(user + "\n")
        file.flush()
        os.fsync(file.fileno())
print(json.dumps({"change": {"action": "create", "target": f"line {user}"}}))   # plan: would be; apply: is done
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_read_as_the_type_that_the_handler_declares() {
        let declared = json!({"reactor": 1, "name": "x",
            "params": {"user": "name", "n": "int", "on": "bool?", "groups": "[name]"}});
        let declared: Describe = serde_json::from_value(declared).unwrap();
        let given = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            with_values(&pairs, Some(&declared)).map(Value::Object)
        };
        let with = given(&[("user", "7"), ("n", "-7"), ("on", "true"), ("groups", r#"["a","b"]"#), ("other", "1")]);
        assert_eq!(with.unwrap(), json!({"user": "7", "n": -7, "on": true, "groups": ["a", "b"], "other": "1"}));
        assert_eq!(given(&[("on", "null")]).unwrap(), json!({"on": null}));
        for wrong in [("n", "x"), ("on", "yes"), ("groups", "a,b")] {
            assert!(given(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_template_is_at_most_thirty_lines() {
        assert!(BASH.lines().count() <= 30 && PYTHON.lines().count() <= 30);
    }
}
