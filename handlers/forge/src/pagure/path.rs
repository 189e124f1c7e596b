//! Where the API has a project. Pure.

use accounts::curl::encode;
use handler_api::Failure;
use handler_api::words::quoted;

/// Where the API has a project.
#[derive(Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// Whether it is somebody's fork.
    pub fork: bool,
    /// The namespace, where it is in one.
    pub namespace: Option<&'a str>,
    /// The path, from `/api/0` on, percent-encoded.
    pub path: String,
}

impl<'a> Address<'a> {
    /// Reads `NAME`, `NAMESPACE/NAME`, `forks/USER/NAME`, `forks/USER/NAMESPACE/NAME`.
    ///
    /// # Errors
    /// Permanent: no project can have this name.
    pub fn read(fullname: &'a str) -> Result<Self, Failure> {
        let parts: Vec<&str> = fullname.split('/').collect();
        let (fork, namespace) = match parts[..] {
            ["forks", _, namespace, _] => (true, Some(namespace)),
            ["forks", _, _] => (true, None),
            [namespace, _] if namespace != "forks" => (false, Some(namespace)),
            [_] => (false, None),
            _ => return Err(no_name(fullname)),
        };
        // curl, or a proxy, would take `..` for a step up.
        if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err(no_name(fullname));
        }
        let (first, rest) = if fork { ("/fork", &parts[1..]) } else { ("", &parts[..]) };
        let rest: String = rest.iter().map(|part| format!("/{}", encode(part))).collect();
        Ok(Self { fork, namespace, path: format!("/api/0{first}{rest}") })
    }
}

fn no_name(fullname: &str) -> Failure {
    let message = format!("{} is no name that a project of pagure can have", quoted(fullname));
    Failure::permanent(message).hinting("NAME, NAMESPACE/NAME, forks/USER/NAMESPACE/NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_a_project_has_a_path_and_nothing_else() {
        for (name, fork, namespace, path) in [
            ("pagure", false, None, "/api/0/pagure"),
            ("rpms/gtk+", false, Some("rpms"), "/api/0/rpms/gtk%2B"),
            ("forks/bob/pagure", true, None, "/api/0/fork/bob/pagure"),
            ("forks/bob/rpms/foo", true, Some("rpms"), "/api/0/fork/bob/rpms/foo"),
            ("rpms/a b?c#d", false, Some("rpms"), "/api/0/rpms/a%20b%3Fc%23d"),
        ] {
            assert_eq!(Address::read(name).unwrap(), Address { fork, namespace, path: path.to_owned() });
        }
        for wrong in ["", "forks/bob", "a/b/c", "forks/a/b/c/d", "rpms/", "/x", "rpms/..", "../x", "rpms/."] {
            assert!(Address::read(wrong).unwrap_err().message().contains("no name that a project"), "{wrong:?}");
        }
    }
}
