//! The words of `journal`: where it is, and what it keeps.

use super::{Block, JOURNAL_MESSAGES_MAX, Shape, block, must, word};

/// `journal`
pub static JOURNAL: Block = block(
    "`journal`",
    &[
        word(
            "history",
            Shape::OneOf(&["wanted", "all"]),
            "keep the messages that a rule wanted (default), or all trusted ones",
        ),
        word("keep", Shape::Duration, "how long finished reactions and their messages are kept (default 30d)"),
        word(
            "messages",
            Shape::Count(1, JOURNAL_MESSAGES_MAX),
            "most messages kept, whatever their age (default 1000000)",
        ),
        word(
            "postgresql",
            Shape::Block(&POSTGRESQL),
            "keep it on a server, instead of in a file in the state directory",
        )
        .also(&["postgres", "database", "pgsql"]),
    ],
);

/// `journal.postgresql`
pub static POSTGRESQL: Block = block(
    "`postgresql`",
    &[
        must("host", Shape::Text, "the server's name or address, or the directory of its socket: /run/postgresql"),
        word("port", Shape::Count(1, u16::MAX as u64), "its port (default 5432)"),
        must("name", Shape::Text, "the database, in UTF-8").also(&["database", "dbname"]),
        must("user", Shape::Text, "the role, which must be able to create the schema, or own it").also(&["role"]),
        word("password", Shape::Block(&PASSWORD), "the role's password; without it the server must know us by itself"),
        word("tls", Shape::Bool, "whether to speak TLS (default: true, but not with a socket or the loopback)")
            .also(&["ssl", "sslmode"]),
        word("ca", Shape::Text, "the file of the certificates to believe (PEM), instead of the system's"),
        word("schema", Shape::Text, "the schema of this site's journal (default reactor)"),
        word(
            "node",
            Shape::Text,
            "the name of this daemon among those that share the journal (default: the host's name)",
        ),
    ],
);

/// `password`, of a role or of an account: never in the rules file itself
pub static PASSWORD: Block = block("`password`", &[must("file", Shape::Text, "the file that holds it, in one line")]);
