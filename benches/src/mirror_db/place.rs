//! A mirror database with one category, and the handler on it: what it costs, asked over its stdin as the daemon asks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use reactor_tests::postgres::Postgres;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::tree_maker::{TOP, Tree};
use super::umdl::Umdl;
use crate::Env;
use crate::process::memory;
use crate::ssh_keys::ours::{Handler, Site};
use crate::ssh_keys::work::{Cost, cost_with};

/// The category.
pub const CATEGORY: &str = "Fedora EPEL";
/// Times that something short is done.
const TIMES: usize = 20;
/// Times that the whole tree is looked at.
const WHOLE_TIMES: usize = 5;
/// Our own tables, where MirrorManager2's package is not here to make them.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../handlers/mirror-db/example/schema.sql");

/// A mirror database.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// One of that name on a server of the bench's own.
    Postgres(Rc<Postgres>, String),
}

/// Where databases are made.
#[derive(Debug)]
pub enum Kind {
    /// Files.
    Sqlite,
    /// A server.
    Postgres(Rc<Postgres>),
}

/// What something cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Seconds on the clock.
    pub wall: f64,
    /// Processor seconds of the handler, or of umdl.
    pub cpu: f64,
    /// Processor seconds of the database's server.
    pub server: f64,
    /// Memory at most, in MiB.
    pub peak_mib: f64,
}

impl Used {
    fn of(cost: Cost, peak_mib: f64) -> Self {
        Self { wall: cost.wall, cpu: cost.ours, server: cost.hosts, peak_mib }
    }

    /// Both, one after the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
            server: self.server + other.server,
            peak_mib: self.peak_mib.max(other.peak_mib),
        }
    }
}

impl Database {
    /// The block's word `database`.
    #[must_use]
    pub fn words(&self) -> Value {
        match self {
            Self::Sqlite(path) => json!({ "sqlite": path }),
            Self::Postgres(server, name) => json!({"postgresql": {
                "host": server.socket(), "port": server.port(), "name": name, "user": "postgres",
            }}),
        }
    }

    /// As `SQLAlchemy` names it.
    #[must_use]
    pub fn uri(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:///{}", path.display()),
            Self::Postgres(server, name) => {
                format!("postgresql:///{name}?user=postgres&host={}&port={}", server.socket().display(), server.port())
            }
        }
    }

    /// The process id of its server.
    #[must_use]
    pub fn server(&self) -> Vec<u32> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            Self::Postgres(server, _) => server.pid().into_iter().collect(),
        }
    }

    fn run(&self, sql: &str) -> Result<()> {
        match self {
            Self::Sqlite(path) => Ok(Connection::open(path)?.execute_batch(sql)?),
            Self::Postgres(server, name) => {
                server.sql(name, sql);
                Ok(())
            }
        }
    }

    fn count(&self, table: &str) -> Result<i64> {
        match self {
            Self::Sqlite(path) => {
                let count = format!("select count(*) from {table}");
                Ok(Connection::open(path)?.query_row(&count, [], |row| row.get(0))?)
            }
            Self::Postgres(server, name) => {
                let said = server.column(name, &format!("select count(*) from {table}"));
                Ok(said.first().context("no answer")?.parse()?)
            }
        }
    }

    /// Makes it: the tables, the arches, a product, the category and its top directory.
    ///
    /// # Errors
    /// What it says.
    pub fn make(&self, umdl: Option<&Umdl>) -> Result<()> {
        match umdl {
            Some(umdl) => umdl.make_tables(self)?,
            None => self.run(&self.schema()?)?,
        }
        for arch in ["source", "i386", "x86_64", "ppc64le", "aarch64", "s390x"] {
            self.run(&format!("insert into arch (name, publiclist, primary_arch) values ('{arch}', true, true)"))?;
        }
        self.run("insert into product (name, publiclist) values ('EPEL', true)")?;
        self.run(&format!("insert into directory (name, readable, ctime) values ('{TOP}', true, 0)"))?;
        self.run(&format!(
            "insert into category (name, canonicalhost, publiclist, admin_only, product_id, topdir_id) select '{CATEGORY}', \
             'http://localhost', true, false, product.id, directory.id from product, directory;
             insert into category_directory (category_id, directory_id) select category.id, topdir_id from category"
        ))
    }

    fn schema(&self) -> Result<String> {
        let schema = fs::read_to_string(SCHEMA).context(SCHEMA)?;
        // As the file itself says.
        let postgres =
            |text: String| text.replace("id integer PRIMARY KEY", "id serial PRIMARY KEY").replace(" blob", " bytea");
        Ok(if matches!(self, Self::Postgres(..)) { postgres(schema) } else { schema })
    }

    /// How many directories, repositories and checksums it has.
    ///
    /// # Errors
    /// What it says.
    pub fn counts(&self) -> Result<[i64; 3]> {
        Ok([self.count("directory")?, self.count("repository")?, self.count("file_detail")?])
    }
}

/// Where to look, and where to write.
#[derive(Debug)]
pub struct Place {
    /// A directory for logs.
    pub dir: PathBuf,
    /// Where the tree is.
    pub root: PathBuf,
    /// The master's list; without it the handler walks.
    pub list: Option<PathBuf>,
    /// The database.
    pub database: Database,
}

