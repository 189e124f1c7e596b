//! Joins the parts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use handler_api::{Action, Change, Describe, Done, Failure, Handler, Plan, Request};
use jiff::Timestamp;
use serde_json::Value;

use crate::config::Config;
use crate::hold::{self, Gate, Hold, Lock, Said};
use crate::paths::{self, Piece};
use crate::plan::{self, change, mark};
use crate::pull::Pull;
use crate::trace::{Marker, Pulled, Upstream};

/// The handler. It keeps nothing in mind: what it must know lies in its state directory.
#[derive(Debug)]
pub struct MirrorPull {
    clock: fn() -> Timestamp,
    /// What publishes; `None` = this program.
    publisher: Option<PathBuf>,
}

impl Default for MirrorPull {
    fn default() -> Self {
        Self { clock, publisher: None }
    }
}

#[allow(clippy::disallowed_methods, reason = "an edge: how old a hold is depends on the time of day")]
fn clock() -> Timestamp {
    Timestamp::now()
}

/// What a request is about.
struct Asked {
    config: Config,
    messages: Vec<Said>,
    pieces: Vec<Piece>,
    notes: Vec<String>,
    serial: Option<i64>,
    hold: bool,
}

impl Asked {
    fn read(request: &Request) -> Result<Self, Failure> {
        let config = Config::read(&request.config)?;
        let messages = hold::believed(&config, &request.messages)?;
        let hold = match request.with.get("do").and_then(Value::as_str) {
            None | Some("pull") => false,
            Some("hold") => true,
            Some(other) => {
                let message = format!("mirror-pull: `do` is neither pull nor hold: {other}");
                return Err(Failure::permanent(message).hinting("write do: pull, or do: hold"));
            }
        };
        let (pieces, notes) = paths::scope(&config.parts, request.with.get("directories"))?;
        let serial = request.with.get("serial").and_then(Value::as_i64);
        Ok(Self { config, messages, pieces, notes, serial, hold })
    }

    fn newest(&self) -> Option<&Said> {
        self.messages.iter().max_by_key(|message| message.sent)
    }

    /// The newest that asks to hold; with none that does, a person asked.
    fn held_by(&self) -> Option<&Said> {
        self.newest()
    }
}

impl MirrorPull {
    /// Asks nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a hold would change: nothing where a newer one is in force, or where the update that it speaks of is over.
    fn plan_hold(&self, asked: &Asked) -> Result<Plan, Failure> {
        let mut plan = Plan { changes: Vec::new(), notes: asked.notes.clone() };
        for piece in &asked.pieces {
            let new = Hold::new(&asked.config, asked.held_by(), asked.serial, (self.clock)());
            let old = hold::held(&asked.config, &piece.part)?;
            let over = Pulled::read(&asked.config, &piece.part)?.is_over(new.sent, asked.serial);
            let known =
                old.as_ref().is_some_and(|old| !new.is_after(old.sent, old.serial) || asked.held_by().is_none());
            if over {
                let text =
                    format!("{}: what this holds for is over already, it is not held", paths::shown(&piece.part));
                plan.notes.push(text);
            }
            if over || known {
                continue;
            }
            let action = if old.is_some() { Action::Update } else { Action::Create };
            let mut change = change(action, format!("hold {}", paths::shown(&piece.part)), mark(&piece.part));
            change.before = old.map(|old| old.shown().into());
            change.after = Some(new.shown().into());
            plan.changes.push(change);
        }
        Ok(plan)
    }

    async fn plan_pull(&self, asked: &Asked) -> Result<Plan, Failure> {
        let config = &asked.config;
        crate::check::directory("to", &config.to)?;
        let mut plan = Plan { changes: Vec::new(), notes: asked.notes.clone() };
        let mut free = Vec::new();
        for piece in &asked.pieces {
            let shown = paths::shown(&piece.part);
            match hold::gate(config, &piece.part, &asked.messages, asked.serial, (self.clock)())? {
                Gate::Free => {}
                Gate::Released(hold) => plan.changes.push(released(&piece.part, &hold)),
                Gate::Lapsed(hold) => {
                    plan.notes.push(format!(
                        "{shown}: the hold lapsed ({}, and nobody ended it): pulled all the same",
                        hold.shown()
                    ));
                    plan.changes.push(released(&piece.part, &hold));
                }
                Gate::Held(hold) => {
                    plan.notes.push(format!("{shown}: {}: not pulled", hold.shown()));
                    continue;
                }
            }
            Lock::is_free(config, &piece.part)?;
            free.push(Marker::and_left_over(config, piece.clone()));
        }
        if free.is_empty() {
            return Ok(plan);
        }
        let upstream = Upstream::look(config).await?;
        for piece in &free {
            upstream.is_at_rest(config, piece)?;
        }
        let sent = asked.newest().map(|message| message.sent);
        for piece in &free {
            let stale = Marker::is_there(config, &piece.part);
            let seen = upstream.seen(&piece.part);
            let pulled = Pulled::read(config, &piece.part)?;
            if !stale && pulled.is_current(piece, &seen, sent, asked.serial) {
                continue;
            }
            let difference = plan::difference(config, piece).await?;
            if !difference.changes.is_empty() {
                plan.notes.push(plan::to_come(&piece.part, &difference));
            }
            plan.changes.extend(difference.changes);
            if stale {
                let target = format!("marker of {} that a pull left behind", paths::shown(&piece.part));
                let mut more = mark(&piece.part);
                more.insert("marker".into(), true.into());
                plan.changes.push(change(Action::Run, target, more));
            }
        }
        Ok(plan)
    }

