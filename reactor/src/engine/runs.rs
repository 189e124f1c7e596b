//! One try of one reaction: the handler's plan, or its apply, as a task of its own that reports to the engine.

use std::sync::Arc;

use handler_api::{Change, MessageView, Request, protocol};
use tokio::sync::mpsc;

use super::Input;
use super::core::{Applied, Run};
use super::fence::{Entered, Fence};
use crate::message::Message;
use crate::runner::{Cancel, Runner, Verdict};

/// What a try needs.
pub struct Tools {
    /// Runs handlers.
    pub runner: Arc<Runner>,
    /// Whether handlers may write; `None`: no other node could be in their way.
    pub fence: Option<Arc<Fence>>,
    /// Ends the try.
    pub cancel: Cancel,
    /// Is told how it ended.
    pub engine: mpsc::Sender<Input>,
}

/// Plans in the background; the engine gets `Input::Planned`.
pub fn plan(tools: Tools, run: Run) {
    let Tools { runner, fence, cancel, engine } = tools;
    tokio::spawn(async move {
        let lapses = fence.as_ref().map(|fence| fence.lapses());
        let result = runner.plan(&run.handler, request(&run), run.rule.timeout, cancel).await;
        if result.is_err() && lapses != fence.map(|fence| fence.lapses()) {
            let _ = engine.send(Input::CutOff(Box::new(run))).await;
            return;
        }
        // If the engine is gone the daemon ends, and the journal knows what to do next time.
        let _ = engine.send(Input::Planned(Box::new(run), result)).await;
    });
}

/// Applies in the background; the engine gets `Input::Changed` for each change and then `Input::Applied`.
pub fn apply(tools: Tools, run: Run, plan: Vec<Change>) {
    let Tools { runner, fence, cancel, engine } = tools;
    tokio::spawn(async move {
        let entered = fence.as_ref().map(|fence| fence.enter());
        // Not now: another node could begin with the same at any moment.
        if entered.as_ref().is_some_and(Option::is_none) {
            let _ = engine.send(Input::CutOff(Box::new(run))).await;
            return;
        }
        let entered = entered.flatten();
        // Unbounded, but the runner lets no apply report more than `CHANGES_MAX` changes.
        let (done, mut reported) = mpsc::unbounded_channel();
        let relay = async {
            while let Some(change) = reported.recv().await {
                let _ = engine.send(Input::Changed(run.id.clone(), change)).await;
            }
        };
        let work = async {
            let mut tell = move |change: &Change| drop(done.send(change.clone()));
            runner.apply(&run.handler, request(&run), &plan, run.rule.timeout, cancel, &mut tell).await
        };
        let (applied, ()) = tokio::join!(work, relay);
        if applied.verdict != Verdict::Done && entered.as_ref().is_some_and(Entered::was_cut_off) {
            let _ = engine.send(Input::CutOff(Box::new(run))).await;
            return;
        }
        let result = match applied.verdict {
            Verdict::Done => Ok(applied.warning),
            Verdict::Replan(failure) | Verdict::Failed(failure) => Err(failure),
        };
        let applied = Applied { result, notes: applied.notes, left: applied.left };
        let _ = engine.send(Input::Applied(Box::new(run), applied)).await;
    });
}

/// What the handler is told.
#[must_use]
pub fn request(run: &Run) -> Request {
    Request {
        reactor: protocol::VERSION,
        id: None,
        verb: None,
        reaction: run.id.clone(),
        rule: run.rule.name.to_string(),
        key: run.key.clone(),
        attempt: run.attempt,
        with: run.with.clone(),
        config: run.handler.config.clone(),
        messages: run.messages.iter().map(view).collect(),
        changes: None,
    }
}

fn view(message: &Message) -> MessageView {
    MessageView {
        id: message.id.clone(),
        topic: message.topic.to_string(),
        sent: message.sent.to_string(),
        signer: message.signer.clone(),
        body: message.body.clone(),
    }
}
