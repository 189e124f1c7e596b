//! What can go wrong with a host: down, hanging, full, read-only, with another key, and a link that is cut half-way.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Farm, make_host_key, run};
use crate::process::command;

/// The size of a small disk, in KiB.
const SMALL_DISK_KIB: usize = 64;
/// Means: cut nothing.
const NEVER: i64 = i64::MAX;

impl Farm {
    /// The host is down: its sshd and every session are gone, connections are refused.
    pub fn stop(&mut self, n: usize) {
        if let Some(mut sshd) = self.hosts[n].sshd.take() {
            signal_tree(sshd.inner.id(), Signal::STOP);
            signal_tree(sshd.inner.id(), Signal::KILL);
            sshd.kill_9();
        }
    }

    /// The host is back.
    ///
    /// # Panics
    /// When its sshd does not start.
    pub fn start_again(&mut self, n: usize) {
        self.stop(n);
        self.spawn(n);
        self.wait_until_up(n);
    }

    /// The host hangs: the kernel takes connections, but nobody ever answers, neither there nor in open sessions.
    pub fn hang(&self, n: usize) {
        self.signal(n, Signal::STOP);
    }

    /// The host goes on after [`Farm::hang`].
    pub fn go_on(&self, n: usize) {
        self.signal(n, Signal::CONT);
    }

    fn signal(&self, n: usize, signal: Signal) {
        if let Some(sshd) = &self.hosts[n].sshd {
            signal_tree(sshd.inner.id(), signal);
        }
    }

    /// The host comes back with another host key, as after an installation anew, or as somebody else.
    ///
    /// # Panics
    /// When its sshd does not start.
    pub fn change_host_key(&mut self, n: usize) {
        for file in ["host_key", "host_key.pub"] {
            let dir = &self.hosts[n].dir;
            fs::copy(dir.join(file), dir.join(format!("true_{file}"))).expect("the true host key");
        }
        make_host_key(&self.hosts[n]);
        self.start_again(n);
    }

    /// The host has its own key again after [`Farm::change_host_key`].
    ///
    /// # Panics
    /// When its sshd does not start.
    pub fn restore_host_key(&mut self, n: usize) {
        for file in ["host_key", "host_key.pub"] {
            let dir = &self.hosts[n].dir;
            fs::rename(dir.join(format!("true_{file}")), dir.join(file)).expect("the true host key");
        }
        self.start_again(n);
    }

    /// The disk with the users' keys ([`super::Layout::Directory`]) becomes a small one without a free byte. What was there
    /// stays there.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn fill_disk(&self, n: usize) {
        let dir = self.keys_dir(n);
        let old: Vec<_> = fs::read_dir(&dir)
            .expect("the keys")
            .map(|entry| entry.expect("a name"))
            .map(|entry| (entry.file_name(), fs::read(entry.path()).expect("a key file")))
            .collect();
        let options = format!("size={SMALL_DISK_KIB}k,mode=755");
        run(command("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&dir));
        old.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).expect("a key file"));
        let mut filler = fs::File::create(dir.join(".filler")).expect("a file");
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    /// The disk has room again after [`Farm::fill_disk`].
    ///
    /// # Panics
    /// When it was not full.
    pub fn make_room(&self, n: usize) {
        fs::remove_file(self.keys_dir(n).join(".filler")).expect("the filler");
    }

    /// Not even root can add, change or remove a name in the directory with the users' keys.
    ///
    /// # Panics
    /// When the file system does not know that.
    pub fn make_immutable(&self, n: usize) {
        run(command("chattr").arg("+i").arg(self.keys_dir(n)));
    }

    /// Takes back [`Farm::make_immutable`].
    ///
    /// # Panics
    /// When it can't.
    pub fn make_mutable(&self, n: usize) {
        run(command("chattr").arg("-i").arg(self.keys_dir(n)));
    }

