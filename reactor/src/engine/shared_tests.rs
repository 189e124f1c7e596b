//! What several nodes make of what they share, without a server.
