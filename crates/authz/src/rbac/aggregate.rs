//! ClusterRoles that gather the rules of others by label: evaluated when a role changes, not when a request comes.

use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use stoa_units::{LabelSelector, Operator, Requirement};

use crate::Rule;

/// Labels, selectors and own rules of all ClusterRoles.
#[derive(Debug, Default)]
pub(super) struct Aggregation {
    roles: BTreeMap<String, Source>,
}

type Labels = BTreeMap<String, String>;

#[derive(Debug, PartialEq)]
struct Source {
    labels: Labels,
    /// Empty for a role that does not aggregate.
    selectors: Vec<LabelSelector>,
    aggregates: bool,
    own: Arc<[Rule]>,
}

impl Aggregation {
    /// Notes a role's labels, rules and aggregation rule. Gives the aggregating roles that may gather something else now.
    pub(super) fn set(&mut self, name: &str, role: &Value, own: Arc<[Rule]>) -> Vec<String> {
        let selectors = role.get("aggregationRule").map(|rule| {
            let list = rule.get("clusterRoleSelectors").and_then(Value::as_array);
            list.into_iter().flatten().filter_map(read_selector).collect::<Vec<_>>()
        });
        let labels = role.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let source = Source {
            labels: labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
            aggregates: selectors.is_some(),
            selectors: selectors.unwrap_or_default(),
            own,
        };
        if self.roles.get(name) == Some(&source) {
            return Vec::new();
        }
        let labels = source.labels.clone();
        let before = self.roles.insert(name.to_owned(), source);
        self.touched(name, before.iter().map(|s| &s.labels).chain([&labels]))
    }

    /// Forgets a role. Gives the aggregating roles that may gather something else now.
    pub(super) fn remove(&mut self, name: &str) -> Vec<String> {
        let before = self.roles.remove(name);
        self.touched(name, before.iter().map(|s| &s.labels))
    }

    /// Whether a role gathers the rules of others.
    pub(super) fn aggregates(&self, name: &str) -> bool {
        self.roles.get(name).is_some_and(|s| s.aggregates)
    }

    /// What a role gathers.
    pub(super) fn gathered(&self, name: &str) -> Arc<[Rule]> {
        let mut gathered = Vec::new();
        self.gather(name, &mut HashSet::new(), &mut gathered);
        gathered.into()
    }

    /// The role itself, those that select what carries or carried these labels, and those that select them in turn. Few roles
    /// aggregate, so that most changes touch none: a new cluster begins with seventy roles of which three do.
    fn touched<'a>(&'a self, name: &str, labels: impl Iterator<Item = &'a Labels>) -> Vec<String> {
        let mut open: Vec<&Labels> = labels.collect();
        let mut out: Vec<String> = self.aggregates(name).then(|| name.to_owned()).into_iter().collect();
        while let Some(labels) = open.pop() {
            for (other, source) in self.roles.iter().filter(|(_, s)| s.aggregates) {
                if !out.contains(other) && source.selectors.iter().any(|s| s.matches(labels)) {
                    out.push(other.clone());
                    open.push(&source.labels);
                }
            }
        }
        out
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
