//! The source `yaml`: a file with people and groups, read at each request.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handler_api::Failure;
use serde_json::Value;

use crate::roster::Roster;
use crate::{Account, Members};
use handler_api::words::Words;

/// Largest file, in bytes.
pub const YAML_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long reading and parsing it may take (a file on a network that hangs), in seconds.
pub const YAML_SECONDS_MAX: u64 = 60;

/// The source, as configured.
#[derive(Debug)]
pub struct Yaml {
    path: PathBuf,
}

impl Yaml {
    /// Reads `{yaml: PATH}`.
    ///
    /// # Errors
    /// A permanent failure that names the wrong word.
    pub fn open(config: &Value) -> Result<Self, Failure> {
        let words = Words::read(config, "accounts: yaml", &["yaml"])?;
        let path = words.text("yaml")?.unwrap_or_default();
        if !path.starts_with('/') {
            let value = words.get("yaml").unwrap_or(&Value::Null);
            let failure = words.wrong("yaml", "is not the absolute path of a file", value);
            return Err(failure.hinting("write /PATH, or ./PATH for a file beside the rules file"));
        }
        Ok(Self { path: path.into() })
    }

    /// See [`crate::Accounts::user`].
    ///
    /// # Errors
    /// When the file can't be read, is no such file, or lacks one of the groups.
    pub async fn user(&self, name: &str, groups: &BTreeSet<String>) -> Result<Option<Account>, Failure> {
        self.roster().await?.user(name, groups)
    }

    /// See [`crate::Accounts::members`].
    ///
    /// # Errors
    /// As for one user, and for a member of whom `users` knows nothing.
    pub async fn members(&self, groups: &BTreeSet<String>) -> Result<Members, Failure> {
        self.roster().await?.members(groups)
    }

    async fn roster(&self) -> Result<Roster, Failure> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            Roster::from_yaml(&file_text("accounts", &path)?, &path.display().to_string())
        });
        match tokio::time::timeout(Duration::from_secs(YAML_SECONDS_MAX), read).await {
            Ok(Ok(roster)) => roster,
            Ok(Err(error)) => Err(Failure::retry(format!("{}: {error}", self.path.display()))),
            Err(_) => {
                let message = format!("{} could not be read within {YAML_SECONDS_MAX}s", self.path.display());
                Err(Failure::retry(message).hinting(format!("time head -c1 {}", self.path.display())))
            }
        }
    }
}

/// The text of a file of `what` (`accounts`), whole: a truth that people write. Blocks.
///
/// # Errors
/// When it can't be read, is no file or no UTF-8, is larger than [`YAML_BYTES_MAX`], or is written to meanwhile.
pub fn file_text(what: &str, path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let failed = |why: String| {
        Failure::retry(format!("the {what} file {shown} can't be read: {why}")).hinting(format!("ls -l {shown}"))
    };
    // Before it is opened: opening a pipe would wait for its other end.
    let about = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !about.is_file() {
        return Err(failed("it is not a file".into()));
    }
    let mut file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let before = stamp(&file).map_err(|error| failed(error.to_string()))?;
    let mut text = String::new();
    let read = file.by_ref().take(YAML_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > YAML_BYTES_MAX {
        return Err(failed(format!("it is larger than {YAML_BYTES_MAX} bytes")));
    }
    // Half of a file that is written in place can look whole.
    if stamp(&file).map_err(|error| failed(error.to_string()))? != before || text.len() as u64 != before.0 {
        return Err(failed("it was written to meanwhile".into()));
    }
    Ok(text)
}

/// Size and time of the last change of an open file.
fn stamp(file: &std::fs::File) -> std::io::Result<(u64, std::time::SystemTime)> {
    let about = file.metadata()?;
    Ok((about.len(), about.modified()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_file_is_read_anew_at_each_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "users: {a: {keys: [x]}}\ngroups: {web: [a]}\n").unwrap();
        let source = Yaml::open(&json!({"yaml": path})).unwrap();
        let web = BTreeSet::from(["web".to_owned()]);
        assert_eq!(source.user("a", &web).await.unwrap().unwrap().keys, ["x"]);
        std::fs::write(&path, "users: {a: {keys: [y]}}\ngroups: {web: [a]}\n").unwrap();
        assert_eq!(source.user("a", &web).await.unwrap().unwrap().keys, ["y"]);
        assert_eq!(source.members(&web).await.unwrap().accounts["a"].keys, ["y"]);
    }

    #[tokio::test]
    async fn a_file_that_cant_be_read_is_a_failure_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big.yaml");
        std::fs::File::create(&big).unwrap().set_len(YAML_BYTES_MAX + 1).unwrap();
        let bytes = dir.path().join("bytes.yaml");
        std::fs::write(&bytes, b"users: \xff").unwrap();
        for path in [dir.path().join("missing.yaml"), dir.path().to_owned(), big, bytes] {
            let source = Yaml::open(&json!({"yaml": path})).unwrap();
            let failure = source.user("a", &BTreeSet::new()).await.unwrap_err();
            assert!(failure.message().contains(&path.display().to_string()) && failure.hint().is_some(), "{failure}");
        }
    }

    #[test]
    fn a_path_that_is_not_absolute_is_refused() {
        for wrong in [json!({"yaml": "a.yaml"}), json!({"yaml": ""}), json!({"yaml": 5}), json!({"yaml": null})] {
            assert!(Yaml::open(&wrong).is_err(), "{wrong}");
        }
    }
}
