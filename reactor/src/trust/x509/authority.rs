//! The CA of one bus and its revocation list: who issued a certificate, is it revoked, are both in date. Fails closed: what
//! can't be read or has expired refuses everything, and says so.

use std::collections::HashSet;
use std::path::Path;

use jiff::Timestamp;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::super::encoding::armoured_blocks;
use super::super::watched::read;
use super::certificate::{Certificate, Md5, Seal, serial, shown, unknown_critical};

/// The roots in the CA file, or why there are none.
pub struct Authority {
    roots: Result<Vec<Root>, String>,
}

/// One self-signed CA certificate.
struct Root {
    certificate: Certificate,
    /// `None` where no revocation list is configured.
    crl: Option<Result<Crl, String>>,
}

/// A revocation list whose signature by the root was checked.
struct Crl {
    shown: String,
    issued_s: i64,
    next_s: Option<i64>,
    revoked: HashSet<Vec<u8>>,
}

impl Authority {
    /// Reads the CA file, and the revocation list where one is configured.
    pub fn load(ca: &Path, crl: Option<&Path>) -> Self {
        Self { roots: load_roots(ca, crl) }
    }

    /// The roots (by number) that issued this certificate: more than one where a CA was renewed with the same key. True
    /// as long as the files do not change; dates and revocation are left to [`Authority::holds_for`].
    pub fn issuers(&self, leaf: &Certificate) -> Result<Vec<usize>, String> {
        let roots = self.roots.as_ref().map_err(Clone::clone)?;
        let named = || roots.iter().enumerate().filter(|(_, root)| root.certificate.subject == leaf.issuer);
        if named().next().is_none() {
            let (signer, issuer) = (&leaf.signer, &leaf.issuer_shown);
            return Err(format!("the certificate of {signer} was issued by `{issuer}`, which is not the CA"));
        }
        let signed = named().filter(|(_, root)| leaf.seal.is_by(&root.certificate.key, Md5::Refused));
        let issuers: Vec<usize> = signed.map(|(n, _)| n).collect();
        if issuers.is_empty() {
            return Err(format!(
                "the certificate of {} names the CA as its issuer but is not signed by it",
                leaf.signer
            ));
        }
        Ok(issuers)
    }

    /// Whether at `now` one of these roots holds, its revocation list too, and that does not name the certificate.
    pub fn holds_for(&self, leaf: &Certificate, issuers: &[usize], now: Timestamp) -> Result<(), String> {
        let roots = self.roots.as_ref().map_err(Clone::clone)?;
        let mut verdict = Err("the CA did not issue the certificate".to_owned());
        for root in issuers.iter().rev().filter_map(|n| roots.get(*n)) {
            verdict = root.holds(now).and_then(|()| root.revokes_not(leaf));
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    /// What is wrong at `now`, in words.
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        match &self.roots {
            Err(why) => vec![why.clone()],
            Ok(roots) => roots.iter().filter_map(|root| root.holds(now).err()).collect(),
        }
    }
}

impl Root {
    fn holds(&self, now: Timestamp) -> Result<(), String> {
        self.certificate.in_date(now).map_err(|why| format!("the CA does not hold: {why}"))?;
        match &self.crl {
            None => Ok(()),
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(crl)) if crl.revoked.contains(&self.certificate.serial) => {
                Err(format!("{} revokes the CA itself", crl.shown))
            }
            Some(Ok(crl)) => crl.in_date(now),
        }
    }

    fn revokes_not(&self, leaf: &Certificate) -> Result<(), String> {
        match &self.crl {
            Some(Ok(crl)) if crl.revoked.contains(&leaf.serial) => {
                Err(format!("the certificate of {} has been revoked", leaf.signer))
            }
            _ => Ok(()),
        }
    }
}

impl Crl {
    fn in_date(&self, now: Timestamp) -> Result<(), String> {
        let now_s = now.as_second();
        if now_s < self.issued_s {
            return Err(format!("{} is valid only from {}", self.shown, shown(self.issued_s)));
        }
        match self.next_s {
            Some(next_s) if now_s >= next_s => Err(format!(
                "{} has expired on {}: who was revoked since is not known (hint: fetch the CA's present one)",
                self.shown,
                shown(next_s)
            )),
            _ => Ok(()),
        }
    }
}

fn load_roots(ca: &Path, crl: Option<&Path>) -> Result<Vec<Root>, String> {
    let wrong = |why: String| format!("the CA file {}: {why}", ca.display());
    let content = read(ca).map_err(|why| format!("the CA file {why}"))?;
    let mut roots = Vec::new();
    for der in armoured_blocks(&content, &["CERTIFICATE", "X509 CERTIFICATE"]).map_err(wrong)? {
        let certificate = Certificate::from_der(&der).map_err(wrong)?;
        let is_root = certificate.is_ca
            && certificate.issuer == certificate.subject
            && certificate.seal.is_by(&certificate.key, Md5::Accepted);
        if is_root {
            let crl = crl.map(|path| Crl::load(path, &certificate));
            roots.push(Root { certificate, crl });
        }
    }
    if roots.is_empty() {
        return Err(wrong(
            "it holds no self-signed CA certificate (PEM); an intermediate alone is not believed".into(),
        ));
    }
    Ok(roots)
}

impl Crl {
    /// The newest list in the file that this CA signed.
    fn load(path: &Path, ca: &Certificate) -> Result<Self, String> {
        let shown = format!("the revocation list {}", path.display());
        let content = read(path).map_err(|why| format!("the revocation list {why}"))?;
        let blocks = armoured_blocks(&content, &["X509 CRL"]).map_err(|why| format!("{shown}: {why}"))?;
        let mut newest: Option<Self> = None;
        for der in blocks {
            let found = Self::from_der(&der, ca, &shown)?;
            if let Some(crl) = found.filter(|crl| newest.as_ref().is_none_or(|old| old.issued_s < crl.issued_s)) {
                newest = Some(crl);
            }
        }
        newest.ok_or_else(|| format!("{shown} holds no list that {} signed", ca.signer))
    }

    /// `None` if another CA signed it.
    fn from_der(der: &[u8], ca: &Certificate, shown: &str) -> Result<Option<Self>, String> {
        let (rest, parsed) =
            CertificateRevocationList::from_der(der).map_err(|_| format!("{shown} can't be read (X.509)"))?;
        let tbs = &parsed.tbs_cert_list;
        let seal = Seal::new(tbs.as_ref(), &parsed.signature_algorithm, &parsed.signature_value.data);
        let is_ours = rest.is_empty()
            && ca.may_sign_crl
            && tbs.issuer.as_raw() == ca.subject
            && tbs.signature.algorithm == parsed.signature_algorithm.algorithm
            && seal.is_by(&ca.key, Md5::Accepted);
        if !is_ours {
            return Ok(None);
        }
        let entries = || tbs.revoked_certificates.iter();
        let critical = unknown_critical(tbs.extensions())
            .or_else(|| entries().find_map(|entry| unknown_critical(entry.extensions())));
        if let Some(oid) = critical {
            return Err(format!("{shown} has a critical extension that is not known here ({oid})"));
        }
        Ok(Some(Self {
            shown: shown.to_owned(),
            issued_s: tbs.this_update.timestamp(),
            next_s: tbs.next_update.map(|time| time.timestamp()),
            revoked: entries().map(|entry| serial(entry.raw_serial())).collect(),
        }))
    }
}
