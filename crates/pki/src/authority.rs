//! The certificate authority: issues serving certificates by name and address, and client certificates whose common name
//! is the user and whose organisations are the user's groups, as Kubernetes reads them.

use crate::{Error, files};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use stoa_units::Time;

const DAY: Duration = Duration::from_secs(86_400);
/// How long the authority itself is valid.
const AUTHORITY_DAYS: u32 = 3_650;
/// How long an issued certificate is valid.
const LEAF_DAYS: u32 = 365;
/// A serving certificate with fewer days left is replaced at start.
pub const SERVER_DAYS_LEFT_MIN: u32 = 90;
/// Clocks of other machines may be behind ours by this much.
const BACKDATE: Duration = Duration::from_secs(300);

/// A certificate chain and its private key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub cert_pem: String,
    /// The key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("cert_pem", &self.cert_pem).finish_non_exhaustive()
    }
}

/// Whom a client certificate speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectName {
    /// The common name: the user.
    pub user: String,
    /// The organisations: the groups.
    pub groups: Vec<String>,
}

/// A certificate authority.
pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn parameters(now: Time, days: u32, user: &str, group: Option<&str>) -> CertificateParams {
    let mut p = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    p.distinguished_name = name;
    let unix = now.0.as_second();
    let at = |secs: i64| {
        rcgen::date_time_ymd(1970, 1, 1)
            .saturating_add(std::time::Duration::from_secs(secs.max(0) as u64).try_into().unwrap_or_default())
    };
    p.not_before = at(unix - BACKDATE.as_secs() as i64);
    p.not_after = at(unix + (DAY * days).as_secs() as i64);
    p.serial_number = Some(SerialNumber::from_slice(&{
        let mut serial: [u8; 16] = rand::random();
        serial[0] &= 0x7f;
        serial[0] |= 0x01;
        serial
    }));
    p
}

impl Authority {
    /// Loads the authority of `dir`, or makes one there.
    pub fn load_or_create(dir: &Path, now: Time) -> Result<Authority, Error> {
        let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
        if let (Some(cert_pem), Some(key_pem)) = (files::read(&cert)?, files::read_private(&key)?) {
            return Authority::from_pem(cert_pem, &key_pem);
        }
        files::create_dir(dir)?;
        let key_pair = KeyPair::generate().map_err(|e| Error::Certificate("make a key", e))?;
        let mut p = parameters(now, AUTHORITY_DAYS, "stoa-ca", None);
        p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        p.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let made = p.self_signed(&key_pair).map_err(|e| Error::Certificate("sign the authority", e))?;
        // The key first: a certificate without its key would be taken for a whole authority at the next start.
        files::write(&key, &key_pair.serialize_pem(), 0o600)?;
        files::write(&cert, &made.pem(), 0o644)?;
        Authority::from_pem(made.pem(), &key_pair.serialize_pem())
    }

