//! Checksums of repomd.xml and ostree summaries, and of the files that checksum files name.

use std::path::Path;

use handler_api::Failure;

use crate::rows::{Detail, Tree};

/// Whether the content of a file of that name says something: `repomd.xml`, `summary`, `*-CHECKSUM`, `sha256sum.txt`, …
#[must_use]
pub fn is_read(filename: &str) -> bool {
    let _ = filename;
    todo!()
}

/// Reads what [`crate::rows::Found::read`] names, in every directory of the tree. Where the tree has the sums of a
/// `repomd.xml`, and `has` knows a row with them, the file is not read: that row is the answer. Blocks.
///
/// Returns the rows as they must be (the newest version of each), and a sentence for each file that was passed over because
/// it can't be understood (a repomd.xml that is no XML): its old rows stay.
///
/// # Errors
/// Retry: a file vanished or can't be read.
pub fn read(root: &Path, tree: &Tree, has: &[(i32, Detail)]) -> Result<(Vec<Detail>, Vec<String>), Failure> {
    let _ = (root, tree, has);
    todo!()
}
