//! A relay on the loopback that loses its line on purpose.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that are passed on at once.
const CHUNK_BYTES: usize = 512;

/// Passes connections on to a server, and cuts them after so many bytes of answers. Ends with the test's process.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    left: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Relay {
    /// Starts one to a port on the loopback. It cuts nothing yet.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let (left, connections) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicU64::new(0)));
        let (mine, count) = (Arc::clone(&left), Arc::clone(&connections));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { continue };
                std::thread::spawn(move || pass(client, to_server, &AtomicU64::new(u64::MAX)));
                let left = Arc::clone(&mine);
                std::thread::spawn(move || pass(server, to_client, &left));
            }
        });
        Self { port, left, connections }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts the line after `bytes` more bytes of answers; from then on every connection at once, until this is called again.
    pub fn cut_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// Connections that it took so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, left: &AtomicU64) {
    // Otherwise the kernel holds small chunks back, and a test takes ten times as long.
    let _ = to.set_nodelay(true);
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).unwrap_or(0);
        let take = |left: u64| Some(left.saturating_sub(read as u64));
        let may = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).unwrap_or(0);
        let send = usize::try_from(may).unwrap_or(usize::MAX).min(read);
        if send == 0 || to.write_all(&chunk[..send]).is_err() || send < read {
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
            return;
        }
    }
}
