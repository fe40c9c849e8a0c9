//! Certificate requests: what they ask for, and the certificates that are issued for them. The certificate is put together here
//! rather than by the library, because a subject may name several organisations: they are the user's groups.

use crate::wide::{Hash, is_signed_by};
use crate::{Authority, Error, pem};
use rcgen::{PKCS_ECDSA_P256_SHA256, SigningKey};
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;
use stoa_units::Time;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension, X509Extension};
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
    OID_SIG_ECDSA_WITH_SHA512, OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

/// Longest request that is looked at.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Longest chain of certificates: a hundred of them. What finds blocks may look at a line as often as there are beginnings.
const CHAIN_BYTES_MAX: usize = 128 * 1024;
/// Clocks of other machines may be behind ours by this much.
const BACKDATE_SECONDS: i64 = 300;

/// What a certificate request asks for. Its signature has been verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    /// The common name: the user. Of several the last counts, as on a stock server.
    pub user: String,
    /// The organisations: the groups.
    pub groups: Vec<String>,
    /// Names that a server answers to.
    pub dns_names: Vec<String>,
    /// Addresses that a server answers at.
    pub addresses: Vec<IpAddr>,
    /// How many other alternative names there are: mail addresses, URIs.
    pub other_names_len: usize,
}

/// What a request begins and ends with, between its dashes.
const LABEL: &str = "CERTIFICATE REQUEST";

/// The first block of a text, which must be a request: who reads the same text elsewhere sees the same one.
fn der(pem: &str) -> Result<Vec<u8>, Error> {
    if pem.len() > REQUEST_BYTES_MAX {
        return Err(Error::NotARequest("it is too long".into()));
    }
    let request = pem::blocks(pem).next().filter(|block| block.label == LABEL);
    request
        .map(|block| block.contents)
        .ok_or_else(|| Error::NotARequest(format!("PEM block type must be {LABEL}")))
}

/// Parses a request and verifies that it is signed by the key that it names.
fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, Error> {
    let refuse = |why: String| Error::NotARequest(why);
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|e| refuse(e.to_string()))?;
    if !rest.is_empty() {
        return Err(refuse("something follows it".into()));
    }
    match wide_curve_hash(&request) {
        Some(hash) => {
            let info = &request.certification_request_info;
            let key = &info.subject_pki.subject_public_key.data;
            if !is_signed_by(key, hash, info.raw, &request.signature_value.data) {
                return Err(refuse("signature verification error".into()));
            }
        }
        None => request.verify_signature().map_err(|e| refuse(e.to_string()))?,
    }
    Ok(request)
}

/// How a request for a key on P-521 is signed, if it is one.
fn wide_curve_hash(request: &X509CertificationRequest<'_>) -> Option<Hash> {
    let key = &request.certification_request_info.subject_pki.algorithm;
    let curve = key.parameters.as_ref()?.as_oid().ok()?;
    if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != OID_NIST_EC_P521 {
        return None;
    }
    let signed = &request.signature_algorithm.algorithm;
    let known = [
        (OID_SIG_ECDSA_WITH_SHA256, Hash::Sha256),
        (OID_SIG_ECDSA_WITH_SHA384, Hash::Sha384),
        (OID_SIG_ECDSA_WITH_SHA512, Hash::Sha512),
    ];
    known.into_iter().find(|(oid, _)| oid == signed).map(|(_, hash)| hash)
}

/// What extensions a request asks for. Each may be asked for once, in whichever attribute.
fn asked_extensions<'r>(
    request: &'r X509CertificationRequest<'_>,
) -> Result<Vec<&'r X509Extension<'r>>, Error> {
    let mut asked = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        if let ParsedCriAttribute::ExtensionRequest(more) = attribute.parsed_attribute() {
            asked.extend(&more.extensions);
        }
    }
    let mut seen = HashSet::new();
    if !asked.iter().all(|extension| seen.insert(&extension.oid)) {
        return Err(Error::NotARequest("an extension is asked for twice".into()));
    }
    Ok(asked)
}

/// The texts of a part of a subject. What is written in letters that are not read here may be read by others: it is refused.
fn texts<'a>(parts: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Result<Vec<String>, Error> {
    let read = |part: &AttributeTypeAndValue<'_>| part.as_str().map(String::from);
    parts.map(read).collect::<Result<_, _>>().map_err(|e| Error::NotARequest(format!("its subject: {e}")))
}

