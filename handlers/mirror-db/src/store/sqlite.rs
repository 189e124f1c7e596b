//! The edge to an SQLite file. Every call blocks, so each runs where blocking is allowed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use handler_api::Failure;
use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use super::edge::{Each, For, Row, Value};
use super::verdict::{Trouble, another_schema, shell_word, sqlite_trouble};

/// How long another writer is waited for.
const BUSY_MAX: Duration = Duration::from_secs(30);

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    shown: Arc<str>,
    connection: Arc<Mutex<Connection>>,
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Stored::Null),
            Self::Int(number) => ToSqlOutput::Owned(Stored::Integer((*number).into())),
            Self::Long(number) => ToSqlOutput::Owned(Stored::Integer(*number)),
            Self::Bool(yes) => ToSqlOutput::Owned(Stored::Integer((*yes).into())),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

impl File {
    /// Opens a file that is there.
    pub async fn open(path: &Path) -> Result<Self, Failure> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::opened(&path)).await;
        opened.map_err(|error| Failure::retry(format!("the mirror database: {error}")))?
    }

    fn opened(path: &PathBuf) -> Result<Self, Failure> {
        let shown: Arc<str> = path.display().to_string().into();
        if let Err(error) = std::fs::metadata(path) {
            return Err(Failure::retry(format!("the mirror database {shown} can't be opened: {error}")).hinting(
                format!("sqlite3 {0} < handlers/mirror-db/example/schema.sql makes an empty one", shell_word(&shown)),
            ));
        }
        // No SQLITE_OPEN_CREATE: an empty file instead of a database would be "no such table" for ever.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_MAX)?;
            connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY")?;
            Ok(connection)
        };
        let connection = open().map_err(|error| sqlite_trouble(&shown, &error))?;
        Ok(Self { shown, connection: Arc::new(Mutex::new(connection)) })
    }

    async fn with<T, F>(&self, work: F) -> Result<T, Trouble>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        let (connection, shown) = (Arc::clone(&self.connection), Arc::clone(&self.shown));
        let done = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).map_err(|error| sqlite_trouble(&shown, &error))
        });
        let done = done.await.map_err(|error| Failure::retry(format!("the mirror database: {error}")))?;
        done.map_err(Trouble::from)
    }

    pub async fn begin(&self, what_for: For) -> Result<(), Trouble> {
        let sql = match what_for {
            For::Reading => "BEGIN",
            For::Writing => "BEGIN IMMEDIATE",
        };
        self.with(move |connection| connection.execute_batch(sql)).await
    }

    pub async fn commit(&self) -> Result<(), Trouble> {
        self.with(|connection| connection.execute_batch("COMMIT")).await
    }

    pub async fn query(&self, sql: String, args: Vec<Value>) -> Result<Vec<Row>, Trouble> {
        let rows = self.with(move |connection| rows(connection, &numbered(&sql), &args)).await?;
        self.read(rows)
    }

    pub async fn query_each(&self, each: &Each, given: Vec<Vec<Value>>) -> Result<Vec<Row>, Trouble> {
        let (sql, columns) = prepared(each);
        let work = move |connection: &Connection| {
            fill(connection, &columns, &given)?;
            let answer = rows(connection, &sql, &[])?;
            connection.execute_batch("DROP TABLE temp.n")?;
            Ok(answer)
        };
        let rows = self.with(work).await?;
        self.read(rows)
    }

    pub async fn execute_each(&self, each: &Each, given: Vec<Vec<Value>>) -> Result<u64, Trouble> {
        let (sql, columns) = prepared(each);
        let work = move |connection: &Connection| {
            fill(connection, &columns, &given)?;
            let hit = connection.execute(&sql, [])?;
            connection.execute_batch("DROP TABLE temp.n")?;
            Ok(hit)
        };
        self.with(work).await.map(|hit| hit as u64)
    }

    fn read(&self, rows: Vec<Vec<Option<Value>>>) -> Result<Vec<Row>, Trouble> {
        let whole = rows.into_iter().map(|row| row.into_iter().collect::<Option<Vec<Value>>>().map(Row::new));
        let whole: Option<Vec<Row>> = whole.collect();
        whole.ok_or_else(|| {
            let message =
                format!("the mirror database {} has a fraction, or a text that is no UTF-8, in a column", self.shown);
            another_schema(message).into()
        })
    }
}

/// `$1` is written `?1` here.
fn numbered(sql: &str) -> String {
    sql.replace('$', "?")
}

fn prepared(each: &Each) -> (String, Vec<&'static str>) {
    (each.sql.replace("{n}", "temp.n AS n"), each.columns.iter().map(|(name, _)| *name).collect())
}

/// Puts the rows into a temporary table, where a statement finds them. Its columns have no type: a value stays what it is.
fn fill(connection: &Connection, columns: &[&str], given: &[Vec<Value>]) -> rusqlite::Result<()> {
    let names = columns.join(", ");
    connection.execute_batch(&format!("CREATE TEMP TABLE n ({names})"))?;
    let marks = vec!["?"; columns.len()].join(", ");
    let mut insert = connection.prepare(&format!("INSERT INTO temp.n ({names}) VALUES ({marks})"))?;
    for row in given {
        insert.execute(params_from_iter(row))?;
    }
    Ok(())
}

/// `None` = a value that we have no word for.
fn rows(connection: &Connection, sql: &str, args: &[Value]) -> rusqlite::Result<Vec<Vec<Option<Value>>>> {
    let mut statement = connection.prepare(sql)?;
    let width = statement.column_count();
    let mut found = statement.query(params_from_iter(args))?;
    let mut out = Vec::new();
    while let Some(row) = found.next()? {
        let values = (0..width).map(|at| {
            Ok(match row.get_ref(at)? {
                ValueRef::Null => Some(Value::Null),
                ValueRef::Integer(number) => Some(Value::Long(number)),
                ValueRef::Text(text) => str::from_utf8(text).ok().map(Value::from),
                ValueRef::Blob(bytes) => Some(Value::Bytes(bytes.to_vec())),
                ValueRef::Real(_) => None,
            })
        });
        out.push(values.collect::<rusqlite::Result<_>>()?);
    }
    Ok(out)
}
