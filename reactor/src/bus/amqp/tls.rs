//! TLS to a broker: its certificate must come from the given CA (else from the system's), and its name must fit. Keys and
//! certificates are read at each connection, so a renewed one counts from the next on.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::{self, Tls};
use super::connection::Broken;

/// What to do where a broker does not like our certificate.
pub(super) const HINT_OURS: &str = "does the broker refuse our certificate? has it ended, is it of a CA that the broker knows: openssl x509 -noout -dates -issuer -in CERTFILE";

/// What to do where a broker hangs up while TLS begins.
const HINT_HUNG_UP: &str = "does that port speak TLS (amqps is 5671, amqp is 5672)? or the broker has no time: its log, and rabbitmqctl status";

/// Speaks TLS on a connection.
///
/// # Errors
/// Which file can't be used, or why the broker and we do not agree.
pub async fn over(stream: TcpStream, host: &str, tls: &Tls) -> Result<TlsStream<TcpStream>, Broken> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` can't be a server's name"))?;
    let connector = TlsConnector::from(Arc::new(client(tls)?));
    connector.connect(name, stream).await.map_err(|error| refused(&error))
}

/// What TLS says, with what to do about it. After a handshake the broker may still refuse our certificate: reading fails then.
pub(super) fn refused(error: &std::io::Error) -> Broken {
    let hint = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "the broker's certificate is not of the CA in `tls.ca_cert`: is it the right file, and the right broker?"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "write the broker's name as its certificate has it: openssl s_client -connect HOST:5671 shows it",
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "the broker's certificate has ended (or this machine's clock is wrong: date)"
        }
        Some(Error::AlertReceived(_)) => HINT_OURS,
        _ if error.kind() == std::io::ErrorKind::UnexpectedEof => HINT_HUNG_UP,
        _ => "does that port speak TLS? amqps is 5671, amqp is 5672",
    };
    Broken { why: format!("TLS: {error}"), hint: Some(hint) }
}

fn client(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| format!("TLS: {error}"))?.with_root_certificates(roots(tls.ca_cert.as_deref())?);
    let (Some(certificate), Some(key)) = (&tls.certfile, &tls.keyfile) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(config::read(key)?.as_bytes())
        .map_err(|error| format!("{} is not a private key (PEM): {error}", key.display()))?;
    let both = (certificate.display(), key.display());
    builder.with_client_auth_cert(chain, private).map_err(|error| format!("{} and {}: {error}", both.0, both.1))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        return Ok(roots);
    }
    // Some of a system's certificates may be too old to be read: then those are not believed.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("this system has no certificates to check the broker's with; name a file with `tls.ca_cert`".into());
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = config::read(file)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("there is no certificate (PEM) in {}", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}
