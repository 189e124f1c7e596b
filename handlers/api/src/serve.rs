//! The main loop of a handler written in Rust: the verbs `describe`, `plan`, `apply`, `doctor` and `serve` over stdin and
//! stdout.
//!
//! It dies with the daemon: at the end of stdin it stops at once, whatever is under way. Then the handler is dropped, so that
//! it can close what it holds open (ssh connections), and the process ends; [`SERVE_CLOSE_SECONDS_MAX`] bounds that. It never
//! writes to stdout itself but for protocol lines; a handler logs on stderr.

use std::collections::HashMap;
use std::future::Future;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncReadExt, BufReader};
use tokio::task::{AbortHandle, JoinSet};

use crate::doctor::Finding;
use crate::limits::{SERVE_AT_ONCE_MAX, SERVE_CLOSE_SECONDS_MAX, STDIN_BYTES_MAX};
use crate::line::{Answer, Line, next_line};
use crate::protocol::{Change, Describe, Failure, Later, Plan, Request, exit};

/// Code that makes one kind of target true.
pub trait Handler: Send + Sync + 'static {
    /// What it is: name, parameters, secrets.
    fn describe(&self) -> Describe;

    /// What would change, and what a person should know of it. Reads the world, never writes it. A `Vec<Change>` is a plan
    /// without notes: `Ok(changes.into())`.
    ///
    /// # Errors
    /// When the truth or the target can't be read: unknown is not empty.
    fn plan(&self, request: &Request) -> impl Future<Output = Result<Plan, Failure>> + Send;

    /// Makes `request.changes` true, reporting each change once it is done. Safe to repeat; may be dropped at any `await`.
    ///
    /// # Errors
    /// What could not be done. [`Failure::Retry`] also says "the world moved since the plan": it is planned again.
    fn apply(&self, request: &Request, done: &mut Done) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether its truth and its target can be reached, and with which rights: what `reactor doctor` tells. Changes nothing.
    /// Only `request.config` is filled in.
    fn doctor(&self, request: &Request) -> impl Future<Output = Vec<Finding>> + Send {
        let _ = request;
        async { Vec::new() }
    }
}

/// Where the lines go; a lock, so that no two lines mix.
type Output = Arc<Mutex<dyn Write + Send>>;

/// Takes what an apply has done.
pub struct Done {
    id: Option<u64>,
    out: Output,
}

impl Done {
    /// One whose lines go to `out`: for a handler's own tests, where no daemon listens.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { id: None, out: Arc::new(Mutex::new(out)) }
    }

    /// Reports one change that is done, at once: what was reported is what the journal knows after a crash.
    pub fn change(&mut self, change: &Change) {
        say(&self.out, self.id, Line::Change(change.clone()));
    }

    /// Says something a person should know that is no change and no failure: one sentence.
    pub fn note(&mut self, note: &str) {
        say(&self.out, self.id, Line::Note(note.to_owned()));
    }

    /// Leaves what could not be done now to a reaction of its own, with a lane of its own: it is made if this apply returns
    /// `Ok`. A reaction that was itself made so may leave the same again only if it did at least one change.
    pub fn later(&mut self, later: Later) {
        say(&self.out, self.id, Line::Later(later));
    }
}

/// A closed stdout means that the daemon is gone; stdin ends too, so nothing is done about it here.
fn say(out: &Output, id: Option<u64>, line: Line) {
    let bytes = Answer { id, line }.to_line();
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = out.write_all(&bytes).and_then(|()| out.flush());
}

/// Runs `handler` as a process: `verb` is the last argument of the command line. Returns the exit code.
pub fn serve<H: Handler>(handler: H, verb: &str) -> i32 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no runtime for the handler: {error}");
            return exit::TRY_LATER;
        }
    };
    let stdin = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(stdin) => tokio::fs::File::from_std(stdin.into()),
        Err(error) => {
            eprintln!("stdin: {error}");
            return exit::TRY_LATER;
        }
    };
    let out: Output = Arc::new(Mutex::new(std::io::stdout()));
    let code = runtime.block_on(serve_on(handler, verb, BufReader::new(stdin), out));
    runtime.shutdown_background();
    code
}

