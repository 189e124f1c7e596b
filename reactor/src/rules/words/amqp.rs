//! The words of `bus.NAME.amqp`: those of fedora-messaging's `config.toml`, and `config`, `password`.

use super::{Block, PASSWORD, Shape, block, must, word};

/// `bus.NAME.amqp`. The words are those of fedora-messaging's `config.toml`.
pub static AMQP: Block = Block {
    exactly_one: &[&["config", "amqp_url"]],
    ..block(
        "`amqp`",
        &[
            word(
                "config",
                Shape::Text,
                "a file of fedora-messaging, as /etc/fedora-messaging/config.toml; then no other word but `password`",
            )
            .also(&["file"]),
            word("amqp_url", Shape::Text, "the broker, as amqps://USER@HOST/VHOST").also(&["url", "broker"]),
            word("password", Shape::Block(&PASSWORD), "the password, where one logs in with one"),
            word("tls", Shape::Block(&TLS), "certificates, with amqps"),
            word("passive_declares", Shape::Bool, "whether queues and exchanges must be there already"),
            word("exchanges", Shape::Named(&Shape::Block(&EXCHANGE)), "exchanges to declare, by name"),
            word(
                "queues",
                Shape::Named(&Shape::Block(&QUEUE)),
                "queues to declare and read, by name; without it, one that ends with the connection",
            ),
            word("bindings", Shape::List(&BINDING), "what comes into the queues; without it, all of amq.topic"),
            word("qos", Shape::Block(&QOS), "how much is on its way at once"),
            word("topic_prefix", Shape::Text, "put before the topic of what is published"),
            word("publish_exchange", Shape::Text, "where to publish (default amq.topic)"),
            word("publish_priority", Shape::Count(0, 255), "the priority of what is published"),
            word(
                "client_properties",
                Shape::Named(&Shape::Text),
                "what the broker's operator sees of us: app, app_url, app_contacts_email",
            ),
        ],
    )
};

/// `bus.NAME.amqp.tls`
pub static TLS: Block = block(
    "`tls`",
    &[
        word(
            "ca_cert",
            Shape::Text,
            "the CA that the broker's certificate must come from (PEM); without it, the system's",
        )
        .also(&["ca"]),
        word("certfile", Shape::Text, "our certificate (PEM), to log in with").also(&["cert"]),
        word("keyfile", Shape::Text, "its private key (PEM)").also(&["key"]),
    ],
);

/// `bus.NAME.amqp.exchanges.NAME`
pub static EXCHANGE: Block = block(
    "an exchange",
    &[
        must("type", Shape::Text, "topic, fanout, direct or headers"),
        must("durable", Shape::Bool, "whether it outlives a restart of the broker"),
        must("auto_delete", Shape::Bool, "whether it ends with its last queue"),
        word("arguments", Shape::JsonMap, "its arguments"),
    ],
);

/// `bus.NAME.amqp.queues.NAME`
pub static QUEUE: Block = block(
    "a queue",
    &[
        must("durable", Shape::Bool, "whether it outlives a restart of the broker"),
        must("auto_delete", Shape::Bool, "whether it ends with its last consumer"),
        must("exclusive", Shape::Bool, "whether it ends with its connection"),
        word("arguments", Shape::JsonMap, "x-max-length and the like"),
    ],
);

/// `bus.NAME.amqp.bindings[]`
pub static BINDING: Block = block(
    "a binding",
    &[
        must("exchange", Shape::Text, "from which exchange"),
        word("queue", Shape::Text, "into which queue; without it, into each"),
        must("routing_keys", Shape::Texts, "which topics: `*` is one word, `#` any number of words"),
    ],
);

/// `bus.NAME.amqp.qos`
pub static QOS: Block = block(
    "`qos`",
    &[must(
        "prefetch_count",
        Shape::Count(1, 65_535),
        "messages on their way or not yet journaled, per queue (default 200)",
    )],
);
