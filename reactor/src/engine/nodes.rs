//! The engine of one of several nodes: what its lease tells it, and its inbox, as a part of each turn.

use jiff::Timestamp;

use super::core::Turn;
use super::lease::{Lease, News};
use super::{Engine, JOURNAL_RETRY_MS};
use crate::journal::nodes::{Slots, TAKEN_ROWS_MAX};
use crate::journal::{Answer, Question};

/// What the loop keeps of the others.
#[derive(Debug)]
pub(super) struct Nodes {
    pub lease: Lease,
    /// There may be more in the inbox than was taken.
    pub has_more: bool,
    /// Once: the first news of the lease was seen.
    pub has_begun: bool,
    /// Nothing waits in any inbox: all that was posted has been taken.
    pub is_dry: bool,
}

impl Nodes {
    pub fn new(lease: Lease) -> Self {
        Self { lease, has_more: false, has_begun: false, is_dry: false }
    }
}

impl Engine {
    /// Gains and loses slots, and takes from the inbox. False if the journal was given up.
    pub(super) async fn share(&mut self, now: Timestamp, turn: &mut Turn) -> bool {
        let Some(nodes) = &mut self.nodes else { return true };
        let news = nodes.lease.news();
        if let Some(why) = news.lost {
            self.broken = Some(format!("{why}\nhint: start it again (systemd does): it takes its share of the lanes"));
            self.given_up = true;
            return false;
        }
        let inbox = if nodes.has_more { Slots::ALL } else { news.inbox };
        self.regroup(now, &news, turn).await.is_some() && self.take_inbox(now, inbox, turn).await.is_some()
    }

    async fn regroup(&mut self, now: Timestamp, news: &News, turn: &mut Turn) -> Option<()> {
        if news.settings || !news.gained.is_empty() {
            let Answer::Settings(settings) = self.ask(Question::Settings(String::new())).await? else {
                return Some(());
            };
            self.core.paused_are(now, &settings, turn);
            if !news.gained.is_empty() {
                let Answer::Stories(stories) = self.ask(Question::PendingOf(news.gained)).await? else {
                    return Some(());
                };
                tracing::info!(slots = news.gained.len(), "gained; {} reactions go on here", stories.len());
                self.core.gain(now, news.gained, stories, &settings, turn);
            }
            if self.drain_until.is_some() {
                self.core.close(news.gained);
            }
        }
        if !news.lose.is_empty() {
            tracing::info!(slots = news.lose.len(), "given to another node when nothing runs in them");
            self.core.close(news.lose);
        }
        if let Some(nodes) = &mut self.nodes {
            // The first beat has told what is ours, or that it is nothing.
            nodes.has_begun |= !news.inbox.is_empty();
        }
        Some(())
    }

    async fn take_inbox(&mut self, now: Timestamp, slots: Slots, turn: &mut Turn) -> Option<()> {
        if let Some(nodes) = &mut self.nodes {
            nodes.has_more = false;
        }
        let slots = slots.both(self.core.serves());
        if slots.is_empty() || self.gauge.is_full() || self.drain_until.is_some() {
            return Some(());
        }
        let Answer::Inbox(handed) = self.ask(Question::Inbox(slots, TAKEN_ROWS_MAX)).await? else { return Some(()) };
        let has_more = handed.len() == TAKEN_ROWS_MAX;
        if let Some(nodes) = &mut self.nodes {
            nodes.has_more = has_more;
        }
        if !handed.is_empty() {
            self.core.take(now, handed, turn);
        }
        Some(())
    }

    /// At the end of a turn that is durable.
    pub(super) async fn shared_turn_ended(&mut self, freed: Slots) {
        let ends = self.ends_with_sources && self.sources == 0 && self.core.only_people_can_go_on();
        let is_dry = ends
            && matches!(self.ask(Question::Inbox(Slots::ALL, 1)).await, Some(Answer::Inbox(rows)) if rows.is_empty());
        if let Some(nodes) = &mut self.nodes {
            nodes.is_dry = is_dry && nodes.has_begun;
            if !freed.is_empty() {
                nodes.lease.freed(freed);
            }
        }
    }

    /// Asks until it is answered; `None` if the journal was given up.
    async fn ask(&mut self, question: Question) -> Option<Answer> {
        loop {
            match self.journal.ask(question.clone()).await {
                Ok(answer) => {
                    self.journal_is_fine();
                    return Some(answer);
                }
                Err(error) if self.gives_up(&error) => return None,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(JOURNAL_RETRY_MS)).await,
            }
        }
    }
}
