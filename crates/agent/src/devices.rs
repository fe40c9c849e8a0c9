//! Whether a pod may have the devices that it claims. The scheduler binds no pod that claims any; who binds one past it is
//! told here, in a kubelet's words, why the pod does not start. Pure.

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::ResourceClaim;
use stoa_volume::Lookup;

/// Why a pod does not have what it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is not known yet what a claim says.
    Pending,
    /// A claim does not give it anything.
    Claim(String),
}

/// Goes through a pod's claims in their order and says what is wrong with the first that gives nothing.
pub(crate) fn check(pod: &Pod, find: impl Fn(&str) -> Lookup<ResourceClaim>) -> Result<(), Missing> {
    let claims = pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten());
    for wanted in claims {
        // Nothing had to be made for it.
        let Some((name, is_own)) = name_of(pod, wanted).map_err(Missing::Claim)? else { continue };
        let claim = match find(name) {
            Lookup::Found(claim) => claim,
            Lookup::Pending => return Err(Missing::Pending),
            Lookup::Absent => {
                let why = format!(
                    "fetch ResourceClaim {name}: resourceclaims.resource.k8s.io \"{name}\" not found"
                );
                return Err(Missing::Claim(why));
            }
        };
        check_claim(pod, &claim, name, is_own).map_err(Missing::Claim)?;
    }
    Ok(())
}

/// The claim that a pod means, and whether it has to be one that was made for this pod.
fn name_of<'a>(pod: &'a Pod, wanted: &'a PodResourceClaim) -> Result<Option<(&'a str, bool)>, String> {
    let (namespace, pod_name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    if let Some(name) = &wanted.resource_claim_name {
        return Ok(Some((name, false)));
    }
    if wanted.resource_claim_template_name.is_none() {
        let name = &wanted.name;
        return Err(format!(
            "Pod {namespace}/{pod_name}, spec.resourceClaim {name}: none of the supported fields are set"
        ));
    }
    let made = pod.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    match made.into_iter().find(|s| s.name == wanted.name) {
        Some(status) => Ok(status.resource_claim_name.as_deref().map(|name| (name, true))),
        None => Err(format!("Pod {namespace}/{pod_name}: ResourceClaim not created yet")),
    }
}

fn check_claim(pod: &Pod, claim: &ResourceClaim, name: &str, is_own: bool) -> Result<(), String> {
    let (namespace, pod_name, uid) =
        (text(&pod.metadata.namespace), text(&pod.metadata.name), text(&pod.metadata.uid));
    let owners = || claim.metadata.owner_references.iter().flatten();
    if is_own && !owners().any(|o| o.controller == Some(true) && o.uid == uid) {
        return Err(format!(
            "ResourceClaim {namespace}/{name} was not created for Pod {namespace}/{pod_name} (Pod is not owner)"
        ));
    }
    let status = claim.status.as_ref();
    if !status.iter().flat_map(|s| s.reserved_for.iter().flatten()).any(|r| r.uid == uid) {
        let claim_uid = text(&claim.metadata.uid);
        return Err(format!(
            "pod {pod_name} ({uid}) is not allowed to use ResourceClaim {name} ({claim_uid})"
        ));
    }
    let allocation = status.and_then(|s| s.allocation.as_ref());
    let allocation = allocation.ok_or_else(|| format!("ResourceClaim {name}: not allocated"))?;
    let mut devices = allocation.devices.iter().flat_map(|d| d.results.iter().flatten());
    // No driver of devices can make itself known here.
    match devices.next() {
        Some(device) => Err(format!("DRA driver {} is not registered", device.driver)),
        None => Ok(()),
    }
}

fn text(s: &Option<String>) -> &str {
    s.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn verdict(claims: Value, made: Value, claim: Option<Value>) -> Result<(), Missing> {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": [], "resourceClaims": claims}, "status": {"resourceClaimStatuses": made}}))
            .unwrap();
        check(&pod, |_| match &claim {
            Some(claim) => Lookup::Found(Arc::new(serde_json::from_value(claim.clone()).unwrap())),
            None => Lookup::Absent,
        })
    }

    #[test]
    fn a_pod_has_only_what_was_made_and_reserved_for_it() {
        let named = json!([{"name": "a", "resourceClaimName": "c"}]);
        let from_template = json!([{"name": "a", "resourceClaimTemplateName": "t"}]);
        let made = json!([{"name": "a", "resourceClaimName": "c"}]);
        let claim = |owner: &str, status: Value| {
            let owner =
                json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true});
            Some(json!({"metadata": {"name": "c", "uid": "cu", "ownerReferences": [owner]},
                "spec": {"devices": {}}, "status": status}))
        };
        let reserved = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
        let device = json!({"request": "r", "driver": "gpu.example.com", "pool": "n", "device": "d"});
        let given = |devices: Value| json!({"reservedFor": reserved, "allocation": {"devices": {"results": devices}}});
        for (claims, made, claim, want) in [
            (
                &named,
                json!([]),
                None,
                "fetch ResourceClaim c: resourceclaims.resource.k8s.io \"c\" not found",
            ),
            (&from_template, json!([]), None, "Pod ns/p: ResourceClaim not created yet"),
            (
                &json!([{"name": "a"}]),
                json!([]),
                None,
                "Pod ns/p, spec.resourceClaim a: none of the supported fields are set",
            ),
            (
                &from_template,
                made.clone(),
                claim("other", json!({})),
                "ResourceClaim ns/c was not created for Pod ns/p (Pod is not owner)",
            ),
            (
                &named,
                json!([]),
                claim("u", json!({})),
                "pod p (u) is not allowed to use ResourceClaim c (cu)",
            ),
            (
                &named,
                json!([]),
                claim("u", json!({"reservedFor": reserved})),
                "ResourceClaim c: not allocated",
            ),
            (
                &from_template,
                made,
                claim("u", given(json!([device]))),
                "DRA driver gpu.example.com is not registered",
            ),
        ] {
            assert_eq!(verdict(claims.clone(), made, claim), Err(Missing::Claim(want.to_owned())));
        }
        assert_eq!(verdict(named, json!([]), claim("u", given(json!([])))), Ok(()));
        assert_eq!(verdict(from_template, json!([{"name": "a"}]), None), Ok(()));
        assert_eq!(verdict(json!([]), json!([]), None), Ok(()));
    }
}
