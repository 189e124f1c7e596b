//! What can go wrong with the server, and what a person does about it.

use tokio_postgres::error::SqlState;

use crate::journal::JournalError;
use crate::journal::place::Postgres;
use crate::journal::text::TextFault;

/// Why the journal could not do it, before it is known which server that was.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server said no, or went away.
    Sql(tokio_postgres::Error),
    /// The server, or the way there, did not answer for so many seconds.
    Silent(u64),
    /// The connection was lost while a batch was committed: it may be durable. The next connection finds out.
    InDoubt(Box<Fault>),
    /// What is in the tables can't be read back.
    Damaged(String),
    /// The batch contradicts what is in the journal: a mistake of the caller.
    Contradiction(String),
    /// We won't.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
        /// Whether whoever has the journal has to begin anew.
        is_lasting: bool,
    },
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<TextFault> for Fault {
    fn from(fault: TextFault) -> Self {
        match fault {
            TextFault::Damaged(what) => Self::Damaged(what),
            TextFault::Contradiction(what) => Self::Contradiction(what),
        }
    }
}

impl Fault {
    /// Something that we won't do, until it is mended.
    pub fn refused(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), hint: hint.into(), is_lasting: false }
    }

    /// Whether it only met with what another node wrote at the same time: a deadlock, or a conflict.
    pub fn is_collision(&self) -> bool {
        matches!(self, Self::Sql(error) if error.code().is_some_and(|code| code.code().starts_with("40")))
    }

    /// Whether the connection is of no use any more.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Silent(_) | Self::InDoubt(_) => true,
            // Class 08: connection exceptions; 57P: the server shuts down, crashed, or ended this session.
            Self::Sql(error) => error.as_db_error().is_none_or(|said| {
                let code = said.code().code();
                code.starts_with("08") || code.starts_with("57P")
            }),
            Self::Damaged(_) | Self::Contradiction(_) | Self::Refused { .. } => false,
        }
    }

    /// As people read it, for this server.
    pub fn at(self, server: &Postgres) -> JournalError {
        let place = server.shown();
        let error = |why, hint, is_lasting| JournalError { place: place.clone(), why, hint, is_lasting };
        match self {
            Self::Sql(said) => {
                let code = said.code().map(SqlState::code).unwrap_or_default();
                // Class 23: a constraint of our own tables does not hold.
                error(text(&said), sql_hint(&said, server), code.starts_with("23"))
            }
            Self::Silent(0) => error("there is no connection to the server".into(), way_hint(server), false),
            Self::Silent(seconds) => {
                error(format!("the server did not answer for {seconds} s"), way_hint(server), false)
            }
            Self::InDoubt(why) => {
                let why = why.at(server);
                error(format!("the connection was lost while a batch was committed: {}", why.why), why.hint, false)
            }
            Self::Damaged(what) => error(
                format!("it is damaged: {what}"),
                format!("stop the daemon, then restore a backup of the schema {} (docs/journal.md)", server.schema),
                false,
            ),
            Self::Contradiction(what) => {
                error(what, "this is a bug in reactor; please report it with this line".into(), true)
            }
            Self::Refused { why, hint, is_lasting } => error(why, hint, is_lasting),
        }
    }
}

/// What the server says, without the protocol around it; or why it can't be reached, with all reasons.
fn text(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        let detail = said.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}", said.message());
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

fn sql_hint(error: &tokio_postgres::Error, server: &Postgres) -> String {
    let Some(said) = error.as_db_error() else { return way_hint(server) };
    let Postgres { name, user, schema, .. } = server;
    match said.code().code() {
        "42501" => format!("psql -d {name} -c 'CREATE SCHEMA {schema} AUTHORIZATION \"{user}\"'"),
        "3D000" => format!("as the server's administrator: createdb -E UTF8 -T template0 -O '{user}' '{name}'"),
        "25006" => "this server is a standby, or is set to be read only: name the primary".into(),
        "53100" => {
            "make room on the server's disk; what was not written is not acknowledged, and is tried again".into()
        }
        "53300" => "raise `max_connections` of the server: a node needs two, one more where it answers `http: { history }`, and \
                    each `reactor status`, `list` or `show` one for a moment"
            .into(),
        // Statements are prepared once for each connection.
        "26000" | "42P05" => format!(
            "is a pooler between us and the server (PgBouncer)? It must not share a connection among transactions: name the \
             server itself, or `pool_mode = session` for the database {name}"
        ),
        code if code.starts_with("23") => "this is a bug in reactor; please report it with this line".into(),
        code if code.starts_with("28") => format!("may the role `{user}` log in from here? {}", try_it(server)),
        code if code.starts_with("57P") || code.starts_with("53") => way_hint(server),
        code => format!("the server's log says more (code {code}); {}", try_it(server)),
    }
}

fn way_hint(server: &Postgres) -> String {
    format!("is the server up, and the way to it open? {}", try_it(server))
}

fn try_it(server: &Postgres) -> String {
    let Postgres { host, port, name, user, .. } = server;
    format!("psql -h '{host}' -p {port} -U '{user}' -d '{name}' -c 'SELECT 1'")
}
