//! The kubeconfig file that carries an identity to kubectl and every other client.

use crate::{Authority, Error, Identity, files};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sec1::der::{EncodePem, SecretDocument};
use sec1::pkcs8::{LineEnding, PrivateKeyInfo};
use sec1::{ALGORITHM_OID, EcParameters, EcPrivateKey};
use std::borrow::Cow;
use std::path::Path;

/// An elliptic curve's key in the form of RFC 5915 ("EC PRIVATE KEY"), with the curve's name in it: clients on fabric8's library
/// (Spark, Jenkins and many others in Java) take the form that names no algorithm for RSA. Other keys stay as they are.
fn named_key(pem: &str) -> Cow<'_, str> {
    let named = || {
        let (_, document) = SecretDocument::from_pem(pem).ok()?;
        let info = PrivateKeyInfo::try_from(document.as_bytes()).ok()?;
        if info.algorithm.oid != ALGORITHM_OID {
            return None;
        }
        let curve = info.algorithm.parameters_oid().ok()?;
        let key = EcPrivateKey::try_from(info.private_key).ok()?;
        let key = EcPrivateKey { parameters: Some(EcParameters::NamedCurve(curve)), ..key };
        key.to_pem(LineEnding::LF).ok()
    };
    named().map_or(Cow::Borrowed(pem), |key| Cow::Owned(key.to_string()))
}

/// A kubeconfig with one cluster, one user and one context, all inline.
pub fn render_kubeconfig(server: &str, authority: &Authority, name: &str, identity: &Identity) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: stoa\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\ncontexts:\n- name: stoa\n  context:\n    cluster: stoa\n    user: {name}\ncurrent-context: stoa\npreferences: {{}}\n",
        ca = STANDARD.encode(authority.cert_pem()),
        cert = STANDARD.encode(&identity.cert_pem),
        key = STANDARD.encode(named_key(&identity.key_pem).as_bytes()),
    )
}

impl Authority {
    /// Writes a kubeconfig with mode 0600.
    pub fn write_kubeconfig(
        &self,
        path: &Path,
        server: &str,
        name: &str,
        identity: &Identity,
    ) -> Result<(), Error> {
        files::write(path, &render_kubeconfig(server, self, name, identity), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::KeyPair;
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn a_key_names_its_curve_and_stays_the_same_key() {
        let key = KeyPair::generate().unwrap();
        let named = named_key(&key.serialize_pem()).into_owned();
        assert!(named.starts_with("-----BEGIN EC PRIVATE KEY-----\n"), "{named}");
        let der = PrivateKeyDer::from_pem_slice(named.as_bytes()).unwrap();
        // Clients in Go and with OpenSSL take none that does not name its curve.
        let curve = sec1::der::asn1::ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
        let read = EcPrivateKey::try_from(der.secret_der()).unwrap();
        assert_eq!(read.parameters, Some(EcParameters::NamedCurve(curve)));
        let public = |der: &PrivateKeyDer<'_>| {
            let signing = rustls::crypto::ring::sign::any_ecdsa_type(der).unwrap();
            signing.public_key().unwrap().to_vec()
        };
        let whole = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(public(&der), public(&whole));
        assert_eq!(named_key(&named), named, "what is named already stays as it is");
        let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        assert_eq!(named_key(&other), other);
    }
}
