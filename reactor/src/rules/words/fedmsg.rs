//! The words of `bus.NAME.fedmsg`, where it is no list.

use super::{Block, Shape, block, must, word};

/// `bus.NAME.fedmsg` as a map.
pub static FEDMSG: Block = block(
    "`fedmsg`",
    &[
        word("addresses", Shape::Texts, "publishers to listen to, as tcp://host:port").also(&["endpoints"]),
        word(
            "dns",
            Shape::OrBlock(&Shape::Texts, &DNS),
            "domains whose publishers DNS names, in SRV records of _fedmsg._tcp",
        )
        .also(&["srv", "srv_endpoints", "domain"]),
        word("config", Shape::Text, "a file with what `fedmsg-config` prints; its `endpoints` are listened to")
            .also(&["file"]),
    ],
);

/// `bus.NAME.fedmsg.dns` as a map.
pub static DNS: Block = block(
    "`dns`",
    &[
        must("domain", Shape::Texts, "the domain or domains").also(&["domains"]),
        word("server", Shape::Text, "the server to ask, as 192.0.2.53 or 192.0.2.53:5353; without it, the system's")
            .also(&["nameserver"]),
    ],
);
