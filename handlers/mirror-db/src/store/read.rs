//! What the database has, in the SQL that both databases speak.

use std::collections::BTreeMap;

use handler_api::Failure;
use handler_api::spelling::did_you_mean;

use super::edge::{Each, Kind, Session, Value};
use super::verdict::moved;
use crate::rows::{Category, Detail, Known, KnownDirectory, KnownRepository, Part, Sums};

/// Directories of a part that one statement asks about.
const TOPS_AT_ONCE_MAX: usize = 50;
/// Rows of `directory` whose `files` one statement asks for.
const FILES_AT_ONCE_MAX: usize = 1_000;
/// Categories that a failure lists.
const CATEGORIES_SHOWN_MAX: usize = 20;

const FILES: Each =
    Each { sql: "SELECT d.id, d.files FROM {n} JOIN directory d ON d.id = n.id", columns: &[("id", Kind::Int)] };

pub(super) async fn known(session: &Session, name: &str, part: &Part) -> Result<Known, Failure> {
    let category = category(session, name).await?;
    let mut known = Known { category, ..Known::default() };
    for (condition, args) in conditions(session, part, &known.category) {
        directories(session, &condition, &args, &mut known).await?;
        details(session, &condition, args, &mut known).await?;
    }
    known.details.sort_by_key(|(id, _)| *id);
    known.versions = versions(session, known.category.product_id).await?;
    known.arches = arches(session).await?;
    known.repositories = repositories(session).await?;
    Ok(known)
}

async fn category(session: &Session, name: &str) -> Result<Category, Failure> {
    let sql = "SELECT c.id, c.product_id, p.name, d.name FROM category c LEFT JOIN product p ON p.id = c.product_id \
               LEFT JOIN directory d ON d.id = c.topdir_id WHERE c.name = $1";
    let Some(mut row) = session.query(sql, vec![name.into()]).await?.pop() else {
        return Err(no_category(session, name).await?);
    };
    let id = row.int("category.id")?;
    let product_id = row.maybe_int("category.product_id")?;
    let product = row.maybe_text("product.name")?;
    let top = row.maybe_text("directory.name")?;
    let (Some(product_id), Some(product)) = (product_id, product) else {
        return Err(Failure::permanent(format!("the category `{name}` of the mirror database has no product"))
            .hinting(format!(
                "UPDATE category SET product_id = (SELECT id FROM product WHERE name = '…') WHERE id = {id}"
            )));
    };
    let Some(top) = top else {
        return Err(Failure::permanent(format!("the category `{name}` of the mirror database has no top directory"))
            .hinting(format!(
                "UPDATE category SET topdir_id = (SELECT id FROM directory WHERE name = '…') WHERE id = {id}"
            )));
    };
    Ok(Category { id, name: name.to_owned(), product_id, product, top })
}