    /// An authority from its two PEM texts.
    pub fn from_pem(cert_pem: String, key_pem: &str) -> Result<Authority, Error> {
        let key =
            KeyPair::from_pem(key_pem).map_err(|e| Error::Certificate("read the authority's key", e))?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)
            .map_err(|e| Error::Certificate("read the authority's certificate", e))?;
        Ok(Authority { cert_pem, issuer })
    }

    /// The authority's certificate, which clients trust.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// A serving certificate for DNS names and addresses.
    pub fn issue_server(&self, now: Time, names: &[String], addresses: &[IpAddr]) -> Result<Identity, Error> {
        let mut p = parameters(now, LEAF_DAYS, "stoa", None);
        for n in names {
            let name =
                n.as_str().try_into().map_err(|e| Error::Certificate("put a name into a certificate", e))?;
            p.subject_alt_names.push(SanType::DnsName(name));
        }
        p.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        self.issue(p)
    }

    /// A client certificate for a user in one group (the distinguished name holds one organisation).
    pub fn issue_client(&self, now: Time, user: &str, group: &str) -> Result<Identity, Error> {
        let mut p = parameters(now, LEAF_DAYS, user, Some(group));
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.issue(p)
    }

    fn issue(&self, p: CertificateParams) -> Result<Identity, Error> {
        let key = KeyPair::generate().map_err(|e| Error::Certificate("make a key", e))?;
        let cert =
            p.signed_by(&key, &self.issuer).map_err(|e| Error::Certificate("sign a certificate", e))?;
        Ok(Identity { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a request's public key as a client certificate for `user` in `group`. What else the request asks for (names,
    /// usages, extensions) is not granted.
    pub fn sign_client_request(
        &self,
        now: Time,
        csr_pem: &str,
        user: &str,
        group: &str,
    ) -> Result<String, Error> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|e| Error::Certificate("read the certificate request", e))?;
        let mut p = parameters(now, LEAF_DAYS, user, Some(group));
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params = p;
        let cert = request
            .signed_by(&self.issuer)
            .map_err(|e| Error::Certificate("sign the certificate request", e))?;
        Ok(cert.pem())
    }

    /// Keeps an identity that a cluster elsewhere gave, and that cluster's authority.
    pub fn store_identity(dir: &Path, name: &str, identity: &Identity, ca_pem: &str) -> Result<(), Error> {
        files::create_dir(dir)?;
        files::write(&dir.join(format!("{name}.key")), &identity.key_pem, 0o600)?;
        files::write(&dir.join(format!("{name}.crt")), &identity.cert_pem, 0o644)?;
        files::write(&dir.join("ca.crt"), ca_pem, 0o644)
    }

    /// The serving identity of `dir`: the stored one while it covers `names` and `addresses` and is not about to expire,
    /// else a new one.
    pub fn server_identity(
        &self,
        dir: &Path,
        now: Time,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<Identity, Error> {
        let (cert, key) = (dir.join("server.crt"), dir.join("server.key"));
        if let (Some(cert_pem), Some(key_pem)) = (files::read(&cert)?, files::read_private(&key)?)
            && covers(&cert_pem, now, names, addresses)
        {
            return Ok(Identity { cert_pem, key_pem });
        }
        let made = self.issue_server(now, names, addresses)?;
        files::write(&key, &made.key_pem, 0o600)?;
        files::write(&cert, &made.cert_pem, 0o644)?;
        Ok(made)
    }

    /// The client identity `name` of `dir`, made anew when it is missing or about to expire.
    pub fn client_identity(
        &self,
        dir: &Path,
        name: &str,
        now: Time,
        user: &str,
        group: &str,
    ) -> Result<Identity, Error> {
        let (cert, key) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        if let (Some(cert_pem), Some(key_pem)) = (files::read(&cert)?, files::read_private(&key)?)
            && covers(&cert_pem, now, &[], &[])
            && first_der(&cert_pem).ok().and_then(|d| read_subject(&d).ok()).is_some_and(|s| s.user == user)
        {
            return Ok(Identity { cert_pem, key_pem });
        }
        files::create_dir(dir)?;
        let made = self.issue_client(now, user, group)?;
        files::write(&key, &made.key_pem, 0o600)?;
        files::write(&cert, &made.cert_pem, 0o644)?;
        Ok(made)
    }
}

pub(crate) fn first_der(pem: &str) -> Result<Vec<u8>, Error> {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|d| d.to_vec())
        .map_err(|e| Error::NotACertificate(e.to_string()))
}

