//! Offer constraints: which agents a framework wants offers of in a role, by their attributes. An OR of ANDs of predicates;
//! attributes that are no text pass every comparison. Patterns are bounded in length and in the size of what they compile
//! to, and match whole values in linear time.

use regex::Regex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_mesos::agent::Attribute;
use stoa_mesos::resource::ValueType;

/// Longest pattern.
const PATTERN_LEN_MAX: usize = 4_096;
/// Most bytes that a compiled pattern takes.
const PROGRAM_BYTES_MAX: usize = 256 << 10;
/// Most predicates of one framework.
const PREDICATES_MAX: usize = 1_000;

/// What is known of an agent besides how much it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its name.
    pub hostname: String,
    /// What it says about itself.
    pub attributes: Vec<Attribute>,
    /// Where it is.
    pub region: Option<String>,
    /// Where in there it is.
    pub zone: Option<String>,
    /// Whether its region is another than the master's.
    pub is_remote: bool,
}

#[derive(Clone, Debug)]
enum Selector {
    Attribute(String),
    Hostname,
    Region,
    Zone,
}

#[derive(Clone, Debug)]
enum Predicate {
    Exists,
    NotExists,
    Equals(String),
    NotEquals(String),
    Matches(Regex),
    NotMatches(Regex),
}

/// What a predicate is asked about.
enum Subject<'a> {
    Nothing,
    Text(&'a str),
    Other,
}

/// Predicates that must all hold.
type Group = Vec<(Selector, Predicate)>;

/// The constraints of a framework, by role.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    roles: BTreeMap<String, Arc<[Group]>>,
    /// As they were given, by which two are compared.
    given: Value,
}

impl PartialEq for Constraints {
    fn eq(&self, other: &Self) -> bool {
        self.given == other.given
    }
}

impl Eq for Constraints {}

impl Constraints {
    /// Reads an `OfferConstraints`. The texts are Mesos'.
    pub fn parse(given: &Value) -> Result<Constraints, String> {
        let mut roles = BTreeMap::new();
        let mut count = 0;
        for (role, constraints) in given["role_constraints"].as_object().into_iter().flatten() {
            let groups = constraints["groups"].as_array().map(Vec::as_slice).unwrap_or_default();
            if groups.is_empty() {
                return Err(format!(
                    "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {role}"
                ));
            }
            let mut parsed = Vec::with_capacity(groups.len());
            for group in groups {
                let all = group["attribute_constraints"].as_array().map(Vec::as_slice).unwrap_or_default();
                if all.is_empty() {
                    return Err(format!(
                        "'OfferConstraints::RoleConstraints::groups' for role {role} contains an empty RoleConstraints::Group"
                    ));
                }
                count += all.len();
                if count > PREDICATES_MAX {
                    return Err(format!("More than {PREDICATES_MAX} offer constraints"));
                }
                let one =
                    |c: &Value| Ok((parse_selector(&c["selector"])?, parse_predicate(&c["predicate"])?));
                parsed.push(all.iter().map(one).collect::<Result<Vec<_>, String>>()?);
            }
            roles.insert(role.clone(), parsed.into());
        }
        Ok(Constraints { roles, given: given.clone() })
    }

    /// The roles that are constrained.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// Whether an agent may be offered in a role. An agent of which nothing is known may where nothing is asked.
    pub fn admit(&self, role: &str, facts: Option<&Facts>) -> bool {
        let Some(groups) = self.roles.get(role) else { return true };
        let Some(facts) = facts else { return false };
        groups.iter().any(|group| group.iter().all(|(selector, predicate)| holds(selector, predicate, facts)))
    }
}

fn parse_selector(value: &Value) -> Result<Selector, String> {
    match (value["attribute_name"].as_str(), value["pseudoattribute_type"].as_str()) {
        (Some(name), None) => Ok(Selector::Attribute(name.into())),
        (None, Some("HOSTNAME")) => Ok(Selector::Hostname),
        (None, Some("REGION")) => Ok(Selector::Region),
        (None, Some("ZONE")) => Ok(Selector::Zone),
        (None, Some(_)) => Err("Unknown pseudoattribute type".into()),
        _ => Err("Exactly one of 'AttributeConstraint::Selector::name' or 'AttributeConstraint::Selector::pseudoattribute_type' must be set".into()),
    }
}

fn parse_predicate(value: &Value) -> Result<Predicate, String> {
    let text = |name: &str, part: &str| value[name][part].as_str().map(str::to_string);
    if value["exists"].is_object() {
        Ok(Predicate::Exists)
    } else if value["not_exists"].is_object() {
        Ok(Predicate::NotExists)
    } else if let Some(v) = text("text_equals", "value") {
        Ok(Predicate::Equals(v))
    } else if let Some(v) = text("text_not_equals", "value") {
        Ok(Predicate::NotEquals(v))
    } else if let Some(v) = text("text_matches", "regex") {
        compile(&v).map(Predicate::Matches)
    } else if let Some(v) = text("text_not_matches", "regex") {
        compile(&v).map(Predicate::NotMatches)
    } else {
        Err("Unknown predicate type".into())
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_LEN_MAX {
        return Err(format!("Regex is longer than {PATTERN_LEN_MAX} bytes"));
    }
    // The whole value has to match. The pattern is judged by itself first, so that it cannot close our group.
    let bounded = |text: &str| regex::RegexBuilder::new(text).size_limit(PROGRAM_BYTES_MAX).build();
    bounded(pattern).and_then(|_| bounded(&format!("^(?:{pattern})$"))).map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => format!("Regex '{pattern}' is too complex"),
        e => format!("Failed to construct regex from pattern '{pattern}': {e}"),
    })
}

