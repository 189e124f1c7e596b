//! What the demo needs behind the scenes: a bus, two signers (an honest one and a stranger), the daemon as a child process,
//! and a look into its journal.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{PREFIX, body, site, step};
use crate::bus::publish::Publisher;
use crate::cli::now;
use crate::engine::control::{Asked, ask};
use crate::journal::sqlite::SqliteJournal;
use crate::journal::{Answer, Filter, Journal, Question, ReactionRow};
use crate::trust::demo_pki::demo_pki;
use crate::trust::sign::{Outgoing, Signer, unsigned_envelope};

/// How often the journal is looked at, in milliseconds.
const LOOK_MS: u64 = 50;

/// The stage; dropping it ends the daemon.
pub struct Stage {
    dir: PathBuf,
    publisher: Publisher,
    address: String,
    signer: Signer,
    stranger: Signer,
    sent: u64,
    daemon: Option<Child>,
    talkative: bool,
}

impl Stage {
    /// Writes the site, opens the bus, starts the daemon and waits until it listens.
    pub fn set(dir: &Path, talkative: bool) -> anyhow::Result<Self> {
        let pki = demo_pki(now()).map_err(anyhow::Error::msg)?;
        let other = demo_pki(now()).map_err(anyhow::Error::msg)?;
        let publisher = Publisher::bind("tcp://127.0.0.1:*")?;
        let address = publisher.address().to_owned();
        site::write(dir, &address, &pki)?;
        let signer = |pki: &crate::trust::demo_pki::DemoPki| {
            Signer::from_pem(pki.cert_pem.as_bytes(), pki.key_pem.as_bytes()).map_err(anyhow::Error::msg)
        };
        let mut stage = Self {
            dir: dir.to_owned(),
            publisher,
            address,
            signer: signer(&pki)?,
            stranger: signer(&other)?,
            sent: 0,
            daemon: None,
            talkative,
        };
        stage.start()?;
        Ok(stage)
    }