    /// The file system with the users' keys is read-only, as after a disk error.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn make_read_only(&self, n: usize) {
        let dir = self.keys_dir(n);
        run(command("mount").arg("--bind").arg(&dir).arg(&dir));
        run(command("mount").args(["-o", "remount,ro,bind"]).arg(&dir));
    }

    /// Takes back [`Farm::make_read_only`].
    ///
    /// # Panics
    /// When it can't.
    pub fn make_writable(&self, n: usize) {
        run(command("umount").arg(self.keys_dir(n)));
    }

    /// How many connections the host has open.
    #[must_use]
    pub fn sessions(&self, n: usize) -> usize {
        self.hosts[n].sshd.as_ref().map_or(0, |sshd| children_of(sshd.inner.id()).len())
    }

    /// A way to the host that can be cut. Its host key is known at the proxy's address too.
    ///
    /// # Panics
    /// When it can't listen.
    #[must_use]
    pub fn cut_proxy(&self, n: usize) -> CutProxy {
        let host = &self.hosts[n];
        let proxy = CutProxy::start(host.address);
        self.know(proxy.address, host);
        proxy
    }

    /// The directory with the users' keys ([`super::Layout::Directory`]).
    #[must_use]
    pub fn keys_dir(&self, n: usize) -> PathBuf {
        self.hosts[n].dir.join("authorized_keys.d")
    }
}

/// Sends a signal to a process and all below it, which may have left its process group.
fn signal_tree(pid: u32, signal: Signal) {
    let children = children_of(pid);
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in this very moment.
        let _ = kill_process(pid, signal);
    }
    children.into_iter().for_each(|child| signal_tree(child, signal));
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Passes bytes on to a host, and cuts the link once when so many have gone there.
#[derive(Debug)]
pub struct CutProxy {
    /// Where to connect instead of the host.
    pub address: SocketAddrV4,
    state: Arc<Link>,
}

#[derive(Debug)]
struct Link {
    to: SocketAddrV4,
    /// Bytes that may still go to the host before the cut.
    left: AtomicI64,
    cuts: AtomicUsize,
    over: AtomicBool,
}

impl CutProxy {
    fn start(to: SocketAddrV4) -> Self {
        let listener = TcpListener::bind((*to.ip(), 0)).expect("a port");
        let SocketAddr::V4(address) = listener.local_addr().expect("its address") else {
            unreachable!("an IPv4 address")
        };
        let state =
            Arc::new(Link { to, left: AtomicI64::new(NEVER), cuts: AtomicUsize::new(0), over: AtomicBool::new(false) });
        let link = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if link.over.load(Ordering::SeqCst) {
                    return;
                }
                let link = Arc::clone(&link);
                std::thread::spawn(move || link.pass(client));
            }
        });
        Self { address, state }
    }

    /// Cuts the link, once, when `bytes` more have gone to the host.
    pub fn cut_after(&self, bytes: u32) {
        self.state.left.store(i64::from(bytes), Ordering::SeqCst);
    }

    /// How often it was cut so far.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the listener, so that it sees that it is over.
        let _ = TcpStream::connect_timeout(&SocketAddr::V4(self.address), Duration::from_secs(1));
    }
}

impl Link {
    fn pass(self: Arc<Self>, mut client: TcpStream) {
        // Without a host the client sees a closed connection, as it would without us.
        let Ok(mut host) = TcpStream::connect(self.to) else { return };
        let (Ok(mut back), Ok(mut answer)) = (client.try_clone(), host.try_clone()) else { return };
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut answer, &mut back);
            let _ = back.shutdown(Shutdown::Write);
        });
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = client.read(&mut bytes) {
            let may = self.take(read);
            if host.write_all(&bytes[..may]).is_err() || may < read {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
        let _ = host.shutdown(Shutdown::Both);
    }

    /// How many of these bytes may pass; fewer = cut now.
    fn take(&self, bytes: usize) -> usize {
        let wanted = i64::try_from(bytes).unwrap_or(NEVER);
        let left = self.left.load(Ordering::SeqCst);
        if left == NEVER {
            return bytes;
        }
        if left >= wanted {
            self.left.fetch_sub(wanted, Ordering::SeqCst);
            return bytes;
        }
        self.left.store(NEVER, Ordering::SeqCst);
        self.cuts.fetch_add(1, Ordering::SeqCst);
        usize::try_from(left).unwrap_or(0)
    }
}
