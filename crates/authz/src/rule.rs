//! One policy rule: what it allows, what it covers of another rule, and how it is written in a message.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use crate::Attributes;

/// A rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all, empty text for the core group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of single objects; empty means every object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths: exact, or with a trailing `*`.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn has(list: &[String], item: &str) -> bool {
    list.iter().any(|x| x == item)
}

fn has_or_star(list: &[String], item: &str) -> bool {
    list.iter().any(|x| x == "*" || x == item)
}

/// Whether a path or a path pattern falls under `pattern`.
fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

/// Whether a resource of a rule matches `resource` (with its subresource kept apart).
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    match pattern.split_once('/') {
        Some((r, s)) => s == subresource && (r == "*" || r == resource),
        None => false,
    }
}

impl Rule {
    /// Reads the rules of a role object; what cannot be read allows nothing.
    pub fn list_of(role: &serde_json::Value) -> Vec<Rule> {
        role.get("rules").and_then(|r| Vec::<Rule>::deserialize(r).ok()).unwrap_or_default()
    }

    /// Whether the rule allows the request.
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        if !has_or_star(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource() {
            return self.non_resource_urls.iter().any(|p| path_matches(p, a.path));
        }
        has_or_star(&self.api_groups, a.group)
            && self.resources.iter().any(|r| resource_matches(r, a.resource, a.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, a.name))
    }

    /// The rule taken apart into rules of one verb on one resource or path each.
    fn atoms(&self) -> Vec<Rule> {
        let mut out = Vec::new();
        let names: Vec<Vec<String>> = match self.resource_names.is_empty() {
            true => vec![Vec::new()],
            false => self.resource_names.iter().map(|n| vec![n.clone()]).collect(),
        };
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    for name in &names {
                        out.push(Rule {
                            verbs: vec![verb.clone()],
                            api_groups: vec![group.clone()],
                            resources: vec![resource.clone()],
                            resource_names: name.clone(),
                            non_resource_urls: Vec::new(),
                        });
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                out.push(Rule {
                    verbs: vec![verb.clone()],
                    non_resource_urls: vec![url.clone()],
                    ..Rule::default()
                });
            }
        }
        out
    }

    /// Whether holding this rule means holding the atom too.
    fn covers_atom(&self, atom: &Rule) -> bool {
        let resource = |r: &String| {
            has_or_star(&self.resources, r)
                || r.split_once('/').is_some_and(|(_, s)| has(&self.resources, &format!("*/{s}")))
        };
        atom.verbs.iter().all(|v| has_or_star(&self.verbs, v))
            && atom.api_groups.iter().all(|g| has_or_star(&self.api_groups, g))
            && atom.resources.iter().all(resource)
            && atom
                .non_resource_urls
                .iter()
                .all(|u| self.non_resource_urls.iter().any(|p| path_matches(p, u)))
            && (self.resource_names.is_empty()
                || (!atom.resource_names.is_empty()
                    && atom.resource_names.iter().all(|n| has(&self.resource_names, n))))
    }

    /// The rule as messages of the stock server show it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
    pub fn to_compact_string(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quote_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(crate) fn quote_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|s| stoa_units::quote(s)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Whether `owner`'s rules hold everything that `wanted` grants; otherwise what is missing, an atom each.
pub fn covers(owner: &[Rule], wanted: &[Rule]) -> Result<(), Vec<Rule>> {
    let missing: Vec<Rule> = wanted
        .iter()
        .flat_map(Rule::atoms)
        .filter(|atom| !owner.iter().any(|rule| rule.covers_atom(atom)))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// Missing atoms folded by resource and name, each as text, sorted.
pub(crate) fn describe(missing: Vec<Rule>) -> Vec<String> {
    // Keyed by the rule without its verbs.
    let mut folded: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    let mut out = BTreeSet::new();
    for mut rule in missing {
        if rule.non_resource_urls.is_empty() {
            let verbs = std::mem::take(&mut rule.verbs);
            folded.entry(rule).or_default().extend(verbs);
        } else {
            out.insert(rule.to_compact_string());
        }
    }
    out.extend(folded.into_iter().map(|(rule, verbs)| Rule { verbs, ..rule }.to_compact_string()));
    out.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(v: serde_json::Value) -> Rule {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn a_rule_allows_what_its_patterns_say() {
        let get = Attributes::resource("get", "", "pods", "ns", "p");
        let log = get.with_subresource("log");
        for (r, a, want) in [
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}), get, true),
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}), log, false),
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods/log"]}), log, true),
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods/log"]}), get, false),
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["*/log"]}), log, true),
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods/*"]}), log, false),
            (json!({"verbs":["*"],"apiGroups":["*"],"resources":["*"]}), log, true),
            (json!({"verbs":["get"],"apiGroups":["apps"],"resources":["pods"]}), get, false),
            (json!({"verbs":["list"],"apiGroups":[""],"resources":["pods"]}), get, false),
            (
                json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["q"]}),
                get,
                false,
            ),
            (json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["p"]}), get, true),
            (json!({"verbs":["get"],"nonResourceURLs":["/api/*"]}), Attributes::path("get", "/api/v1"), true),
            (json!({"verbs":["get"],"nonResourceURLs":["/api/*"]}), Attributes::path("get", "/api"), false),
            (json!({"verbs":["get"],"nonResourceURLs":["*"]}), Attributes::path("get", "/x"), true),
            (json!({"verbs":["get"],"nonResourceURLs":["*"]}), get, false),
            (
                json!({"verbs":["*"],"apiGroups":["*"],"resources":["*"]}),
                Attributes::path("get", "/x"),
                false,
            ),
        ] {
            assert_eq!(rule(r.clone()).allows(&a), want, "{r} {a:?}");
        }
    }

    #[test]
    fn what_is_not_held_is_named() {
        let owner = [rule(json!({"verbs":["get"],"apiGroups":[""],"resources":["pods"]}))];
        let wanted = [rule(json!({"verbs":["get","list","watch"],"apiGroups":[""],"resources":["pods"]}))];
        let missing = covers(&owner, &wanted).unwrap_err();
        assert_eq!(describe(missing), [r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#]);
        assert_eq!(covers(&wanted, &owner), Ok(()));
    }
}
