//! What a change is held to, kind by kind, in the order and as often as a stock server looks: a client sees the causes in that
//! order, and a fault in metadata as often as it was looked at. The core group has its own (`core`).

use serde_json::Value;

use super::ADMISSION_GROUP;
use super::field::Errors;
use super::meta::Faults;
use crate::Request;

/// One look at a changed object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Its metadata, as a new object's.
    Whole,
    /// Its metadata, as a change.
    Changed,
    /// The rules of its kind.
    Kind,
    /// What may not change.
    Change,
    /// Its status.
    Status,
}

use Step::{Change, Changed, Kind, Status, Whole};

/// The looks at a write of the object itself.
fn of_change(group: &str, plural: &str) -> &'static [Step] {
    match (group, plural) {
        ("apps", "daemonsets") => &[Changed, Change, Kind],
        ("apps", "controllerrevisions") => &[Changed, Whole, Kind, Change],
        // Beside what is compared, a job's specification is judged once more there.
        ("batch", "jobs") => &[Whole, Kind, Changed, Change],
        ("policy", "poddisruptionbudgets") => &[Kind],
        ("networking.k8s.io", "ingresses") => &[Changed, Whole, Change],
        ("networking.k8s.io", "ingressclasses") => &[Changed, Change, Whole, Kind],
        ("networking.k8s.io", "networkpolicies") => &[Changed, Kind],
        ("networking.k8s.io", "servicecidrs") => &[Changed, Change],
        ("networking.k8s.io", "ipaddresses") => &[Whole, Kind, Changed, Change],
        ("discovery.k8s.io", _) => &[Whole, Kind, Change],
        (crate::RBAC_GROUP, _) => &[Whole, Kind, Changed, Change],
        (ADMISSION_GROUP, _) | ("flowcontrol.apiserver.k8s.io", _) => &[Whole, Kind, Change],
        ("apiregistration.k8s.io", _) => &[Changed, Whole, Kind],
        // What a class of priorities or a definition is does not change in ways that its kind would have to judge again.
        ("scheduling.k8s.io", _) | ("apiextensions.k8s.io", _) => &[Changed, Change],
        ("node.k8s.io", _) => &[Whole, Kind, Changed, Change],
        ("storage.k8s.io", "storageclasses" | "csistoragecapacities") => &[Whole, Kind, Changed, Change],
        ("storage.k8s.io", "csinodes" | "volumeattachments") => &[Whole, Kind, Change],
        ("storage.k8s.io", "volumeattributesclasses") => &[Changed, Change, Whole, Kind],
        ("resource.k8s.io", "resourceclaims") => &[Whole, Changed, Change],
        // A template is judged whole each time, although it never changes.
        ("resource.k8s.io", "resourceclaimtemplates") => &[Whole, Kind, Changed, Change],
        // What is as it was is not judged again.
        ("resource.k8s.io", "deviceclasses") => &[Whole, Changed, Change],
        ("resource.k8s.io", "resourceslices") => &[Changed, Change],
        // What it asks for is judged by the registry, which can read it.
        ("certificates.k8s.io", _) => &[Whole, Changed],
        _ => &[Changed, Kind, Change],
    }
}

/// The looks at a write of its status.
fn of_status(group: &str, plural: &str) -> &'static [Step] {
    match (group, plural) {
        ("policy", _) | (ADMISSION_GROUP, _) | ("flowcontrol.apiserver.k8s.io", _) => &[Status],
        ("storage.k8s.io", "volumeattachments") | ("certificates.k8s.io", _) => of_change(group, plural),
        _ => &[Changed, Status],
    }
}

/// A write of the object itself.
pub(super) fn change(request: &Request<'_>, old: &Value, new: &Value, meta: &Faults, errors: &mut Errors) {
    take(of_change(request.resource.group, request.resource.plural), request, old, new, meta, errors);
}

/// A write of its status.
pub(super) fn status(request: &Request<'_>, old: &Value, new: &Value, meta: &Faults, errors: &mut Errors) {
    take(of_status(request.resource.group, request.resource.plural), request, old, new, meta, errors);
}

fn take(steps: &[Step], request: &Request<'_>, old: &Value, new: &Value, meta: &Faults, errors: &mut Errors) {
    for step in steps {
        match step {
            Whole => meta.whole(errors),
            Changed => meta.changed(errors),
            Kind => super::check_kind(request, new, errors),
            Change => super::check_change(request, old, new, errors),
            Status => super::check_status(request, old, new, errors),
        }
    }
}
