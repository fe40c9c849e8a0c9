//! Certificate requests of the stock signers: what becomes of one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::time::Duration;
use stoa_pki::{CertificateRequest, certificate_end, read_request};
use stoa_units::Time;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
/// How long a certificate lives that names no time, and at most.
const LIFETIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// How long a request is kept that was decided on, and one that was not.
const DECIDED_KEPT: Duration = HOUR;
const PENDING_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Leave,
    /// Approve it, if its maker may create requests on this subresource.
    ApproveIf {
        /// `selfnodeclient` or `nodeclient`.
        subresource: &'static str,
        /// What the condition says.
        message: &'static str,
    },
    /// Sign it.
    Sign {
        /// The request (PEM).
        pem: String,
        /// For what.
        usages: Vec<String>,
        /// For how long.
        lifetime: Duration,
    },
    /// Say that it cannot be signed.
    Fail(String),
    /// Remove it.
    Remove,
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok().filter(|t| !t.is_empty())
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

/// Decides what is to be done now.
pub(crate) fn plan(object: &Value, now: Time) -> Plan {
    if is_old(object, now) {
        return Plan::Remove;
    }
    let spec = &object["spec"];
    let signer = spec["signerName"].as_str().unwrap_or_default();
    let certificate = decoded(&object["status"]["certificate"]);
    let over = certificate.is_some()
        || condition(object, "Denied").is_some()
        || condition(object, "Failed").is_some();
    if over || ![CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&signer) {
        return Plan::Leave;
    }
    let Some(pem) = decoded(&spec["request"]) else { return Plan::Leave };
    let Ok(asked) = read_request(&pem) else { return Plan::Leave };
    let usages = texts(&spec["usages"]);
    if condition(object, "Approved").is_none() {
        return approval(spec, signer, &asked, &usages);
    }
    if let Err(why) = grants(signer, &asked, &usages) {
        return Plan::Fail(why.to_string());
    }
    let seconds = spec["expirationSeconds"].as_i64().map(|s| Duration::from_secs(s.max(600).unsigned_abs()));
    Plan::Sign { pem, usages, lifetime: seconds.unwrap_or(LIFETIME_MAX).min(LIFETIME_MAX) }
}

/// A node's request for its own certificate needs nobody's hand, if its maker may have that.
fn approval(spec: &Value, signer: &str, asked: &CertificateRequest, usages: &[String]) -> Plan {
    if signer != KUBELET_CLIENT || grants(signer, asked, usages).is_err() {
        return Plan::Leave;
    }
    if spec["username"] == asked.user.as_str() {
        return Plan::ApproveIf {
            subresource: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        };
    }
    Plan::ApproveIf {
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    }
}

/// Whether a signer gives what is asked of it.
fn grants(signer: &str, asked: &CertificateRequest, usages: &[String]) -> Result<(), &'static str> {
    let only = |allowed: &[&str]| usages.iter().all(|u| allowed.contains(&u.as_str()));
    let has = |usage: &str| usages.iter().any(|u| u == usage);
    let named_by_address = !asked.dns_names.is_empty() || !asked.addresses.is_empty();
    match signer {
        CLIENT => {
            if !only(&["digital signature", "key encipherment", "client auth"]) || !has("client auth") {
                return Err("usages did not match [digital signature key encipherment client auth]");
            }
            Ok(())
        }
        KUBELET_CLIENT => {
            check_node(asked)?;
            if named_by_address || asked.other_names_len > 0 {
                return Err("subjectAltNames are not allowed");
            }
            check_usages(usages, "client auth")
        }
        KUBELET_SERVING => {
            check_node(asked)?;
            if asked.other_names_len > 0 {
                return Err("only DNS and IP subjectAltNames are allowed");
            }
            if !named_by_address {
                return Err("DNS or IP subjectAltName is required");
            }
            check_usages(usages, "server auth")
        }
        _ => Ok(()),
    }
}

fn check_node(asked: &CertificateRequest) -> Result<(), &'static str> {
    if asked.groups != [NODES] {
        return Err("subject organization is not system:nodes");
    }
    if asked.user.strip_prefix(NODE_PREFIX).is_none_or(str::is_empty) {
        return Err("subject common name does not begin with system:node: ");
    }
    Ok(())
}