fn holds(selector: &Selector, predicate: &Predicate, facts: &Facts) -> bool {
    let text = |value: &'_ Option<String>| value.clone();
    let owned;
    let subject = match selector {
        Selector::Hostname => Subject::Text(&facts.hostname),
        Selector::Region | Selector::Zone => {
            owned =
                if matches!(selector, Selector::Region) { text(&facts.region) } else { text(&facts.zone) };
            owned.as_deref().map_or(Subject::Nothing, Subject::Text)
        }
        Selector::Attribute(name) => match facts.attributes.iter().find(|a| a.name == *name) {
            None => Subject::Nothing,
            Some(a) if a.kind == ValueType::Text => {
                Subject::Text(a.text.as_ref().map_or("", |t| t.value.as_str()))
            }
            Some(_) => Subject::Other,
        },
    };
    match (predicate, subject) {
        (Predicate::Exists, s) => !matches!(s, Subject::Nothing),
        (Predicate::NotExists, s) => matches!(s, Subject::Nothing),
        (_, Subject::Other) => true,
        (Predicate::Equals(_) | Predicate::Matches(_), Subject::Nothing) => false,
        (Predicate::NotEquals(_) | Predicate::NotMatches(_), Subject::Nothing) => true,
        (Predicate::Equals(v), Subject::Text(s)) => s == v,
        (Predicate::NotEquals(v), Subject::Text(s)) => s != v,
        (Predicate::Matches(r), Subject::Text(s)) => r.is_match(s),
        (Predicate::NotMatches(r), Subject::Text(s)) => !r.is_match(s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts() -> Facts {
        let scalar = Attribute { kind: ValueType::Scalar, text: None, ..Attribute::text("gen", "") };
        Facts {
            hostname: "node-7.dc1".into(),
            attributes: vec![Attribute::text("rack", "r1"), scalar],
            region: Some("eu".into()),
            ..Facts::default()
        }
    }

    fn one(selector: Value, predicate: Value) -> Value {
        json!({"role_constraints": {"web": {"groups": [{"attribute_constraints": [{"selector": selector, "predicate": predicate}]}]}}})
    }

    #[test]
    fn predicates_hold_as_in_mesos() {
        let name = |n: &str| json!({"attribute_name": n});
        let pseudo = |n: &str| json!({"pseudoattribute_type": n});
        for (selector, predicate, want) in [
            (name("rack"), json!({"exists": {}}), true),
            (name("none"), json!({"exists": {}}), false),
            (name("none"), json!({"not_exists": {}}), true),
            (name("rack"), json!({"text_equals": {"value": "r1"}}), true),
            (name("rack"), json!({"text_equals": {"value": "r"}}), false),
            (name("none"), json!({"text_equals": {"value": "r"}}), false),
            (name("none"), json!({"text_not_equals": {"value": "r"}}), true),
            (name("rack"), json!({"text_matches": {"regex": "r[0-9]"}}), true),
            (name("rack"), json!({"text_matches": {"regex": "r"}}), false),
            (name("rack"), json!({"text_matches": {"regex": "x|r1"}}), true),
            (name("rack"), json!({"text_not_matches": {"regex": "r."}}), false),
            // What is no text passes every comparison.
            (name("gen"), json!({"text_equals": {"value": "x"}}), true),
            (name("gen"), json!({"text_not_matches": {"regex": ".*"}}), true),
            (pseudo("HOSTNAME"), json!({"text_matches": {"regex": ".*\\.dc1"}}), true),
            (pseudo("REGION"), json!({"text_equals": {"value": "eu"}}), true),
            (pseudo("ZONE"), json!({"exists": {}}), false),
        ] {
            let c = Constraints::parse(&one(selector.clone(), predicate.clone())).unwrap();
            assert_eq!(c.admit("web", Some(&facts())), want, "{selector} {predicate}");
            assert!(c.admit("other", Some(&facts())), "another role is not constrained");
        }
    }

    #[test]
    fn bad_constraints_are_refused() {
        let rack = json!({"attribute_name": "rack"});
        for bad in [
            json!({"role_constraints": {"web": {}}}),
            json!({"role_constraints": {"web": {"groups": [{}]}}}),
            one(json!({}), json!({"exists": {}})),
            one(json!({"pseudoattribute_type": "UNKNOWN"}), json!({"exists": {}})),
            one(rack.clone(), json!({})),
            one(rack.clone(), json!({"text_matches": {"regex": "("}})),
            one(rack.clone(), json!({"text_matches": {"regex": "a)|(?:b"}})),
            one(rack.clone(), json!({"text_matches": {"regex": "x".repeat(5000)}})),
            one(rack, json!({"text_matches": {"regex": "(\\w{100}){100}"}})),
        ] {
            assert!(Constraints::parse(&bad).is_err(), "{bad}");
        }
    }
}