    /// Starts the daemon, and waits until it has subscribed.
    #[allow(clippy::disallowed_methods, reason = "starts reactor itself, not a handler")]
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log: Stdio = if self.talkative {
            Stdio::inherit()
        } else {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("daemon.log"))?;
            log.into()
        };
        let daemon = Command::new(std::env::current_exe()?)
            .args(["run", "rules.yaml", "--state", "state"])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context("reactor run can't be started")?;
        self.daemon = Some(daemon);
        if !self.publisher.wait_for_subscriber(step())? {
            bail!("the daemon does not listen; its log is {}", self.dir.join("daemon.log").display());
        }
        Ok(())
    }

    /// Publishes a signed message.
    pub fn say(&mut self, topic: &str, msg: Value) -> anyhow::Result<()> {
        let topic = format!("{PREFIX}.{topic}");
        let wire = self.envelope(&topic, &body(msg)?, |stage, message| stage.signer.envelope(message))?;
        self.publisher.publish(&topic, &wire)?;
        Ok(())
    }

    fn envelope(
        &mut self,
        topic: &str,
        msg: &Value,
        sign: impl Fn(&Self, &Outgoing<'_>) -> Result<Vec<u8>, String>,
    ) -> anyhow::Result<Vec<u8>> {
        self.sent += 1;
        let at = now();
        let msg_id = format!("{}-demo-{}", at.strftime("%Y"), self.sent);
        let message =
            Outgoing { topic, msg, i: self.sent, msg_id: &msg_id, timestamp_s: at.as_second(), username: "demo" };
        sign(self, &message).map_err(anyhow::Error::msg)
    }

    /// Publishes four messages that must not be believed: changed after signing, signed by a stranger, unsigned, and on a
    /// topic that the policy does not list.
    pub fn lie(&mut self) -> anyhow::Result<()> {
        let before = self.sent;
        let topic = format!("{PREFIX}.fas.user.update");
        let msg = json!({"agent": "eve", "user": "ralph", "fields": ["email"]});
        let signed = self.envelope(&topic, &msg, |stage, message| stage.signer.envelope(message))?;
        let changed = String::from_utf8(signed)?.replace("\"user\":\"ralph\"", "\"user\":\"toshio\"");
        self.publisher.publish(&topic, changed.as_bytes())?;
        let stranger = self.envelope(&topic, &msg, |stage, message| stage.stranger.envelope(message))?;
        self.publisher.publish(&topic, &stranger)?;
        let unsigned = self.envelope(&topic, &msg, |_, message| Ok(unsigned_envelope(message)))?;
        self.publisher.publish(&topic, &unsigned)?;
        // A signed message under another topic than the one it was signed for.
        let moved = self.envelope(&format!("{PREFIX}.fas.group.member.sponsor"), &msg, |stage, message| {
            stage.signer.envelope(message)
        })?;
        self.publisher.publish(&topic, &moved)?;
        self.sent = before;
        Ok(())
    }

    /// All reactions, the newest first.
    pub fn rows(&self) -> anyhow::Result<Vec<ReactionRow>> {
        match SqliteJournal::open_read_only(&self.state())?.ask(&Question::List(Filter::default()))? {
            Answer::Reactions(rows) => Ok(rows),
            _ => Ok(Vec::new()),
        }
    }

    /// Waits until the reactions are as they should be.
    pub fn until(&self, what: &str, right: impl Fn(&[ReactionRow]) -> bool) -> anyhow::Result<()> {
        self.wait(what, || Ok(right(&self.rows()?).then_some(())))
    }

    /// Waits until there is such a reaction.
    pub fn until_row(&self, what: &str, right: impl Fn(&ReactionRow) -> bool) -> anyhow::Result<ReactionRow> {
        self.wait(what, || Ok(self.rows()?.into_iter().find(|row| right(row))))
    }

    /// Waits until so many messages were refused: reason and topic of each, the oldest first.
    pub fn until_refused(&self, n: usize) -> anyhow::Result<Vec<(String, String)>> {
        self.wait("the refusals", || {
            let Answer::Refused(rows) = SqliteJournal::open_read_only(&self.state())?.ask(&Question::Refused(100))?
            else {
                return Ok(None);
            };
            let mut rows: Vec<_> = rows.into_iter().map(|row| (row.reason, row.topic)).collect();
            rows.reverse();
            Ok((rows.len() >= n).then_some(rows))
        })
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
        let until = Instant::now() + step();
        while Instant::now() < until {
            // The journal is made by the daemon, so at first it may not be there.
            if let Ok(Some(found)) = look() {
                return Ok(found);
            }
            std::thread::sleep(std::time::Duration::from_millis(LOOK_MS));
        }
        bail!("{what} did not come; the daemon's log is {}", self.dir.join("daemon.log").display())
    }

    /// Asks the daemon.
    pub fn ask(&self, asked: &Asked) -> anyhow::Result<Vec<String>> {
        let answered = crate::cli::runtime()?.block_on(ask(&self.state(), asked))?;
        if let Some(wrong) = answered.wrong.first() {
            bail!("{wrong}");
        }
        Ok(answered.said)
    }

    /// `kill -9`: no warning, no last word.
    pub fn kill_9(&mut self) -> anyhow::Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            daemon.wait()?;
            // Else the one that starts next could seem to listen already.
            self.publisher.wait_for_nobody(step())?;
        }
        Ok(())
    }

    /// Waits until the daemon ends: Ctrl-C reaches it as well as us.
    pub fn wait_for_the_end(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // However it ended, it has ended.
            let _ = daemon.wait();
        }
    }

    /// Asks the daemon to end, and waits for it.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let Some(mut daemon) = self.daemon.take() else { return Ok(()) };
        if let Some(pid) = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        daemon.wait()?;
        Ok(())
    }

    /// The bus.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Signed messages so far.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Where all of it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // An error on the way here is told; the daemon must not stay behind because of it.
        let _ = self.kill_9();
    }
}
