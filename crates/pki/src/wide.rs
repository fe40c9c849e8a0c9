//! Signatures on the curve P-521, which the library that all else is verified with does not know: those of certificate requests,
//! and of clients that show a certificate for such a key.

use p521::ecdsa::signature::hazmat::PrehashVerifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use rustls::SignatureScheme;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::sync::{Arc, LazyLock};

/// Length of a number on the curve.
const FIELD_BYTES: usize = 66;

/// With what a signed text was shortened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// Whether the owner of a key (a point, uncompressed) signed a message.
pub(crate) fn is_signed_by(key: &[u8], hash: Hash, message: &[u8], signature: &[u8]) -> bool {
    let digest = match hash {
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
    };
    // As a number it is the same with zeros before it; without them the library takes one of 256 bits for too short.
    let mut number = [0; FIELD_BYTES];
    number[FIELD_BYTES - digest.len()..].copy_from_slice(&digest);
    let is_point = key.len() == 1 + 2 * FIELD_BYTES && key[0] == 4;
    match (VerifyingKey::from_sec1_bytes(key), Signature::from_der(signature)) {
        (Ok(key), Ok(signature)) if is_point => key.verify_prehash(&number, &signature).is_ok(),
        _ => false,
    }
}

/// The one way in which a key on P-521 signs in a handshake.
#[derive(Debug)]
struct InHandshakes;

impl SignatureVerificationAlgorithm for InHandshakes {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        is_signed_by(key, Hash::Sha512, message, signature).then_some(()).ok_or(InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA512
    }
}

type Algorithms = Vec<&'static dyn SignatureVerificationAlgorithm>;
type Mapping = Vec<(SignatureScheme, &'static [&'static dyn SignatureVerificationAlgorithm])>;

static KNOWN: LazyLock<(Algorithms, Mapping)> = LazyLock::new(|| {
    let known = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let (mut all, mut mapping) = (known.all.to_vec(), known.mapping.to_vec());
    all.push(&InHandshakes);
    mapping.push((SignatureScheme::ECDSA_NISTP521_SHA512, &[&InHandshakes]));
    (all, mapping)
});

/// What a server speaks TLS with whose clients' certificates may be for any key that a certificate may be asked for.
pub fn server_provider() -> Arc<CryptoProvider> {
    let (all, mapping) = &*KNOWN;
    let signature_verification_algorithms = WebPkiSupportedAlgorithms { all, mapping };
    Arc::new(CryptoProvider { signature_verification_algorithms, ..rustls::crypto::ring::default_provider() })
}