fn covers(cert_pem: &str, now: Time, names: &[String], addresses: &[IpAddr]) -> bool {
    let Ok(der) = first_der(cert_pem) else { return false };
    let Ok((_, cert)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let deadline = now.plus(DAY * SERVER_DAYS_LEFT_MIN).0.as_second();
    if cert.validity().not_after.timestamp() < deadline {
        return false;
    }
    let found = cert.subject_alternative_name().ok().flatten();
    let sans = found.as_ref().map_or(&[][..], |s| &s.value.general_names[..]);
    use x509_parser::extensions::GeneralName;
    names.iter().all(|n| sans.iter().any(|s| matches!(s, GeneralName::DNSName(d) if d == n)))
        && addresses.iter().all(|a| {
            let octets = match a {
                IpAddr::V4(v) => v.octets().to_vec(),
                IpAddr::V6(v) => v.octets().to_vec(),
            };
            sans.iter().any(|s| matches!(s, GeneralName::IPAddress(b) if **b == octets[..]))
        })
}

/// A new key and a certificate request for it; who the certificate will speak for is the authority's decision.
/// Returns the request and the key, both PEM.
pub fn make_request(user: &str) -> Result<(String, String), Error> {
    let key = KeyPair::generate().map_err(|e| Error::Certificate("make a key", e))?;
    let mut p = CertificateParams::default();
    p.distinguished_name = DistinguishedName::new();
    p.distinguished_name.push(DnType::CommonName, user);
    let request =
        p.serialize_request(&key).map_err(|e| Error::Certificate("make a certificate request", e))?;
    let pem = request.pem().map_err(|e| Error::Certificate("make a certificate request", e))?;
    Ok((pem, key.serialize_pem()))
}

/// The SHA-256 of an authority's certificate in hex, by which a joining agent recognises it.
pub fn authority_hash(cert_pem: &str) -> Result<String, Error> {
    Ok(der_hash(&first_der(cert_pem)?))
}

/// The SHA-256 of a certificate (DER) in hex.
pub fn der_hash(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

/// Reads whom a client certificate (DER) speaks for. The caller has verified its chain.
pub fn read_subject(der: &[u8]) -> Result<SubjectName, Error> {
    let (_, cert) =
        x509_parser::parse_x509_certificate(der).map_err(|e| Error::NotACertificate(e.to_string()))?;
    let subject = cert.subject();
    // Of several names the last counts, as on a stock server.
    let user =
        subject.iter_common_name().last().and_then(|a| a.as_str().ok()).unwrap_or_default().to_string();
    let groups = subject.iter_organization().filter_map(|a| a.as_str().ok().map(String::from)).collect();
    Ok(SubjectName { user, groups })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        Time::parse("2026-11-24T00:00:00Z").unwrap()
    }

    #[test]
    fn an_authority_survives_a_restart_and_its_certificates_name_their_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path(), now()).unwrap();
        let again = Authority::load_or_create(dir.path(), now()).unwrap();
        assert_eq!(first.cert_pem(), again.cert_pem());
        let id = again.issue_client(now(), "system:node:n1", "system:nodes").unwrap();
        let subject = read_subject(&first_der(&id.cert_pem).unwrap()).unwrap();
        assert_eq!(subject.user, "system:node:n1");
        assert_eq!(subject.groups, ["system:nodes"]);
    }

    #[test]
    fn a_serving_certificate_is_kept_until_a_name_or_time_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::load_or_create(dir.path(), now()).unwrap();
        let names = ["localhost".to_string()];
        let ip: IpAddr = "127.0.0.1".parse().unwrap();
        let a = ca.server_identity(dir.path(), now(), &names, &[ip]).unwrap();
        let same = ca.server_identity(dir.path(), now(), &names, &[ip]).unwrap();
        assert_eq!(a.cert_pem, same.cert_pem);
        let wider =
            ca.server_identity(dir.path(), now(), &names, &[ip, "10.0.0.1".parse().unwrap()]).unwrap();
        assert_ne!(a.cert_pem, wider.cert_pem);
        let later = ca.server_identity(dir.path(), now().plus(DAY * 300), &names, &[ip]).unwrap();
        assert_ne!(wider.cert_pem, later.cert_pem);
    }

    #[test]
    fn a_request_is_granted_its_key_and_nothing_else_it_asks_for() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Authority::load_or_create(dir.path(), now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let (plain, _) = make_request("system:node:n3").unwrap();
        assert!(ca.sign_client_request(now(), &plain, "system:node:n3", "system:nodes").is_ok());
        let mut asked = CertificateParams::new(vec!["kubernetes.default".to_string()]).unwrap();
        asked.distinguished_name.push(DnType::CommonName, "admin");
        asked.distinguished_name.push(DnType::OrganizationName, "system:masters");
        let csr = asked.serialize_request(&key).unwrap().pem().unwrap();
        let cert = ca.sign_client_request(now(), &csr, "system:node:n2", "system:nodes").unwrap();
        let subject = read_subject(&first_der(&cert).unwrap()).unwrap();
        assert_eq!(
            subject,
            SubjectName { user: "system:node:n2".into(), groups: vec!["system:nodes".into()] }
        );
        assert!(ca.sign_client_request(now(), "nonsense", "x", "y").is_err());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path(), now()).unwrap();
        let key = dir.path().join("ca.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Authority::load_or_create(dir.path(), now()), Err(Error::Exposed(_))));
    }
}
