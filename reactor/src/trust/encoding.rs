//! Base64 as Python reads and writes it, and the text armour of PEM and OpenPGP files. Pure; never decides what is trusted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Bytes that make one line of 76 base64 characters, as in Python's `base64.encodebytes`.
const LINE_BYTES: usize = 57;

/// Decodes as Python's `base64.b64decode(text)`: characters outside the alphabet are skipped, and so is everything after
/// the padding. fedmsg publishers and tools rely on it for the line ends.
///
/// # Errors
/// What is wrong, in words: a character that is not ASCII, or wrong padding.
pub fn python_base64(text: &str) -> Result<Vec<u8>, &'static str> {
    if !text.is_ascii() {
        return Err("not base64: it has a character that is not ASCII");
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut in_quad, mut pads) = (0_u32, 0_u8, 0_u8);
    for byte in text.bytes() {
        if byte == b'=' {
            if in_quad >= 2 {
                pads += 1;
                if in_quad + pads >= 4 {
                    return Ok(out);
                }
            }
            continue;
        }
        let sextet = SEXTETS[usize::from(byte & 0x7f)];
        if sextet == NO_SEXTET {
            continue;
        }
        pads = 0;
        bits = bits << 6 | u32::from(sextet);
        if in_quad > 0 {
            out.push((bits >> (6 - 2 * in_quad)) as u8);
        }
        in_quad = (in_quad + 1) % 4;
    }
    if in_quad == 0 { Ok(out) } else { Err("not base64: wrong padding") }
}

const NO_SEXTET: u8 = 0xff;
const SEXTETS: [u8; 128] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NO_SEXTET; 128];
    let mut n = 0;
    while n < alphabet.len() {
        table[alphabet[n] as usize] = n as u8;
        n += 1;
    }
    table
};

/// Encodes as Python's `base64.encodebytes`: lines of 76 characters, each ended by `\n`, also the last.
#[must_use]
pub fn base64_lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() / 3 * 4 + bytes.len() / LINE_BYTES + 8);
    for line in bytes.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut out);
        out.push('\n');
    }
    out
}

/// Wraps DER in PEM text (RFC 7468).
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for start in (0..body.len()).step_by(64) {
        out.push_str(&body[start..body.len().min(start + 64)]);
        out.push('\n');
    }
    out + "-----END " + label + "-----\n"
}

/// The blocks of PEM or OpenPGP armour that have one of these labels, in their order, decoded. Text around them and CRLF
/// line ends are fine; header lines (`Comment: …`) and the checksum line of OpenPGP are skipped.
///
/// # Errors
/// A sentence about the first block that is broken.
pub fn armoured_blocks(text: &[u8], labels: &[&str]) -> Result<Vec<Vec<u8>>, String> {
    let mut blocks = Vec::new();
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    while let Some(line) = lines.next() {
        let Some(label) = labels.iter().find(|label| is_mark(line, b"-----BEGIN ", label)) else { continue };
        let mut body: Vec<u8> = Vec::new();
        loop {
            let Some(line) = lines.next() else { return Err(format!("a {label} block has no end")) };
            if is_mark(line, b"-----END ", label) {
                break;
            }
            if !line.contains(&b':') && !line.starts_with(b"=") {
                body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
            }
        }
        blocks.push(STANDARD.decode(&body).map_err(|_| format!("a {label} block is not base64"))?);
    }
    Ok(blocks)
}

fn is_mark(line: &[u8], start: &[u8], label: &str) -> bool {
    line.strip_prefix(start).and_then(|rest| rest.strip_suffix(b"-----")) == Some(label.as_bytes())
}

/// Upper-case hexadecimal.
#[must_use]
pub fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Lower-case hexadecimal SHA-256, for ids that are made from content.
#[must_use]
pub fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_lenient_as_python() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("QUJD", b"ABC"),
            ("QU\nJD\n", b"ABC"),
            ("Q-U!J*D", b"ABC"),
            ("QQ==", b"A"),
            ("QQ=\n=", b"A"),
            ("QQ==QUJD", b"A"),
            ("QUI=", b"AB"),
            ("=QUJD", b"ABC"),
            ("QUJD====", b"ABC"),
            ("QQ=A=A=A", b"A\x00"),
        ] {
            assert_eq!(python_base64(text), Ok(bytes.to_vec()), "{text:?}");
        }
        for wrong in ["Q", "QQ", "QQ=", "QUJDQ", "QUé"] {
            assert!(python_base64(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn base64_lines_are_pythons_encodebytes() {
        assert_eq!(base64_lines(b""), "");
        assert_eq!(base64_lines(b"A"), "QQ==\n");
        assert_eq!(base64_lines(&[0; 58]), format!("{}\nAA==\n", "A".repeat(76)));
    }

    #[test]
    fn armour_may_have_text_around_it_and_any_line_ends() {
        let text = b"Comment\r\n-----BEGIN CERTIFICATE-----\r\nQU\r\nJD\r\n-----END CERTIFICATE-----\r\njunk\n\
            -----BEGIN PGP SIGNATURE-----\nComment: x\n\nQUJE\n=abcd\n-----END PGP SIGNATURE-----";
        assert_eq!(armoured_blocks(text, &["CERTIFICATE"]), Ok(vec![b"ABC".to_vec()]));
        assert_eq!(armoured_blocks(text, &["PGP SIGNATURE"]), Ok(vec![b"ABD".to_vec()]));
        assert_eq!(armoured_blocks(b":-----BEGIN X-----\nQUJD\n-----END X-----", &["X"]), Ok(vec![]));
        assert!(armoured_blocks(b"-----BEGIN X-----\nQUJD\n", &["X"]).is_err());
        assert!(armoured_blocks(b"-----BEGIN X-----\n$\n-----END X-----", &["X"]).is_err());
    }

    #[test]
    fn pem_reads_back_the_same() {
        let der: Vec<u8> = (0..=200).collect();
        assert_eq!(armoured_blocks(pem("X", &der).as_bytes(), &["X"]), Ok(vec![der]));
    }
}
