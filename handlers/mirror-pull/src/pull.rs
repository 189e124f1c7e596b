//! One part, in two stages: what is new without deleting; then what names it, and deletions.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use handler_api::{Done, Failure};
use jiff::Timestamp;
use serde_json::json;

use crate::config::Config;
use crate::paths::{self, Piece};
use crate::rsync::progress::{Progress, size};
use crate::rsync::{self, Lines, args, exit};
use crate::trace::{self, Marker, Pulled, Upstream};
use crate::{announce, plan};

/// How often one pull begins anew because its upstream changed meanwhile.
pub const PASSES_MAX: u32 = 3;

/// What one pull is about.
#[derive(Debug)]
pub struct Pull<'a> {
    /// The settings.
    pub config: &'a Config,
    /// The part, and what of it.
    pub piece: Piece,
    /// What of it is gone at the upstream, as planned.
    pub gone: BTreeSet<String>,
    /// Deletions that were planned.
    pub deletes: u64,
    /// When the newest message was sent.
    pub sent: Option<Timestamp>,
    /// The serial that was asked for.
    pub serial: Option<i64>,
    /// The clock.
    pub clock: fn() -> Timestamp,
    /// What publishes; `None` = this program.
    pub publisher: Option<PathBuf>,
}

/// How a pass ended.
enum Pass {
    Through(Box<Upstream>),
    UpstreamChanged,
}

impl Pull<'_> {
    /// Pulls. The caller has the part's lock.
    ///
    /// # Errors
    /// What could not be done; the marker stays only if the part may be half new.
    pub async fn run(&self, done: &mut Done) -> Result<(), Failure> {
        let config = self.config;
        let begun = (Instant::now(), (self.clock)());
        crate::check::directory("to", &config.to)?;
        plan::no_links(config, &self.piece)?;
        let mut before = Upstream::look(config).await?;
        before.is_at_rest(config, &self.piece)?;
        let mut marker = Marker::begin(config, &self.piece, begun.1)?;
        let started = announce::body(config, &self.piece, self.serial.or(before.serial(&self.piece.part)), begun.1);
        let mut progress = Progress::default();
        let mut passes = 0;
        loop {
            passes += 1;
            // What is said on the bus must not hold the first stage up.
            let say = async {
                match passes {
                    1 => announce::say(config, self.publisher.as_ref(), "started", &started).await,
                    _ => None,
                }
            };
            let (note, pass) = tokio::join!(say, self.pass(&before, &mut marker, &mut progress, done));
            note.iter().for_each(|note| done.note(note));
            match pass? {
                Pass::Through(seen) => {
                    before = *seen;
                    break;
                }
                Pass::UpstreamChanged if passes < PASSES_MAX => {
                    done.note(&format!("{}: the upstream changed meanwhile, once more", self.shown()));
                    before = Upstream::look(config).await?;
                    before.is_at_rest(config, &self.piece)?;
                }
                Pass::UpstreamChanged => {
                    let message = format!("{}: {} changed during each of {PASSES_MAX} runs", self.shown(), config.from);
                    return Err(Failure::retry(message).hinting("tried again by itself, when it is quieter"));
                }
            }
        }
        let entry = self.remember(&before, &progress, begun)?;
        marker.end()?;
        done.note(&entry);
        let at = (self.clock)();
        let finished = announce::body(config, &self.piece, self.serial.or(before.serial(&self.piece.part)), at);
        let note = announce::say(config, self.publisher.as_ref(), "finished", &finished).await;
        note.iter().for_each(|note| done.note(note));
        Ok(())
    }

    fn shown(&self) -> &str {
        paths::shown(&self.piece.part)
    }

    /// Both stages, once.
    async fn pass(
        &self,
        before: &Upstream,
        marker: &mut Marker,
        progress: &mut Progress,
        done: &mut Done,
    ) -> Result<Pass, Failure> {
        let (config, part) = (self.config, &self.piece.part);
        let seen = before.seen(part);
        let code = self.stage(1, args::stage_one(config, self.deletes), progress, done).await?;
        if code == exit::VANISHED {
            return Ok(Pass::UpstreamChanged);
        }
        let between = Upstream::look(config).await?;
        between.is_at_rest(config, &self.piece)?;
        if between.seen(part) != seen {
            return Ok(Pass::UpstreamChanged);
        }
        marker.half_new()?;
        let code = self.stage(2, args::stage_two(config, self.deletes), progress, done).await?;
        if code == exit::VANISHED {
            return Ok(Pass::UpstreamChanged);
        }
        let after = Upstream::look(config).await?;
        after.is_at_rest(config, &self.piece)?;
        if after.seen(part) != seen {
            return Ok(Pass::UpstreamChanged);
        }
        marker.whole();
        if code == exit::MAX_DELETE {
            return Err(exit::failure(config, &format!("stage 2 of {}", self.shown()), Some(code), ""));
        }
        Ok(Pass::Through(Box::new(after)))
    }

    /// One rsync. Answers with 0, or with an exit code that its caller knows what to do with.
    async fn stage(
        &self,
        number: u8,
        args: Vec<String>,
        progress: &mut Progress,
        done: &mut Done,
    ) -> Result<i32, Failure> {
        let names = args::names(&plan::without(&self.piece, &self.gone).directories);
        let mut lines = Lines::default();
        let mut heard = Progress::default();
        let hear = |some: &[u8]| {
            lines.take(some, |line| {
                if let Some(percent) = heard.hear(line) {
                    done.note(&format!("{}: stage {number}, {percent} %", self.shown()));
                }
            });
        };
        let ran = rsync::run(self.config, args, names, hear).await?;
        progress.files += heard.files;
        progress.bytes += heard.bytes;
        progress.received += heard.received;
        match ran.code {
            Some(0) => Ok(0),
            Some(exit::VANISHED) => Ok(exit::VANISHED),
            Some(exit::MAX_DELETE) if number == 2 => Ok(exit::MAX_DELETE),
            code => Err(exit::failure(self.config, &format!("stage {number} of {}", self.shown()), code, &ran.said)),
        }
    }

    /// Writes the trace and what we remember; answers with the totals.
    fn remember(
        &self,
        seen: &Upstream,
        progress: &Progress,
        (begun, started): (Instant, Timestamp),
    ) -> Result<String, Failure> {
        let part = &self.piece.part;
        let serial = self.serial.or(seen.serial(part));
        let directories: Vec<&String> = self.piece.directories.iter().filter(|name| !name.is_empty()).collect();
        let seconds = begun.elapsed().as_secs();
        let mut entry = json!({
            "started": started.to_string(), "finished": (self.clock)().to_string(), "from": self.config.from,
            "directories": directories, "files": progress.files, "bytes": progress.bytes, "seconds": seconds,
        });
        if let Some(serial) = serial {
            entry["serial"] = serial.into();
        }
        trace::write(self.config, part, entry)?;
        let mut pulled = Pulled::read(self.config, part).unwrap_or_default();
        pulled.add(&self.piece, seen.seen(part), self.sent, self.serial);
        pulled.write(self.config, part)?;
        let (files, bytes, received) = (progress.files, size(progress.bytes), size(progress.received));
        Ok(format!("{}: {files} files of {bytes}, {received} received, {seconds} s", self.shown()))
    }
}
