//! What a piece of work cost: seconds on the clock, and processor seconds at both ends.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use reactor_tests::sshd::Farm;

/// Clock ticks a second in /proc/PID/stat, as in `process.rs`.
const TICKS_PER_SECOND: f64 = 100.0;

/// What something cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Seconds on the clock.
    pub wall: f64,
    /// Processor seconds of whoever changes the hosts: handler, ssh, Ansible. Not of this program, which waits for them.
    pub ours: f64,
    /// Processor seconds of the hosts: sshd and all it started.
    pub hosts: f64,
}

impl Cost {
    /// Processor seconds of both ends.
    pub const fn cpu(&self) -> f64 {
        self.ours + self.hosts
    }

    /// The same with this processor time.
    pub const fn with_cpu_of(self, other: Self) -> Self {
        Self { wall: self.wall, ..other }
    }

    /// Both, one after the other.
    pub const fn and(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, ours: self.ours + other.ours, hosts: self.hosts + other.hosts }
    }

    /// Of `n` things together → of one.
    pub fn each(self, n: usize) -> Self {
        let n = n as f64;
        Self { wall: self.wall / n, ours: self.ours / n, hosts: self.hosts / n }
    }
}

/// The one in the middle, by the clock.
pub fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}

/// Runs it, and says what it cost.
///
/// # Errors
/// Its own.
pub fn cost<T>(farm: &Farm, work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    cost_with(&sshds(farm), work)
}

/// The same, where the hosts are these processes and what they started.
///
/// # Errors
/// Its own.
pub fn cost_with<T>(hosts: &[u32], work: impl FnOnce() -> Result<T>) -> Result<(T, Cost)> {
    let before = used(hosts)?;
    let started = Instant::now();
    let result = work()?;
    let wall = started.elapsed().as_secs_f64();
    let after = used(hosts)?;
    Ok((result, Cost { wall, ours: after.0 - before.0, hosts: after.1 - before.1 }))
}

/// What it costs each time when it is run so often in a row. The kernel says processor time of each process in whole ticks of
/// 10 ms, rounded down: one short command in each of 200 sessions shows nothing; 20 of them are known to one tick in eight.
///
/// # Errors
/// Its own.
pub fn in_a_row(farm: &Farm, times: usize, mut work: impl FnMut() -> Result<()>) -> Result<Cost> {
    let ((), all) = cost(farm, || (0..times).try_for_each(|_| work()))?;
    Ok(all.each(times))
}

/// Processor seconds so far of all that this program started, without the hosts; and of the hosts. All of it is below this
/// process: it adopts what leaves its parent (see [`super::run`]), as Ansible's ssh masters do.
fn used(hosts: &[u32]) -> Result<(f64, f64)> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let mut seconds = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // It may be gone by now; then its parent has its time.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let fields: Vec<f64> =
            stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect();
        let [parent, times] = [fields.get(1..2), fields.get(11..15)].map(Option::unwrap_or_default);
        children.entry(parent.first().copied().unwrap_or(0.0) as u32).or_default().push(pid);
        // Of this program only what it waited for.
        let times = if pid == std::process::id() { times.get(2..).unwrap_or_default() } else { times };
        seconds.insert(pid, times.iter().sum::<f64>() / TICKS_PER_SECOND);
    }
    let below = |top: u32| {
        let (mut sum, mut open) = (0.0, vec![top]);
        while let Some(pid) = open.pop() {
            sum += seconds.get(&pid).copied().unwrap_or(0.0);
            open.extend(children.get(&pid).into_iter().flatten());
        }
        sum
    };
    let hosts: f64 = hosts.iter().copied().map(below).sum();
    Ok((below(std::process::id()) - hosts, hosts))
}

/// The process ids of the hosts.
fn sshds(farm: &Farm) -> Vec<u32> {
    let files: Vec<PathBuf> = farm.hosts.iter().map(|host| host.dir.join("sshd.pid")).collect();
    files.into_iter().filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
}
