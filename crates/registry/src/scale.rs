//! The scale subresource: the number of replicas of whatever has one, in one common form.

use crate::decode::{self, Kind};
use crate::error::{Demand, precondition};
use crate::evict::selector;
use crate::patch::{Body, Patch, PatchKind, check_applied};
use crate::update::read;
use crate::{Context, Registry, Target, Written};
use serde_json::{Value, json};
use stoa_kube::{Cause, Object, Resource, Status, schema};
use stoa_units::{LabelSelector, Revision};

const SCALE: Kind<'static> = ("autoscaling", "v1", "Scale");

impl Registry {
    /// The scale of an object.
    pub fn get_scale(&self, target: Target<'_>) -> Result<Value, Status> {
        let entry = self.store().get(&self.key(target.resource, target.namespace, target.name));
        let entry = entry.ok_or_else(|| Status::not_found(target.resource, target.name))?;
        Ok(scale_of(target.resource, &read(&entry)?))
    }

    /// Sets the number of replicas from a `Scale`.
    pub async fn update_scale(
        &self,
        ctx: &Context,
        target: Target<'_>,
        scale: Value,
    ) -> Result<(Value, Written), Status> {
        let (scale, warnings) = decode::subresource(ctx, target, SCALE, scale)?;
        decode::check_named(target, &scale)?;
        let (scale, mut written) =
            self.set_replicas(ctx, target, Whose::Stored, |_| Ok(scale.clone())).await?;
        written.warnings.splice(0..0, warnings);
        Ok((scale, written))
    }

    /// Patches the scale of an object.
    pub async fn patch_scale(
        &self,
        ctx: &Context,
        target: Target<'_>,
        patch: &Patch,
    ) -> Result<(Value, Written), Status> {
        let ty = schema::builtin().type_of_kind("autoscaling", "v1", "Scale");
        let ty = ty.ok_or_else(|| Status::internal("scales are unknown"))?;
        if patch.kind == PatchKind::Apply {
            return self.apply_scale(ctx, target, patch).await;
        }
        let body = Body::read(ctx, target.resource, patch)?;
        self.set_replicas(ctx, target, Whose::Patched, |now| {
            let mut patched = Object(body.applied_to(now.clone(), ty)?);
            let shown = patched.0.to_string();
            check_scale(&mut patched).map_err(|refused| {
                match refused.message.split_once(" cannot be handled as a Scale: ") {
                    // What does not fit is the patch's fault.
                    Some((_, why)) => {
                        let causes = vec![Cause::invalid("patch", shown, why)];
                        Status::invalid("", "", "", causes)
                    }
                    None => refused,
                }
            })?;
            let namespace = patched.namespace();
            if !namespace.is_empty() && namespace != target.namespace {
                return Err(Status::bad_request(decode::OTHER_NAMESPACE));
            }
            decode::check_named(target, &patched.0)?;
            Ok(patched.0)
        })
        .await
    }

    /// What is applied to a scale is applied to the replicas of the object behind it.
    async fn apply_scale(
        &self,
        ctx: &Context,
        target: Target<'_>,
        patch: &Patch,
    ) -> Result<(Value, Written), Status> {
        let applied: Value = serde_json::from_slice(&patch.body)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
        check_applied(&applied, "autoscaling/v1", "Scale")?;
        check_scale(&mut Object(applied.clone()))?;
        let resource = target.resource;
        let body = json!({"apiVersion": resource.api_version(), "kind": resource.kind,
            "metadata": {"name": target.name}, "spec": {"replicas": applied["spec"]["replicas"]}});
        let patch = Patch { kind: PatchKind::Apply, body: body.to_string().into() };
        let written = self.patch(ctx, Target { subresource: "scale", ..target }, &patch).await;
        // Who applies a scale is told of other writers as writers of the scale.
        let own = format!(" using {}", resource.api_version());
        let written = written.map_err(|refused| as_scale(refused, &own))?;
        Ok((scale_of(resource, &written.to_value()), written))
    }

