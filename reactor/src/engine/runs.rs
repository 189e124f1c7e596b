//! One try of one reaction: the handler's plan, or its apply, as a task of its own that reports to the engine.

use std::sync::Arc;

use handler_api::{Change, MessageView, Request, protocol};
use tokio::sync::mpsc;

use super::Input;
use super::core::{Applied, Run};
use crate::message::Message;
use crate::runner::{Cancel, Runner, Verdict};

/// Plans in the background; the engine gets `Input::Planned`.
pub fn plan(runner: Arc<Runner>, run: Run, cancel: Cancel, engine: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let result = runner.plan(&run.handler, request(&run), run.rule.timeout, cancel).await;
        // If the engine is gone the daemon ends, and the journal knows what to do next time.
        let _ = engine.send(Input::Planned(Box::new(run), result)).await;
    });
}

/// Applies in the background; the engine gets `Input::Changed` for each change and then `Input::Applied`.
pub fn apply(runner: Arc<Runner>, run: Run, plan: Vec<Change>, cancel: Cancel, engine: mpsc::Sender<Input>) {
    tokio::spawn(async move {
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
