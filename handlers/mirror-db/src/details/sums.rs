//! The four checksums of a content. Pure.

use std::fmt::Write as _;

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::rows::Sums;

pub(super) fn of(bytes: &[u8]) -> Sums {
    Sums {
        md5: Some(hex(&Md5::digest(bytes))),
        sha1: Some(hex(&Sha1::digest(bytes))),
        sha256: Some(hex(&Sha256::digest(bytes))),
        sha512: Some(hex(&Sha512::digest(bytes))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
