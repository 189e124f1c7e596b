//! What is written, in the SQL that both databases speak.
//!
//! Every statement that writes a row of the plan must hit as many rows as it is about: fewer means that the world moved. No
//! column has a default in the database, so every INSERT says all of them.

use handler_api::Failure;

use super::edge::{Each, Kind, Session, Value};
use super::verdict::moved;
use crate::rows::{Detail, DirectoryChange, Known, NewDirectory, NewRepository, Rows};

/// Rows in one statement.
const BATCH_ROWS_MAX: usize = 2_000;
/// And about how many bytes: what is in memory twice.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Directories that one statement deletes. Each costs a look through tables that have no index on `directory_id`; a statement
/// must end within the timeout.
const DELETE_ROWS_MAX: usize = 200;

const VERSIONS: Each = Each {
    sql: "INSERT INTO version (name, is_test, display, ordered_mirrorlist, sortorder, product_id) \
          SELECT n.name, n.is_test, true, true, 0, n.product FROM {n}",
    columns: &[("name", Kind::Text), ("is_test", Kind::Bool), ("product", Kind::Int)],
};
const DIRECTORIES: Each = Each {
    sql: "INSERT INTO directory (name, files, readable, ctime) SELECT n.name, n.files, n.readable, n.ctime FROM {n}",
    columns: &[("name", Kind::Text), ("files", Kind::Bytes), ("readable", Kind::Bool), ("ctime", Kind::Long)],
};
const LINKS: Each = Each {
    sql: "INSERT INTO category_directory (category_id, directory_id) \
          SELECT n.category, d.id FROM {n} JOIN directory d ON d.name = n.name",
    columns: &[("category", Kind::Int), ("name", Kind::Text)],
};
const LINKS_KNOWN: Each = Each {
    sql: "INSERT INTO category_directory (category_id, directory_id) \
          SELECT n.category, d.id FROM {n} JOIN directory d ON d.id = n.id AND d.name = n.name",
    columns: &[("category", Kind::Int), ("id", Kind::Int), ("name", Kind::Text)],
};
const CHANGES: Each = Each {
    sql: "UPDATE directory SET ctime = n.ctime, readable = n.readable FROM {n} \
          WHERE directory.id = n.id AND directory.name = n.name AND directory.ctime IS NOT DISTINCT FROM n.was",
    columns: &[
        ("id", Kind::Int),
        ("name", Kind::Text),
        ("was", Kind::Long),
        ("ctime", Kind::Long),
        ("readable", Kind::Bool),
    ],
};
const CHANGES_WITH_FILES: Each = Each {
    sql: "UPDATE directory SET ctime = n.ctime, readable = n.readable, files = n.files FROM {n} \
          WHERE directory.id = n.id AND directory.name = n.name AND directory.ctime IS NOT DISTINCT FROM n.was",
    columns: &[
        ("id", Kind::Int),
        ("name", Kind::Text),
        ("was", Kind::Long),
        ("ctime", Kind::Long),
        ("readable", Kind::Bool),
        ("files", Kind::Bytes),
    ],
};
/// Names and prefixes must be unique at every moment, and rows may exchange them: so all let go of theirs first.
const REPOSITORIES_LET_GO: Each = Each {
    sql: "UPDATE repository SET name = '//' || repository.id, prefix = NULL FROM {n} WHERE repository.id = n.id",
    columns: &[("id", Kind::Int)],
};
const REPOSITORY: &[(&str, Kind)] = &[
    ("id", Kind::Int),
    ("name", Kind::Text),
    ("prefix", Kind::Text),
    ("category", Kind::Int),
    ("product", Kind::Int),
    ("version", Kind::Text),
    ("arch", Kind::Int),
    ("directory", Kind::Text),
];
const REPOSITORIES: Each = Each {
    sql: "INSERT INTO repository (name, prefix, category_id, version_id, arch_id, directory_id, disabled) \
          SELECT n.name, n.prefix, n.category, v.id, a.id, d.id, false FROM {n} \
          JOIN version v ON v.name = n.version AND v.product_id = n.product JOIN arch a ON a.id = n.arch \
          LEFT JOIN directory d ON d.name = n.directory WHERE n.directory IS NULL OR d.id IS NOT NULL",
    columns: REPOSITORY,
};
const REPOSITORIES_CHANGE: Each = Each {
    sql: "UPDATE repository SET name = c.name, prefix = c.prefix, category_id = c.category, version_id = c.version, \
          arch_id = c.arch, directory_id = c.directory FROM ( \
          SELECT n.id AS id, n.name AS name, n.prefix AS prefix, n.category AS category, v.id AS version, a.id AS arch, \
          d.id AS directory FROM {n} JOIN version v ON v.name = n.version AND v.product_id = n.product \
          JOIN arch a ON a.id = n.arch LEFT JOIN directory d ON d.name = n.directory \
          WHERE n.directory IS NULL OR d.id IS NOT NULL) AS c WHERE repository.id = c.id",
    columns: REPOSITORY,
};
const DETAILS: Each = Each {
    sql: "INSERT INTO file_detail (filename, \"timestamp\", size, md5, sha1, sha256, sha512, directory_id) \
          SELECT n.filename, n.time, n.size, n.md5, n.sha1, n.sha256, n.sha512, d.id \
          FROM {n} JOIN directory d ON d.name = n.directory",
    columns: &[
        ("directory", Kind::Text),
        ("filename", Kind::Text),
        ("time", Kind::Long),
        ("size", Kind::Long),
        ("md5", Kind::Text),
        ("sha1", Kind::Text),
        ("sha256", Kind::Text),
        ("sha512", Kind::Text),
    ],
};
const ID_AND_NAME: &[(&str, Kind)] = &[("id", Kind::Int), ("name", Kind::Text)];
const ID: &[(&str, Kind)] = &[("id", Kind::Int)];
const IN_CATEGORY: &[(&str, Kind)] = &[("category", Kind::Int), ("id", Kind::Int)];
/// What refers to a file detail that goes.
const DETAIL_GROUPS_GO: Each =
    Each { sql: "DELETE FROM file_detail_file_group WHERE file_detail_id IN (SELECT n.id FROM {n})", columns: ID };
