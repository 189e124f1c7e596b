//! The site as data: what `rules.yaml` says, after every check. No IO, no YAML in here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::condition::Condition;
use super::template::{Template, WithTemplate};
use super::topic::Pattern;
use crate::bus::amqp::config::AmqpBus;
use crate::bus::catch_up::CatchUp;
use crate::bus::fedmsg::discovery::Discovery;
use crate::http::HttpConfig;
use crate::journal::place::Postgres;
use crate::trust::webhook::WebhookConfig;
use crate::trust::{TrustConfig, Verifier};

/// Everything a site directory or `rules.yaml` says.
#[derive(Debug, Default)]
pub struct Site {
    /// Where messages come from, by name.
    pub buses: BTreeMap<String, BusConfig>,
    /// What is kept.
    pub journal: JournalConfig,
    /// Where to listen for webhooks and questions, if anywhere.
    pub http: Option<HttpConfig>,
    /// What can be done, by name.
    pub handlers: BTreeMap<String, HandlerConfig>,
    /// Which messages, what reaction.
    pub rules: Vec<Arc<Rule>>,
    /// The rule tests.
    pub tests: Vec<RuleTest>,
}

/// A place in a file, for errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// One bus.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// Its name.
    pub name: Arc<str>,
    /// fedmsg endpoints to subscribe to, as ZeroMQ addresses (`tcp://host:port`).
    pub fedmsg: Vec<String>,
    /// Where to ask for more of them.
    pub discovery: Discovery,
    /// The broker of an AMQP bus; then there are no fedmsg endpoints.
    pub amqp: Option<AmqpBus>,
    /// What is posted to us; then there are no fedmsg endpoints and no broker.
    pub webhook: Option<Arc<WebhookConfig>>,
    /// Prefixes to subscribe to (`topics:`); empty = what the rules need.
    pub topics: Vec<String>,
    /// Who is believed.
    pub trust: TrustConfig,
    /// How to publish on it, if we do.
    pub publish: Option<PublishConfig>,
    /// Most messages received and not yet journaled.
    pub queue_messages_max: usize,
    /// Whether what became of its messages is published, where a rule does not say (`confirm`).
    pub confirm: Confirm,
    /// Whom to ask for what was missed.
    pub catch_up: Option<CatchUp>,
    /// How long it may be connected and silent before that is said; `None`: as long as it likes.
    pub silence: Option<Duration>,
}

impl BusConfig {
    /// Whether messages are taken from it. A queue is read only where the broker is believed: what is read is
    /// acknowledged, so reading only to refuse would throw away what somebody may want later.
    #[must_use]
    pub fn listens(&self) -> bool {
        !self.fedmsg.is_empty()
            || !self.discovery.is_empty()
            || self.amqp.is_some() && self.trust.accept_broker
            || self.webhook.is_some()
    }

    /// What of a webhook is fixed as long as the daemon runs: the path, and the largest body in bytes.
    #[must_use]
    pub fn posted_to(&self) -> Option<(&str, usize)> {
        self.webhook.as_ref().map(|webhook| (webhook.path.as_str(), webhook.body_bytes_max))
    }

    /// What judges its messages.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let verifier = Verifier::open(self.trust.clone());
        match &self.webhook {
            Some(webhook) => verifier.with_webhook(self.name.clone(), webhook.clone()),
            None => verifier,
        }
    }
}

/// How to publish on a fedmsg bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// `tcp://*:PORT` to bind a PUB socket, as fedmsg services do…
    pub bind: Option<String>,
    /// …or the address of a relay's inbound socket to connect to.
    pub connect: Option<String>,
    /// The certificate to sign with (PEM).
    pub cert: Option<PathBuf>,
    /// Its private key (PEM, PKCS#1 or PKCS#8).
    pub key: Option<PathBuf>,
    /// Put before the topics of what reactor says itself, with a dot.
    pub prefix: Option<String>,
}

/// Whether what became of a message is published (`confirm`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    /// It is not.
    #[default]
    No,
    /// On the bus that the message came from.
    There,
    /// On the bus of this name.
    On(String),
}