async fn no_category(session: &Session, name: &str) -> Result<Failure, Failure> {
    let mut names = Vec::new();
    for mut row in session.query("SELECT name FROM category", Vec::new()).await? {
        names.push(row.text("category.name")?);
    }
    names.sort();
    let message = format!("the mirror database has no category `{name}`");
    if names.is_empty() {
        return Ok(Failure::permanent(format!("{message}, nor any other"))
            .hinting("is this MirrorManager2's database? categories are made in its admin pages"));
    }
    let near = did_you_mean(name, names.iter().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    let more = if names.len() > CATEGORIES_SHOWN_MAX { ", …" } else { "" };
    names.truncate(CATEGORIES_SHOWN_MAX);
    Ok(Failure::permanent(message).hinting(format!("{near}there are {}{more}", names.join(", "))))
}

/// The conditions that together say which rows of `directory d` are looked at, each with its arguments.
fn conditions(session: &Session, part: &Part, category: &Category) -> Vec<(String, Vec<Value>)> {
    match part {
        Part::Whole => {
            let mut args = Vec::new();
            let below = session.below(&category.top, &mut args);
            args.push(category.id.into());
            let number = args.len();
            let linked =
                format!("d.id IN (SELECT m.directory_id FROM category_directory m WHERE m.category_id = ${number})");
            vec![(format!("({below} OR {linked})"), args)]
        }
        Part::Below(tops) => {
            let tops: Vec<&String> = tops.iter().collect();
            let some = tops.chunks(TOPS_AT_ONCE_MAX).map(|tops| {
                let mut args = Vec::new();
                let any: Vec<String> = tops.iter().map(|top| session.below(top, &mut args)).collect();
                (format!("({})", any.join(" OR ")), args)
            });
            some.collect()
        }
    }
}

async fn directories(session: &Session, condition: &str, args: &[Value], known: &mut Known) -> Result<(), Failure> {
    // A row for each category that a directory is in: without an index on category_directory(directory_id), one join is
    // much cheaper than a look for each directory.
    let sql = format!(
        "SELECT d.id, d.name, d.ctime, d.readable, c.category_id FROM directory d \
         LEFT JOIN category_directory c ON c.directory_id = d.id WHERE {condition}"
    );
    let mut others: BTreeMap<String, (KnownDirectory, bool)> = BTreeMap::new();
    for mut row in session.query(&sql, args.to_vec()).await? {
        let id = row.int("directory.id")?;
        let name = row.text("directory.name")?;
        let time = row.maybe_long("directory.ctime")?;
        let readable = row.bool("directory.readable")?;
        let linked = row.maybe_int("category_directory.category_id")?;
        let (directory, ours) =
            others.entry(name).or_insert((KnownDirectory { id, time, readable, categories: 0 }, false));
        directory.categories += u32::from(linked.is_some());
        *ours |= linked == Some(known.category.id);
    }
    for (name, (directory, ours)) in others {
        if ours {
            known.directories.insert(name, directory);
        } else {
            known.strangers.insert(name, directory.id);
        }
    }
    Ok(())
}

async fn details(session: &Session, condition: &str, args: Vec<Value>, known: &mut Known) -> Result<(), Failure> {
    let sql = format!(
        "SELECT f.id, d.name, f.filename, f.\"timestamp\", f.size, f.md5, f.sha1, f.sha256, f.sha512 FROM file_detail f \
         JOIN directory d ON d.id = f.directory_id WHERE {condition}"
    );
    for mut row in session.query(&sql, args).await? {
        let id = row.int("file_detail.id")?;
        let directory = row.text("directory.name")?;
        let filename = row.text("file_detail.filename")?;
        let timestamp = row.maybe_long("file_detail.timestamp")?;
        let size = row.maybe_long("file_detail.size")?;
        // scan-primary-mirror writes no sum as '', umdl as NULL.
        let mut sum = |column| row.maybe_text(column).map(|sum| sum.filter(|sum| !sum.is_empty()));
        let sums = Sums {
            md5: sum("file_detail.md5")?,
            sha1: sum("file_detail.sha1")?,
            sha256: sum("file_detail.sha256")?,
            sha512: sum("file_detail.sha512")?,
        };
        if known.directories.contains_key(&directory) {
            known.details.push((id, Detail { directory, filename, timestamp, size, sums }));
        }
    }
    Ok(())
}

async fn versions(session: &Session, product: i32) -> Result<Vec<(i32, String)>, Failure> {
    let sql = "SELECT id, name FROM version WHERE product_id = $1 AND name IS NOT NULL ORDER BY id";
    let rows = session.query(sql, vec![product.into()]).await?;
    rows.into_iter().map(|mut row| Ok((row.int("version.id")?, row.text("version.name")?))).collect()
}

async fn arches(session: &Session) -> Result<Vec<(i32, String)>, Failure> {
    let rows = session.query("SELECT id, name FROM arch", Vec::new()).await?;
    let arches = rows.into_iter().map(|mut row| Ok((row.int("arch.id")?, row.text("arch.name")?)));
    let mut arches: Vec<(i32, String)> = arches.collect::<Result<_, Failure>>()?;
    // Here, since databases differ in how they order texts.
    arches.sort_by(|(_, a), (_, b)| a.cmp(b));
    Ok(arches)
}

async fn repositories(session: &Session) -> Result<Vec<KnownRepository>, Failure> {
    let sql = "SELECT r.id, r.name, r.prefix, r.category_id, r.version_id, r.arch_id, d.name FROM repository r \
               LEFT JOIN directory d ON d.id = r.directory_id ORDER BY r.id";
    let rows = session.query(sql, Vec::new()).await?.into_iter();
    let read = rows.map(|mut row| {
        Ok(KnownRepository {
            id: row.int("repository.id")?,
            name: row.text("repository.name")?,
            prefix: row.maybe_text("repository.prefix")?,
            category_id: row.maybe_int("repository.category_id")?,
            version_id: row.maybe_int("repository.version_id")?,
            arch_id: row.maybe_int("repository.arch_id")?,
            directory: row.maybe_text("directory.name")?,
        })
    });
    read.collect()
}

pub(super) async fn files(session: &Session, ids: &[i32]) -> Result<BTreeMap<i32, Option<Vec<u8>>>, Failure> {
    let mut files = BTreeMap::new();
    for ids in ids.chunks(FILES_AT_ONCE_MAX) {
        let rows = ids.iter().map(|id| vec![Value::from(*id)]).collect();
        for mut row in session.query_each(&FILES, rows).await? {
            files.insert(row.int("directory.id")?, row.maybe_bytes("directory.files")?);
        }
    }
    match ids.iter().find(|id| !files.contains_key(id)) {
        Some(gone) => Err(moved(format!("the directory with the id {gone} is gone"))),
        None => Ok(files),
    }
}