/// Reads a certificate request (PEM).
pub fn read_request(pem: &str) -> Result<CertificateRequest, Error> {
    let der = der(pem)?;
    let request = parse(&der)?;
    let subject = &request.certification_request_info.subject;
    let mut out = CertificateRequest {
        user: texts(subject.iter_common_name())?.pop().unwrap_or_default(),
        groups: texts(subject.iter_organization())?,
        ..CertificateRequest::default()
    };
    let asked = asked_extensions(&request)?;
    for extension in asked.into_iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return Err(Error::NotARequest("its alternative names cannot be read".into()));
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => out.dns_names.push((*name).to_string()),
                GeneralName::IPAddress(octets) => {
                    match (<[u8; 4]>::try_from(*octets), <[u8; 16]>::try_from(*octets)) {
                        (Ok(v4), _) => out.addresses.push(v4.into()),
                        (_, Ok(v6)) => out.addresses.push(v6.into()),
                        _ => out.other_names_len += 1,
                    }
                }
                _ => out.other_names_len += 1,
            }
        }
    }
    Ok(out)
}

/// A DER value: tag, length, content.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        out.push(0x80 | (bytes.len() - first) as u8);
        out.extend_from_slice(&bytes[first..]);
    }
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const TRUE: &[u8] = &[0x01, 0x01, 0xff];
/// `ecdsa-with-SHA256`.
const ECDSA_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

fn time(seconds: i64) -> Vec<u8> {
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    // X.509 writes years until 2049 with two digits.
    match at.year() < 2050 {
        true => tlv(0x17, &[at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()]),
        false => tlv(0x18, &[at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()]),
    }
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { TRUE } else { &[] };
    tlv(SEQUENCE, &[&tlv(OID, &[oid]), critical, &tlv(OCTETS, &[value])])
}

