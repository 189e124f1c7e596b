//! `mirror.pull.started` and `mirror.pull.finished`, by which those that pull from this mirror hold and pull.

use std::path::PathBuf;
use std::time::Duration;

use accounts::program::{Run, run};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::{Announce, Config};
use crate::paths::Piece;

/// How often it is tried.
pub const TRIES_MAX: u32 = 3;
/// How long one try waits for somebody who listens.
const WAIT: &str = "5s";
/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Most that the program may print, in bytes.
const STDOUT_BYTES_MAX: usize = 64 * 1024;

/// Publishes, where the site wants it. Never a failure: what could not be said is a sentence for people.
pub async fn say(config: &Config, program: Option<&PathBuf>, what: &str, body: &Value) -> Option<String> {
    let announce = config.announce.as_ref()?;
    let topic = format!("{}.mirror.pull.{what}", announce.topics);
    let mut why = String::new();
    for _ in 0..TRIES_MAX {
        match publish(announce, program, &topic, body).await {
            Ok(()) => return None,
            Err(text) => why = text,
        }
    }
    Some(format!("{topic} could not be published, {TRIES_MAX} times: {why}"))
}

/// What both say. Without directories it is everything.
#[must_use]
pub fn body(config: &Config, piece: &Piece, serial: Option<i64>, at: Timestamp) -> Value {
    let directories: Vec<&String> = piece.directories.iter().filter(|directory| !directory.is_empty()).collect();
    let mut body = json!({"mirror": config.name, "from": config.from, "at": at.to_string()});
    if !directories.is_empty() {
        body["directories"] = json!(directories);
    }
    if let Some(serial) = serial {
        body["serial"] = serial.into();
    }
    body
}

async fn publish(announce: &Announce, program: Option<&PathBuf>, topic: &str, body: &Value) -> Result<(), String> {
    let program = match program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|error| error.to_string())?,
    };
    let secrets = std::env::var_os("REACTOR_SECRETS").unwrap_or_default();
    let key = PathBuf::from(secrets).join(&announce.key);
    let cert = announce.cert.display().to_string();
    let key = key.display().to_string();
    let args =
        ["publish", "--connect", &announce.connect, "--cert", &cert, "--key", &key, "--listener", WAIT, topic, "-"];
    let run_it = Run {
        program: program.display().to_string(),
        args: args.map(str::to_owned).to_vec(),
        env: Vec::new(),
        stdin: body.to_string().into_bytes(),
        stdout_bytes_max: STDOUT_BYTES_MAX,
        timeout: TIMEOUT,
    };
    match run(run_it).await {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => Err(format!("{}: {}", ended.status, ended.stderr)),
        Err(trouble) => Err(format!("it {trouble}")),
    }
}
