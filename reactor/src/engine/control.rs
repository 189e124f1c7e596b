//! What people ask and decide, over a Unix socket in the state directory (mode 0600): one JSON object a line each way.
//!
//! Lists and stories are not asked here: the command line reads those from the journal, daemon or not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::catch_up::heard::AskedFor;
use super::core::{Decided, Reconciling, Turn};
use super::daemon::Health;
use super::{Engine, Input};
use crate::journal::nodes::{Decision, What, slot_of};
use crate::journal::{Answer, Entry, Filter, Question, Story};

/// The socket's name in the state directory.
pub const SOCKET: &str = "control.sock";
/// Longest question, in bytes.
pub const QUESTION_BYTES_MAX: u64 = 64 * 1024;
/// How long the engine may take to answer before the socket answers for it, in seconds.
pub const ANSWER_SECONDS_MAX: u64 = 5;
/// The same while the journal can't be written: then the engine most likely waits for it.
pub const ANSWER_SECONDS_IN_TROUBLE_MAX: u64 = 1;
/// How long one who is connected may take to say what it wants, in seconds.
pub const QUESTION_SECONDS_MAX: u64 = 1;
/// How long one who asks may take for it all, in seconds.
pub const SERVE_SECONDS_MAX: u64 = 15;
/// How many may ask at the same time; more wait.
pub const ASKING_AT_ONCE_MAX: usize = 64;
/// Between two tries to take who asks, in milliseconds.
const ACCEPT_AGAIN_MS: u64 = 1_000;

/// What a person asks or decides.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Asked {
    /// What is running, waiting, held, failed.
    Status,
    /// Let held reactions go on.
    Approve {
        /// Ids, or unique beginnings of them.
        ids: Vec<String>,
    },
    /// Try again: failed ones anew, waiting ones now.
    Retry {
        /// Ids, or unique beginnings of them.
        ids: Vec<String>,
    },
    /// Give up.
    Drop {
        /// Ids, or unique beginnings of them.
        ids: Vec<String>,
    },
    /// Let a rule's reactions wait.
    Pause {
        /// The rule's name.
        rule: String,
    },
    /// End a pause.
    Resume {
        /// The rule's name.
        rule: String,
    },
    /// Read the rules again.
    Reload,
    /// Ask a bus's server for a time.
    Replay(AskedFor),
    /// Make a handler's `every` rules due now.
    Reconcile {
        /// The handler's name in the site, or the name behind `use:`.
        handler: String,
    },
}

/// The answer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answered {
    /// What was done, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
    /// What could not be done, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
    /// To `reconcile`: the reactions that it became.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reconciling>,
    /// To `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// Listens on the state directory's socket. The caller holds the journal's lock, so a socket that is there is a dead one.
///
/// # Errors
/// When the socket can't be made.
pub fn listen(state: &Path, engine: mpsc::Sender<Input>, health: Arc<Health>) -> anyhow::Result<JoinHandle<()>> {
    let path = state.join(SOCKET);
    // If it can't be removed, bind says why.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("{} can't be made", path.display()))?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(ASKING_AT_ONCE_MAX));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (engine, health) = (engine.clone(), health.clone());
                    tokio::spawn(async move {
                        let limit = Duration::from_secs(SERVE_SECONDS_MAX);
                        // Whoever does not say what it wants, or does not read the answer, makes room for others.
                        let _ = tokio::time::timeout(limit, serve(stream, engine, health)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, say: that passes, and people must be able to ask then.
                    tracing::warn!("nobody can be answered now: {error}");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_AGAIN_MS)).await;
                }
            }
        }
    }))
}

async fn serve(stream: UnixStream, engine: mpsc::Sender<Input>, health: Arc<Health>) {
    let by = stream.peer_cred().map_or_else(|_| "somebody".to_owned(), |cred| user_name(cred.uid()));
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(read.take(QUESTION_BYTES_MAX));
    let question = reader.read_until(b'\n', &mut line);
    let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(QUESTION_SECONDS_MAX), question).await else { return };
    let answered = match serde_json::from_slice::<Asked>(&line) {
        Ok(asked) => ask_engine(asked, by, &engine, &health).await,
        Err(error) => wrong(format!("that is not a question: {error}")),
    };
    let mut text = serde_json::to_vec(&answered).unwrap_or_default();
    text.push(b'\n');
    // Whoever asked may have hung up.
    let _ = write.write_all(&text).await;
}

