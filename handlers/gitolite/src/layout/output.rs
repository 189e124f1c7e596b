//! Where a template writes: so much and no more. Pure.

use std::io::{self, Write};

/// Bytes up to a limit; what goes beyond is an error.
pub(super) struct Bounded {
    bytes: Vec<u8>,
    max: usize,
    full: bool,
}

impl Bounded {
    /// At most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, full: false }
    }

    /// Whether somebody tried to write more.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// What was written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > self.max {
            self.full = true;
            return Err(io::Error::other("too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
