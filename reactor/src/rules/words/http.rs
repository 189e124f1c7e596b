//! The words of `http` and of `bus.NAME.webhook`.

use super::{Block, PASSWORD, Shape, block, must, word};
use crate::message::BODY_BYTES_MAX;

/// `http`
pub static HTTP: Block = block(
    "`http`",
    &[
        word("listen", Shape::Text, "address and port to listen on, without TLS (default 127.0.0.1:8080)")
            .also(&["bind", "address", "port"]),
        word(
            "history",
            Shape::OrBlock(&Shape::Bool, &HISTORY),
            "whether GET /raw and /id tell what came, as datagrepper does; takes `journal: { history: all }`",
        )
        .also(&["datagrepper", "api"]),
    ],
);

/// `http.history` as a map
pub static HISTORY: Block =
    block("`history`", &[must("token", Shape::Block(&PASSWORD), "what whoever asks has to send as a bearer token")]);

/// `bus.NAME.webhook`
pub static WEBHOOK: Block = block(
    "`webhook`",
    &[
        must("path", Shape::Text, "where it is posted to, as /hook/NAME").also(&["url", "endpoint"]),
        must("secret", Shape::Block(&SECRETS), "what the sender proves to know").also(&["token", "secrets"]),
        must(
            "signature",
            Shape::OneOf(&["github", "gitlab", "forgejo", "token"]),
            "how it proves that; token: Authorization: Bearer SECRET",
        )
        .also(&["auth", "hmac"]),
        must("topic", Shape::Text, "the message's topic, of `headers` and `msg`: github.{{headers.x-github-event}}"),
        word("id", Shape::Text, "the message's id, of the same; without it, the sender's own id of the delivery"),
        word("body_bytes_max", Shape::Count(1, BODY_BYTES_MAX as u64), "largest body, in bytes (default 1048576)")
            .also(&["limit", "max_size"]),
    ],
);

/// `bus.NAME.webhook.secret`
pub static SECRETS: Block = block(
    "`secret`",
    &[must("file", Shape::Texts, "the file that holds it; while it is changed, the new one's and the old one's")
        .also(&["files"])],
);
