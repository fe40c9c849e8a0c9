//! What a pod asks for as a whole, next to what its containers ask for.

use serde_json::Value;
use std::collections::BTreeMap;
use stoa_kube::Cause;
use stoa_units::Quantity;

use super::container::{self, PodParts, read};
use super::field::{Errors, Path, indexed};
use crate::value::{at, has, items, pairs, text};

pub(crate) const PAGES: &str = "hugepages-";

/// A resource of pods as such: compute, and pages of memory.
fn resource_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    let before = errors.len();
    super::quota::resource_name(name, path, errors);
    if errors.len() == before && !is_supported(name) {
        errors.push(Cause::not_supported(path, name, &["cpu", PAGES, "memory"]));
    }
}

/// Whether a pod as a whole can have it.
pub(crate) fn is_supported(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(PAGES)
}

/// What running a pod takes besides its containers.
pub(super) fn overhead(amounts: &Value, path: Path<'_>, errors: &mut Errors) {
    let limits = serde_json::json!({ "limits": amounts });
    container::resources(&limits, container::resource_name, path, errors);
}

pub(super) fn check(parts: &PodParts<'_>, path: Path<'_>, errors: &mut Errors) {
    let spec = parts.spec;
    let resources = at(spec, "resources");
    if !resources.is_object() {
        return;
    }
    let path = path.child("resources");
    if text(at(spec, "os"), "name") == "windows" {
        return errors.push(Cause::forbidden(path, "may not be set for a windows pod"));
    }
    if has(resources, "claims") {
        let why = "claims may not be set for Resources at pod-level";
        errors.push(Cause::forbidden(path.child("claims"), why));
    }
    container::resources(resources, resource_name, path, errors);
    // Forbidden as they are, they are judged all the same.
    container::claims(resources, parts, path.child("claims"), errors);
    consistency(spec, resources, path, errors);
}

/// The whole is no less than its parts.
fn consistency(spec: &Value, resources: &Value, path: Path<'_>, errors: &mut Errors) {
    for (side, what, wanted) in [
        ("requests", "requests", (|_| true) as fn(&str) -> bool),
        ("limits", "limits", |name| name.starts_with(PAGES)),
    ] {
        let map = path.child(side);
        for (name, sum) in aggregate(spec, side).into_iter().filter(|(name, _)| wanted(name)) {
            let Some(whole) = at(resources, side).get(&name) else { continue };
            if read(whole).is_some_and(|q| sum.nano() > q.nano()) {
                let why = format!("must be greater than or equal to aggregate container {what} of {sum}");
                errors.push(Cause::invalid(map.key(&name), whole.clone(), &why));
            }
        }
    }
    let list = path.child("containers");
    for (i, c) in indexed(spec, "containers") {
        for (name, value) in pairs(at(c, "resources"), "limits") {
            let whole = at(resources, "limits").get(name).and_then(read);
            if let (Some(own), Some(whole)) = (read(value), whole)
                && own.nano() > whole.nano()
            {
                let why = format!("must be less than or equal to pod limits of {whole}");
                let of = list.index(i);
                errors.push(Cause::invalid(of.key(name).child("limits"), value.clone(), &why));
            }
        }
    }
}

/// The amounts of a pod's containers together: those that run side by side are added up, and each that runs before them
/// stands beside the sidecars that have been started by then.
pub(crate) fn aggregate(spec: &Value, side: &str) -> BTreeMap<String, Quantity> {
    let mut sum = Amounts::default();
    for c in items(spec, "containers") {
        sum.add(at(at(c, "resources"), side));
    }
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for c in items(spec, "initContainers") {
        let own = at(at(c, "resources"), side);
        if text(c, "restartPolicy") == "Always" {
            sum.add(own);
            sidecars.add(own);
        } else {
            // What it does not speak of is with the sidecars in the sum.
            let mut running = Amounts::default();
            running.add(own);
            running.0.iter_mut().for_each(|(name, q)| *q = sidecars.0.get(name).map_or(*q, |s| s.plus(q)));
            peak.raise(&running);
        }
    }
    sum.raise(&peak);
    sum.0
}

#[derive(Default)]
struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    fn add(&mut self, amounts: &Value) {
        for (name, value) in amounts.as_object().into_iter().flatten() {
            let Some(q) = read(value) else { continue };
            let sum = self.0.get(name).map_or(q, |sum| sum.plus(&q));
            self.0.insert(name.clone(), sum);
        }
    }

    fn raise(&mut self, other: &Amounts) {
        for (name, q) in &other.0 {
            if self.0.get(name).is_none_or(|own| own.nano() < q.nano()) {
                self.0.insert(name.clone(), *q);
            }
        }
    }
}