async fn serve_on<H, R>(handler: H, verb: &str, mut input: R, out: Output) -> i32
where
    H: Handler,
    R: AsyncBufRead + Unpin + Send,
{
    match verb {
        "describe" => {
            say(&out, None, Line::Describe(handler.describe()));
            exit::OK
        }
        "plan" | "apply" | "doctor" => match read_one(&mut input).await {
            Ok(request) => answer(&handler, verb, &request, &out).await,
            Err(failure) => fail(&out, None, &failure),
        },
        "serve" => {
            let close = Duration::from_secs(SERVE_CLOSE_SECONDS_MAX);
            serve_many(Arc::new(handler), input, out, close).await
        }
        _ => {
            eprintln!("`{verb}` is not a verb; the verbs are describe, plan, apply, doctor and serve");
            exit::PERMANENT
        }
    }
}

async fn read_one<R: AsyncBufRead + Unpin + Send>(input: &mut R) -> Result<Request, Failure> {
    let mut bytes = Vec::new();
    let limit = STDIN_BYTES_MAX as u64 + 1;
    let read = input.take(limit).read_to_end(&mut bytes).await;
    read.map_err(|error| Failure::retry(format!("the request on stdin: {error}")))?;
    if bytes.len() > STDIN_BYTES_MAX {
        return Err(Failure::permanent(format!("the request on stdin is longer than {STDIN_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| Failure::permanent(format!("the request on stdin: {error}")))
}

fn fail(out: &Output, id: Option<u64>, failure: &Failure) -> i32 {
    say(out, id, Line::from(failure));
    failure.exit_code()
}

/// Does one request; its `id` goes on every line. Returns the exit code.
async fn answer<H: Handler>(handler: &H, verb: &str, request: &Request, out: &Output) -> i32 {
    let result = match verb {
        "plan" => handler.plan(request).await.map(|Plan { changes, notes }| {
            let changes = changes.into_iter().map(Line::Change);
            changes.chain(notes.into_iter().map(Line::Note)).for_each(|line| say(out, request.id, line));
        }),
        "doctor" => {
            handler.doctor(request).await.into_iter().for_each(|finding| say(out, request.id, Line::Finding(finding)));
            Ok(())
        }
        "apply" => handler.apply(request, &mut Done { id: request.id, out: Arc::clone(out) }).await,
        _ => Err(Failure::permanent(format!("`{verb}` is not a verb of a request; they are plan, apply and doctor"))),
    };
    result.map_or_else(|failure| fail(out, request.id, &failure), |()| exit::OK)
}

#[derive(Deserialize)]
struct Cancel {
    cancel: u64,
}

/// Requests under way.
struct Serving<H> {
    handler: Arc<H>,
    out: Output,
    tasks: JoinSet<u64>,
    by_id: HashMap<u64, AbortHandle>,
}

async fn serve_many<H, R>(handler: Arc<H>, mut input: R, out: Output, close: Duration) -> i32
where
    H: Handler,
    R: AsyncBufRead + Unpin + Send,
{
    let mut serving = Serving { handler, out, tasks: JoinSet::new(), by_id: HashMap::new() };
    let mut line = Vec::new();
    loop {
        let code = match next_line(&mut input, &mut line, STDIN_BYTES_MAX).await {
            Ok(true) => {
                serving.take(&line);
                continue;
            }
            Ok(false) => exit::OK,
            Err(error) => {
                eprintln!("stdin: {error}");
                exit::PERMANENT
            }
        };
        serving.close(close).await;
        return code;
    }
}

impl<H: Handler> Serving<H> {
    /// Ends what is under way, then drops the handler. One that blocks a thread meanwhile is not waited for longer than the
    /// limit; the process ends all the same.
    async fn close(self, limit: Duration) {
        let Self { handler, mut tasks, .. } = self;
        let closed = tokio::time::timeout(limit, async {
            tasks.shutdown().await;
            // On a thread of its own: closing may block.
            tokio::task::spawn_blocking(move || drop(handler)).await
        });
        if closed.await.is_err() {
            eprintln!("what was under way did not end within {limit:?}; it is left as it is");
        }
    }

    fn take(&mut self, line: &[u8]) {
        while let Some(Ok(id)) = self.tasks.try_join_next() {
            self.by_id.remove(&id);
        }
        if let Ok(Cancel { cancel }) = serde_json::from_slice(line) {
            if let Some(task) = self.by_id.remove(&cancel) {
                task.abort();
            }
            return;
        }
        match serde_json::from_slice::<Request>(line) {
            Ok(request) => self.start(request),
            Err(error) => eprintln!("a request that can't be read is ignored: {error}"),
        }
    }

    fn start(&mut self, request: Request) {
        let (Some(id), Some(verb)) = (request.id, request.verb.clone()) else {
            eprintln!("a request without `id` or `verb` is ignored");
            return;
        };
        let full = self.by_id.len() >= SERVE_AT_ONCE_MAX;
        let why = if full { "too many requests at once" } else { "cancelled" };
        let ending = Ending { id, code: exit::TRY_LATER, why: Some(why), out: Arc::clone(&self.out) };
        if full {
            return;
        }
        let handler = Arc::clone(&self.handler);
        let task = self.tasks.spawn(async move {
            let mut ending = ending; // The whole of it moves in, so that it is dropped with the task.
            ending.code = answer(&*handler, &verb, &request, &ending.out).await;
            ending.why = None;
            id
        });
        self.by_id.insert(id, task);
    }
}

/// Says `end` in any case, also when the handler panicked or the request was cancelled.
struct Ending {
    id: u64,
    code: i32,
    why: Option<&'static str>,
    out: Output,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(why) = self.why {
            let why = if std::thread::panicking() { "the handler panicked, see its log" } else { why };
            say(&self.out, Some(self.id), Line::from(&Failure::retry(why)));
        }
        say(&self.out, Some(self.id), Line::End { code: self.code });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::protocol::Action;

    /// Plans one change a parameter says; with `hang` it waits for ever; with `panic` it panics.
    struct Toy;

    fn change(target: &str) -> Change {
        serde_json::from_value(json!({"action": Action::Create, "target": target})).unwrap()
    }

    fn later() -> Later {
        Later { key: "host h7".into(), with: Default::default(), why: "h7: refused".into(), target: Some("h7".into()) }
    }

    impl Handler for Toy {
        fn describe(&self) -> Describe {
            serde_json::from_value(json!({"reactor": 1, "name": "toy", "serve": true})).unwrap()
        }

        async fn plan(&self, request: &Request) -> Result<Plan, Failure> {
            match request.key.as_str() {
                "hang" => std::future::pending().await,
                "panic" => panic!("toy"),
                "bad" => Err(Failure::permanent("bad data")),
                "noted" => Ok(Plan { changes: vec![change("noted")], notes: vec!["a note".into()] }),
                key => Ok(vec![change(key)].into()),
            }
        }

        async fn apply(&self, request: &Request, done: &mut Done) -> Result<(), Failure> {
            request.changes.iter().flatten().for_each(|change| done.change(change));
            if request.key == "later" {
                done.note("h7 is down");
                done.later(later());
            }
            Ok(())
        }
    }

    /// Hands every write to a channel.
    struct Lines(mpsc::UnboundedSender<Answer>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(Answer::parse(&bytes[..bytes.len() - 1]).unwrap()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn output() -> (Output, mpsc::UnboundedReceiver<Answer>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Mutex::new(Lines(sender))), receiver)
    }

    fn request(id: Option<u64>, verb: Option<&str>, key: &str) -> Vec<u8> {
        let request = json!({"reactor": 1, "id": id, "verb": verb, "reaction": "r", "rule": "x", "key": key, "attempt": 1,
            "with": {}, "messages": [], "changes": [change("done")]});
        format!("{request}\n").into_bytes()
    }

    #[tokio::test]
    async fn plan_and_apply_answer_one_request_with_an_exit_code() {
        let (out, mut said) = output();
        let input = request(None, None, "k");
        assert_eq!(serve_on(Toy, "plan", &input[..], Arc::clone(&out)).await, exit::OK);
        assert_eq!(said.recv().await.unwrap(), Answer { id: None, line: Line::Change(change("k")) });
        assert_eq!(serve_on(Toy, "apply", &input[..], Arc::clone(&out)).await, exit::OK);
        assert_eq!(said.recv().await.unwrap().line, Line::Change(change("done")));
        assert_eq!(serve_on(Toy, "plan", &request(None, None, "bad")[..], Arc::clone(&out)).await, exit::PERMANENT);
        assert!(matches!(said.recv().await.unwrap().line, Line::Error { .. }));
        assert_eq!(serve_on(Toy, "plan", &b"nonsense"[..], Arc::clone(&out)).await, exit::PERMANENT);
        assert_eq!(serve_on(Toy, "explode", &b""[..], out).await, exit::PERMANENT);
    }

    #[tokio::test]
    async fn notes_and_what_is_left_for_later_are_said_beside_the_changes() {
        let (out, mut said) = output();
        assert_eq!(serve_on(Toy, "plan", &request(None, None, "noted")[..], Arc::clone(&out)).await, exit::OK);
        assert_eq!(said.recv().await.unwrap().line, Line::Change(change("noted")));
        assert_eq!(said.recv().await.unwrap().line, Line::Note("a note".into()));
        assert_eq!(serve_on(Toy, "apply", &request(None, None, "later")[..], out).await, exit::OK);
        assert_eq!(said.recv().await.unwrap().line, Line::Change(change("done")));
        assert_eq!(said.recv().await.unwrap().line, Line::Note("h7 is down".into()));
        assert_eq!(said.recv().await.unwrap().line, Line::Later(later()));
    }

    #[tokio::test]
    async fn a_hanging_request_holds_nobody_up_and_can_be_cancelled() {
        let (out, mut said) = output();
        let (mut to_handler, input) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(serve_on(Toy, "serve", BufReader::new(input), out));
        to_handler.write_all(&request(Some(1), Some("plan"), "hang")).await.unwrap();
        to_handler.write_all(&request(Some(2), Some("plan"), "k")).await.unwrap();
        assert_eq!(said.recv().await.unwrap(), Answer { id: Some(2), line: Line::Change(change("k")) });
        assert_eq!(said.recv().await.unwrap(), Answer { id: Some(2), line: Line::End { code: 0 } });
        to_handler.write_all(b"{\"cancel\":1}\n").await.unwrap();
        assert!(matches!(said.recv().await.unwrap(), Answer { id: Some(1), line: Line::Error { .. } }));
        assert_eq!(said.recv().await.unwrap(), Answer { id: Some(1), line: Line::End { code: 75 } });
        drop(to_handler);
        assert_eq!(serving.await.unwrap(), exit::OK, "the end of stdin ends it");
    }

    /// Takes its time over closing, as one with connections does.
    struct Closing(mpsc::UnboundedSender<&'static str>, Duration);

    impl Drop for Closing {
        fn drop(&mut self) {
            std::thread::sleep(self.1);
            let _ = self.0.send("the handler");
        }
    }

    impl Handler for Closing {
        fn describe(&self) -> Describe {
            Toy.describe()
        }

        async fn plan(&self, _: &Request) -> Result<Plan, Failure> {
            struct Request(mpsc::UnboundedSender<&'static str>);
            impl Drop for Request {
                fn drop(&mut self) {
                    self.0.send("the request").unwrap();
                }
            }
            let _under_way = Request(self.0.clone());
            self.0.send("begun").unwrap();
            std::future::pending().await
        }

        async fn apply(&self, _: &Request, _: &mut Done) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn at_the_end_of_stdin_requests_end_and_the_handler_closes_what_it_holds_before_the_process_ends() {
        let (out, _said) = output();
        let (closed, mut order) = mpsc::unbounded_channel();
        let (mut to_handler, input) = tokio::io::duplex(64 * 1024);
        let serving =
            tokio::spawn(serve_on(Closing(closed, Duration::from_millis(50)), "serve", BufReader::new(input), out));
        to_handler.write_all(&request(Some(1), Some("plan"), "k")).await.unwrap();
        assert_eq!(order.recv().await, Some("begun"));
        drop(to_handler);
        assert_eq!(serving.await.unwrap(), exit::OK);
        assert_eq!((order.try_recv(), order.try_recv()), (Ok("the request"), Ok("the handler")));
    }

    #[tokio::test]
    async fn a_handler_that_does_not_close_in_time_is_not_waited_for() {
        let (out, _said) = output();
        let (closed, mut order) = mpsc::unbounded_channel();
        let slow = Closing(closed, Duration::from_secs(2));
        assert_eq!(serve_many(Arc::new(slow), &b""[..], out, Duration::from_millis(1)).await, exit::OK);
        assert!(order.try_recv().is_err(), "it was not waited for");
    }

    #[tokio::test]
    async fn a_panic_ends_one_request_and_not_the_process() {
        let (out, mut said) = output();
        let (mut to_handler, input) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(serve_on(Toy, "serve", BufReader::new(input), out));
        to_handler.write_all(&request(Some(1), Some("plan"), "panic")).await.unwrap();
        assert!(matches!(said.recv().await.unwrap(), Answer { id: Some(1), line: Line::Error { .. } }));
        assert_eq!(said.recv().await.unwrap(), Answer { id: Some(1), line: Line::End { code: 75 } });
        to_handler.write_all(&request(Some(2), Some("apply"), "k")).await.unwrap();
        assert_eq!(said.recv().await.unwrap().id, Some(2));
        drop(to_handler);
        serving.await.unwrap();
    }
}
