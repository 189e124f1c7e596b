//! One try of one reaction: the handler's plan, or its apply, as a task of its own that reports to the engine.

use std::sync::Arc;

use handler_api::{Change, MessageView, Request, protocol};
use tokio::sync::mpsc;

use super::core::Run;
use super::Input;
use crate::message::Message;
use crate::runner::Runner;

/// Plans in the background; the engine gets `Input::Planned`.
pub fn plan(runner: Arc<Runner>, run: Run, engine: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let result = runner.plan(&run.handler, request(&run), run.rule.timeout).await;
        // If the engine is gone the daemon ends, and the journal knows what to do next time.
        let _ = engine.send(Input::Planned(Box::new(run), result)).await;
    });
}

/// Applies in the background; the engine gets `Input::Changed` for each change and then `Input::Applied`.
pub fn apply(runner: Arc<Runner>, run: Run, plan: Vec<Change>, engine: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        let (done, mut reported) = mpsc::channel(1);
        let relay = {
            let (engine, id) = (engine.clone(), run.id.clone());
            async move {
                while let Some(change) = reported.recv().await {
                    let _ = engine.send(Input::Changed(id.clone(), change)).await;
                }
            }
        };
        let work = runner.apply(&run.handler, request(&run), &plan, run.rule.timeout, done);
        let (result, ()) = tokio::join!(work, relay);
        let _ = engine.send(Input::Applied(Box::new(run), result)).await;
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
