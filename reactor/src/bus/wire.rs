//! fedmsg on a ZeroMQ socket: frames → topic and body. Pure; it looks at the topic first, so that a message nobody wants
//! costs no copy.
//!
//! A message is two frames, topic and JSON body. One frame `topic NUL body` (txZMQ's form, which fedmsg-hub takes too) is the
//! same; anything else is malformed. Seen by running fedmsg 1.1.7.

use crate::message::{BODY_BYTES_MAX, TOPIC_BYTES_MAX};

/// The topic of a first frame.
///
/// # Errors
/// Why it is none.
pub fn topic(frame: &[u8]) -> Result<&str, String> {
    if frame.len() > TOPIC_BYTES_MAX {
        return Err(format!("the topic has {} bytes, at most {TOPIC_BYTES_MAX} are allowed", frame.len()));
    }
    if frame.is_empty() {
        return Err("the topic is empty".to_owned());
    }
    std::str::from_utf8(frame).map_err(|_| "the topic is not UTF-8".to_owned())
}

/// Splits the form with one frame.
///
/// # Errors
/// When there is no NUL in it.
pub fn split_at_nul(frame: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let at = frame.iter().position(|byte| *byte == 0).ok_or("one frame, and no NUL between topic and body")?;
    Ok((&frame[..at], &frame[at + 1..]))
}

/// Checks the size of a body.
///
/// # Errors
/// When it is too large.
pub fn body(frame: &[u8]) -> Result<&[u8], String> {
    if frame.len() > BODY_BYTES_MAX {
        return Err(format!("the body has {} bytes, at most {BODY_BYTES_MAX} are allowed", frame.len()));
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_topic_is_short_utf_8_and_a_body_is_not_too_large() {
        assert_eq!(topic(b"org.example.x"), Ok("org.example.x"));
        assert!(topic(&[b'x'; 255]).is_ok() && topic(&[b'x'; 256]).is_err() && topic(b"\xff").is_err());
        assert!(body(&vec![b' '; BODY_BYTES_MAX]).is_ok() && body(&vec![b' '; BODY_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn one_frame_is_split_at_its_first_nul() {
        assert_eq!(split_at_nul(b"a.b\0{\"x\":\"\0\"}"), Ok((&b"a.b"[..], &b"{\"x\":\"\0\"}"[..])));
        assert!(split_at_nul(b"{}").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok((before, after)) = split_at_nul(&bytes) {
                prop_assert_eq!([before, b"\0", after].concat(), bytes.clone());
            }
            let _ = (topic(&bytes), body(&bytes));
        }
    }
}
