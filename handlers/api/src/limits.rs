//! The limits of the handler protocol. Over one of them = a permanent failure that names it.

/// Largest request on a handler's stdin, in bytes.
pub const STDIN_BYTES_MAX: usize = 1024 * 1024;
/// Longest line a handler may print on stdout, in bytes.
pub const STDOUT_LINE_BYTES_MAX: usize = 64 * 1024;
/// All that a handler may print on stdout in one answer, in bytes. Bounds what ignored lines and large changes can cost.
pub const STDOUT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most changes in one plan or one apply.
pub const CHANGES_MAX: usize = 10_000;
/// Notes that are kept of one plan or one apply; the rest is counted.
pub const NOTES_MAX: usize = 100;
/// Longest note, in bytes; the rest is cut off and `…` put in its place.
pub const NOTE_BYTES_MAX: usize = 400;
/// Longest `hold` of a change, in bytes; the rest is cut off and `…` put in its place.
pub const HOLD_BYTES_MAX: usize = 400;
/// Most `later` lines in one apply.
pub const LATER_MAX: usize = 1_000;
/// Longest key of a `later` line, in bytes: as long as a rule's own may be.
pub const LATER_KEY_BYTES_MAX: usize = 256;
/// What is kept of a handler's stderr, in bytes. The rest is read and thrown away.
pub const STDERR_KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Handlers that run at the same time.
pub const HANDLERS_AT_ONCE_MAX: usize = 16;
/// How long a handler may take to answer `describe`, in seconds.
pub const DESCRIBE_SECONDS_MAX: u64 = 10;
/// Between SIGTERM and SIGKILL to a handler's process group, in seconds.
pub const TERM_TO_KILL_SECONDS: u64 = 10;
/// Requests that one long-lived handler written with [`crate::serve()`] works on at the same time.
pub const SERVE_AT_ONCE_MAX: usize = 64;
/// How long [`crate::serve()`] waits, after the end of stdin, for requests to end and the handler to close what it holds, in
/// seconds. Less than [`TERM_TO_KILL_SECONDS`], the grace that the daemon gives.
pub const SERVE_CLOSE_SECONDS_MAX: u64 = 5;
/// Largest secret, in bytes.
pub const SECRET_BYTES_MAX: u64 = 1024 * 1024;
