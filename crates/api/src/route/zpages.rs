//! Pages for whoever looks after the server: since when it runs and as what, and with which flags. As text they promise no form; as
//! objects of `config.k8s.io` they do.

use crate::discovery::KUBERNETES;
use crate::negotiate::{self, Encoding, Page};
use crate::respond::{Answer, text, value, warn};
use crate::state::State;
use http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use stoa_kube::Status;

/// What the server calls itself there.
const COMPONENT: &str = "apiserver";
/// First parts of paths that help nobody who looks for trouble.
const NO_HELP: [&str; 6] = ["apis", "api", "openid", "openapi", ".well-known", "statusz"];

/// Answers `/statusz`.
pub(super) fn statusz(state: &State, headers: &HeaderMap) -> Result<Answer, Status> {
    let up = state.registry.clock().now().since(state.started).as_secs();
    let (major, minor, git) = KUBERNETES;
    let (binary, emulated) = (git.trim_start_matches('v'), format!("{major}.{minor}"));
    let paths: BTreeSet<String> = super::paths::index()
        .iter()
        .filter_map(|path| path.split('/').nth(1))
        .filter(|first| !NO_HELP.contains(first))
        .map(|first| format!("/{first}"))
        .collect();
    let paths: Vec<String> = paths.into_iter().collect();
    match negotiate::page(headers, "Statusz")? {
        Page::Text => {
            let mut out = head("statusz");
            // Writing into a String cannot fail.
            let _ = write!(
                out,
                "\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nGo version: none\nBinary version: {binary}\nEmulation version: {emulated}\nPaths: {}\n",
                state.started.to_unix_date(),
                up / 3600,
                up / 60 % 60,
                up % 60,
                paths.join(" ")
            );
            Ok(text(200, out))
        }
        Page::Object(encoding, version) => {
            let body = json!({"startTime": state.started.to_rfc3339_seconds(), "uptimeSeconds": up, "goVersion": "none",
                "binaryVersion": binary, "emulationVersion": emulated, "paths": paths});
            Ok(object(encoding, version, "Statusz", body))
        }
    }
}

/// Answers `/flagz`.
pub(super) fn flagz(state: &State, headers: &HeaderMap) -> Result<Answer, Status> {
    match negotiate::page(headers, "Flagz")? {
        Page::Text => {
            let mut out = head("flagz");
            for (flag, value) in &state.flags {
                // Writing into a String cannot fail.
                let _ = writeln!(out, "{flag}={value}");
            }
            Ok(text(200, out))
        }
        Page::Object(encoding, version) => {
            let body = if state.flags.is_empty() { json!({}) } else { json!({ "flags": state.flags }) };
            Ok(object(encoding, version, "Flagz", body))
        }
    }
}

fn head(page: &str) -> String {
    format!(
        "\n{COMPONENT} {page}\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"
    )
}

fn object(encoding: Encoding, version: &str, kind: &str, body: Value) -> Answer {
    let mut whole = json!({"kind": kind, "apiVersion": format!("config.k8s.io/{version}"), "metadata": {"name": COMPONENT}});
    if let (Value::Object(whole), Value::Object(body)) = (&mut whole, body) {
        whole.extend(body);
    }
    let mut answer = value(200, encoding, &whole);
    if version != "v1beta1" {
        let page = kind.to_lowercase();
        warn(
            &mut answer,
            &[format!("This version of the {page} endpoint is deprecated. Please use a newer version.")],
        );
    }
    answer
}
