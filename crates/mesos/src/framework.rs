//! Who a framework says it is, and what it says it can handle.

use crate::json::{Double, Id};
use serde_json::Value;
use std::collections::BTreeMap;
use stoa_units::FrameworkId;

message! {
    /// A framework's description of itself.
    pub struct FrameworkInfo {
        required {
            /// The user its executors run as; empty means the scheduler's own.
            user: String,
            /// Its name.
            name: String,
        }
        optional {
            /// Absent until the master assigns one.
            id: Option<Id<FrameworkId>>,
            /// How long the master waits for it to come back after a disconnection.
            failover_timeout: Option<Double>,
            /// Whether agents keep its state over their restarts.
            checkpoint: Option<bool>,
            /// The only role, for frameworks without MULTI_ROLE.
            role: Option<String>,
            /// The roles, for frameworks with MULTI_ROLE.
            roles: Vec<String>,
            /// Where the scheduler runs.
            hostname: Option<String>,
            /// Whom it authenticates as.
            principal: Option<String>,
            /// Its user interface.
            webui_url: Option<String>,
            /// What it can handle.
            capabilities: Vec<CapabilityInfo>,
            /// Free-form labels.
            labels: Option<Labels>,
            /// Per role, which offers are too small to be sent.
            offer_filters: BTreeMap<String, OfferFilters>,
        }
    }
}

message! {
    /// One capability.
    pub struct CapabilityInfo {
        required {
            /// Which.
            #[serde(rename = "type")]
            kind: Capability,
        }
    }
}

names! {
    /// What a framework can handle. Names unknown here switch nothing.
    pub enum Capability {
        /// Oversubscribed resources.
        RevocableResources = "REVOCABLE_RESOURCES",
        /// The state between running and killed.
        TaskKillingState = "TASK_KILLING_STATE",
        /// Agents that have GPUs.
        GpuResources = "GPU_RESOURCES",
        /// Shared persistent volumes.
        SharedResources = "SHARED_RESOURCES",
        /// The finer states of lost tasks.
        PartitionAware = "PARTITION_AWARE",
        /// Several roles at once.
        MultiRole = "MULTI_ROLE",
        /// Stacked reservations.
        ReservationRefinement = "RESERVATION_REFINEMENT",
        /// Agents of other regions.
        RegionAware = "REGION_AWARE",
        ; other Unknown = "UNKNOWN",
    }
}

message! {
    /// Labels.
    pub struct Labels {
        always {
            /// In the order given; keys may repeat.
            labels: Vec<Label>,
        }
    }
}

message! {
    /// One label.
    pub struct Label {
        required {
            /// The key.
            key: String,
        }
        optional {
            /// The value.
            value: Option<String>,
        }
    }
}

message! {
    /// Which offers are too small for a framework in a role.
    pub struct OfferFilters {
        optional {
            /// An offer needs at least one of these.
            min_allocatable_resources: Option<MinAllocatable>,
        }
    }
}

message! {
    /// A list of minimal amounts, of which any one suffices.
    pub struct MinAllocatable {
        optional {
            /// The amounts.
            quantities: Vec<Quantities>,
        }
    }
}

message! {
    /// Minimal amounts by resource name, all of which must be there.
    pub struct Quantities {
        optional {
            /// By name.
            quantities: BTreeMap<String, crate::resource::Scalar>,
        }
    }
}

