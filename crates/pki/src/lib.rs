//! The cluster's identities: one certificate authority, the certificates it issues, the key that signs
//! service-account tokens, and the kubeconfig that carries them to a client; and how tokens of a foreign issuer are judged.
//!
//! Everything lives in one directory with mode 0700, private keys with mode 0600; the first start makes it, later
//! starts load it. Nothing here listens or dials.

mod authority;
mod error;
mod files;
mod judged;
mod kubeconfig;
mod legacy;
mod oidc;
mod pem;
mod request;
mod token;
mod wide;

pub use authority::{
    Authority, Identity, SERVER_DAYS_LEFT_MIN, SubjectName, authority_hash, der_hash, make_request,
    read_subject,
};
pub use error::Error;
pub use judged::{ServerCertificates, client_judged_by, unverified_client};
pub use kubeconfig::render_kubeconfig;
pub use oidc::{ForeignKeys, Foreigner, Reading};
pub use request::{CertificateRequest, certificate_end, chain_fault, read_request};
pub use token::{Audiences, BoundObject, Claims, ServiceAccount, TokenSigner, Verified};
pub use wide::server_provider;
