//! The real umdl (`mm2_update-master-directory-list`), where `scripts/install-bench-deps` has put it: it is on no registry, so
//! that takes `MIRRORMANAGER2=DIR`, a checkout.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::place::{CATEGORY, Database, Used};
use super::tree_maker::TOP;
use crate::Env;
use crate::process::memory;
use crate::ssh_keys::work::cost_with;

/// Between two looks at its memory, in milliseconds.
const LOOK_MS: u64 = 20;
/// How long it takes (first list of 200,000 files, then the same again, one repository changed) where it is not here: seconds on
/// the clock and of the processor, measured earlier on this kind of machine, PostgreSQL, load 5 to 8.
pub const QUOTED: &str = "umdl is not here; quoted: 40 s of processor time for a first list, 6.7 when nothing changed, 8.8 when one \
                          repository did, 164 MB; a walk 46 and 9.0";

/// umdl, as it is installed.
#[derive(Debug)]
pub struct Umdl {
    program: PathBuf,
    peers: PathBuf,
}

impl Umdl {
    /// If it is here.
    #[must_use]
    pub fn find(env: &Env) -> Option<Self> {
        let program = env.programs.umdl.clone();
        if program.is_none() {
            eprintln!("  umdl is not here (MIRRORMANAGER2=DIR scripts/install-bench-deps): its figures are quoted");
        }
        Some(Self { program: program?, peers: env.programs.peers.clone() })
    }

    /// MirrorManager2's tables, as its own package makes them.
    ///
    /// # Errors
    /// What it says.
    pub fn make_tables(&self, database: &Database) -> Result<()> {
        let mut command = Command::new(self.program.with_file_name("python"));
        let output = command.env("PYTHONPATH", &self.peers).arg(self.peers.join("umdl_schema.py")).arg(database.uri());
        let output = output.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "no tables: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// One run of it over the tree below `root`: with the list there, or a walk.
    ///
    /// # Errors
    /// What it says.
    pub fn run(&self, database: &Database, dir: &Path, root: &Path, walk: bool) -> Result<Used> {
        let (config, log) = (dir.join("umdl.cfg"), dir.join("umdl.log"));
        let (uri, root) = (database.uri(), root.display());
        // What is written stands in Rust's quotes, which Python reads too.
        fs::write(
            &config,
            format!(
                "SQLALCHEMY_DATABASE_URI = {uri:?}\nUMDL_PREFIX = \"{root}/\"\nUMDL_MASTER_DIRECTORIES = [{{\"type\": \
                 \"directory\", \"path\": \"{root}/{TOP}\", \"category\": {CATEGORY:?}}}]\n"
            ),
        )?;
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(&config).env("PYTHONPATH", &self.peers).stdin(Stdio::null());
        if walk {
            command.arg("--skip-fullfiletimelist");
        }
        let out = File::create(&log)?;
        command.stderr(out.try_clone()?).stdout(out);
        let (peak_mib, cost) = cost_with(&database.server(), || run(&mut command))?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        let peak_mib = peak_mib.with_context(|| format!("umdl failed\n{said}"))?;
        Ok(Used { wall: cost.wall, cpu: cost.ours, server: cost.hosts, peak_mib })
    }
}

/// Runs it to its end: its memory at most, as far as was seen; `None` when it failed.
fn run(command: &mut Command) -> Result<Option<f64>> {
    let mut child = command.spawn()?;
    let mut peak: f64 = 0.0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success().then_some(peak));
        }
        // It may end in this moment.
        peak = memory(child.id()).map_or(peak, |now| peak.max(now.peak_mib));
        std::thread::sleep(Duration::from_millis(LOOK_MS));
    }
}
