//! `stoa token`: join tokens are bootstrap-token Secrets in kube-system, as kubeadm keeps them, followed by the hash of
//! the cluster's authority, so that a joining agent knows whom to trust before it has any certificate.

use crate::cli::TokenCommand;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::printer;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use stoa_units::{Clock, SystemClock};

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const HOURS_MAX: u32 = 24 * 365;

#[derive(Serialize)]
struct Created {
    token: String,
    expires: String,
}

fn random(len: usize) -> String {
    (0..len).map(|_| ALPHABET[rand::random_range(0..ALPHABET.len())] as char).collect()
}

pub async fn run(command: TokenCommand) -> Result<()> {
    let TokenCommand::Create { data, hours, output } = command;
    if hours == 0 || hours > HOURS_MAX {
        bail!("a token is good for 1 to {HOURS_MAX} hours, not {hours}");
    }
    let cluster = Cluster::find(&data.data_dir)?.with_context(|| {
        format!("{} holds no cluster\nhint: start one with `stoa up`", data.data_dir.display())
    })?;
    let client = Client::from_kubeconfig(&cluster.kubeconfig())?;
    let ca = std::fs::read_to_string(cluster.pki().join("ca.crt"))
        .context("cannot read the cluster's authority")?;
    let (id, secret) = (random(6), random(16));
    let expires = SystemClock.now().plus(Duration::from_secs(u64::from(hours) * 3600)).to_rfc3339_seconds();
    let object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
        "stringData": {
            "token-id": id, "token-secret": secret, "expiration": expires,
            "usage-bootstrap-authentication": "true", "description": "join token of `stoa token create`",
        },
    });
    client.post("/api/v1/namespaces/kube-system/secrets", &object).await?;
    let created = Created { token: format!("{id}.{secret}.{}", stoa_pki::authority_hash(&ca)?), expires };
    printer::print(output.output, &created, |c| format!("{}\n", c.token))
}