    async fn set_replicas(
        &self,
        ctx: &Context,
        target: Target<'_>,
        whose: Whose,
        wanted: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<(Value, Written), Status> {
        let resource = target.resource;
        let place = Target { subresource: "scale", ..target };
        let written = self
            .modify(ctx, place, |object| {
                let now = scale_of(resource, object);
                let (wanted, now) = (Object(wanted(&now)?), Object(now));
                if !wanted.uid().is_empty() && wanted.uid() != now.uid() {
                    return Err(whose.conflict(ctx, target, wanted.uid(), now.uid()));
                }
                let causes = stoa_admit::validate_scale(resource, &wanted.0);
                if !causes.is_empty() {
                    return Err(Status::invalid(SCALE.2, SCALE.0, target.name, causes));
                }
                let given = wanted.resource_version().filter(|r| *r != Revision::ZERO);
                if given.is_some() && given != now.resource_version() {
                    return Err(Status::conflict_modified(resource, target.name));
                }
                object["spec"]["replicas"] = wanted.0["spec"]["replicas"].as_i64().unwrap_or(0).into();
                Ok(())
            })
            .await?;
        let scale = scale_of(resource, &written.to_value());
        Ok((scale, written))
    }
}

/// Who finds that a scale is another object's: the storage, of a scale that is sent as a whole, or the subresource itself.
#[derive(Clone, Copy)]
enum Whose {
    Stored,
    Patched,
}

impl Whose {
    fn conflict(self, ctx: &Context, target: Target<'_>, wanted: &str, found: &str) -> Status {
        let resource = target.resource;
        match self {
            Whose::Stored => {
                precondition(ctx, resource, (target.namespace, target.name), Demand::Uid, wanted, found)
            }
            Whose::Patched => {
                let what = format!("{}/scale", resource.plural);
                let why = format!(
                    "Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
                );
                Status::conflict_named(&what, resource.group, target.name, &why)
            }
        }
    }
}

fn as_scale(mut refused: Status, own: &str) -> Status {
    let renamed = |text: &str| text.replace(own, " using autoscaling/v1");
    if refused.is(stoa_kube::reason::CONFLICT) {
        refused.message = renamed(&refused.message);
        for cause in refused.details.iter_mut().flat_map(|d| d.causes.iter_mut()) {
            cause.message = renamed(&cause.message);
        }
    }
    refused
}

fn check_scale(scale: &mut Object) -> Result<(), Status> {
    let kind = scale.0["kind"].as_str().unwrap_or_default();
    if !matches!(kind, "" | "Scale") {
        return Err(Status::bad_request(format!("{kind} cannot be handled as a Scale")));
    }
    let Some(ty) = schema::builtin().type_of_kind("autoscaling", "v1", "Scale") else { return Ok(()) };
    let decoded = stoa_kube::decode::decode_value(std::mem::take(&mut scale.0), ty);
    scale.0 = decoded.map_err(|e| Status::undecodable_kind("Scale", "v1", "Scale", &e.to_string()))?.value;
    Ok(())
}

/// The scale of an object in its stored form. Zero replicas are left out, as Go leaves them out.
fn scale_of(resource: &Resource, object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut kept = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(v) = meta.get(field) {
            kept.insert(field.into(), v.clone());
        }
    }
    let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
    let spec = if replicas == 0 { json!({}) } else { json!({ "replicas": replicas }) };
    let mut status = json!({ "replicas": object["status"]["replicas"].as_i64().unwrap_or(0) });
    let text = selector_text(resource, &object["spec"]["selector"]);
    if !text.is_empty() {
        status["selector"] = text.into();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": kept, "spec": spec, "status": status})
}

fn selector_text(resource: &Resource, value: &Value) -> String {
    let found = if resource.plural == "replicationcontrollers" {
        let labels: std::collections::BTreeMap<String, String> = value
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string())))
            .collect();
        Some(LabelSelector::from_labels(&labels))
    } else {
        selector(value)
    };
    let mut found = found.unwrap_or_default();
    // As Go writes a selector: its terms by their keys, the values of each in order.
    found.0.sort_by(|a, b| a.key.cmp(&b.key));
    found.0.iter_mut().for_each(|term| term.values.sort());
    found.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_applies_a_scale_conflicts_with_writers_of_the_scale() {
        let why = "conflict with \"m\" using apps/v1";
        let details = stoa_kube::StatusDetails {
            causes: vec![Cause::new("FieldManagerConflict", ".spec.replicas", why)],
            ..Default::default()
        };
        let refused =
            Status::failure(409, stoa_kube::reason::CONFLICT, format!("Apply failed: {why}: .spec.replicas"));
        let told = as_scale(refused.with_details(details), " using apps/v1");
        assert_eq!(told.message, "Apply failed: conflict with \"m\" using autoscaling/v1: .spec.replicas");
        assert_eq!(
            told.details.unwrap_or_default().causes[0].message,
            "conflict with \"m\" using autoscaling/v1"
        );
    }
}
