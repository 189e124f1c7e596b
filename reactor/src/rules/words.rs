//! Every word of a site's file, once: what may stand where, what it means, what it takes. The reader takes its checks
//! and its "did you mean" from here, `reactor schema` its JSON Schema, so the two cannot disagree.

mod amqp;
mod catch_up;
mod fedmsg;
mod http;
mod journal;

pub use amqp::{AMQP, BINDING, EXCHANGE, QOS, QUEUE, TLS};
pub use catch_up::{CATCH_UP, TOKEN};
pub use fedmsg::{DNS, FEDMSG};
pub use http::{HISTORY, HTTP, SECRETS, WEBHOOK};
pub use journal::{JOURNAL, PASSWORD, POSTGRESQL};

/// A word and what it takes.
#[derive(Debug)]
pub struct Word {
    /// As it is written.
    pub name: &'static str,
    /// One line on what it means.
    pub about: &'static str,
    /// What it takes.
    pub shape: Shape,
    /// Whether it must be there.
    pub required: bool,
    /// What people write who mean it; for "did you mean" only.
    pub also: &'static [&'static str],
}

/// What a word takes.
#[derive(Debug)]
pub enum Shape {
    /// The version of the format.
    Version,
    /// A text that is not empty.
    Text,
    /// A text or a list of them, at least one.
    Texts,
    /// The same, but the list may be empty: nobody.
    Signers,
    /// A list of texts, maybe empty.
    TextList,
    /// A number with its unit.
    Duration,
    /// A whole number within limits, both included.
    Count(u64, u64),
    /// `true` or `false`.
    Bool,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A value to compare a field with, or a list of them.
    Scalars,
    /// Anything.
    Json,
    /// A map of anything.
    JsonMap,
    /// A map with these words.
    Block(&'static Block),
    /// A list of such maps.
    List(&'static Block),
    /// A map from names to this.
    Named(&'static Shape),
    /// The first where it is no map, the second where it is one.
    OrBlock(&'static Shape, &'static Block),
    /// A program or a built-in handler, told apart by its word `use`.
    Handler,
    /// `true`, `false`, or the name of a bus.
    Confirm,
}

/// The words of one map.
#[derive(Debug)]
pub struct Block {
    /// What it is, for messages: `a rule`.
    pub what: &'static str,
    /// Its words, in their order.
    pub words: &'static [Word],
    /// Of each of these groups exactly one word must be there.
    pub exactly_one: &'static [&'static [&'static str]],
    /// Whether other words are allowed too (the settings of a built-in handler).
    pub open: bool,
}

const fn block(what: &'static str, words: &'static [Word]) -> Block {
    Block { what, words, exactly_one: &[], open: false }
}

const fn word(name: &'static str, shape: Shape, about: &'static str) -> Word {
    Word { name, about, shape, required: false, also: &[] }
}

const fn must(name: &'static str, shape: Shape, about: &'static str) -> Word {
    Word { required: true, ..word(name, shape, about) }
}

impl Word {
    const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }
}

/// Most changes or deletes that a guard can be set to.
pub const GUARD_MAX: u64 = 1_000_000;
/// Most tries after the first.
pub const RETRY_TIMES_MAX: u64 = 1_000;
/// Most messages of one `repeat` in a rule test.
pub const REPEAT_MAX: u64 = 100_000;
/// Most messages received and not yet journaled that a bus can be allowed.
pub const QUEUE_MESSAGES_MAX: u64 = 1_000_000;
/// Most messages that the journal can be told to keep.
pub const JOURNAL_MESSAGES_MAX: u64 = 1_000_000_000;

const AT_ONCE_MAX: u64 = handler_api::limits::HANDLERS_AT_ONCE_MAX as u64;

/// The whole file.
pub static SITE: Block = block(
    "a site",
    &[
        must("version", Shape::Version, "the version of this format: 1"),
        word("bus", Shape::Named(&Shape::Block(&BUS)), "where messages come from and go to, by name")
            .also(&["buses", "busses"]),
        word("journal", Shape::Block(&JOURNAL), "what is kept, and how long"),
        word("http", Shape::Block(&HTTP), "where to listen for webhooks, and for who asks what came")
            .also(&["web", "server", "listen"]),
        word("handlers", Shape::Named(&Shape::Handler), "what can be done, by name").also(&["handler"]),
        word("defaults", Shape::Block(&DEFAULTS), "limits of every rule that does not give its own").also(&["default"]),
        word("rules", Shape::List(&RULE), "which messages, and what reaction").also(&["rule"]),
        word("tests", Shape::List(&TEST), "given these messages, expect exactly these reactions").also(&["test"]),
    ],
);

/// `bus.NAME`
pub static BUS: Block = block(
    "a bus",
    &[
        word(
            "fedmsg",
            Shape::OrBlock(&Shape::Texts, &FEDMSG),
            "the fedmsg publishers to listen to, as tcp://host:port; or where to ask for them",
        )
        .also(&["addresses", "endpoints", "listen", "subscribe"]),
        word("amqp", Shape::Block(&AMQP), "in place of `fedmsg`: the broker of fedora-messaging (RabbitMQ)")
            .also(&["rabbitmq", "fedora_messaging"]),
        word(
            "webhook",
            Shape::Block(&WEBHOOK),
            "in place of `fedmsg`: what is posted to us over HTTP, signed with a secret",
        )
        .also(&["hook", "http", "webhooks"]),
        word("topics", Shape::Texts, "topic prefixes to subscribe to; without it, what the rules need")
            .also(&["prefixes"]),
        word("trust", Shape::Block(&TRUST), "who is believed; without it every message is refused"),
        word("publish", Shape::Block(&PUBLISH), "how to publish on it, if we do"),
        word("queue", Shape::Count(1, QUEUE_MESSAGES_MAX), "most messages received and not yet journaled"),
        word("confirm", Shape::Confirm, "publish what became of its messages: true, or the bus to publish it on"),
        word("catch_up", Shape::Block(&CATCH_UP), "whom to ask for messages that were missed").also(&[
            "datagrepper",
            "replay",
            "backlog",
        ]),
        word(
            "silence",
            Shape::Duration,
            "connected, and no message for so long: that is said, in the log and in `status`",
        ),
    ],
);

/// `bus.NAME.trust`
pub static TRUST: Block = block(
    "a `trust` block",
    &[
        word("x509", Shape::Block(&X509), "signatures by X.509 certificates").also(&["ca", "certificates"]),
        word("gpg", Shape::Block(&GPG), "signatures by GPG keys").also(&["pgp", "keys"]),
        word("policy", Shape::Named(&Shape::Signers), "topic → who may say it (certificate CN or GPG fingerprint)")
            .also(&["policies", "allow"]),
        word(
            "unlisted",
            Shape::OneOf(&["refuse", "accept"]),
            "topics that the policy does not list: refuse (default) or accept",
        ),
        word(
            "unsigned",
            Shape::OneOf(&["refuse", "accept"]),
            "messages without a signature: refuse (default) or accept",
        ),
        word(
            "broker",
            Shape::OneOf(&["refuse", "accept"]),
            "an AMQP broker, which tells of no message who sent it: refuse (default) or accept, as the signer `broker`",
        ),
        word(
            "schemas",
            Shape::Text,
            "with `broker`: the directory of JSON schemas, NAME.json for the header fedora_messaging_schema",
        ),
    ],
);

/// `trust.x509`
pub static X509: Block = block(
    "`x509`",
    &[
        must("ca", Shape::Text, "the file of the CA certificate (PEM)"),
        word("crl", Shape::Text, "the file of its revocation list (PEM)"),
    ],
);

/// `trust.gpg`
pub static GPG: Block = block("`gpg`", &[must("keys", Shape::Texts, "the files of the public keys").also(&["key"])]);

/// `bus.NAME.publish`
pub static PUBLISH: Block = Block {
    exactly_one: &[&["bind", "connect"]],
    ..block(
        "`publish`",
        &[
            word("bind", Shape::Text, "the address of our own PUB socket, as tcp://*:9940"),
            word("connect", Shape::Text, "the address of a relay's inbound socket"),
            word("cert", Shape::Text, "the file of the certificate to sign with (PEM)").also(&["certificate"]),
            word("key", Shape::Text, "the file of its private key (PEM)"),
            word("prefix", Shape::Text, "put before the topics of what reactor says itself, as org.example.prod")
                .also(&["topic_prefix"]),
        ],
    )
};

/// `handlers.NAME` with `exec`
pub static EXEC: Block = block(
    "a handler",
    &[
        must("exec", Shape::Text, "the program to run").also(&["command", "cmd", "run", "program", "path", "script"]),
        word("args", Shape::TextList, "arguments put before the verb").also(&["arguments"]),
        word("env", Shape::Named(&Shape::Text), "environment variables added to the clean environment; a value that begins with ./ is a path beside this file")
            .also(&["environment"]),
        word(
            "secrets",
            Shape::Named(&Shape::OrBlock(&Shape::Text, &SECRET)),
            "files that it finds by name in REACTOR_SECRETS",
        ),
        word("user", Shape::Text, "the Unix user to run as"),
        word("at_once", Shape::Count(1, AT_ONCE_MAX), "most of its reactions at the same time")
            .also(&["parallel", "concurrency"]),
        word("config", Shape::JsonMap, "its own settings, handed to it as they are").also(&["settings", "options"]),
    ],
);

/// `handlers.NAME` with `use`
pub static USE: Block = Block {
    open: true,
    ..block(
        "a handler",
        &[
            must(
                "use",
                Shape::Text,
                "the built-in handler; every word that is not listed here is one of its own settings; a text in those that begins with ./ is a path beside this file",
            ),
            word(
                "env",
                Shape::Named(&Shape::Text),
                "environment variables added to the clean environment; a value that begins with ./ is a path beside this file",
            ),
            word(
                "secrets",
                Shape::Named(&Shape::OrBlock(&Shape::Text, &SECRET)),
                "files that it finds by name in REACTOR_SECRETS",
            ),
            word("user", Shape::Text, "the Unix user to run as"),
            word("at_once", Shape::Count(1, AT_ONCE_MAX), "most of its reactions at the same time"),
        ],
    )
};

/// `handlers.NAME.secrets.NAME` as a map
pub static SECRET: Block = block(
    "a secret",
    &[
        must("file", Shape::Text, "where it comes from"),
        word("plan", Shape::Bool, "whether plan may see it too (default false: only apply)"),
    ],
);

/// `defaults`
pub static DEFAULTS: Block = block(
    "`defaults`",
    &[
        word("timeout", Shape::Duration, "how long one plan or one apply may take (default 1m)"),
        word("retry", Shape::Block(&RETRY), "when to try again").also(&["retries"]),
        word("guard", Shape::Block(&GUARD), "what a plan may do without a person"),
        word("mode", Shape::OneOf(&["plan", "apply"]), "plan: say what would change; apply (default): make it so"),
    ],
);

/// `retry`
pub static RETRY: Block = block(
    "`retry`",
    &[
        word("times", Shape::Count(0, RETRY_TIMES_MAX), "tries after the first (default 8)")
            .also(&["tries", "attempts", "max"]),
        word("wait", Shape::Duration, "before the second try; doubled each time (default 10s)")
            .also(&["delay", "backoff"]),
        word("up_to", Shape::Duration, "never longer than this (default 15m)").also(&["max_wait", "at_most"]),
    ],
);

/// `guard`
pub static GUARD: Block = block(
    "`guard`",
    &[
        word("changes", Shape::Count(0, GUARD_MAX), "most changes (default 20)"),
        word("deletes", Shape::Count(0, GUARD_MAX), "most deletes among them (default 5)").also(&["removals"]),
    ],
);

/// `rules[]`
pub static RULE: Block = Block {
    exactly_one: &[&["on", "every"]],
    ..block(
        "a rule",
        &[
            must("name", Shape::Text, "a sentence that names the rule").also(&["id", "title"]),
            word("why", Shape::Text, "a sentence that says what it is for; printed in every failure").also(&[
                "description",
                "reason",
                "because",
            ]),
            word(
                "on",
                Shape::OrBlock(&Shape::Texts, &ON),
                "the topic or topics; `*` is one word, `**` any number of words",
            )
            .also(&["topic", "topics", "event", "trigger", "message"]),
            word("every", Shape::Duration, "in place of `on`: a reconcile, this often")
                .also(&["schedule", "cron", "interval"]),
            word(
                "where",
                Shape::Named(&Shape::Scalars),
                "a field equals, or is in the list, or the list field holds it; all must hold",
            )
            .also(&["filter", "match"]),
            word("unless", Shape::Named(&Shape::Scalars), "the same; any excludes").also(&["not", "except", "exclude"]),
            word("when", Shape::Text, "one CEL expression for the rest").also(&["if", "condition"]),
            word("key", Shape::Text, "what must not run twice at once, and what coalesces (default: the rule's name)")
                .also(&["lane"]),
            word("coalesce", Shape::OrBlock(&Shape::Duration, &COALESCE), "wait for more of the same")
                .also(&["debounce", "delay", "wait"]),
            must("do", Shape::Text, "the handler").also(&["handler", "action", "run", "exec", "use", "task"]),
            word("with", Shape::JsonMap, "its parameters; texts in them are templates").also(&[
                "params",
                "args",
                "parameters",
                "vars",
            ]),
            word("timeout", Shape::Duration, "how long one plan or one apply may take"),
            word("retry", Shape::Block(&RETRY), "when to try again").also(&["retries"]),
            word("guard", Shape::Block(&GUARD), "what a plan may do without a person").also(&["limits", "limit"]),
            word("mode", Shape::OneOf(&["plan", "apply"]), "plan: watch it for a week; apply: make it so")
                .also(&["dry_run", "dry-run"]),
            word("confirm", Shape::Confirm, "publish what became of the message, on its bus (true) or on this one")
                .also(&["ack", "acknowledge", "reply"]),
        ],
    )
};

/// `rules[].on` as a map
pub static ON: Block = block("`on`", &[must("every", Shape::Duration, "a reconcile, this often").also(&["cron"])]);

/// `rules[].coalesce` as a map
pub static COALESCE: Block = block(
    "`coalesce`",
    &[
        must("quiet", Shape::Duration, "start after this long without another one").also(&["wait"]),
        word("at_most", Shape::Duration, "start at the latest this long after the first (default: ten times quiet)")
            .also(&["max", "up_to"]),
    ],
);

/// `tests[]`
pub static TEST: Block = block(
    "a test",
    &[
        must("name", Shape::Text, "a sentence that says what must hold"),
        must("given", Shape::List(&GIVEN), "what arrives, in virtual time"),
        must("expect", Shape::List(&EXPECT), "every reaction that starts, no more and no fewer")
            .also(&["then", "expected"]),
    ],
);

/// `tests[].given[]`
pub static GIVEN: Block = Block {
    exactly_one: &[&["topic", "message"]],
    ..block(
        "an entry of `given`",
        &[
            word("topic", Shape::Text, "the topic of the message"),
            word("msg", Shape::Json, "its body (default {})").also(&["body"]),
            word("message", Shape::Text, "in place of topic and msg: a file, as an envelope or {topic, msg}")
                .also(&["file"]),
            word("at", Shape::Duration, "when the first one arrives, from the start of the test"),
            word("repeat", Shape::Count(1, REPEAT_MAX), "how many of it").also(&["times", "count"]),
            word("after", Shape::Duration, "the pause between two of them, or after the one before"),
            word("signer", Shape::Text, "who signed it"),
            word("plan", Shape::Block(&PLANNED), "what the handler would plan, to feed the guard"),
        ],
    )
};

/// `tests[].given[].plan`
pub static PLANNED: Block = block(
    "`plan`",
    &[
        word("changes", Shape::Count(0, GUARD_MAX), "all changes"),
        word("deletes", Shape::Count(0, GUARD_MAX), "deletes among them"),
    ],
);

/// `tests[].expect[]`
pub static EXPECT: Block = block(
    "an entry of `expect`",
    &[
        word("at", Shape::Duration, "when it starts, in virtual time; without it, whenever"),
        must("rule", Shape::Text, "the rule's name"),
        word("key", Shape::Text, "the key; without it, any"),
        word("with", Shape::JsonMap, "all of the rendered parameters; without it, any"),
        word("messages", Shape::Count(1, REPEAT_MAX * 10), "how many messages came together; without it, any number"),
        word("held", Shape::Bool, "whether the guard holds it"),
        word("failed", Shape::Bool, "whether it fails before the handler runs, as for a missing field"),
    ],
);

/// A file that holds a trust block under its word, for `reactor verify --trust`.
pub static TRUST_FILE: Block = block("a trust file", &[must("trust", Shape::Block(&TRUST), "who is believed")]);

impl Block {
    /// The word of that name.
    #[must_use]
    pub fn word(&self, name: &str) -> Option<&'static Word> {
        self.words.iter().find(|word| word.name == name)
    }

    /// Its words, for a hint: `name, why, on`.
    #[must_use]
    pub fn list(&self) -> String {
        self.words.iter().map(|word| word.name).collect::<Vec<_>>().join(", ")
    }

    /// What someone meant who wrote `wrong`: by a typing mistake, or with another tool's word.
    #[must_use]
    pub fn meant_by(&self, wrong: &str) -> Option<&'static str> {
        let lower = wrong.to_lowercase().replace('-', "_");
        let near = handler_api::spelling::did_you_mean(&lower, self.words.iter().map(|word| word.name));
        near.or_else(|| {
            self.words
                .iter()
                .find(|word| word.also.iter().any(|also| *also == lower || *also == wrong))
                .map(|word| word.name)
        })
    }
}

impl Shape {
    /// What it takes, as the end of "must be".
    #[must_use]
    pub fn takes(&self) -> String {
        match self {
            Self::Version => "1".into(),
            Self::Text => "a text".into(),
            Self::Texts | Self::Signers => "a text or a list of texts".into(),
            Self::TextList => "a list of texts".into(),
            Self::Duration => "a number with its unit, as in 30s, 5m, 6h or 7d".into(),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Bool => "true or false".into(),
            Self::OneOf(words) => words.join(" or "),
            Self::Scalars => "a text, a number, true, false, or a list of those".into(),
            Self::Json => "a value".into(),
            Self::JsonMap => "a map".into(),
            Self::Block(_) | Self::Named(_) => "a map".into(),
            Self::List(_) => "a list".into(),
            Self::OrBlock(shape, block) => format!("{}, or a map of {}", shape.takes(), block.list()),
            Self::Handler => "a map that begins with `exec: PROGRAM` or `use: NAME`".into(),
            Self::Confirm => "true, false, or the name of a bus".into(),
        }
    }
}