/// Exactly these usages; that keys are enciphered is for RSA keys and may be left out.
fn check_usages(usages: &[String], purpose: &'static str) -> Result<(), &'static str> {
    let allowed = ["digital signature", "key encipherment", purpose];
    let exact = usages.iter().all(|u| allowed.contains(&u.as_str()))
        && ["digital signature", purpose].iter().all(|n| usages.iter().any(|u| u == n));
    if exact { Ok(()) } else { Err("usages did not match those of the signer") }
}

/// Whether nobody needs it any more.
fn is_old(object: &Value, now: Time) -> bool {
    let certificate = decoded(&object["status"]["certificate"]);
    if certificate.as_deref().is_some_and(|c| certificate_end(c).is_ok_and(|end| end < now)) {
        return true;
    }
    let time = |v: &Value| v.as_str().and_then(Time::parse);
    let since = |at: Option<Time>| at.map_or(Duration::ZERO, |at| now.since(at));
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if conditions.is_empty() {
        return since(time(&object["metadata"]["creationTimestamp"])) > PENDING_KEPT;
    }
    conditions.iter().any(|c| since(time(&c["lastUpdateTime"])) > DECIDED_KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use serde_json::json;

    const NOW: &str = "2026-11-24T12:00:00Z";

    fn object(signer: &str, cn: &str, org: &str, sans: &[&str], usages: &[&str]) -> Value {
        let sans: Vec<String> = sans.iter().map(|s| (*s).to_string()).collect();
        let mut p = CertificateParams::new(sans).unwrap();
        p.distinguished_name = DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, cn);
        p.distinguished_name.push(DnType::OrganizationName, org);
        let pem = p.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({"metadata": {"name": "r", "creationTimestamp": NOW}, "spec": {"signerName": signer, "username": "jane",
            "request": STANDARD.encode(pem), "usages": usages}, "status": {}})
    }

    fn approved(mut object: Value) -> Plan {
        object["status"]["conditions"] =
            json!([{"type": "Approved", "status": "True", "lastUpdateTime": NOW}]);
        plan(&object, Time::parse(NOW).unwrap())
    }

    #[test]
    fn each_signer_signs_what_is_its_own_and_nothing_else() {
        let client = ["client auth", "digital signature", "key encipherment"];
        let serving = ["server auth", "digital signature"];
        let fails = |p: Plan| matches!(p, Plan::Fail(_));
        let signs = |p: Plan| matches!(p, Plan::Sign { .. });
        assert!(signs(approved(object(CLIENT, "jane", "dev", &[], &client))));
        assert!(fails(approved(object(CLIENT, "jane", "dev", &[], &serving))));
        assert!(signs(approved(object(KUBELET_CLIENT, "system:node:n", NODES, &[], &client))));
        assert!(fails(approved(object(KUBELET_CLIENT, "system:node:n", "dev", &[], &client))));
        assert!(fails(approved(object(KUBELET_CLIENT, "jane", NODES, &[], &client))));
        assert!(fails(approved(object(KUBELET_CLIENT, "system:node:n", NODES, &["n.example"], &client))));
        assert!(signs(approved(object(KUBELET_SERVING, "system:node:n", NODES, &["n.example"], &serving))));
        assert!(fails(approved(object(KUBELET_SERVING, "system:node:n", NODES, &[], &serving))));
        assert!(fails(approved(object(KUBELET_SERVING, "system:node:n", NODES, &["n.example"], &client))));
        assert!(signs(approved(object(LEGACY, "any", "thing", &["x.example"], &["code signing"]))));
        assert_eq!(approved(object("example.com/other", "jane", "dev", &[], &client)), Plan::Leave);
    }

    #[test]
    fn only_a_nodes_request_is_approved_without_a_hand() {
        let now = Time::parse(NOW).unwrap();
        let usages = ["client auth", "digital signature"];
        let mut own = object(KUBELET_CLIENT, "system:node:n", NODES, &[], &usages);
        assert!(matches!(plan(&own, now), Plan::ApproveIf { subresource: "nodeclient", .. }));
        own["spec"]["username"] = json!("system:node:n");
        assert!(matches!(plan(&own, now), Plan::ApproveIf { subresource: "selfnodeclient", .. }));
        assert_eq!(plan(&object(CLIENT, "jane", "dev", &[], &usages), now), Plan::Leave);
        assert_eq!(plan(&object(KUBELET_CLIENT, "system:node:n", "x", &[], &usages), now), Plan::Leave);
    }

    #[test]
    fn requests_go_an_hour_after_the_decision_or_a_day_after_nobody_cared() {
        let at = |t: &str| Time::parse(t).unwrap();
        let mut o = object(CLIENT, "jane", "dev", &[], &["client auth"]);
        assert_eq!(plan(&o, at("2026-11-25T11:00:00Z")), Plan::Leave);
        assert_eq!(plan(&o, at("2026-11-25T12:00:01Z")), Plan::Remove);
        o["status"]["conditions"] = json!([{"type": "Denied", "status": "True", "lastUpdateTime": NOW}]);
        assert_eq!(plan(&o, at("2026-11-24T13:00:00Z")), Plan::Leave);
        assert_eq!(plan(&o, at("2026-11-24T13:00:01Z")), Plan::Remove);
    }

    #[test]
    fn a_certificate_lives_as_long_as_asked_but_no_longer_than_a_year() {
        let mut o = object(CLIENT, "jane", "dev", &[], &["client auth"]);
        for (asked, want) in
            [(json!(null), LIFETIME_MAX), (json!(3600), HOUR), (json!(1i64 << 40), LIFETIME_MAX)]
        {
            o["spec"]["expirationSeconds"] = asked;
            assert!(matches!(approved(o.clone()), Plan::Sign { lifetime, .. } if lifetime == want));
        }
    }
}
