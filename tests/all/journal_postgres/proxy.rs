//! A way to the server that breaks where a test wants it to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What happens to the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server does not get it.
    BeforeIt,
    /// The server answers, but the client does not get the answer.
    AfterIt,
    /// The same, and nobody gets through until the proxy is mended.
    AfterItForLong,
    /// The client's connection ends; the server gets nothing, and holds its end.
    OursOnly,
}

/// Passes everything on, from a port of its own.
pub struct Proxy {
    port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
    closed: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let me = Self { port, cut: Arc::default(), closed: Arc::default() };
        let (cut, closed) = (me.cut.clone(), me.closed.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !closed.load(Ordering::SeqCst) {
                    let (cut, closed) = (cut.clone(), closed.clone());
                    std::thread::spawn(move || pass(&client, to, &cut, &closed));
                }
            }
        });
        me
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn at_commit(&self, cut: Cut) {
        *self.cut.lock().expect("no panic") = Some(cut);
    }

    pub fn mend(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }
}

fn pass(mut client: &TcpStream, to: u16, cut: &Mutex<Option<Cut>>, closed: &AtomicBool) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)) else { return };
    let muted = Arc::new(AtomicBool::new(false));
    let back = std::thread::spawn({
        let (muted, mut from, mut to) =
            (muted.clone(), server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
        move || {
            let mut buffer = [0; 65_536];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                // The answer to a commit that is cut after it: the way ends with it.
                if muted.load(Ordering::SeqCst) || to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        }
    });
    let mut buffer = [0; 65_536];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        // Its own message ("Q", length, text), which the journal sends when all else was answered.
        let now = if buffer[..n].windows(7).any(|part| part == b"COMMIT\0") {
            cut.lock().expect("no panic").take()
        } else {
            None
        };
        match now {
            None => {}
            Some(Cut::BeforeIt) => break,
            Some(Cut::OursOnly) => {
                let _ = client.shutdown(Shutdown::Both);
                // Held until the server ends it.
                let _ = back.join();
                return;
            }
            Some(Cut::AfterIt) => muted.store(true, Ordering::SeqCst),
            Some(Cut::AfterItForLong) => {
                closed.store(true, Ordering::SeqCst);
                muted.store(true, Ordering::SeqCst);
            }
        }
        if server.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}
