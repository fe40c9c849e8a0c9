//! Certificate signing requests: what they may ask for, who may approve them and who may sign. The rules of the stock plugins
//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction, and of the kind itself.

use crate::{Context, Registry, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use stoa_authz::Attributes;
use stoa_kube::{CAUSES_MAX, Cause, Resource, Status};
use stoa_units::{NameError, check_dns_label, check_dns_subdomain};

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
        if target.subresource == "status" {
            keep_decision(object, old);
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

/// What a certificate may be for, in the order in which it is listed.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn causes(spec: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    let wrong = match pem(&spec["request"]).filter(|p| p.contains(PEM_HEAD)) {
        None => Some("PEM block type must be CERTIFICATE REQUEST".to_string()),
        Some(pem) => stoa_pki::read_request(&pem).err().map(|e| e.to_string()),
    };
    if let Some(why) = wrong {
        out.push(Cause::invalid("spec.request", spec["request"].clone(), &why));
    }
    let usages = spec["usages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if usages.is_empty() {
        out.push(Cause::required("spec.usages", ""));
    }
    let usages = || usages.iter().map(|u| u.as_str().unwrap_or_default()).enumerate();
    let unknown = usages().filter(|(_, usage)| !USAGES.contains(usage));
    out.extend(
        unknown
            .take(CAUSES_MAX)
            .map(|(i, usage)| Cause::not_supported(format!("spec.usages[{i}]"), usage, &USAGES)),
    );
    let mut seen = HashSet::new();
    let twice = usages().filter(|(_, usage)| !seen.insert(*usage));
    out.extend(twice.take(CAUSES_MAX).map(|(i, usage)| Cause::duplicate(format!("spec.usages[{i}]"), usage)));
    signer_name(spec["signerName"].as_str().unwrap_or_default(), &mut out);
    if let Some(seconds) = spec["expirationSeconds"].as_i64()
        && seconds < EXPIRATION_SECONDS_MIN
    {
        out.push(Cause::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    out.truncate(CAUSES_MAX);
    out
}

/// As long as a domain may be, and as a signer's whole name.
const DOMAIN_LEN_MAX: usize = 253;
const SIGNER_LEN_MAX: usize = 571;

/// A signer: a domain of two labels at least, and a path below it.
fn signer_name(name: &str, out: &mut Vec<Cause>) {
    const FIELD: &str = "spec.signerName";
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        return out.push(Cause::invalid(FIELD, name, why));
    }
    let parts: Vec<&str> = name.splitn(3, '/').collect();
    let [domain, path] = parts[..] else {
        if name.is_empty() {
            return out.push(Cause::required(FIELD, ""));
        }
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return out.push(Cause::invalid(FIELD, name, why));
    };
    if domain.len() > DOMAIN_LEN_MAX {
        out.push(Cause::too_long(FIELD, DOMAIN_LEN_MAX));
    }
    first_fault(domain, check_dns_label, out);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        out.push(Cause::invalid(FIELD, domain, why));
    }
    first_fault(path, check_dns_subdomain, out);
    if name.len() > SIGNER_LEN_MAX {
        out.push(Cause::too_long(FIELD, SIGNER_LEN_MAX));
    }
}

