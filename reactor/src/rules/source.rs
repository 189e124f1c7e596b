//! One file of a site: its text and its tree.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::Diagnostics;
use super::lower::{NamedFile, Reader};
use super::node::{FILE_BYTES_MAX, Node, read as read_tree};

/// One file of the site.
pub(super) struct Source {
    /// As it was named.
    pub path: PathBuf,
    /// Absolute; the paths in the file begin here.
    pub dir: PathBuf,
    /// All of it.
    pub text: Arc<str>,
    /// Its number in a [`Span`].
    pub file: u32,
    /// What it says, where it is YAML.
    pub tree: Option<Node>,
}

impl Source {
    /// Reads it; `None` where that fails, which is told.
    pub fn open(path: &Path, found: &mut Diagnostics) -> Option<Self> {
        let text = match read_text(path) {
            Ok(text) => text,
            Err((message, hint)) => {
                found.error_in_file(path, message, hint);
                return None;
            }
        };
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::new(path, absolute.parent().unwrap_or(Path::new("/")).to_owned(), &text, found)
    }

    /// A text that was read already.
    pub fn new(path: &Path, dir: PathBuf, text: &str, found: &mut Diagnostics) -> Option<Self> {
        if text.len() > FILE_BYTES_MAX {
            found.error_in_file(path, too_large(), "split the site into several files of a directory");
            return None;
        }
        let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(text).into();
        let file = found.add_file(path, Arc::clone(&text));
        let tree = read_tree(file, &text, found);
        Some(Self { path: path.to_owned(), dir, text, file, tree })
    }

    /// Reads its words.
    pub fn reader<'a>(
        &'a self,
        found: &'a mut Diagnostics,
        named_files: &'a mut Vec<NamedFile>,
        built_in: &'a [&'a str],
    ) -> Reader<'a> {
        Reader { found, named_files, file: &self.path, source: &self.text, dir: &self.dir, built_in }
    }
}

fn too_large() -> String {
    format!("the file is larger than {} MiB", FILE_BYTES_MAX / (1024 * 1024))
}

fn read_text(path: &Path) -> Result<String, (String, String)> {
    let cannot = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name the file, as in `reactor check FILE|DIR`; README.md shows a first one".to_owned()
            }
            _ => format!("ls -l {}", path.display()),
        };
        (format!("the file cannot be read: {error}"), hint)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err((too_large(), "split the site into several files of a directory".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        (format!("line {line} is not UTF-8"), format!("iconv -f latin1 -t utf-8 {}", path.display()))
    })
}
