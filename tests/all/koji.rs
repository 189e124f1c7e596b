//! The handler `koji-owners` against a stand-in for a Koji hub, and that against what a real hub said and the real client.

mod standin;