async fn ask_engine(asked: Asked, by: String, engine: &mpsc::Sender<Input>, health: &Health) -> Answered {
    let (reply, answer) = oneshot::channel();
    let question = async {
        engine.send(Input::Control(asked, by, reply)).await.ok()?;
        answer.await.ok()
    };
    let in_trouble = health.journal_said().is_some();
    let seconds = if in_trouble { ANSWER_SECONDS_IN_TROUBLE_MAX } else { ANSWER_SECONDS_MAX };
    match tokio::time::timeout(Duration::from_secs(seconds), question).await {
        Ok(Some(answered)) => answered,
        Ok(None) => wrong("the daemon is stopping".to_owned()),
        Err(_) => wrong(health.journal_said().map_or_else(
            || format!("the daemon did not answer within {ANSWER_SECONDS_MAX} s"),
            |trouble| {
                format!("{trouble}\nnothing is acknowledged and nothing is started until the journal can be written")
            },
        )),
    }
}

fn wrong(what: String) -> Answered {
    Answered { wrong: vec![what], ..Answered::default() }
}

/// The user's name by /etc/passwd; the number where it has none.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let fits = |line: &&str| line.split(':').nth(2).is_some_and(|field| field == uid.to_string());
    let name = passwd.lines().find(fits).and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("uid {uid}"), str::to_owned)
}

/// Asks the daemon of a state directory.
///
/// # Errors
/// When no daemon answers there.
pub async fn ask(state: &Path, asked: &Asked) -> anyhow::Result<Answered> {
    let path: PathBuf = state.join(SOCKET);
    let stream = UnixStream::connect(&path).await.map_err(|error| {
        anyhow::anyhow!(
            "no daemon answers at {} ({error})\nhint: start it with `reactor run`, or name its state directory: --state DIR (/var/lib/reactor under systemd)",
            path.display()
        )
    })?;
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_vec(asked)?;
    text.push(b'\n');
    write.write_all(&text).await?;
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await?;
    serde_json::from_str(&line).with_context(|| format!("the daemon at {} gave no answer", path.display()))
}

impl Engine {
    pub(super) async fn answer(&mut self, now: Timestamp, asked: Asked, by: &str, turn: &mut Turn) -> Answered {
        let decided: Vec<Decided> = match asked {
            Asked::Status => return Answered { status: Some(self.status(now)), ..Answered::default() },
            Asked::Approve { ids } => {
                self.each(
                    (ids, Decision::Approve, by),
                    |core, found, turn| match found {
                        Found::Pending(id) => core.approve(now, &id, by, turn),
                        Found::Over(story) => {
                            Err(format!("{} is {}, not held", story.reaction.id, story.reaction.state.word()))
                        }
                    },
                    turn,
                )
                .await
            }
            Asked::Retry { ids } => {
                self.each(
                    (ids, Decision::Retry, by),
                    |core, found, turn| match found {
                        Found::Pending(id) => core.hurry(now, &id, by, turn),
                        Found::Over(story) => core.bring_back(now, *story, by, turn),
                    },
                    turn,
                )
                .await
            }
            Asked::Drop { ids } => {
                self.each(
                    (ids, Decision::Drop, by),
                    |core, found, turn| match found {
                        Found::Pending(id) => core.give_up(now, &id, by, turn),
                        Found::Over(story) => core.give_up_failed(now, story.reaction, by, turn),
                    },
                    turn,
                )
                .await
            }
            Asked::Pause { rule } => vec![self.core.pause(now, &rule, turn)],
            Asked::Resume { rule } => vec![self.core.resume(&rule, turn)],
            Asked::Reload => vec![self.reload()],
            Asked::Replay(asked) => return self.daemon.replay(&asked),
            Asked::Reconcile { handler } => {
                return match self.core.reconcile_now(now, &handler, by, turn) {
                    Ok(reactions) => Answered { reactions, ..Answered::default() },
                    Err(why) => wrong(why),
                };
            }
        };
        let mut answered = Answered::default();
        for one in decided {
            match one {
                Ok(said) => answered.said.push(said),
                Err(wrong) => answered.wrong.push(wrong),
            }
        }
        answered
    }

