//! What `reactor check` asks. Changes nothing, and does not ask the database.

use std::path::Path;

use handler_api::Failure;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::store::Place;

/// Looks at every word of the block without asking anybody.
///
/// # Errors
/// What is wrong with them.
pub fn check_config(words: &Map<String, Value>) -> Result<(), Failure> {
    Config::read(words).map(|_| ())
}

/// Looks at the files that the block names: what is wrong with each.
#[must_use]
pub fn check_files(words: &Map<String, Value>) -> Vec<Failure> {
    // What is wrong with the words is told already.
    let Ok(config) = Config::read(words) else { return Vec::new() };
    let mut found = Vec::new();
    match &config.database {
        Place::Sqlite(file) => found.extend(wrong_file("the database", file, false)),
        Place::Postgres(place) => {
            found.extend(place.ca.as_deref().and_then(|file| wrong_file("the certificates", file, false)));
        }
    }
    let root = wrong_file("the root of the mirror", &config.root, true);
    if root.is_none() {
        for (name, category) in &config.categories {
            let top = config.root.join(&category.top);
            found.extend(wrong_file(&format!("the top directory of {name}"), &top, true));
            let list =
                category.list.as_ref().and_then(|list| wrong_file(&format!("the list of {name}"), &list.path, false));
            found.extend(list);
        }
    }
    found.extend(root);
    found.extend(Config::load(words).err());
    found
}

/// What is wrong with something that must be there: a directory, or a file.
fn wrong_file(what: &str, path: &Path, is_directory: bool) -> Option<Failure> {
    let shown = path.display();
    let wrong = match std::fs::metadata(path) {
        Err(error) => error.to_string(),
        Ok(about) if is_directory && !about.is_dir() => "it is not a directory".into(),
        Ok(about) if !is_directory && !about.is_file() => "it is not a file".into(),
        Ok(_) => return None,
    };
    let hint = if is_directory { format!("is it mounted? ls -ldL {shown}") } else { format!("ls -lL {shown}") };
    Some(Failure::retry(format!("{what}, {shown}: {wrong}")).hinting(hint))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_file_that_is_not_there_is_told_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let block = json!({
            "database": {"sqlite": at("mirrors.db")}, "root": at("mirror"), "prefixes": at("prefixes.yaml"),
            "categories": {"Fedora EPEL": {"path": "pub/epel", "list": at("list")}},
        });
        let said = || {
            let line = |failure: &Failure| format!("{failure} | {}\n", failure.hint().unwrap_or("no hint"));
            check_files(block.as_object().unwrap()).iter().map(line).collect::<String>()
        };
        let all = said();
        for what in ["the database, ", "the root of the mirror, ", "the file of prefixes "] {
            assert!(all.contains(what), "{what}: {all}");
        }
        assert!(all.lines().count() == 3 && !all.contains("no hint"), "{all}");
        std::fs::create_dir(at("mirror")).unwrap();
        let all = said();
        assert!(all.contains("the top directory of Fedora EPEL") && all.contains("the list of Fedora EPEL"), "{all}");
        std::fs::create_dir_all(at("mirror/pub/epel")).unwrap();
        std::fs::create_dir(at("list")).unwrap();
        assert!(said().contains("/list: it is not a file"), "{}", said());
        std::fs::remove_dir(at("list")).unwrap();
        for (file, text) in [("mirrors.db", ""), ("list", ""), ("prefixes.yaml", "- { path: '(' }\n")] {
            std::fs::write(at(file), text).unwrap();
        }
        assert!(said().contains("prefixes.yaml: prefixes, line 1: `path` is no regular expression"), "{}", said());
        std::fs::write(at("prefixes.yaml"), "[]\n").unwrap();
        assert_eq!(said(), "");
    }

    #[test]
    fn the_example_site_has_a_good_block_and_its_files() {
        let site: Value = serde_saphyr::from_str(include_str!("../../../rules.yaml")).unwrap();
        let mut block = site["handlers"]["mirrors"].as_object().unwrap().clone();
        assert_eq!(block.remove("use"), Some(json!("mirror-db")));
        let beside =
            |path: &Value| path.as_str().unwrap().replacen('.', concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), 1);
        block["root"] = beside(&block["root"]).into();
        block["database"]["sqlite"] = beside(&block["database"]["sqlite"]).into();
        check_config(&block).unwrap();
        let wrong = check_files(&block);
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_examples_database_is_what_its_schema_and_seed_make() {
        let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/example"));
        let text = |name: &str| std::fs::read_to_string(example.join(name)).unwrap();
        let made = rusqlite::Connection::open_in_memory().unwrap();
        made.execute_batch(&text("schema.sql")).unwrap();
        made.execute_batch(&text("seed.sql")).unwrap();
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let kept = rusqlite::Connection::open_with_flags(example.join("mirrors.db"), flags).unwrap();
        let lines = |database: &rusqlite::Connection, sql: &str| {
            let mut statement = database.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
            rows.collect::<Result<Vec<_>, _>>().unwrap()
        };
        for sql in [
            "SELECT name || coalesce(sql, '') FROM sqlite_master ORDER BY name",
            "SELECT id || name || readable || coalesce(ctime, '') FROM directory ORDER BY id",
            "SELECT id || name || topdir_id || product_id FROM category ORDER BY id",
            "SELECT id || name FROM arch ORDER BY id",
        ] {
            assert_eq!(lines(&kept, sql), lines(&made, sql), "make it anew: example/seed.sql says how");
        }
    }
}
