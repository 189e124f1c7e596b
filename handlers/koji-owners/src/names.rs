//! Names that may be sent to a hub. Pure.
//!
//! The hub takes any text as the name of a package and makes a package of it (`zsh evil;name`, seen on a hub 1.35.3), so every name
//! from a truth or a message is hostile until it is one of these types.

use std::fmt;

use handler_api::words::is_name;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks a name.
            ///
            /// # Errors
            /// What is wrong with it: the end of a sentence that begins with the name.
            pub fn parse(text: &str) -> Result<Self, String> {
                check(text).map(|()| Self(text.to_owned()))
            }

            /// As it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A package (source RPM): `bash`, `gtk+`, `python3.13`, `0ad`.
    PackageName
}
name! {
    /// A build tag: `f45`, `epel9`.
    TagName
}
name! {
    /// A branch of a package's repository: `rawhide`, `f44`.
    BranchName
}
name! {
    /// Somebody with an account: `alice`, `orphan`.
    UserName
}

fn check(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("is empty".to_owned()),
        bytes if bytes > NAME_BYTES_MAX => Err(format!("has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")),
        _ if is_name(text) => Ok(()),
        _ => {
            Err("is no name: allowed are ASCII letters, digits and _ . + - @, the first a letter, digit or _"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packages_are_called_is_a_name_and_nothing_else() {
        for good in ["bash", "gtk+", "libstdc++", "python3.13", "0ad", "R-Rcpp", "_x"] {
            assert_eq!(PackageName::parse(good).unwrap().as_str(), good);
        }
        for wrong in ["", "zsh evil;name", "<x>&\"", "a/b", "-x", ".x", "a\nb", "é", "a\0", &"x".repeat(129)] {
            assert!(PackageName::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