const DETAILS_GO: Each = Each {
    sql: "DELETE FROM file_detail WHERE id IN (SELECT f.id FROM {n} JOIN file_detail f ON f.id = n.id \
          JOIN directory d ON d.id = f.directory_id WHERE d.name || '/' || f.filename = n.name)",
    columns: ID_AND_NAME,
};
const STATISTICS_GO: Each =
    Each { sql: "DELETE FROM propagation_stat WHERE repository_id IN (SELECT n.id FROM {n})", columns: ID };
const REPOSITORIES_GO: Each = Each {
    sql: "DELETE FROM repository WHERE id IN \
          (SELECT r.id FROM {n} JOIN repository r ON r.id = n.id AND r.name = n.name)",
    columns: ID_AND_NAME,
};
const UNLINKS: Each = Each {
    sql: "DELETE FROM category_directory WHERE (category_id, directory_id) IN (SELECT n.category, n.id FROM {n})",
    columns: IN_CATEGORY,
};
/// What refers to directories that go. A link from another category is none of it: somebody made it since the plan, and the
/// database refuses to let the directory go.
const DIRECTORIES_LET_GO: [Each; 5] = [
    Each {
        sql: "DELETE FROM file_detail_file_group WHERE file_detail_id IN (SELECT f.id FROM file_detail f \
              WHERE f.directory_id IN (SELECT n.id FROM {n}))",
        columns: ID,
    },
    Each { sql: "DELETE FROM file_detail WHERE directory_id IN (SELECT n.id FROM {n})", columns: ID },
    Each { sql: "DELETE FROM host_category_dir WHERE directory_id IN (SELECT n.id FROM {n})", columns: ID },
    Each { sql: "DELETE FROM directory_exclusive_host WHERE directory_id IN (SELECT n.id FROM {n})", columns: ID },
    Each { sql: "UPDATE repository SET directory_id = NULL WHERE directory_id IN (SELECT n.id FROM {n})", columns: ID },
];
const DIRECTORIES_GO: Each = Each {
    sql: "DELETE FROM directory WHERE id IN (SELECT d.id FROM {n} JOIN directory d ON d.id = n.id AND d.name = n.name)",
    columns: ID_AND_NAME,
};

