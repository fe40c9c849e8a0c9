//! Certificate signing requests: what they may ask for, who may approve them and who may sign. The rules of the stock plugins
//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction, and of the kind itself.

use crate::{Context, Registry, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stoa_authz::Attributes;
use stoa_kube::{Cause, Resource, Status};

const GROUP: &str = "certificates.k8s.io";
/// Signs certificates of clients.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
/// The shortest certificate that may be asked for.
const EXPIRATION_SECONDS_MIN: i64 = 600;

/// What a request begins with.
const PEM_HEAD: &str = "-----BEGIN CERTIFICATE REQUEST-----";

/// Whether a kind is the one that this is about.
pub(crate) fn is_request(resource: &Resource) -> bool {
    resource.group == GROUP && resource.plural == "certificatesigningrequests"
}

impl Registry {
    /// A new request: says who made it, and is refused if it asks for what no certificate may say.
    pub(crate) fn check_new_request(&self, ctx: &Context, object: &mut Value) -> Result<Vec<Cause>, Status> {
        let spec = &mut object["spec"];
        if !ctx.user.uid.is_empty() {
            spec["uid"] = ctx.user.uid.as_str().into();
        }
        if !ctx.user.extra.is_empty() {
            spec["extra"] = json!(ctx.user.extra);
        }
        let causes = causes(spec);
        if causes.is_empty() && spec["signerName"] == CLIENT_SIGNER {
            let asked = pem(&spec["request"]).and_then(|pem| stoa_pki::read_request(&pem).ok());
            if asked.is_some_and(|a| a.groups.iter().any(|g| g == stoa_authz::SUPERUSER_GROUP)) {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let why = format!(
                    "use of {CLIENT_SIGNER} signer with {} group is not allowed",
                    stoa_authz::SUPERUSER_GROUP
                );
                return Err(forbidden(name, &why));
            }
        }
        Ok(causes)
    }

    /// A changed request: who approves it or signs it must be allowed to with its signer. Completes its conditions.
    pub(crate) fn check_request(
        &self,
        ctx: &Context,
        target: Target<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<Vec<Cause>, Status> {
        if target.subresource.is_empty() {
            return Ok(Vec::new());
        }
        let signer = old["spec"]["signerName"].as_str().unwrap_or_default();
        let (before, after) = (&old["status"], &object["status"]);
        let signs = ["certificate", "conditions"].iter().any(|f| before[f] != after[f]);
        let verb = match target.subresource {
            "approval" => "approve",
            "status" if signs => "sign",
            _ => "",
        };
        if !verb.is_empty() && !self.may_with_signer(ctx, verb, signer) {
            let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
            return Err(forbidden(target.name, &why));
        }
        complete_conditions(object, old, &self.now().to_rfc3339_seconds());
        Ok(changed_causes(target.subresource, object, old))
    }

    /// A signer is named whole, or all of its domain are.
    fn may_with_signer(&self, ctx: &Context, verb: &str, signer: &str) -> bool {
        if ctx.privileged {
            return true;
        }
        let may = |name: &str| {
            let attributes = Attributes::resource(verb, GROUP, "signers", "", name);
            self.authorizer().authorize(&ctx.user, &attributes).is_allowed()
        };
        let domain = signer.split('/').next().unwrap_or_default();
        may(signer) || may(&format!("{domain}/*"))
    }
}

fn forbidden(name: &str, why: &str) -> Status {
    Status::forbidden_named("certificatesigningrequests", GROUP, name, why)
}

fn pem(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

fn causes(spec: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let wrong = match pem(&spec["request"]).filter(|p| p.contains(PEM_HEAD)) {
        None => Some("PEM block type must be CERTIFICATE REQUEST".to_string()),
        Some(pem) => stoa_pki::read_request(&pem).err().map(|e| e.to_string()),
    };
    if let Some(why) = wrong {
        let shown = spec["request"].clone();
        out.push(Cause::invalid("spec.request", shown, &format!("unable to parse csr: {why}")));
    }
    let usages = spec["usages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if usages.is_empty() {
        out.push(Cause::required("spec.usages", ""));
    }
    for (i, usage) in usages.iter().enumerate() {
        let text = usage.as_str().unwrap_or_default();
        let field = format!("spec.usages[{i}]");
        if !stoa_pki::is_usage(text) {
            out.push(Cause::not_supported(&field, text, &[]));
        } else if usages[..i].contains(usage) {
            out.push(Cause::duplicate(&field, text));
        }
    }
    let signer = spec["signerName"].as_str().unwrap_or_default();
    if signer.is_empty() {
        out.push(Cause::required("spec.signerName", ""));
    } else if signer == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        out.push(Cause::invalid("spec.signerName", signer, why));
    } else {
        let (domain, path) = signer.split_once('/').unwrap_or((signer, ""));
        if path.is_empty() || stoa_units::check_dns_subdomain(domain).is_err() {
            let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            out.push(Cause::invalid("spec.signerName", signer, why));
        }
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < EXPIRATION_SECONDS_MIN
    {
        out.push(Cause::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    out
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn has(object: &Value, kind: &str) -> bool {
    conditions(object).iter().any(|c| c["type"] == kind)
}

/// When a condition came and when it was last said is the server's to say, where the client does not.
fn complete_conditions(object: &mut Value, old: &Value, now: &str) {
    let Some(list) = object["status"].get_mut("conditions").and_then(Value::as_array_mut) else { return };
    for condition in list {
        let Some(c) = condition.as_object_mut() else { continue };
        let before = conditions(old).iter().find(|o| Some(&o["type"]) == c.get("type"));
        if c.get("lastUpdateTime").is_none_or(Value::is_null) {
            c.insert("lastUpdateTime".into(), now.into());
        }
        if c.get("lastTransitionTime").is_none_or(Value::is_null) {
            let same = before.filter(|b| Some(&b["status"]) == c.get("status"));
            let at = same.map_or_else(|| now.into(), |b| b["lastTransitionTime"].clone());
            c.insert("lastTransitionTime".into(), at);
        }
    }
}

fn changed_causes(subresource: &str, object: &Value, old: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let field = "status.conditions";
    for kind in ["Approved", "Denied", "Failed"] {
        match (has(old, kind), has(object, kind)) {
            (true, false) => {
                let why = format!("updates may not remove a condition of type {kind:?}");
                out.push(Cause::forbidden(field, &why));
            }
            (false, true) if kind != "Failed" && subresource != "approval" => {
                let why = format!("updates may not add a condition of type {kind:?}");
                out.push(Cause::forbidden(field, &why));
            }
            _ => {}
        }
    }
    if has(object, "Approved") && has(object, "Denied") {
        out.push(Cause::invalid(field, "Denied", "Approved and Denied conditions are mutually exclusive"));
    }
    for (i, condition) in conditions(object).iter().enumerate() {
        if condition["type"].as_str().unwrap_or_default().is_empty() {
            out.push(Cause::required(format!("{field}[{i}].type"), ""));
        }
        let status = condition["status"].as_str().unwrap_or_default();
        let decided = ["Approved", "Denied", "Failed"].iter().any(|k| condition["type"] == *k);
        if status.is_empty() {
            out.push(Cause::required(format!("{field}[{i}].status"), ""));
        } else if decided && status != "True" {
            out.push(Cause::not_supported(format!("{field}[{i}].status"), status, &["True"]));
        }
    }
    let (before, after) = (&old["status"]["certificate"], &object["status"]["certificate"]);
    if subresource == "status" && before != after {
        if before.as_str().is_some_and(|b| !b.is_empty()) {
            out.push(Cause::forbidden(
                "status.certificate",
                "updates may not set certificate content if it is already set",
            ));
        } else if pem(after).is_none_or(|p| stoa_pki::certificate_end(&p).is_err()) {
            out.push(Cause::invalid(
                "status.certificate",
                "",
                "must contain at least one CERTIFICATE PEM block",
            ));
        }
    }
    out
}
