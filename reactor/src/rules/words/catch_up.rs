//! The words of `bus.NAME.catch_up`.

use super::{Block, Shape, block, must, word};

/// `bus.NAME.catch_up`
pub static CATCH_UP: Block = Block {
    exactly_one: &[&["datagrepper", "replay"]],
    ..block(
        "`catch_up`",
        &[
            word(
                "datagrepper",
                Shape::Text,
                "the URL of a datagrepper's /raw, or of another reactor's, as https://apps.fedoraproject.org/datagrepper/raw",
            )
            .also(&["url", "http"]),
            word("replay", Shape::Text, "a publisher's fedmsg.replay, as tcp://HOST:PORT").also(&["fedmsg_replay"]),
            word(
                "believe",
                Shape::OneOf(&["signed", "all"]),
                "which messages of it: those whose signature is good (default), or all, as the signer `datagrepper` or `replay`",
            ),
            word("overlap", Shape::Duration, "how much earlier and later than the gap to ask for (default 5m)"),
            word("at_most", Shape::Duration, "how far back to ask for at most (default 3d)"),
            word("ca", Shape::Text, "the CA that the server's certificate must come from (PEM); without it, the system's"),
            word("token", Shape::Block(&TOKEN), "the token to show to the server (Authorization: Bearer)"),
        ],
    )
};

/// `bus.NAME.catch_up.token`
pub static TOKEN: Block = block("`token`", &[must("file", Shape::Text, "the file that it stands in")]);
