//! The kubeconfig file that carries an identity to kubectl and every other client.

use crate::{Authority, Error, Identity, files};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::SecretKey;
use p256::pkcs8::DecodePrivateKey;
use std::borrow::Cow;
use std::path::Path;

/// An encoded P-256 key of RFC 5915 without its curve begins like this, …
const NAMELESS: [u8; 7] = [0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20];
/// … is that long up to the end of the secret, …
const SECRET_END: usize = NAMELESS.len() + 32;
/// … and names its curve by this.
const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// How long a line of PEM is.
const PEM_LINE_LEN: usize = 64;

/// The key in the form of RFC 5915 ("EC PRIVATE KEY"), if it is one of P-256: clients on fabric8's library (Spark, Jenkins and many
/// others in Java) take the form that names no algorithm for RSA. Clients in Go and with OpenSSL take none that does not name its
/// curve, which the encoder leaves out.
fn named_key(pem: &str) -> Cow<'_, str> {
    let der = SecretKey::from_pkcs8_pem(pem).ok().and_then(|key| key.to_sec1_der().ok());
    let Some(der) = der.filter(|d| d.starts_with(&NAMELESS) && d.len() == 2 + usize::from(NAMELESS[1]))
    else {
        return Cow::Borrowed(pem);
    };
    let mut named = der[..SECRET_END].to_vec();
    named[1] += CURVE.len() as u8;
    named.extend_from_slice(&CURVE);
    named.extend_from_slice(&der[SECRET_END..]);
    let mut out = String::from("-----BEGIN EC PRIVATE KEY-----\n");
    let text = STANDARD.encode(named);
    let (mut line, mut rest) = text.split_at(text.len().min(PEM_LINE_LEN));
    while !line.is_empty() {
        out.push_str(line);
        out.push('\n');
        (line, rest) = rest.split_at(rest.len().min(PEM_LINE_LEN));
    }
    out.push_str("-----END EC PRIVATE KEY-----\n");
    Cow::Owned(out)
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
        assert!(der.secret_der().windows(CURVE.len()).any(|w| w == CURVE), "no curve in {named}");
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
