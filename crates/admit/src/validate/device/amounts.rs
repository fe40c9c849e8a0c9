//! How much of a device's capacity a claim may ask for: certain amounts, or those of a range, in steps. Where a claim does not say,
//! it gets the default, which must be one of them.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::Quantity;

use crate::validate::field::{Errors, Path, quantity};
use crate::value::{at, has, texts};

/// Amounts that can be named one by one.
const CHOICES_MAX: usize = 10;
const NANO: i128 = 1_000_000_000;

/// Judges the policy of a capacity that several claims share.
pub(super) fn policy(capacity: &Value, path: Path<'_>, errors: &mut Errors) {
    let policy = at(capacity, "requestPolicy");
    let Some(whole) = quantity(capacity, "value") else { return };
    let by_choice = texts(policy, "validValues").next().is_some();
    let by_range = has(policy, "validRange");
    if by_choice && by_range {
        let why = r#"exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time"#;
        return errors.push(Cause::forbidden(path, why));
    }
    let what = match (by_choice, by_range) {
        (true, _) => "validValues",
        (_, true) => "validRange",
        _ => return,
    };
    let Some(usual) = quantity(policy, "default") else {
        let why = format!("required when {what} is defined");
        return errors.push(Cause::required(path.child("default"), &why));
    };
    match by_choice {
        true => choices(policy, &usual, &whole, path.child("validValues"), errors),
        false => range(at(policy, "validRange"), &usual, &whole, path.child("validRange"), errors),
    }
}

fn invalid(path: Path<'_>, amount: &Quantity, why: &str) -> Cause {
    Cause::invalid(path, amount.to_string(), why)
}

fn choices(policy: &Value, usual: &Quantity, whole: &Quantity, path: Path<'_>, errors: &mut Errors) {
    let all: Vec<Quantity> =
        texts(policy, "validValues").filter_map(|text| Quantity::parse(text).ok()).collect();
    for (i, pair) in all.windows(2).enumerate() {
        if pair[0].nano() > pair[1].nano() {
            errors.push(invalid(path.index(i + 1), &pair[1], "values must be sorted in ascending order"));
        }
    }
    let mut offers_usual = false;
    if all.len() > CHOICES_MAX {
        errors.push(Cause::too_many(path, all.len(), CHOICES_MAX));
    } else {
        for (i, choice) in all.iter().enumerate() {
            if choice.nano() > whole.nano() {
                let why = format!("option is larger than capacity value: {whole}");
                errors.push(invalid(path.index(i), choice, &why));
            }
            offers_usual |= choice.nano() == usual.nano();
        }
        let mut seen = HashSet::new();
        for (i, choice) in all.iter().enumerate() {
            if !seen.insert(units(choice)) {
                errors.push(Cause::duplicate(path.index(i), units(choice).to_string()));
            }
        }
    }
    if !offers_usual {
        errors.push(invalid(path, usual, "default value is not valid according to the requestPolicy"));
    }
}

fn range(range: &Value, usual: &Quantity, whole: &Quantity, path: Path<'_>, errors: &mut Errors) {
    let (low, high) = (path.child("min"), path.child("max"));
    let Some(min) = quantity(range, "min") else {
        return errors.push(Cause::required(low, "required when validRange is defined"));
    };
    if min.nano() > whole.nano() {
        errors.push(invalid(low, &min, &format!("min is larger than capacity value: {whole}")));
    }
    if usual.nano() < min.nano() {
        errors.push(invalid(low, usual, &format!("default is less than min: {min}")));
    }
    let max = quantity(range, "max");
    if let Some(max) = &max {
        if min.nano() > max.nano() {
            errors.push(invalid(high, &min, &format!("min is larger than max: {max}")));
        }
        if max.nano() > whole.nano() {
            errors.push(invalid(high, max, &format!("max is larger than capacity value: {whole}")));
        }
        if usual.nano() > max.nano() {
            errors.push(invalid(high, usual, &format!("default is more than max: {max}")));
        }
    }
    let Some(step) = quantity(range, "step") else { return };
    let path = path.child("step");
    if step.nano() <= 0 {
        // A stock server falls over a step of nothing; newer ones say so.
        return errors.push(invalid(path, &step, "must be greater than zero"));
    }
    let first = min.plus(&step);
    if first.nano() > whole.nano() {
        let why = format!("one step {first} is larger than capacity value: {whole}");
        errors.push(invalid(path, &step, &why));
    }
    for amount in [Some(usual), max.as_ref()].into_iter().flatten() {
        if (units(amount) - units(&min)) % units(&step) != 0 {
            let why = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.push(invalid(path, amount, &why));
        }
    }
}

/// Whole units, a part of one counted as one.
fn units(amount: &Quantity) -> i128 {
    -(-amount.nano()).div_euclid(NANO)
}
