//! Label selectors in their structured form: whether they are well-formed, and whether they match.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::{LabelSelector, Operator, Requirement, check_label_key, check_label_value};

use super::field::{Errors, Path, indexed, name_error};
use super::meta;
use crate::value::{at, pairs, text, texts};

/// Notes what is wrong with a `LabelSelector`; absent is fine here.
pub(super) fn check(selector: &Value, path: Path<'_>, errors: &mut Errors) {
    let labels = path.child("matchLabels");
    meta::labels(at(selector, "matchLabels"), labels, errors);
    expressions(selector, Subject::Objects, path, errors);
}

/// Whose labels expressions are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Objects of any kind.
    Objects,
    /// Nodes, whose labels can be compared as numbers too; `strict` looks at values in the expressions.
    Nodes { strict: bool },
}

/// What is wrong with the `matchExpressions` of a selector.
pub(super) fn expressions(selector: &Value, subject: Subject, path: Path<'_>, errors: &mut Errors) {
    let has_numbers = subject != Subject::Objects;
    let list = path.child("matchExpressions");
    for (i, e) in indexed(selector, "matchExpressions") {
        let path = list.index(i);
        let values = texts(e, "values").count();
        match text(e, "operator") {
            "In" | "NotIn" if values == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Cause::required(path.child("values"), why));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if values > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Cause::forbidden(path.child("values"), why));
            }
            "Exists" | "DoesNotExist" => {}
            "Gt" | "Lt" if has_numbers && values != 1 => {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(Cause::required(path.child("values"), why));
            }
            "Gt" | "Lt" if has_numbers => {}
            other => {
                errors.push(Cause::invalid(path.child("operator"), other, "not a valid selector operator"))
            }
        }
        let key = text(e, "key");
        name_error(check_label_key(key), key, path.child("key"), errors);
        for (j, value) in
            texts(e, "values").enumerate().filter(|_| subject != Subject::Nodes { strict: false })
        {
            name_error(check_label_value(value), value, path.child("values").index(j), errors);
        }
    }
}

/// Whether a selector says nothing.
pub(super) fn is_empty(selector: &Value) -> bool {
    pairs(selector, "matchLabels").next().is_none() && indexed(selector, "matchExpressions").next().is_none()
}

/// The selector as something that matches; `None` where it is malformed.
pub(super) fn read(selector: &Value) -> Option<LabelSelector> {
    let mut out = Vec::new();
    for (key, value) in pairs(selector, "matchLabels") {
        out.push(Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.as_str()?.to_owned()],
        });
    }
    for (_, e) in indexed(selector, "matchExpressions") {
        let operator = match text(e, "operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        let values = texts(e, "values").map(str::to_owned).collect();
        out.push(Requirement { key: text(e, "key").to_owned(), operator, values });
    }
    Some(LabelSelector(out))
}

/// Whether a selector matches a JSON map of labels.
pub(super) fn matches(selector: &LabelSelector, labels: &Value) -> bool {
    selector.matches_with(|key| at(labels, key).as_str())
}
