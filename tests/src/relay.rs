//! A relay on the loopback that loses its line on purpose.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 512;
/// Between two looks whether a hushed line may speak again.
const LOOK: Duration = Duration::from_millis(5);

/// Passes connections on to a server, and cuts or hushes them when it is told to. Ends with the test's process.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes of answers that may still pass.
    left: AtomicU64,
    connections: AtomicU64,
    /// Whether what the client, and what the server says is held.
    hushed: [AtomicBool; 2],
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Starts one to a port on the loopback. It cuts nothing yet.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn to(server: u16) -> Self {
        Self::at("127.0.0.1", server)
    }

    /// [`Self::to`], with another address of its own: one by which the server's certificate does not know it.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn at(address: &str, server: u16) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let state = Arc::new(State {
            left: AtomicU64::new(u64::MAX),
            connections: AtomicU64::new(0),
            hushed: Default::default(),
            open: Mutex::default(),
        });
        let mine = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                mine.connections.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { continue };
                if let (Ok(one), Ok(other)) = (server.try_clone(), client.try_clone()) {
                    mine.open.lock().expect("no panic").extend([one, other]);
                }
                for (from, to, is_answer) in [(client, to_server, false), (server, to_client, true)] {
                    let state = Arc::clone(&mine);
                    std::thread::spawn(move || pass(from, to, is_answer, &state));
                }
            }
        });
        Self { port, state }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the line after `bytes` more bytes of answers; from then on every connection at once, until this is called again.
    pub fn cut_after(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// From now on nothing that a client says arrives, and nobody is told.
    pub fn hush_clients(&self) {
        self.state.hushed[0].store(true, Ordering::SeqCst);
    }

    /// From now on nothing arrives in either direction, and nobody is told: a partition.
    pub fn hush(&self) {
        self.hush_clients();
        self.state.hushed[1].store(true, Ordering::SeqCst);
    }

    /// Ends every connection by force; new ones pass.
    ///
    /// # Panics
    /// When a thread of it did.
    pub fn begin_anew(&self) {
        for stream in self.state.open.lock().expect("no panic").drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.state.hushed.iter().for_each(|hushed| hushed.store(false, Ordering::SeqCst));
    }

    /// Connections that it took so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_answer: bool, state: &State) {
    // Otherwise the kernel holds small chunks back, and a test takes ten times as long.
    let _ = to.set_nodelay(true);
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).unwrap_or(0);
        // What was held is not passed on later: its connection has ended by then.
        let hushed = &state.hushed[usize::from(is_answer)];
        while hushed.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
        }
        let take = |left: u64| Some(left.saturating_sub(read as u64));
        let may = if is_answer {
            state.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap_or(0)
        } else {
            u64::MAX
        };
        let send = usize::try_from(may).unwrap_or(usize::MAX).min(read);
        if send == 0 || to.write_all(&chunk[..send]).is_err() || send < read {
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return;
        }
    }
}
