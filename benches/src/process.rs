//! What a process used, as /proc says (proc(5)): processor time and memory. And starting the programs that are measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Clock ticks a second in /proc/PID/stat: 100 on every Linux that Rust runs on (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of a process, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now (VmRSS).
    pub resident_mib: f64,
    /// Resident at its largest (VmHWM).
    pub peak_mib: f64,
}

/// Processor seconds that a process used, user and system, without its children.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(ticks(pid, 11..13)? / TICKS_PER_SECOND)
}

/// The sum of these fields of its `stat`, counted from 0 behind its name.
fn ticks(pid: u32, fields: std::ops::Range<usize>) -> Result<f64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    // The name in brackets may hold spaces; the fields are counted behind it.
    let all: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let of = |at: usize| all.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok(fields.map(of).sum())
}

/// The same with those of its children that have ended and were waited for.
///
/// # Errors
/// When there is no such process.
pub fn cpu_with_children_seconds(pid: u32) -> Result<f64> {
    Ok(ticks(pid, 11..15)? / TICKS_PER_SECOND)
}

/// Memory of a process.
///
/// # Errors
/// When there is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    Ok(Memory { resident_mib: mib("VmRSS"), peak_mib: mib("VmHWM") })
}

/// The programs that are measured.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This one: it is also the bare receiver.
    pub benches: PathBuf,
    /// The daemon.
    pub reactor: PathBuf,
    /// The handler that says when it started.
    pub stamp: PathBuf,
    /// Python with the real fedmsg, where `scripts/install-test-deps` has put it.
    pub python: Option<PathBuf>,
    /// Python with the real fedora-messaging, where `scripts/install-test-deps` has put it.
    pub fedora_messaging: Option<PathBuf>,
    /// `ansible-playbook`, where `scripts/install-bench-deps` has put it.
    pub ansible: Option<PathBuf>,
    /// MirrorManager2's umdl, where `scripts/install-bench-deps` has put it.
    pub umdl: Option<PathBuf>,
    /// `benches/peers`.
    pub peers: PathBuf,
    /// `release`, `quick` or `debug`.
    pub profile: String,
}

/// Finds the programs, built as this one is: what is out of date is built again, so that a figure never belongs to older
/// sources.
///
/// # Errors
/// When they can't be built.
pub fn programs() -> Result<Programs> {
    let benches = std::env::current_exe()?;
    let built = benches.parent().context("this program stands in no directory")?.to_owned();
    let profile = built.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let named = if profile == "debug" { "dev" } else { &profile };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let done = Command::new(cargo)
        .args(["build", "--quiet", "--profile", named, "-p", "reactor", "-p", "reactor-benches", "--bins"])
        .current_dir(&root)
        .status()?;
    if !done.success() {
        bail!("the programs that are measured can't be built\nhint: cargo build --profile {named} -p reactor");
    }
    let installed = |program: &str| deps_dir().map(|dir| dir.join(program)).filter(|program| program.exists());
    Ok(Programs {
        reactor: built.join("reactor"),
        stamp: built.join("stamp"),
        peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
        benches,
        python: installed("venv/bin/python"),
        fedora_messaging: installed("fedora-messaging/bin/python"),
        ansible: installed("ansible/bin/ansible-playbook"),
        umdl: installed("umdl/bin/mm2_update-master-directory-list"),
        profile,
    })
}

/// Where `scripts/install-test-deps` and `scripts/install-bench-deps` put things.
fn deps_dir() -> Option<PathBuf> {
    let cache = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/reactor-test"));
    std::env::var_os("REACTOR_TEST_DEPS").map(PathBuf::from).or_else(cache)
}
