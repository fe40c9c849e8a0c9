//! Admission: what happens to an object between the decoded body and the store, as pure functions.
//!
//! A create passes, in this order, through [`default`] (what the user left open), [`prepare_create`] (what the user may
//! not set: status, generation), [`mutate`] (what the cluster adds: service-account token, priority, tolerations,
//! limits), [`validate_create`] (every field error at once) and [`check`] (what depends on other objects: namespace,
//! limits, quota, pod security). An update takes the same way with [`prepare_update`] and [`validate_update`]. The caller
//! sets uid, creation time and the name from `generateName` before `prepare_create`, allocates a service's addresses and
//! ports ([`service`]) between `mutate` and `validate`, and stores what comes out.
//!
//! Objects are JSON values in the shape that `stoa_kube::decode` gives them; answers are those of a stock v1.36 server,
//! word for word where one was recorded (`testdata/`). Nothing here reads a clock, draws chance or looks into a store except
//! through what [`Request`] and [`World`] bring along.

// A refusal is made once and handed to the client; the paths that do not refuse never pay for its size.
#![allow(clippy::result_large_err)]

mod cel;
mod check;
mod default;
mod mutate;
mod policy;
mod request;
pub mod service;
mod strategy;
mod validate;
mod value;
mod warn;

pub use check::quota;
pub use check::{check, check_subresource};
pub use default::default;
pub use mutate::mutate;
pub use policy::{
    Annotations, Level, LevelVersion, Levels, OwnerReferences, PodSecurity, Policy, STOCK, Version,
};
pub use request::{
    INTERNAL_GROUP, Operation, Request, SUFFIX_LEN, UserRef, World, generated_name, random_suffix,
};
pub use strategy::{TEMPLATE_GENERATION, prepare_create, prepare_update};
pub use validate::{
    is_reserved_annotation, validate_addresses, validate_create, validate_devices, validate_event,
    validate_scale, validate_update,
};

/// The API group of roles and bindings.
pub(crate) const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

#[cfg(test)]
mod tests;
