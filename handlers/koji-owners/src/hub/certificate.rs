//! When a certificate ends.

use std::path::Path;

use handler_api::Failure;
use x509_parser::pem::Pem;

/// Largest file of a certificate, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// When the first certificate in a PEM file ends, in seconds since 1970. Its key may stand in the same file, before or after it.
pub(super) fn ends(file: &Path) -> Result<i64, Failure> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let failure = |why: &str| {
        Failure::retry(format!("the secret `{name}` {why}"))
            .hinting("it must be PEM; try: openssl x509 -noout -subject -enddate -in FILE")
    };
    let read = || {
        let bytes = std::fs::metadata(file)?.len();
        if bytes > FILE_BYTES_MAX { Ok(None) } else { std::fs::read(file).map(Some) }
    };
    let bytes = read().map_err(|error: std::io::Error| failure(&format!("can't be read: {error}")))?;
    let bytes = bytes.ok_or_else(|| failure(&format!("has more than {FILE_BYTES_MAX} bytes")))?;
    let pem = Pem::iter_from_buffer(&bytes).filter_map(Result::ok).find(|pem| pem.label == "CERTIFICATE");
    let pem = pem.ok_or_else(|| failure("holds no certificate"))?;
    let certificate = pem.parse_x509().map_err(|_| failure("holds a certificate that can't be read"))?;
    Ok(certificate.validity().not_after.timestamp())
}
