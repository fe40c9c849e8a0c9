//! ClusterRoles that gather the rules of others by label: evaluated when a role changes, not when a request comes.

use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use stoa_units::{LabelSelector, Operator, Requirement};

use crate::Rule;

/// Labels, selectors and own rules of all ClusterRoles.
#[derive(Debug, Default)]
pub(super) struct Aggregation {
    roles: BTreeMap<String, Source>,
    aggregating: usize,
}

#[derive(Debug)]
struct Source {
    labels: BTreeMap<String, String>,
    /// Empty for a role that does not aggregate.
    selectors: Vec<LabelSelector>,
    aggregates: bool,
    own: Vec<Rule>,
}

impl Aggregation {
    /// Notes a role's labels, rules and aggregation rule.
    pub(super) fn set(&mut self, name: &str, role: &Value) {
        self.remove(name);
        let selectors = role.get("aggregationRule").map(|rule| {
            let list = rule.get("clusterRoleSelectors").and_then(Value::as_array);
            list.into_iter().flatten().filter_map(read_selector).collect::<Vec<_>>()
        });
        let labels = role.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let source = Source {
            labels: labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
            aggregates: selectors.is_some(),
            selectors: selectors.unwrap_or_default(),
            own: Rule::list_of(role),
        };
        self.aggregating += usize::from(source.aggregates);
        self.roles.insert(name.to_owned(), source);
    }

    /// Forgets a role.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(source) = self.roles.remove(name) {
            self.aggregating -= usize::from(source.aggregates);
        }
    }

    /// Whether a role gathers the rules of others.
    pub(super) fn aggregates(&self, name: &str) -> bool {
        self.roles.get(name).is_some_and(|s| s.aggregates)
    }

    /// Computes the gathered rules anew. The cost is that of matching every selector with every role: a handful of
    /// aggregating roles times a few hundred, at the rate at which people edit ClusterRoles.
    pub(super) fn refresh(&self, effective: &mut HashMap<String, Arc<[Rule]>>) {
        if self.aggregating == 0 {
            return;
        }
        for (name, _) in self.roles.iter().filter(|(_, s)| s.aggregates) {
            let mut gathered = Vec::new();
            self.gather(name, &mut HashSet::new(), &mut gathered);
            effective.insert(name.clone(), gathered.into());
        }
    }

    /// Rules of `name` and of what it aggregates, each role once, so that a cycle ends.
    fn gather(&self, name: &str, seen: &mut HashSet<String>, out: &mut Vec<Rule>) {
        let Some(source) = self.roles.get(name).filter(|_| seen.insert(name.to_owned())) else { return };
        if !source.aggregates {
            let fresh: Vec<Rule> = source.own.iter().filter(|r| !out.contains(r)).cloned().collect();
            out.extend(fresh);
            return;
        }
        for (other, candidate) in &self.roles {
            if source.selectors.iter().any(|s| s.matches(&candidate.labels)) {
                self.gather(other, seen, out);
            }
        }
    }
}

/// A `metav1.LabelSelector`; one that cannot be read selects nothing.
fn read_selector(selector: &Value) -> Option<LabelSelector> {
    let mut requirements = Vec::new();
    for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        let values = vec![value.as_str()?.to_owned()];
        requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
    }
    for e in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let operator = match e.get("operator")?.as_str()? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        let values = e.get("values").and_then(Value::as_array).into_iter().flatten();
        requirements.push(Requirement {
            key: e.get("key")?.as_str()?.to_owned(),
            operator,
            values: values.filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        });
    }
    Some(LabelSelector(requirements))
}