    async fn each(
        &mut self,
        (ids, decision, by): (Vec<String>, Decision, &str),
        decide: impl Fn(&mut super::core::Core, Found, &mut Turn) -> Decided,
        turn: &mut Turn,
    ) -> Vec<Decided> {
        let mut decided = Vec::new();
        for id in ids {
            decided.push(match self.find(&id).await {
                Ok(Found::Over(story)) if self.core.elsewhere(&story.reaction.key).is_some() => {
                    Ok(pass_on(&story, decision, by, turn))
                }
                Ok(found) => decide(&mut self.core, found, turn),
                Err(wrong) => Err(wrong),
            });
        }
        decided
    }

    /// By its id or the beginning of it: first what is pending, then what the journal knows.
    async fn find(&self, id: &str) -> Result<Found, String> {
        if let Some(id) = self.core.find(id)? {
            return Ok(Found::Pending(id));
        }
        let filter = Filter { id_prefix: Some(id.to_owned()), at_most: 2, ..Filter::default() };
        let Ok(Answer::Stories(mut stories)) = self.journal.ask(Question::Stories(filter)).await else {
            return Err("the journal can't be read now".to_owned());
        };
        match (stories.pop(), stories.pop()) {
            (Some(story), None) => Ok(Found::Over(Box::new(story))),
            (Some(_), Some(_)) => Err(format!("several reactions begin with {id}; type more of the id")),
            (None, _) => Err(format!("no reaction begins with {id}; `reactor list` shows them")),
        }
    }

    /// What only the running daemon knows; what is in the journal the command line counts itself.
    fn status(&self, now: Timestamp) -> Value {
        let parts = &self.daemon;
        let from = parts.from.iter().map(|counters| ("--from".to_owned(), counters.as_ref(), Vec::new()));
        let buses = parts.buses.iter().map(|bus| (bus.name().to_owned(), bus.counters(), bus.problems(now)));
        let mut buses: Vec<Value> =
            buses.chain(from).map(|(name, counters, problems)| bus_status(&name, counters, &problems)).collect();
        for (told, bus) in buses.iter_mut().zip(&parts.buses) {
            told["catch_up"] = bus.heard.status();
        }
        let queued: u64 = buses.iter().filter_map(|bus| bus["queued"].as_u64()).sum();
        let held: Vec<Value> = self.core.held().into_iter().map(|(row, behind)| {
            json!({"id": row.id, "rule": row.rule, "key": row.key, "reason": row.reason, "behind": behind})
        }).collect();
        json!({
            "started": parts.started, "reloaded": parts.reloaded, "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"), "rules": self.core.rules.all().len(),
            "running": self.core.lanes.running(), "waiting": self.core.lanes.waiting(), "held": held,
            "paused": self.core.paused(),
            "lost_if_killed_now": queued + self.gauge.in_hand.load(Ordering::Relaxed),
            "intake_waits": self.gauge.stops_intake(), "buses": buses,
            "refused": parts.health.refused.load(Ordering::Relaxed),
            "plan_sandbox": self.runner.sandbox(), "confirms": self.outbox.status(), "node": self.nodes.as_ref().map(|nodes| &nodes.lease.node),
        })
    }
}

fn bus_status(name: &str, counters: &crate::bus::Counters, problems: &[String]) -> Value {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "name": name, "received": of(&counters.received), "unwanted": of(&counters.unwanted),
        "malformed": of(&counters.malformed), "queued": of(&counters.queued), "stalls": of(&counters.stalls),
        "stalled_ms": of(&counters.stalled_ms), "connects": of(&counters.connects),
        "disconnects": of(&counters.disconnects), "silences": of(&counters.silences),
        "silent_s": of(&counters.silent_s), "problems": problems,
        "addresses": counters.addresses(),
    })
}

/// The lane of this reaction is another node's: that one decides.
fn pass_on(story: &Story, decision: Decision, by: &str, turn: &mut Turn) -> String {
    let (id, slot) = (story.reaction.id.clone(), slot_of(&story.reaction.key));
    let said = format!("{id} is in a lane of another node, which was told; see what comes of it: reactor show {id}");
    turn.entries.push(Entry::Hand(slot, What::Decided { decision, id, by: by.to_owned() }));
    said
}

enum Found {
    Pending(String),
    Over(Box<Story>),
}