/// Writes into the transaction that has begun.
pub(super) async fn write(session: &Session, known: &Known, rows: &Rows) -> Result<(), Failure> {
    let category = &known.category;
    session.lock(category.id).await?;
    let sql = "SELECT id FROM category WHERE id = $1 AND name = $2 AND product_id = $3";
    let args = vec![category.id.into(), category.name.as_str().into(), category.product_id.into()];
    if session.query(sql, args).await?.is_empty() {
        return Err(moved(format!("the category `{}` is gone, or of another product", category.name)));
    }
    // What goes frees names and prefixes for what comes; but details and directories go last, after all that refers to them.
    gone_repositories(session, rows).await?;
    versions(session, known, rows).await?;
    directories(session, known, rows).await?;
    repositories(session, known, rows).await?;
    details(session, rows).await?;
    gone_directories(session, known, rows).await
}

async fn versions(session: &Session, known: &Known, rows: &Rows) -> Result<(), Failure> {
    let product = known.category.product_id;
    let row = |(name, is_test): &(String, bool)| vec![name.as_str().into(), (*is_test).into(), product.into()];
    all(session, "versions", &VERSIONS, &rows.new_versions, row).await
}

async fn directories(session: &Session, known: &Known, rows: &Rows) -> Result<(), Failure> {
    let category = known.category.id;
    let row = |new: &NewDirectory| {
        vec![new.name.as_str().into(), file_bytes(new.files.as_ref()), new.readable.into(), new.time.into()]
    };
    all(session, "new directories", &DIRECTORIES, &rows.new_directories, row).await?;
    let row = |new: &NewDirectory| vec![category.into(), new.name.as_str().into()];
    all(session, "links of new directories", &LINKS, &rows.new_directories, row).await?;
    let row = |(id, name): &(i32, String)| vec![category.into(), (*id).into(), name.as_str().into()];
    all(session, "directories to link", &LINKS_KNOWN, &rows.links, row).await?;
    let (with, without): (Vec<_>, Vec<_>) = rows.directories.iter().partition(|change| change.files.is_some());
    let row = |change: &DirectoryChange| -> Vec<Value> {
        let DirectoryChange { id, name, was, time, readable, .. } = change;
        vec![(*id).into(), name.as_str().into(), (*was).into(), (*time).into(), (*readable).into()]
    };
    let with_files = |change: &&DirectoryChange| {
        let mut values = row(change);
        values.push(file_bytes(change.files.as_ref().and_then(Option::as_ref)));
        values
    };
    all(session, "directories", &CHANGES_WITH_FILES, &with, with_files).await?;
    all(session, "directories", &CHANGES, &without, |change| row(change)).await
}

async fn repositories(session: &Session, known: &Known, rows: &Rows) -> Result<(), Failure> {
    let (category, product) = (known.category.id, known.category.product_id);
    let row = |id: Option<i32>, new: &NewRepository| -> Vec<Value> {
        vec![
            id.into(),
            new.name.as_str().into(),
            new.prefix.as_deref().into(),
            category.into(),
            product.into(),
            new.version.as_str().into(),
            new.arch_id.into(),
            new.directory.as_deref().into(),
        ]
    };
    let let_go = |(id, _): &(i32, NewRepository)| vec![(*id).into()];
    all(session, "repositories", &REPOSITORIES_LET_GO, &rows.repositories, let_go).await?;
    let change = |(id, new): &(i32, NewRepository)| row(Some(*id), new);
    all(session, "repositories", &REPOSITORIES_CHANGE, &rows.repositories, change).await?;
    all(session, "new repositories", &REPOSITORIES, &rows.new_repositories, |new| row(None, new)).await
}

