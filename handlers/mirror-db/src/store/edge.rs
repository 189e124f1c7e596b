//! The thin edge: what the SQL above it may use, and which of the two databases does it.
//!
//! A statement is one text for both. What they don't share is here: how a transaction begins, how a name is looked for, and
//! `{n}`, the rows that a statement is about: an array for each column in PostgreSQL, a temporary table in SQLite. So no
//! statement has more parameters than columns, however many rows it is about.

use std::vec;

use handler_api::Failure;

use super::postgres::Server;
use super::sqlite::File;
use super::verdict::{Trouble, another_schema};
use super::{Place, Store};

/// What a column of `{n}` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    Bool,
    Text,
    Bytes,
}

/// What goes to the database, and what comes back.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Int(i32),
    Long(i64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    /// About how large it is, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + 8,
            Self::Bytes(bytes) => bytes.len() + 8,
            _ => 8,
        }
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Int(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Long(number)
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A statement about rows; `{n}` stands where they come from, with these columns.
pub(super) struct Each {
    pub sql: &'static str,
    pub columns: &'static [(&'static str, Kind)],
}

/// A row that came back; its values are taken from left to right. What they are called is for the failure alone.
pub(super) struct Row(vec::IntoIter<Value>);

impl Row {
    pub fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    fn next(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    pub fn maybe_long(&mut self, column: &str) -> Result<Option<i64>, Failure> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(number.into())),
            Value::Long(number) => Ok(Some(number)),
            other => Err(unexpected(column, "a whole number", &other)),
        }
    }

    pub fn maybe_int(&mut self, column: &str) -> Result<Option<i32>, Failure> {
        let Some(number) = self.maybe_long(column)? else { return Ok(None) };
        let small = i32::try_from(number);
        small.map(Some).map_err(|_| unexpected(column, "a number of 32 bits", &Value::Long(number)))
    }

    pub fn int(&mut self, column: &str) -> Result<i32, Failure> {
        self.maybe_int(column)?.ok_or_else(|| unexpected(column, "a whole number", &Value::Null))
    }

    pub fn bool(&mut self, column: &str) -> Result<bool, Failure> {
        match self.next() {
            Value::Bool(yes) => Ok(yes),
            // SQLite has no other.
            Value::Int(0) | Value::Long(0) => Ok(false),
            Value::Int(1) | Value::Long(1) => Ok(true),
            other => Err(unexpected(column, "true or false", &other)),
        }
    }

    pub fn maybe_text(&mut self, column: &str) -> Result<Option<String>, Failure> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            other => Err(unexpected(column, "a text", &other)),
        }
    }

    pub fn text(&mut self, column: &str) -> Result<String, Failure> {
        self.maybe_text(column)?.ok_or_else(|| unexpected(column, "a text", &Value::Null))
    }

    pub fn maybe_bytes(&mut self, column: &str) -> Result<Option<Vec<u8>>, Failure> {
        match self.next() {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            // SQLite: as whoever wrote it bound it.
            Value::Text(text) => Ok(Some(text.into_bytes())),
            other => Err(unexpected(column, "bytes", &other)),
        }
    }
}

fn unexpected(column: &str, expected: &str, value: &Value) -> Failure {
    let found = match value {
        Value::Null => "NULL",
        Value::Int(_) | Value::Long(_) => "another number",
        Value::Bool(_) => "true or false",
        Value::Text(_) => "a text",
        Value::Bytes(_) => "bytes",
    };
    another_schema(format!("the mirror database has {found} in {column}, which should be {expected}"))
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// One snapshot; nothing can be written.
    Reading,
    /// No other writer of ours comes between.
    Writing,
}

/// A connection, in a transaction or between two. One that is dropped within a transaction leaves nothing of it behind.
#[derive(Debug)]
pub(super) enum Session {
    Sqlite(File),
    Postgres(Box<Server>),
}

impl Session {
    pub async fn open(place: &Place) -> Result<Self, Failure> {
        Ok(match place {
            Place::Sqlite(path) => Self::Sqlite(File::open(path).await?),
            Place::Postgres(place) => Self::Postgres(Box::new(Server::connect(place).await?)),
        })
    }