/// What is kept, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalConfig {
    /// `history: all` keeps every trusted message, not only those a rule wanted.
    pub history_all: bool,
    /// How long finished reactions and their messages are kept (`keep`).
    pub keep: Duration,
    /// Most rows (messages) kept, whatever their age (`messages_max`).
    pub messages_max: u64,
    /// The server that has it (`postgresql`); `None`: a file in the state directory.
    pub server: Option<Postgres>,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { history_all: false, keep: Duration::from_secs(30 * 86_400), messages_max: 1_000_000, server: None }
    }
}

/// One handler of the site.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerConfig {
    /// Its name in this site.
    pub name: Arc<str>,
    /// What runs.
    pub program: Program,
    /// Arguments put before the verb (`args`).
    pub args: Vec<String>,
    /// Environment variables added to the clean environment (`env`).
    pub env: BTreeMap<String, String>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The Unix user to run as, where reactor runs as root (`user`).
    pub user: Option<String>,
    /// Most of its reactions at the same time (`at_once`).
    pub at_once: usize,
    /// The handler's own settings: `config:` of a program, every other word of a built-in one.
    pub config: Map<String, Value>,
    /// Where it stands.
    pub place: Place,
}

impl Site {
    /// The handler that a person means: by its name in this site, or by the name behind `use:` where only one has that.
    ///
    /// # Errors
    /// That there is none, or that there are several, and which names there are.
    pub fn handler(&self, word: &str) -> Result<&HandlerConfig, String> {
        handler_named(self.handlers.values(), word)
    }
}

/// As [`Site::handler`], over any handlers.
///
/// # Errors
/// That there is none, or that there are several, and which names there are.
pub fn handler_named<'a>(
    handlers: impl Iterator<Item = &'a HandlerConfig> + Clone,
    word: &str,
) -> Result<&'a HandlerConfig, String> {
    if let Some(found) = handlers.clone().find(|handler| *handler.name == *word) {
        return Ok(found);
    }
    let names = |handlers: &[&HandlerConfig]| handlers.iter().map(|one| &*one.name).collect::<Vec<_>>().join(", ");
    let used: Vec<_> =
        handlers.clone().filter(|one| matches!(&one.program, Program::BuiltIn(name) if name == word)).collect();
    match used[..] {
        [one] => Ok(one),
        [] => Err(format!(
            "there is no handler `{word}` in the site; its handlers are {}",
            names(&handlers.collect::<Vec<_>>())
        )),
        _ => Err(format!("several handlers use `{word}`: {}; name one of them", names(&used))),
    }
}

/// What runs for a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program (`exec`), an absolute path after loading.
    Exec(PathBuf),
    /// A built-in handler (`use`), run as `reactor handler NAME`.
    BuiltIn(String),
}

/// One secret: a file whose content the handler finds under its name in `REACTOR_SECRETS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Where it comes from.
    pub file: PathBuf,
    /// Whether `plan` may see it too.
    pub in_plan: bool,
}

/// Which messages, and what reaction.
#[derive(Debug)]
pub struct Rule {
    /// A sentence; unique in the site.
    pub name: Arc<str>,
    /// Why the rule is there; printed in every failure.
    pub why: Option<String>,
    /// What it waits for.
    pub on: On,
    /// All must hold (`where`).
    pub where_all: Vec<FieldTest>,
    /// None may hold (`unless`).
    pub unless_any: Vec<FieldTest>,
    /// One CEL expression for the rest.
    pub when: Option<Condition>,
    /// What must not run twice at once; the rule's name where not given.
    pub key: Option<Template>,
    /// Wait for more of the same.
    pub coalesce: Option<Coalesce>,
    /// The handler's name.
    pub handler: Arc<str>,
    /// Its parameters.
    pub with: WithTemplate,
    /// How long one plan or one apply may take.
    pub timeout: Duration,
    /// When to try again.
    pub retry: Retry,
    /// What a plan may do without a person.
    pub guard: GuardLimits,
    /// Plan only, or plan and apply.
    pub mode: Mode,
    /// Whether its outcomes are published; `None`: as the bus of the message says.
    pub confirm: Option<Confirm>,
    /// Where it stands.
    pub place: Place,
}