    async fn apply_pull(&self, asked: &Asked, changes: &[Change], done: &mut Done) -> Result<(), Failure> {
        let config = &asked.config;
        let mut parts: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
        for change in changes {
            parts.entry(change.more.get("in").and_then(Value::as_str).unwrap_or_default()).or_default().push(change);
        }
        if let Some(part) = parts.keys().find(|part| !asked.pieces.iter().any(|piece| piece.part == **part)) {
            return Err(Failure::retry(format!("part {part} is no longer what is asked for: planned again")));
        }
        for piece in &asked.pieces {
            let part = piece.part.as_str();
            let Some(changes) = parts.remove(part) else { continue };
            let _lock = Lock::take(config, part)?;
            match hold::gate(config, part, &asked.messages, asked.serial, (self.clock)())? {
                Gate::Free => {}
                Gate::Released(hold) | Gate::Lapsed(hold) => hold::release(config, part, &hold)?,
                Gate::Held(hold) => {
                    return Err(Failure::retry(format!("{} is held meanwhile: {}", paths::shown(part), hold.shown())));
                }
            }
            self.remember_release(asked, part)?;
            let (released, files): (Vec<&Change>, Vec<&Change>) =
                changes.into_iter().partition(|change| change.more.contains_key("released"));
            released.iter().for_each(|change| done.change(change));
            if files.is_empty() {
                continue;
            }
            self.pull(asked, piece, &files).run(done).await?;
            files.iter().for_each(|change| done.change(change));
        }
        Ok(())
    }

    /// A hold that comes late, from before this message, must not hold any more.
    fn remember_release(&self, asked: &Asked, part: &str) -> Result<(), Failure> {
        let over = asked.messages.iter().filter(|message| message.over).map(|message| message.sent).max();
        if over.is_none() {
            return Ok(());
        }
        let mut pulled = Pulled::read(&asked.config, part)?;
        pulled.released = pulled.released.max(over);
        pulled.released_serial = pulled.released_serial.max(asked.serial);
        pulled.write(&asked.config, part)
    }

    fn pull<'a>(&self, asked: &'a Asked, piece: &Piece, changes: &[&Change]) -> Pull<'a> {
        let deletes = changes.iter().filter(|change| change.action == Action::Delete);
        let gone = changes.iter().filter_map(|change| change.more.get("gone")?.as_array()).flatten();
        let gone: BTreeSet<String> =
            gone.filter_map(Value::as_str).filter_map(|path| paths::clean(path).ok()).collect();
        Pull {
            config: &asked.config,
            piece: Marker::and_left_over(&asked.config, piece.clone()),
            gone,
            deletes: deletes.map(|change| change.count.unwrap_or(1)).sum(),
            sent: asked.newest().map(|message| message.sent),
            serial: asked.serial,
            clock: self.clock,
            publisher: self.publisher.clone(),
        }
    }
}

fn released(part: &str, hold: &Hold) -> Change {
    let mut more = mark(part);
    more.insert("released".into(), hold.sent.to_string().into());
    let mut change = change(Action::Run, format!("release {}", paths::shown(part)), more);
    change.before = Some(hold.shown().into());
    change
}

impl Handler for MirrorPull {
    fn describe(&self) -> Describe {
        let params = [("do", "name?"), ("directories", "[path]?"), ("serial", "int?")];
        let about =
            "Holds while the upstream changes, and pulls what changed when it is done; without parameters everything";
        Describe::served("mirror-pull", env!("CARGO_PKG_VERSION"), about, &params)
    }

    async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
        let asked = Asked::read(request)?;
        if asked.hold { self.plan_hold(&asked) } else { self.plan_pull(&asked).await }
    }

    async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
        let asked = Asked::read(request)?;
        let changes = request.changes.as_deref().unwrap_or_default();
        if !asked.hold {
            return self.apply_pull(&asked, changes, done).await;
        }
        for change in changes {
            let part = change.more.get("in").and_then(Value::as_str).unwrap_or_default();
            let new = Hold::new(&asked.config, asked.held_by(), asked.serial, (self.clock)());
            hold::set(&asked.config, part, &new)?;
            done.change(change);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "handler_tests.rs"]
mod tests;
