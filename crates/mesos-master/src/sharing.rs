//! Weights and quota: how operators change who gets how much.

use crate::master::Master;
use crate::respond::Refusal;
use crate::rules::{RoleQuota, to_base};
use crate::state::Tell;
use serde_json::Value;
use std::collections::BTreeMap;
use stoa_authz::Action;
use stoa_mesos::framework::check_role;
use stoa_mesos::resource::ValueType;
use stoa_mesos::{Double, Resource};
use stoa_offers::{consumption, scalar};
use stoa_units::{OfferId, Resources};

/// Most roles with a weight or with quota of their own.
const ROLES_MAX: usize = 10_000;

fn number(value: &Value) -> Option<f64> {
    serde_json::from_value::<Double>(value.clone()).ok().map(|d| d.0)
}

fn scalars(value: &Value, what: &str) -> Result<BTreeMap<String, f64>, String> {
    let one = |(name, v): (&String, &Value)| match number(&v["value"]) {
        Some(n) if n.is_finite() && n >= 0.0 => Ok((name.clone(), n)),
        _ => Err(format!("Invalid QuotaConfig: '{what}' has an invalid amount of '{name}'")),
    };
    value.as_object().into_iter().flatten().map(one).collect()
}

/// Mesos' text form of amounts.
fn show(amounts: &BTreeMap<String, f64>) -> String {
    amounts.iter().map(|(n, v)| format!("{n}:{v}")).collect::<Vec<_>>().join("; ")
}

impl Master {
    /// Sets weights; all of them or none.
    pub async fn update_weights(&self, infos: &Value, principal: Option<&str>) -> Result<(), Refusal> {
        let mut weights = Vec::new();
        for info in infos.as_array().into_iter().flatten() {
            let role = info["role"].as_str().unwrap_or_default().trim();
            check_role(role).map_err(|why| {
                Refusal::Bad(format!(
                    "Failed to validate update weights request JSON: Invalid role '{role}': {why}"
                ))
            })?;
            let weight = number(&info["weight"]).unwrap_or(f64::NAN);
            if !(weight.is_finite() && weight > 0.0) {
                return Err(Refusal::Bad(format!(
                    "Failed to validate update weights request JSON for role '{role}': Invalid weight '{weight}': Weights must be positive"
                )));
            }
            if !self.options.acls.may(principal, Action::UpdateWeight, Some(role)) {
                return Err(Refusal::Forbidden);
            }
            weights.push((role.to_string(), weight));
        }
        {
            let mut state = self.state.lock();
            if state.rules.weights.len() + weights.len() > ROLES_MAX {
                return Err(Refusal::Bad(format!("More than {ROLES_MAX} weights")));
            }
            let is_in_use = state.frameworks.values().filter(|f| !f.is_removed()).any(|f| {
                let roles = f.record.info.subscribed_roles();
                let touches =
                    |role: &str| roles.iter().any(|r| r == role || r.starts_with(&format!("{role}/")));
                weights.iter().any(|(role, _)| touches(role))
            });
            state.rules.weights.extend(weights);
            state.save_rules();
            state.apply_rules();
            if is_in_use {
                // Everybody's share has moved: what is out was offered by the old ones.
                self.rescind_where(&mut state, |_| true);
            }
        }
        self.flush().await;
        self.tell_ledger();
        Ok(())
    }

    fn rescind_where(&self, state: &mut crate::state::State, is_meant: impl Fn(&str) -> bool) {
        let mut ledger = self.ledger.lock();
        let ids: Vec<OfferId> =
            state.offers.iter().filter(|(_, o)| is_meant(&o.role)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            state.drop_offer(&mut ledger, &id, Tell::Rescind);
        }
    }