/// What a rule waits for.
#[derive(Clone, Debug)]
pub enum On {
    /// A message on one of these topics.
    Topics(Vec<Pattern>),
    /// Time: a reconcile.
    Every(Duration),
}

/// `where: {fields: ssh_key}`: a field of the body equals a value, is in the list, or (a list field) holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldTest {
    /// The path into the body, by its dots.
    pub path: Vec<String>,
    /// Any of these.
    pub any_of: Vec<Value>,
    /// Where it stands.
    pub place: Place,
}

/// How long to wait for more of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coalesce {
    /// Start after this long without another one.
    pub quiet: Duration,
    /// Start at the latest this long after the first, so that a steady stream cannot starve it.
    pub at_most: Duration,
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first; 0 = one try only.
    pub times: u32,
    /// Before the second try; doubled each time.
    pub wait: Duration,
    /// Never longer than this.
    pub up_to: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 8, wait: Duration::from_secs(10), up_to: Duration::from_secs(900) }
    }
}

/// What a plan may do without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Most changes.
    pub changes: usize,
    /// Most deletes among them.
    pub deletes: usize,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self { changes: 20, deletes: 5 }
    }
}

/// Plan only, or plan and apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Say what would change; change nothing.
    Plan,
    /// Make it so.
    #[default]
    Apply,
}

/// The names of the built-in handlers (`use: NAME`); [`crate::built_in`] has what they do.
pub const BUILT_IN: &[&str] = &["gitolite", "koji-owners", "mirror-db", "mirror-pull", "ssh-keys"];
/// How long one plan or apply may take where the rules file does not say.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// `at_most` where only `quiet` is given: this many times `quiet`.
pub const AT_MOST_PER_QUIET: u32 = 10;
/// Messages received and not yet journaled, per bus, where the rules file does not say.
pub const QUEUE_MESSAGES_DEFAULT: usize = 10_000;
/// Reactions of one handler at the same time, where the rules file does not say.
pub const AT_ONCE_DEFAULT: usize = 4;

/// One rule test: given these messages, expect exactly these reactions.
#[derive(Clone, Debug)]
pub struct RuleTest {
    /// A sentence.
    pub name: String,
    /// What arrives, in virtual time.
    pub given: Vec<Given>,
    /// Every reaction that starts, no more and no fewer.
    pub expect: Vec<Expect>,
    /// Where it stands.
    pub place: Place,
}

/// What arrives in a rule test.
#[derive(Clone, Debug)]
pub struct Given {
    /// The topic and body, or a message file (an envelope or `{topic, msg}`).
    pub message: GivenMessage,
    /// When the first one arrives, from the start of the test (`at`); absent = with the one before it.
    pub at: Option<Duration>,
    /// How many (`repeat`), each `after` later than the one before.
    pub repeat: u32,
    /// Between two of a `repeat`; else the pause before this one (after the one before it).
    pub after: Duration,
    /// The signer, where rules look at it.
    pub signer: Option<String>,
    /// What the handler would plan, to feed the guard.
    pub plan: Option<PlannedSize>,
    /// Where it stands.
    pub place: Place,
}

/// The message of a [`Given`].
#[derive(Clone, Debug)]
pub enum GivenMessage {
    /// Written in the test.
    Inline {
        /// The topic.
        topic: String,
        /// The body.
        msg: Value,
    },
    /// From a file.
    File(PathBuf),
}

/// The size of a plan, to feed the guard in a test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedSize {
    /// All changes.
    pub changes: usize,
    /// Deletes among them.
    pub deletes: usize,
}

/// One reaction that a rule test expects.
#[derive(Clone, Debug)]
pub struct Expect {
    /// When it starts, in virtual time; absent = whenever.
    pub at: Option<Duration>,
    /// The rule.
    pub rule: String,
    /// The key; absent = any.
    pub key: Option<String>,
    /// The rendered parameters; absent = any. Complete when given.
    pub with: Option<Map<String, Value>>,
    /// How many messages came together; absent = any.
    pub messages: Option<usize>,
    /// Whether the guard holds it (`held: true`).
    pub held: bool,
    /// Whether it fails before the handler runs, as for a missing field (`failed: true`).
    pub failed: bool,
    /// Where it stands.
    pub place: Place,
}