    pub async fn begin(&self, what_for: For) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(file) => file.begin(what_for).await,
            Self::Postgres(server) => server.begin(what_for).await,
        }
    }

    pub async fn commit(&self) -> Result<(), Trouble> {
        match self {
            Self::Sqlite(file) => file.commit().await,
            Self::Postgres(server) => server.commit().await,
        }
    }

    /// The rows that a statement answers; `$1` is the first of `args`.
    pub async fn query(&self, sql: &str, args: Vec<Value>) -> Result<Vec<Row>, Failure> {
        let answer = match self {
            Self::Sqlite(file) => file.query(sql.to_owned(), args).await,
            Self::Postgres(server) => server.query(sql, &args).await,
        };
        answer.map_err(Trouble::into)
    }

    /// The rows that a statement answers about these rows.
    pub async fn query_each(&self, each: &Each, rows: Vec<Vec<Value>>) -> Result<Vec<Row>, Failure> {
        let answer = match self {
            Self::Sqlite(file) => file.query_each(each, rows).await,
            Self::Postgres(server) => server.query_each(each, &rows).await,
        };
        answer.map_err(Trouble::into)
    }

    /// Does a statement to these rows. Returns how many it hit.
    pub async fn execute_each(&self, each: &Each, rows: Vec<Vec<Value>>) -> Result<u64, Failure> {
        let answer = match self {
            Self::Sqlite(file) => file.execute_each(each, rows).await,
            Self::Postgres(server) => server.execute_each(each, &rows).await,
        };
        answer.map_err(Trouble::into)
    }

    /// Holds off other writers of this category until the end of the transaction.
    pub async fn lock(&self, category: i32) -> Result<(), Failure> {
        match self {
            // The whole file is locked.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => {
                self.query("SELECT id FROM category WHERE id = $1 FOR UPDATE", vec![category.into()]).await.map(|_| ())
            }
        }
    }

    /// The condition that `d.name` is `top` or below it; what it needs is put to the end of `args`.
    ///
    /// It must not depend on the order that the database has for texts: between `pub/a/` and `pub/a0` stand other names in
    /// `en_US` than in `C`. SQLite compares bytes and does so with its index. PostgreSQL compares the beginning with LIKE, which
    /// knows no order, and for which it can use the index where the database's own order is `C`; else it looks at every name.
    pub fn below(&self, top: &str, args: &mut Vec<Value>) -> String {
        let first = args.len() + 1;
        args.push(top.into());
        match self {
            Self::Sqlite(_) => {
                // '0' is the byte after '/'.
                args.extend([format!("{top}/").as_str().into(), format!("{top}0").as_str().into()]);
                format!(
                    "(d.name COLLATE BINARY = ${first} OR (d.name COLLATE BINARY >= ${} AND d.name COLLATE BINARY < ${}))",
                    first + 1,
                    first + 2
                )
            }
            Self::Postgres(_) => {
                args.push(Value::Text(format!("{}/%", escaped(top))));
                format!("(d.name = ${first} OR d.name LIKE ${})", first + 1)
            }
        }
    }

    /// Whether it is worth keeping.
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(server) => server.is_alive(),
        }
    }
}

/// A text for LIKE that stands for itself.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if matches!(char, '%' | '_' | '\\') {
            out.push('\\');
        }
        out.push(char);
    }
    out
}

impl Store {
    /// A connection in a transaction. One from before may have been lost unnoticed; then there is a new one.
    pub(super) async fn begun(&self, what_for: For) -> Result<Session, Failure> {
        while let Some(session) = self.idle() {
            match session.begin(what_for).await {
                Ok(()) => return Ok(session),
                Err(trouble) if trouble.lost => {}
                Err(trouble) => return Err(trouble.into()),
            }
        }
        let session = Session::open(&self.place).await?;
        session.begin(what_for).await?;
        Ok(session)
    }
}