impl FrameworkInfo {
    /// Whether the framework has a capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.iter().any(|c| c.kind == capability)
    }

    /// The roles it subscribes to: `roles` with MULTI_ROLE, else the single `role` (`*` if unset).
    pub fn subscribed_roles(&self) -> Vec<String> {
        if self.has(Capability::MultiRole) {
            let mut roles = self.roles.clone();
            roles.sort();
            roles.dedup();
            roles
        } else {
            vec![self.role.clone().unwrap_or_else(|| "*".into())]
        }
    }

    /// The id, if it has one that is not empty.
    pub fn known_id(&self) -> Option<&FrameworkId> {
        self.id.as_ref().map(|i| &i.value).filter(|i| !i.as_str().is_empty())
    }

    /// What of it must hold before it is accepted. The texts are Mesos'.
    pub fn check(&self) -> Result<(), String> {
        if self.has(Capability::MultiRole) {
            if self.role.is_some() {
                return Err(
                    "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".into()
                );
            }
            let mut seen = self.roles.clone();
            seen.sort();
            if let Some(w) = seen.windows(2).find(|w| w[0] == w[1]) {
                return Err(format!("'FrameworkInfo.roles' contains duplicate items: {}", w[0]));
            }
        } else if !self.roles.is_empty() {
            return Err(
                "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".into()
            );
        }
        for role in self.subscribed_roles() {
            check_role(&role)?;
        }
        if let Some(Double(t)) = self.failover_timeout
            && !(0.0..=FAILOVER_TIMEOUT_SECONDS_MAX).contains(&t)
        {
            return Err(format!("The framework failover_timeout ({t}) is invalid"));
        }
        for (role, filters) in &self.offer_filters {
            check_role(role)?;
            if !self.subscribed_roles().contains(role) {
                return Err(format!(
                    "Offer filters specified for a role '{role}' that is not in the framework's roles"
                ));
            }
            let quantities = filters.min_allocatable_resources.iter().flat_map(|m| &m.quantities);
            if quantities.flat_map(|q| q.quantities.values()).any(|s| s.value.0.is_nan() || s.value.0 < 0.0) {
                return Err(format!("Offer filter for role '{role}' is invalid: negative quantity"));
            }
        }
        Ok(())
    }
}

/// Longest failover timeout: what still fits a duration in nanoseconds.
const FAILOVER_TIMEOUT_SECONDS_MAX: f64 = 9_223_372_036.0;
/// Longest role. Mesos sets none; ours bounds what a framework can make the role tree hold.
const ROLE_LEN_MAX: usize = 255;

/// Whether a text may be a role: a path of parts without `.`, `..`, a leading `-`, whitespace or control characters.
pub fn check_role(role: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("Role '{role}' {why}"));
    if role == "*" {
        return Ok(());
    }
    if role.is_empty() {
        return Err("Empty role name is invalid".into());
    }
    if role.len() > ROLE_LEN_MAX {
        return Err(format!("Role name is longer than {ROLE_LEN_MAX} bytes"));
    }
    if role.starts_with('/') {
        return bad("cannot start with a slash");
    }
    if role.ends_with('/') {
        return bad("cannot end with a slash");
    }
    for part in role.split('/') {
        match part {
            "" => return bad("cannot contain two adjacent slashes"),
            "." | ".." => return bad("cannot contain '.' or '..' as a component"),
            "*" => return bad("cannot contain '*' as a component"),
            _ if part.starts_with('-') => return bad("cannot start with a dash"),
            _ if part.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                return bad("cannot contain whitespace or control characters");
            }
            _ => {}
        }
    }
    Ok(())
}

/// A part of a message that is kept and passed on, yet not looked into.
pub type Opaque = Value;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_judged_as_mesos_judges_them() {
        for ok in ["*", "a", "eng/dev", "a.b", "a-b", "kubernetes/default"] {
            assert!(check_role(ok).is_ok(), "{ok}");
        }
        for bad in ["", "/a", "a/", "a//b", ".", "a/..", "-a", "a b", "a/*", "a\tb", "a/-b"] {
            assert!(check_role(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn role_and_roles_follow_the_capability() {
        let info = |text: &str| serde_json::from_str::<FrameworkInfo>(text).unwrap();
        let single = info(r#"{"user":"u","name":"n"}"#);
        assert_eq!(single.subscribed_roles(), ["*"]);
        let multi = info(
            r#"{"user":"u","name":"n","roles":["b","a"],"capabilities":[{"type":"MULTI_ROLE"},{"type":"SOMETHING_NEW"}]}"#,
        );
        assert!(multi.check().is_ok());
        assert_eq!(multi.subscribed_roles(), ["a", "b"]);
        for bad in [
            r#"{"user":"u","name":"n","roles":["a"]}"#,
            r#"{"user":"u","name":"n","role":"a","capabilities":[{"type":"MULTI_ROLE"}]}"#,
            r#"{"user":"u","name":"n","roles":["a","a"],"capabilities":[{"type":"MULTI_ROLE"}]}"#,
            r#"{"user":"u","name":"n","role":"a b"}"#,
            r#"{"user":"u","name":"n","failover_timeout":-1}"#,
            r#"{"user":"u","name":"n","failover_timeout":"NaN"}"#,
        ] {
            assert!(info(bad).check().is_err(), "{bad}");
        }
    }
}
