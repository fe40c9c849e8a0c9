//! The flags about who is known at the Kubernetes door, and the files that they name.

use crate::cli::Authentication;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use std::path::Path;
use stoa_api::{OidcOptions, RequestHeader};
use stoa_authz::User;
use stoa_pki::Reading;

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Puts what the flags say into the door's options.
pub fn configure(options: &mut stoa_api::Options, flags: &Authentication) -> Result<()> {
    if let Some(path) = &flags.token_auth_file {
        options.static_tokens = tokens(path, &read(path)?)?;
    }
    if let (Some(issuer), Some(client)) = (&flags.oidc_issuer_url, &flags.oidc_client_id) {
        if !issuer.starts_with("https://") {
            bail!("--oidc-issuer-url: `{issuer}` does not begin with https://");
        }
        let mut reading = Reading::new(issuer, client);
        reading.username_claim = flags.oidc_username_claim.clone();
        reading.username_prefix = flags.oidc_username_prefix.clone();
        reading.groups_claim = flags.oidc_groups_claim.clone();
        reading.groups_prefix = flags.oidc_groups_prefix.clone();
        reading.algorithms = flags.oidc_signing_algs.clone();
        for claim in &flags.oidc_required_claim {
            let (name, value) = claim
                .split_once('=')
                .with_context(|| format!("--oidc-required-claim: `{claim}` is no CLAIM=VALUE"))?;
            reading.required_claims.push((name.into(), value.into()));
        }
        let ca_pem = flags.oidc_ca_file.as_deref().map(read).transpose()?;
        options.oidc = Some(OidcOptions { reading, ca_pem });
    }
    if let Some(path) = &flags.requestheader_client_ca_file {
        options.request_header = Some(RequestHeader {
            ca_pem: read(path)?,
            allowed_names: flags.requestheader_allowed_names.clone(),
            username_headers: flags.requestheader_username_headers.clone(),
            uid_headers: flags.requestheader_uid_headers.clone(),
            group_headers: flags.requestheader_group_headers.clone(),
            extra_header_prefixes: flags.requestheader_extra_headers_prefix.clone(),
        });
    }
    Ok(())
}

/// What servers behind this one read of how it knows its users.
pub fn published(client_ca: &str, flags: &Authentication) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    out.insert("client-ca-file".to_owned(), client_ca.into());
    let Some(path) = &flags.requestheader_client_ca_file else { return Ok(out) };
    out.insert("requestheader-client-ca-file".to_owned(), read(path)?.into());
    for (key, values) in [
        ("requestheader-allowed-names", &flags.requestheader_allowed_names),
        ("requestheader-username-headers", &flags.requestheader_username_headers),
        ("requestheader-uid-headers", &flags.requestheader_uid_headers),
        ("requestheader-group-headers", &flags.requestheader_group_headers),
        ("requestheader-extra-headers-prefix", &flags.requestheader_extra_headers_prefix),
    ] {
        // Lists are kept as texts, as all that a config map holds.
        out.insert(key.to_owned(), serde_json::to_string(values)?.into());
    }
    Ok(out)
}

/// Reads `token,user,uid` lines, with groups in quotes behind.
fn tokens(path: &Path, text: &str) -> Result<Vec<(String, User)>> {
    let mut out = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields = fields(line);
        let (Some(token), Some(name), Some(uid)) = (fields.first(), fields.get(1), fields.get(2)) else {
            bail!("{}:{}: expected `token,user,uid` or `token,user,uid,\"groups\"`", path.display(), i + 1);
        };
        if token.is_empty() || name.is_empty() {
            bail!("{}:{}: neither the token nor the user may be empty", path.display(), i + 1);
        }
        let groups = fields.get(3).map(String::as_str).unwrap_or_default();
        let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty());
        let mut user = User::new(name.clone(), groups);
        user.uid = uid.clone();
        out.push((token.clone(), user));
    }
    Ok(out)
}

/// A line's fields; a field in quotes may hold commas.
fn fields(line: &str) -> Vec<String> {
    let (mut out, mut field, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(std::mem::take(&mut field).trim().to_string()),
            c => field.push(c),
        }
    }
    out.push(field.trim().to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_as_a_stock_server_reads_it() {
        let path = Path::new("t");
        let read = tokens(path, "# who\nabc,jane,7,\"dev, ops\"\n\ndef, bob ,8\n").unwrap();
        assert_eq!(read[0].0, "abc");
        assert_eq!((read[0].1.name.as_str(), read[0].1.uid.as_str()), ("jane", "7"));
        assert_eq!(read[0].1.groups, ["dev", "ops"]);
        assert_eq!((read[1].1.name.as_str(), read[1].1.groups.len()), ("bob", 0));
        for bad in ["abc,jane", ",jane,7", "abc,,7"] {
            assert!(tokens(path, bad).unwrap_err().to_string().starts_with("t:1:"), "{bad}");
        }
    }
}
