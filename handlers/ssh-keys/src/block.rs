//! The part of an authorized_keys file that is ours: between two marker lines. All else in the file stays, byte by byte.
//! Pure.

/// What is wrong with the markers in a file (a beginning without an end, two beginnings). Nothing is changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// A sentence that names the line.
    pub why: String,
}

/// The lines in our block; `None` = there is none. `name` is the block's name (`block` in the configuration).
///
/// # Errors
/// When the markers make no sense.
pub fn find(file: &[u8], name: &str) -> Result<Option<Vec<String>>, Damaged> {
    let _ = (file, name);
    Ok(None)
}

/// The file with `lines` in our block (without lines: without the block); `None` = nothing is left, the file goes.
///
/// # Errors
/// When the markers make no sense.
pub fn replace(file: &[u8], name: &str, lines: &[String]) -> Result<Option<Vec<u8>>, Damaged> {
    let _ = (file, name, lines);
    Ok(None)
}