    /// UPDATE_QUOTA: all of them or none.
    pub async fn update_quota(
        &self,
        configs: &Value,
        is_forced: bool,
        principal: Option<&str>,
    ) -> Result<(), Refusal> {
        let mut parsed = Vec::new();
        for config in configs.as_array().into_iter().flatten() {
            let role = config["role"].as_str().unwrap_or_default();
            let bad = |why: String| Refusal::Bad(format!("Invalid QuotaConfig: {why}"));
            check_role(role).map_err(bad)?;
            if role == "*" {
                return Err(bad("setting quota for the default '*' role is not supported".into()));
            }
            if role.contains('/') {
                return Err(Refusal::Bad(format!(
                    "Updating quota on nested role '{role}' is not supported yet"
                )));
            }
            let quota = RoleQuota {
                guarantees: scalars(&config["guarantees"], "guarantees").map_err(Refusal::Bad)?,
                limits: scalars(&config["limits"], "limits").map_err(Refusal::Bad)?,
                principal: principal.map(String::from),
            };
            let over = quota.guarantees.iter().find(|(n, g)| quota.limits.get(*n).is_some_and(|l| l < *g));
            if over.is_some() {
                return Err(bad(format!(
                    "'guarantees' {} are not contained within the 'limits' {}",
                    show(&quota.guarantees),
                    show(&quota.limits)
                )));
            }
            if !self.options.acls.may(principal, Action::UpdateQuota, Some(role)) {
                return Err(Refusal::Forbidden);
            }
            parsed.push((role.to_string(), quota));
        }
        {
            let mut state = self.state.lock();
            let mut quotas = state.rules.quotas.clone();
            for (role, quota) in &parsed {
                if quota.guarantees.is_empty() && quota.limits.is_empty() {
                    quotas.remove(role);
                } else {
                    quotas.insert(role.clone(), quota.clone());
                }
            }
            if quotas.len() > ROLES_MAX {
                return Err(Refusal::Bad(format!("More than {ROLES_MAX} quotas")));
            }
            if !is_forced {
                self.check_quota(&parsed, &quotas)?;
            }
            state.rules.quotas = quotas;
            state.save_rules();
            state.apply_rules();
            // What was offered beyond the new limits comes back; a new guarantee may need what others were offered.
            let has_guarantee = parsed.iter().any(|(_, q)| !q.guarantees.is_empty());
            self.rescind_where(&mut state, |role| {
                has_guarantee || parsed.iter().any(|(r, _)| r == stoa_offers::top(role))
            });
        }
        self.flush().await;
        self.tell_ledger();
        Ok(())
    }

    fn check_quota(
        &self,
        parsed: &[(String, RoleQuota)],
        all: &BTreeMap<String, RoleQuota>,
    ) -> Result<(), Refusal> {
        let ledger = self.ledger.lock();
        let consumed = consumption(&ledger);
        for (role, quota) in parsed {
            let has = consumed.get(role.as_str()).cloned().unwrap_or_default();
            // Offers come back when the limits change.
            let offered = ledger.usages().filter(|(r, _)| stoa_offers::top(r) == role);
            let offered = offered.fold(Resources::default(), |sum, (_, u)| sum.plus(&u.offers));
            let has = has.minus(&offered);
            let limits = to_base(&quota.limits);
            if limits.iter().any(|(name, limit)| scalar(&has, name) > *limit) {
                return Err(Refusal::Bad(format!(
                    "Invalid QuotaConfig: Role '{role}' is already consuming '{}'; this is more than the requested limits '{}' (use 'force' flag to bypass this check)",
                    stoa_mesos::resource::text(&has),
                    show(&quota.limits)
                )));
            }
        }
        let mut guaranteed: BTreeMap<String, f64> = BTreeMap::new();
        for (name, amount) in all.values().flat_map(|q| &q.guarantees) {
            *guaranteed.entry(name.clone()).or_default() += amount;
        }
        let total = ledger.total();
        if to_base(&guaranteed).iter().any(|(name, sum)| *sum > scalar(total, name)) {
            return Err(Refusal::Bad(format!(
                "Invalid QuotaConfig: total quota guarantees '{}' exceed cluster capacity '{}' (use 'force' flag to bypass this check)",
                show(&guaranteed),
                stoa_mesos::resource::text(total)
            )));
        }
        Ok(())
    }

    /// SET_QUOTA and `POST /quota`, which know guarantees only and make limits of them.
    pub async fn set_quota(&self, request: &Value, principal: Option<&str>) -> Result<(), Refusal> {
        let role = request["role"].as_str().unwrap_or_default();
        if self.state.lock().rules.quotas.contains_key(role) {
            return Err(Refusal::Bad(format!(
                "Failed to validate set quota request: Cannot set quota for role '{role}' which already has quota"
            )));
        }
        let guarantee: Vec<Resource> = serde_json::from_value(request["guarantee"].clone())
            .map_err(|e| Refusal::Bad(format!("Failed to create 'QuotaInfo' from set quota request: {e}")))?;
        let mut amounts = serde_json::Map::new();
        for r in &guarantee {
            let Some(scalar) = r.scalar.as_ref().filter(|_| r.kind == ValueType::Scalar) else {
                return Err(Refusal::Bad("Failed to validate set quota request: QuotaInfo with invalid resource: QuotaInfo must not include non-scalar resources".into()));
            };
            amounts.insert(r.name.clone(), serde_json::json!({"value": scalar.value}));
        }
        let config = serde_json::json!([{"role": role, "guarantees": amounts, "limits": amounts}]);
        self.update_quota(&config, request["force"].as_bool().unwrap_or(false), principal).await
    }

    /// REMOVE_QUOTA and `DELETE /quota/<role>`.
    pub async fn remove_quota(&self, role: &str, principal: Option<&str>) -> Result<(), Refusal> {
        if !self.state.lock().rules.quotas.contains_key(role) {
            return Err(Refusal::Bad(format!("Failed to remove quota: Role '{role}' has no quota set")));
        }
        self.update_quota(&serde_json::json!([{"role": role}]), true, principal).await
    }
}
