//! The kubeconfig file that carries an identity to kubectl and every other client.

use crate::{Authority, Error, Identity, files};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

/// A kubeconfig with one cluster, one user and one context, all inline.
pub fn render_kubeconfig(server: &str, authority: &Authority, name: &str, identity: &Identity) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: stoa\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\nusers:\n- name: {name}\n  user:\n    client-certificate-data: {cert}\n    client-key-data: {key}\ncontexts:\n- name: stoa\n  context:\n    cluster: stoa\n    user: {name}\ncurrent-context: stoa\npreferences: {{}}\n",
        ca = STANDARD.encode(authority.cert_pem()),
        cert = STANDARD.encode(&identity.cert_pem),
        key = STANDARD.encode(&identity.key_pem),
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