/// What the handler cost.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// From nothing: the plan.
    pub first_plan: Used,
    /// From nothing: plan and apply.
    pub fill: Used,
    /// The plan of everything, when nothing changed.
    pub same: Used,
    /// One repository changed: plan and apply of its directory.
    pub hinted: Option<Used>,
    /// One repository changed: plan and apply of everything.
    pub whole: Option<Used>,
}

impl Place {
    fn config(&self) -> Map<String, Value> {
        let mut category = json!({ "path": TOP });
        if let Some(list) = &self.list {
            category["list"] = json!(list);
        }
        let words = [
            ("database", self.database.words()),
            ("root", json!(self.root)),
            ("categories", json!({ CATEGORY: category })),
            (
                "prefixes",
                json!([
                    {"path": "/testing/", "prefix": "testing-{kind}epel{version}"},
                    {"path": "^pub/epel/", "prefix": "epel-{kind}{version}"},
                ]),
            ),
        ];
        words.map(|(word, value)| (word.to_owned(), value)).into_iter().collect()
    }

    /// Measures all of it. `tree` is what is there; without it nothing is changed.
    ///
    /// # Errors
    /// When the handler fails, or finds something to do where nothing is.
    pub fn costs(&self, env: &Env, tree: Option<&mut Tree>) -> Result<Costs> {
        fs::create_dir_all(self.dir.join("secrets"))?;
        let site = Site::of("mirror-db", &self.dir, self.config());
        let mut handler = Handler::start(&env.programs.reactor, &site)?;
        let everything = json!({});
        let server = self.database.server();
        let (planned, first) = cost_with(&server, || handler.ask("plan", &everything, None))?;
        let first_plan = Used::of(first, memory(handler.pid())?.peak_mib);
        ensure!(!planned.is_empty(), "the first plan is empty");
        let (_, apply) = cost_with(&server, || handler.ask("apply", &everything, Some(planned)))?;
        let fill = Used::of(first.and(apply), memory(handler.pid())?.peak_mib);
        // The memory of one that fills nothing is another.
        drop(handler);
        let mut handler = Handler::start(&env.programs.reactor, &site)?;
        handler.ask("plan", &everything, None)?;
        let times = env.size(WHOLE_TIMES, 1);
        let ((), same) = cost_with(&server, || {
            (0..times).try_for_each(|_| {
                let found = handler.ask("plan", &everything, None)?;
                ensure!(found.is_empty(), "a plan after the first fill finds {:?}", found.first());
                Ok(())
            })
        })?;
        let same = Used::of(same.each(times), memory(handler.pid())?.peak_mib);
        let (mut hinted, mut whole) = (None, None);
        if let Some(tree) = tree {
            let repository = tree.repositories().into_iter().nth(1).context("a tree without repositories")?;
            let hint = json!({ "directories": [format!("{TOP}/{repository}")] });
            // Without a message a hint is always a walk; the lists' times are others than the disk's.
            if self.list.is_none() {
                let times = env.size(TIMES, 2);
                hinted = Some(self.changed(&mut handler, tree, &repository, &hint, times)?);
            }
            whole = Some(self.changed(&mut handler, tree, &repository, &everything, env.size(WHOLE_TIMES, 1))?);
            let found = handler.ask("plan", &everything, None)?;
            ensure!(found.is_empty(), "a plan after all changes finds {:?}", found.first());
        }
        Ok(Costs { first_plan, fill, same, hinted, whole })
    }

    /// A repository gets new content, and the handler is told; so many times.
    fn changed(
        &self,
        handler: &mut Handler<'_>,
        tree: &mut Tree,
        repository: &str,
        with: &Value,
        times: usize,
    ) -> Result<Used> {
        let mut wall = 0.0;
        let ((), all) = cost_with(&self.database.server(), || {
            (0..times).try_for_each(|_| {
                tree.update(repository);
                tree.write_update(&self.root, repository)?;
                if self.list.is_some() {
                    tree.write_list(&self.root)?;
                }
                let began = std::time::Instant::now();
                let planned = handler.ask("plan", with, None)?;
                ensure!(!planned.is_empty(), "nothing planned for {with}");
                handler.ask("apply", with, Some(planned))?;
                wall += began.elapsed().as_secs_f64();
                Ok(())
            })
        })?;
        let each = Cost { wall, ..all }.each(times);
        Ok(Used::of(each, memory(handler.pid())?.peak_mib))
    }
}

impl Kind {
    /// How people call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres(_) => "PostgreSQL",
        }
    }

    /// A new database; SQLite's is a file in `dir`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn database(&self, dir: &Path, name: &str, umdl: Option<&Umdl>) -> Result<Database> {
        let database = match self {
            Self::Sqlite => Database::Sqlite(dir.join(format!("{name}.db"))),
            Self::Postgres(server) => {
                server.sql("postgres", &format!("create database \"{name}\""));
                Database::Postgres(Rc::clone(server), name.to_owned())
            }
        };
        database.make(umdl)?;
        Ok(database)
    }
}