/// The bit of a key usage, by its name in a signing request.
fn usage_bit(usage: &str) -> Option<u16> {
    Some(match usage {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The identifier of an extended key usage, by its name in a signing request.
fn usage_oid(usage: &str) -> Option<&'static [u8]> {
    Some(match usage {
        "any" => &[0x55, 0x1d, 0x25, 0x00],
        "server auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        "client auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        "code signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 3],
        "email protection" | "s/mime" => &[0x2b, 6, 1, 5, 5, 7, 3, 4],
        "ipsec end system" => &[0x2b, 6, 1, 5, 5, 7, 3, 5],
        "ipsec tunnel" => &[0x2b, 6, 1, 5, 5, 7, 3, 6],
        "ipsec user" => &[0x2b, 6, 1, 5, 5, 7, 3, 7],
        "timestamping" => &[0x2b, 6, 1, 5, 5, 7, 3, 8],
        "ocsp signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 9],
        "microsoft sgc" => &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x0a, 3, 3],
        "netscape sgc" => &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
        _ => return None,
    })
}

fn usages(names: &[String]) -> Result<Vec<Vec<u8>>, Error> {
    let (mut bits, mut oids) = (0u16, Vec::new());
    for name in names {
        match (usage_bit(name), usage_oid(name)) {
            (Some(bit), _) => bits |= 0x8000 >> bit,
            (_, Some(oid)) => oids.push(tlv(OID, &[oid])),
            _ => return Err(Error::NotARequest(format!("unknown usage {name:?}"))),
        }
    }
    let mut out = Vec::new();
    if bits != 0 {
        let unused = bits.trailing_zeros();
        let bytes = bits.to_be_bytes();
        let used = if unused >= 8 { &bytes[..1] } else { &bytes[..] };
        let string = tlv(0x03, &[&[(unused % 8) as u8], used]);
        out.push(extension(&[0x55, 0x1d, 0x0f], true, &string));
    }
    if !oids.is_empty() {
        let list: Vec<&[u8]> = oids.iter().map(Vec::as_slice).collect();
        out.push(extension(&[0x55, 0x1d, 0x25], false, &tlv(SEQUENCE, &list)));
    }
    Ok(out)
}

impl Authority {
    /// Signs a request as it stands: its subject and alternative names, for these usages and that long, but not longer than the
    /// authority itself lives. Whether that may be granted has been decided before.
    pub fn sign_request(
        &self,
        now: Time,
        pem: &str,
        usages_asked: &[String],
        lifetime: Duration,
    ) -> Result<String, Error> {
        read_request(pem)?;
        let der = der(pem)?;
        let request = parse(&der)?;
        let info = &request.certification_request_info;
        let key = self.key();
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(Error::NotARequest("the authority's key is no ECDSA P-256 key".into()));
        }
        let own = crate::authority::first_der(self.cert_pem())?;
        let (_, own) =
            x509_parser::parse_x509_certificate(&own).map_err(|e| Error::NotACertificate(e.to_string()))?;
        let asked = asked_extensions(&request)?;
        let mut extensions = usages(usages_asked)?;
        extensions.push(extension(&[0x55, 0x1d, 0x13], true, &tlv(SEQUENCE, &[])));
        if let Ok(Some(id)) = own.get_extension_unique(&OID_X509_EXT_SUBJECT_KEY_IDENTIFIER)
            && let ParsedExtension::SubjectKeyIdentifier(id) = id.parsed_extension()
        {
            extensions.push(extension(&[0x55, 0x1d, 0x23], false, &tlv(SEQUENCE, &[&tlv(0x80, &[id.0])])));
        }
        let names = asked.iter().find(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
        extensions.extend(names.map(|e| extension(&[0x55, 0x1d, 0x11], e.critical, e.value)));
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let begins = now.0.as_second() - BACKDATE_SECONDS;
        let ends = (now.plus(lifetime).0.as_second()).min(own.validity().not_after.timestamp());
        let mut serial: [u8; 16] = rand::random();
        // Positive, and not shorter than it is.
        serial[0] = serial[0] & 0x7f | 1;
        let body = tlv(
            SEQUENCE,
            &[
                &tlv(0xa0, &[&[0x02, 0x01, 0x02]]),
                &tlv(0x02, &[&serial]),
                ECDSA_SHA256,
                own.subject().as_raw(),
                &tlv(SEQUENCE, &[&time(begins), &time(ends)]),
                info.subject.as_raw(),
                info.subject_pki.raw,
                &tlv(0xa3, &[&tlv(SEQUENCE, &extensions)]),
            ],
        );
        let signature = key.sign(&body).map_err(|e| Error::Certificate("sign a certificate", e))?;
        let whole = tlv(SEQUENCE, &[&body, ECDSA_SHA256, &tlv(0x03, &[&[0], &signature])]);
        Ok(to_pem("CERTIFICATE", &whole))
    }
}

fn to_pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// What is wrong with a text that should be certificates (PEM), one after the other; what is no block at all may stand between them.
pub fn chain_fault(pem: &str) -> Option<String> {
    if pem.len() > CHAIN_BYTES_MAX {
        return Some(format!("must be at most {CHAIN_BYTES_MAX} bytes"));
    }
    let mut count = 0;
    for block in pem::blocks(pem) {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Some("no PEM block headers are permitted".to_owned());
        }
        if block.contents.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        // A block may hold several.
        let mut rest = &block.contents[..];
        while !rest.is_empty() {
            match x509_parser::parse_x509_certificate(rest) {
                Ok((after, _)) => rest = after,
                Err(e) => return Some(e.to_string()),
            }
        }
        count += 1;
    }
    (count == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// When a certificate (PEM) ends.
pub fn certificate_end(pem: &str) -> Result<Time, Error> {
    let der = crate::authority::first_der(pem)?;
    let (_, cert) =
        x509_parser::parse_x509_certificate(&der).map_err(|e| Error::NotACertificate(e.to_string()))?;
    let end = cert.validity().not_after.timestamp();
    let end = jiff::Timestamp::from_second(end).map_err(|e| Error::NotACertificate(e.to_string()))?;
    Ok(Time(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    fn request(names: &[(DnType, &str)], sans: &[SanType]) -> String {
        let mut p = CertificateParams::default();
        p.distinguished_name = rcgen::DistinguishedName::new();
        for (ty, value) in names {
            p.distinguished_name.push(ty.clone(), DnValue::Utf8String((*value).to_string()));
        }
        p.subject_alt_names = sans.to_vec();
        p.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn a_signed_request_is_a_certificate_that_verifies_and_says_what_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        let ca = Authority::load_or_create(dir.path(), now).unwrap();
        // A second organisation under its number: the library's own name holds one.
        let organization = DnType::CustomDnType(vec![2, 5, 4, 10]);
        let sans = [
            SanType::DnsName("n1.example".try_into().unwrap()),
            SanType::IpAddress("10.0.0.1".parse().unwrap()),
        ];
        let pem = request(
            &[(DnType::OrganizationName, "dev"), (organization, "ops"), (DnType::CommonName, "jane")],
            &sans,
        );
        let asked = read_request(&pem).unwrap();
        let second = [(DnType::CustomDnType(vec![2, 5, 4, 3]), "root"), (DnType::CommonName, "jane")];
        assert_eq!(read_request(&request(&second, &[])).unwrap().user, "jane");
        assert_eq!(
            (asked.user.as_str(), &asked.groups[..]),
            ("jane", &["dev".to_string(), "ops".into()][..])
        );
        assert_eq!(asked.dns_names, ["n1.example"]);
        assert_eq!(asked.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let usages = ["client auth", "digital signature", "key encipherment"].map(String::from);
        let cert = ca.sign_request(now, &pem, &usages, Duration::from_secs(3600)).unwrap();
        let der = crate::authority::first_der(&cert).unwrap();
        let subject = crate::read_subject(&der).unwrap();
        assert_eq!((subject.user.as_str(), subject.groups.len()), ("jane", 2));
        let (rest, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(rest.is_empty());
        assert!(parsed.key_usage().unwrap().unwrap().value.key_encipherment());
        assert!(parsed.extended_key_usage().unwrap().unwrap().value.client_auth);
        assert!(!parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
        assert!(!parsed.is_ca());
        assert_eq!(certificate_end(&cert).unwrap(), now.plus(Duration::from_secs(3600)));
        assert_eq!(chain_fault(&format!("{cert}{cert}")), None);
        let none = "must contain at least one CERTIFICATE PEM block".to_owned();
        assert_eq!(chain_fault("x"), Some(none));
        let other = cert.replace(" CERTIFICATE", " PRIVATE KEY");
        let why = "only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"".to_owned();
        assert_eq!(chain_fault(&format!("{cert}{other}")), Some(why.clone()));
        let broken = "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n";
        assert_eq!(chain_fault(&format!("{cert}{broken}{other}")), Some(why));
        let headed = cert.replacen('\n', "\na: b\n\n", 1);
        let why = "no PEM block headers are permitted".to_owned();
        assert_eq!(chain_fault(&format!("{cert}{headed}")), Some(why));
        let both = to_pem("CERTIFICATE", &[der.clone(), der.clone()].concat());
        assert_eq!(chain_fault(&both), None);
        let none = "found CERTIFICATE PEM block containing 0 certificates".to_owned();
        assert_eq!(chain_fault(&to_pem("CERTIFICATE", &[])), Some(none));
        assert!(chain_fault(&cert.repeat(CHAIN_BYTES_MAX / cert.len() + 1)).is_some());
        // A verifier that knows nothing but the authority accepts it.
        let mut roots = rustls::RootCertStore::empty();
        roots.add(crate::authority::first_der(ca.cert_pem()).unwrap().into()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let at = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.0.as_second() as u64));
        verifier.build().unwrap().verify_client_cert(&der.into(), &[], at).unwrap();
    }

    /// An attribute that asks for extensions: their identifiers and values.
    fn asking(extensions: &[(&[u8], &[u8])]) -> rcgen::Attribute {
        let all: Vec<Vec<u8>> = extensions.iter().map(|(oid, value)| extension(oid, false, value)).collect();
        let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let values = tlv(0x31, &[&tlv(SEQUENCE, &all)]);
        rcgen::Attribute { oid: &[1, 2, 840, 113_549, 1, 9, 14], values }
    }

    #[test]
    fn every_extension_that_is_asked_for_is_read_and_asked_for_once() {
        const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
        const KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
        let name = |name: &str| tlv(SEQUENCE, &[&tlv(0x82, &[name.as_bytes()])]);
        let read = |attributes: Vec<rcgen::Attribute>| {
            let request = CertificateParams::default()
                .serialize_request_with_attributes(&KeyPair::generate().unwrap(), attributes);
            read_request(&request.unwrap().pem().unwrap()).map(|asked| asked.dns_names)
        };
        let (first, second) = (name("a.example"), name("b.example"));
        assert_eq!(read(vec![asking(&[(NAMES, &first)])]).unwrap(), ["a.example"]);
        // The names stand beside what no signer looks at, and in an attribute of their own.
        let key_id = tlv(OCTETS, &[&[1, 2]]);
        assert_eq!(read(vec![asking(&[(KEY_ID, &key_id), (NAMES, &first)])]).unwrap(), ["a.example"]);
        let apart = vec![asking(&[(KEY_ID, &key_id)]), asking(&[(NAMES, &first)])];
        assert_eq!(read(apart).unwrap(), ["a.example"]);
        for twice in [
            vec![asking(&[(NAMES, &first), (NAMES, &second)])],
            vec![asking(&[(NAMES, &first)]), asking(&[(NAMES, &second)])],
            vec![asking(&[(NAMES, b"no names")])],
        ] {
            assert!(read(twice).is_err());
        }
    }

    #[test]
    fn the_first_block_is_the_request_and_its_signature_is_its_own() {
        let good = request(&[(DnType::CommonName, "jane")], &[]);
        let mut forged = der(&request(&[(DnType::CommonName, "root")], &[])).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        let forged = to_pem("CERTIFICATE REQUEST", &forged);
        assert!(read_request(&forged).is_err());
        assert_eq!(read_request(&format!("{good}{forged}")).unwrap().user, "jane");
        let disguised = good.replace("CERTIFICATE REQUEST", "SOMETHING ELSE");
        assert!(read_request(&format!("{disguised}{forged}")).is_err());
        assert!(read_request(&format!("{disguised}{good}")).is_err());
    }

    #[test]
    fn keys_on_the_widest_curve_are_taken_however_they_sign() {
        let made = [
            include_str!("../testdata/p521_sha256.pem"),
            include_str!("../testdata/p521_sha384.pem"),
            include_str!("../testdata/p521_sha512.pem"),
        ];
        for pem in made {
            let asked = read_request(pem).unwrap();
            assert_eq!((&*asked.user, &asked.groups[..]), ("jane", &["dev".to_string()][..]));
            let whole = der(pem).unwrap();
            // Somebody else's name under the same signature; another signature; another hash.
            let at = whole.windows(4).position(|w| w == b"jane").unwrap();
            for (i, byte) in [(at, b'J'), (whole.len() - 1, whole[whole.len() - 1] ^ 1)] {
                let mut forged = whole.clone();
                forged[i] = byte;
                assert!(read_request(&to_pem(LABEL, &forged)).is_err(), "{i}");
            }
            let hash = whole.windows(7).rposition(|w| w == [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3]).unwrap() + 7;
            for other in (1..=4).filter(|other| *other != whole[hash]) {
                let mut forged = whole.clone();
                forged[hash] = other;
                assert!(read_request(&to_pem(LABEL, &forged)).is_err(), "{other}");
            }
        }
    }

    #[test]
    fn groups_in_letters_that_are_not_read_are_refused() {
        let mut p = CertificateParams::default();
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, "system:node:n");
        let group = rcgen::string::BmpString::try_from("system:masters").unwrap();
        p.distinguished_name.push(DnType::OrganizationName, DnValue::BmpString(group));
        let pem = p.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        assert!(read_request(&pem).is_err());
    }

    #[test]
    fn what_is_no_request_is_refused_and_no_certificate_outlives_the_authority() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::parse("2026-11-24T00:00:00Z").unwrap();
        let ca = Authority::load_or_create(dir.path(), now).unwrap();
        for bad in ["", "nonsense", ca.cert_pem(), &"x".repeat(REQUEST_BYTES_MAX + 1)] {
            assert!(read_request(bad).is_err());
            assert!(ca.sign_request(now, bad, &[], Duration::from_secs(1)).is_err());
        }
        let pem = request(&[(DnType::CommonName, "x")], &[]);
        let long = ca.sign_request(now, &pem, &["client auth".into()], Duration::from_secs(1 << 33)).unwrap();
        assert!(certificate_end(&long).unwrap() <= certificate_end(ca.cert_pem()).unwrap());
        assert!(ca.sign_request(now, &pem, &["flying".into()], Duration::from_secs(1)).is_err());
    }
}