async fn details(session: &Session, rows: &Rows) -> Result<(), Failure> {
    let row = |detail: &Detail| -> Vec<Value> {
        let Detail { directory, filename, timestamp, size, sums } = detail;
        vec![
            directory.as_str().into(),
            filename.as_str().into(),
            (*timestamp).into(),
            (*size).into(),
            sums.md5.as_deref().into(),
            sums.sha1.as_deref().into(),
            sums.sha256.as_deref().into(),
            sums.sha512.as_deref().into(),
        ]
    };
    all(session, "new file details", &DETAILS, &rows.new_details, row).await?;
    some(session, &DETAIL_GROUPS_GO, &rows.gone_details, BATCH_ROWS_MAX, only_id).await?;
    all(session, "file details to delete", &DETAILS_GO, &rows.gone_details, id_and_name).await
}

async fn gone_repositories(session: &Session, rows: &Rows) -> Result<(), Failure> {
    some(session, &STATISTICS_GO, &rows.gone_repositories, BATCH_ROWS_MAX, only_id).await?;
    all(session, "repositories to delete", &REPOSITORIES_GO, &rows.gone_repositories, id_and_name).await
}

async fn gone_directories(session: &Session, known: &Known, rows: &Rows) -> Result<(), Failure> {
    let gone = &rows.gone_directories;
    for each in &DIRECTORIES_LET_GO {
        some(session, each, gone, BATCH_ROWS_MAX, only_id).await?;
    }
    let link = |(id, _): &(i32, String)| vec![known.category.id.into(), (*id).into()];
    some(session, &UNLINKS, gone, BATCH_ROWS_MAX, link).await?;
    let hit = some(session, &DIRECTORIES_GO, gone, DELETE_ROWS_MAX, id_and_name).await?;
    counted("directories to delete", hit, gone.len())?;
    all(session, "directories to unlink", &UNLINKS, &rows.unlinks, link).await
}

fn only_id((id, _): &(i32, String)) -> Vec<Value> {
    vec![(*id).into()]
}

fn id_and_name((id, name): &(i32, String)) -> Vec<Value> {
    vec![(*id).into(), name.as_str().into()]
}

fn file_bytes(files: Option<&String>) -> Value {
    files.map_or(Value::Null, |files| Value::Bytes(files.as_bytes().to_vec()))
}

/// Does a statement to all of these, in batches; each must be hit.
async fn all<T>(
    session: &Session,
    what: &str,
    each: &Each,
    items: &[T],
    row: impl Fn(&T) -> Vec<Value>,
) -> Result<(), Failure> {
    let hit = some(session, each, items, BATCH_ROWS_MAX, row).await?;
    counted(what, hit, items.len())
}

fn counted(what: &str, hit: u64, wanted: usize) -> Result<(), Failure> {
    if hit == wanted as u64 {
        return Ok(());
    }
    Err(moved(format!("of {wanted} {what}, {hit} are as the plan found them")))
}

/// Does a statement to these, in batches. Returns how many rows it hit.
async fn some<T>(
    session: &Session,
    each: &Each,
    items: &[T],
    rows_max: usize,
    row: impl Fn(&T) -> Vec<Value>,
) -> Result<u64, Failure> {
    let (mut hit, mut batch, mut bytes) = (0, Vec::new(), 0);
    for item in items {
        let values = row(item);
        bytes += values.iter().map(Value::size).sum::<usize>();
        batch.push(values);
        if batch.len() >= rows_max || bytes >= BATCH_BYTES_MAX {
            hit += session.execute_each(each, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        hit += session.execute_each(each, batch).await?;
    }
    Ok(hit)
}