/// The first label of a part of a signer's name that is none.
fn first_fault(part: &str, check: fn(&str) -> Result<(), NameError>, out: &mut Vec<Cause>) {
    let found = part.split('.').find_map(|label| check(label).err().map(|e| (label, e)));
    if let Some((label, e)) = found {
        let told = e.all().map(|why| format!("validating label {label:?}: {why}"));
        out.extend(told.map(|why| Cause::invalid("spec.signerName", part, &why)));
    }
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn conditions_mut(object: &mut Value) -> Option<&mut Vec<Value>> {
    object.pointer_mut("/status/conditions")?.as_array_mut()
}

fn count(object: &Value, kind: &str) -> usize {
    conditions(object).iter().filter(|c| c["type"] == kind).count()
}

/// Who writes a status leaves the decision as it is: what stands for it is what stood there, where there is as much of it.
fn keep_decision(object: &mut Value, old: &Value) {
    for kind in ["Approved", "Denied"] {
        if count(object, kind) != count(old, kind) {
            continue;
        }
        let before = conditions(old).iter().filter(|c| c["type"] == kind);
        let after = conditions_mut(object).into_iter().flatten();
        after.filter(|c| c["type"] == kind).zip(before).for_each(|(new, old)| new.clone_from(old));
    }
}

/// When a condition came and when it was last said is the server's to say, where the client does not.
fn complete_conditions(object: &mut Value, old: &Value, now: &str) {
    let Some(list) = conditions_mut(object) else { return };
    // The first of each kind that says when it came.
    let mut came: HashMap<(&str, &str), &Value> = HashMap::new();
    for c in conditions(old).iter().filter(|c| !c["lastTransitionTime"].is_null()) {
        let key = |field: &str| c[field].as_str().unwrap_or_default();
        came.entry((key("type"), key("status"))).or_insert(&c["lastTransitionTime"]);
    }
    for condition in list {
        let Some(c) = condition.as_object_mut() else { continue };
        let text = |key: &str| c.get(key).and_then(Value::as_str).unwrap_or_default();
        let at = came.get(&(text("type"), text("status"))).map_or_else(|| now.into(), |at| (*at).clone());
        if c.get("lastUpdateTime").is_none_or(Value::is_null) {
            c.insert("lastUpdateTime".into(), now.into());
        }
        if c.get("lastTransitionTime").is_none_or(Value::is_null) {
            c.insert("lastTransitionTime".into(), at);
        }
    }
}

/// What is wrong with the decision and the certificate. What was wrong before may stay.
fn status_causes(object: &Value, old: &Value, out: &mut Vec<Cause>) {
    const FIELD: &str = "status.conditions";
    let kinds = || conditions(old).iter().map(|c| c["type"].as_str().unwrap_or_default());
    let (lax_both, lax_empty) =
        (count(old, "Approved") > 0 && count(old, "Denied") > 0, kinds().any(str::is_empty));
    let mut seen = HashSet::new();
    let lax_twice = kinds().any(|kind| !seen.insert(kind));
    seen.clear();
    let (mut approved, mut denied) = (false, false);
    for (i, condition) in conditions(object).iter().enumerate() {
        if out.len() >= CAUSES_MAX {
            return;
        }
        let kind = condition["type"].as_str().unwrap_or_default();
        if kind.is_empty() && !lax_empty {
            out.push(Cause::required(format!("{FIELD}[{i}].type"), ""));
        }
        let known: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        match condition["status"].as_str().unwrap_or_default() {
            "" => out.push(Cause::required(format!("{FIELD}[{i}].status"), "")),
            status if !known.contains(&status) => {
                out.push(Cause::not_supported(format!("{FIELD}[{i}].status"), status, known));
            }
            _ => {}
        }
        approved |= kind == "Approved";
        denied |= kind == "Denied";
        if approved && denied && matches!(kind, "Approved" | "Denied") && !lax_both {
            out.push(Cause::invalid(FIELD, kind, "Approved and Denied conditions are mutually exclusive"));
        }
        if !seen.insert(kind) && !lax_twice {
            out.push(Cause::duplicate(format!("{FIELD}[{i}].type"), kind));
        }
    }
    let (before, after) = (&old["status"]["certificate"], &object["status"]["certificate"]);
    if before != after
        && certificate_fault(before).is_none()
        && let Some(why) = certificate_fault(after)
    {
        out.push(Cause::invalid("status.certificate", "<certificate data>", &why));
    }
}

/// Why a text is no chain of certificates; none is fine.
fn certificate_fault(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    let chain = STANDARD.decode(text).unwrap_or_default();
    stoa_pki::chain_fault(&String::from_utf8_lossy(&chain))
}

fn changed_causes(subresource: &str, object: &Value, old: &Value) -> Vec<Cause> {
    let mut out = Vec::new();
    status_causes(object, old, &mut out);
    let field = "status.conditions";
    for kind in ["Approved", "Denied", "Failed"] {
        if count(object, kind) < count(old, kind) {
            let why = format!("updates may not remove a condition of type {kind:?}");
            out.push(Cause::forbidden(field, &why));
        }
    }
    for kind in ["Approved", "Denied"] {
        if subresource != "approval" && count(object, kind) > count(old, kind) {
            let why = format!("updates may not add a condition of type {kind:?}");
            out.push(Cause::forbidden(field, &why));
        }
    }
    let (before, after) = (&old["status"]["certificate"], &object["status"]["certificate"]);
    if before != after && before.as_str().is_some_and(|b| !b.is_empty()) {
        out.push(Cause::forbidden(
            "status.certificate",
            "updates may not modify existing certificate content",
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(causes: Vec<Cause>) -> Vec<String> {
        causes.iter().map(Cause::to_string).collect()
    }

    #[test]
    fn what_may_be_asked_for_is_listed_and_a_signer_has_its_form() {
        let fields = |spec: Value| told(causes(&spec));
        let usages = fields(json!({"signerName": "a.example/b", "usages": ["any", "flying", "flying"]}));
        assert_eq!(
            usages[0],
            r#"spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST"#
        );
        assert!(
            usages[1].starts_with(
                r#"spec.usages[1]: Unsupported value: "flying": supported values: "any", "cert sign", "client auth""#
            ),
            "{}",
            usages[1]
        );
        assert_eq!(usages[3], r#"spec.usages[2]: Duplicate value: "flying""#);
        assert_eq!(usages.len(), 4);
        let signer = |name: &str| {
            let mut out = Vec::new();
            signer_name(name, &mut out);
            told(out).join("; ")
        };
        const FORM: &str = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        for (name, want) in [
            ("a.example/b.c", String::new()),
            ("", "spec.signerName: Required value".to_owned()),
            ("a.example/b/c", format!("spec.signerName: Invalid value: \"a.example/b/c\": {FORM}")),
            (
                "example/b",
                "spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated by dots".to_owned(),
            ),
            (
                "a.B.C/d",
                format!("spec.signerName: Invalid value: \"a.B.C\": validating label \"B\": {LABEL}"),
            ),
        ] {
            assert_eq!(signer(name), want, "{name}");
        }
    }

    #[test]
    fn many_faults_are_told_in_part() {
        let usages: Vec<String> = (0..5_000).map(|i| format!("u{i}")).collect();
        assert_eq!(causes(&json!({"usages": usages})).len(), CAUSES_MAX);
    }

    #[test]
    fn a_decision_is_made_once_and_by_whoever_approves() {
        let with = |conditions: Value| json!({"status": {"conditions": conditions}});
        let is = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let none = with(json!([]));
        let approved = with(json!([is("Approved", "True")]));
        let changed = |path: &str, new: &Value, old: &Value| told(changed_causes(path, new, old)).join("; ");
        assert_eq!(changed("approval", &approved, &none), "");
        assert_eq!(
            changed("status", &approved, &none),
            r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#
        );
        assert_eq!(
            changed("approval", &none, &approved),
            r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#
        );
        let odd = with(json!([
            is("Approved", "Maybe"),
            is("Denied", "True"),
            is("", ""),
            is("X", "Maybe"),
            is("X", "True")
        ]));
        assert_eq!(
            changed("approval", &odd, &none),
            [
                r#"status.conditions[0].status: Unsupported value: "Maybe": supported values: "True""#,
                r#"status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#,
                "status.conditions[2].type: Required value",
                "status.conditions[2].status: Required value",
                r#"status.conditions[3].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown""#,
                r#"status.conditions[4].type: Duplicate value: "X""#,
            ]
            .join("; ")
        );
        // What was wrong before may stay; a status that can only be one thing may not.
        assert_eq!(changed("approval", &odd, &odd).matches("Unsupported").count(), 2);
        assert_eq!(changed("approval", &odd, &odd).matches("Required").count(), 1);
    }

    #[test]
    fn who_signs_leaves_the_decision_and_says_what_came_of_it() {
        let decided =
            json!({"type": "Approved", "status": "True", "reason": "a", "lastTransitionTime": "t0"});
        let old = json!({"status": {"conditions": [decided]}});
        let mut new = old.clone();
        new["status"]["conditions"][0]["reason"] = "b".into();
        keep_decision(&mut new, &old);
        assert_eq!(new, old);
        let mut again = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}, {"type": "X", "status": "True"}]}});
        complete_conditions(&mut again, &old, "now");
        let times = ["/status/conditions/0", "/status/conditions/1"]
            .map(|p| again.pointer(p).unwrap()["lastTransitionTime"].clone());
        assert_eq!(times, [json!("t0"), json!("now")]);
        let mut bare = json!({"metadata": {}});
        keep_decision(&mut bare, &json!({}));
        complete_conditions(&mut bare, &old, "now");
        assert_eq!(bare, json!({"metadata": {}}));
        let certificate = |pem: &str| json!({"status": {"certificate": STANDARD.encode(pem)}});
        assert_eq!(
            told(changed_causes("status", &certificate("x"), &json!({}))),
            [
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
            ]
        );
        assert_eq!(
            told(changed_causes("status", &certificate("y"), &certificate("x"))),
            ["status.certificate: Forbidden: updates may not modify existing certificate content"]
        );
    }
}
