//! The tables of a mirror database as text without ids, a row a line, in the order of the golden dumps.

use std::path::Path;

use reactor_tests::postgres::Postgres;
use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// What is dumped: the name of the table, the question, which columns are true or false.
const TABLES: [(&str, &str, &[usize]); 5] = [
    ("directory", "select name, readable, ctime, files from directory order by name", &[1]),
    (
        "category_directory",
        "select category.name, directory.name from category_directory join category on category.id = category_id \
         join directory on directory.id = directory_id order by 1, 2",
        &[],
    ),
    (
        "version",
        "select version.name, codename, is_test, display, display_name, ordered_mirrorlist, sortorder, product.name \
         from version left join product on product.id = product_id order by product.name, version.name",
        &[2, 3, 5],
    ),
    (
        "repository",
        "select repository.name, prefix, category.name, version.name, arch.name, directory.name, disabled from repository \
         left join category on category.id = category_id left join version on version.id = version_id \
         left join arch on arch.id = arch_id left join directory on directory.id = repository.directory_id order by repository.name",
        &[6],
    ),
    (
        "file_detail",
        "select directory.name, filename, timestamp, size, md5, sha1, sha256, sha512 from file_detail \
         join directory on directory.id = directory_id order by 1, 2, 3",
        &[],
    ),
];

/// Every row.
pub fn dump(database: &Path) -> Vec<String> {
    let database = Connection::open(database).expect("the database");
    let rows = |(table, sql, bools): (&str, &str, &[usize])| {
        let mut statement = database.prepare(sql).expect(sql);
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let word = |at: usize| row.get_ref(at).map(|value| shown(value, bools.contains(&at)));
            Ok(format!("{table}\t{}", (0..columns).map(word).collect::<Result<Vec<_>, _>>()?.join("\t")))
        });
        rows.expect(sql).collect::<Result<Vec<_>, _>>().expect(sql)
    };
    TABLES.into_iter().flat_map(rows).collect()
}

/// The same of a database on a server.
pub fn dump_postgres(server: &Postgres, database: &str) -> Vec<String> {
    let rows = |(table, sql, _): (&str, &str, &[usize])| {
        // Texts are bytes there; true and false are shown as here.
        let sql = sql.replace(" files from", " convert_from(files, 'UTF8') from");
        let mut psql = server.psql(database);
        let output = psql.args(["-F", "\t", "-P", "null=\\N", "-c", &sql]).output().expect("psql");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.lines().map(|line| format!("{table}\t{line}")).collect::<Vec<_>>()
    };
    TABLES.into_iter().flat_map(rows).collect()
}

fn shown(value: ValueRef<'_>, is_bool: bool) -> String {
    match value {
        ValueRef::Null => "\\N".into(),
        ValueRef::Integer(number) if is_bool => if number == 0 { "f" } else { "t" }.into(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

/// How many rows each table has, in the order of [`TABLES`].
pub fn counts(rows: &[String]) -> [usize; 5] {
    TABLES.map(|(table, ..)| rows.iter().filter(|row| row.split('\t').next() == Some(table)).count())
}

/// The rows of `a` that `b` does not have.
pub fn without(a: &[String], b: &[String]) -> Vec<String> {
    let b: std::collections::BTreeSet<&String> = b.iter().collect();
    a.iter().filter(|row| !b.contains(row)).cloned().collect()
}
