//! Kinds that two group-versions serve from one stored form: events of both groups, and autoscalers `v1` and `v2`. Each
//! conversion keeps what the other form cannot say, so that going there and back loses nothing.

mod autoscaler;
mod event;
#[cfg(test)]
mod tests;

use crate::decode::{self, DecodeError};
use crate::resource::GroupVersion;
use crate::schema;
use serde_json::Value;

/// Why an object cannot be had in another version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// Nobody knows how.
    #[error("cannot convert {kind} from {from} to {to}")]
    Unknown {
        /// The object's kind.
        kind: String,
        /// Its group and version.
        from: String,
        /// The group and version asked for.
        to: String,
    },
    /// The object does not have the form of its kind.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

/// Turns an object of one group-version into the same object in another.
pub fn convert(mut value: Value, from: GroupVersion, to: GroupVersion) -> Result<Value, ConvertError> {
    if from == to {
        return Ok(value);
    }
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    match (kind.as_str(), from.group, from.version, to.group, to.version) {
        ("Event", "", "v1", "events.k8s.io", "v1") => event::from_core(&mut value),
        ("Event", "events.k8s.io", "v1", "", "v1") => event::to_core(&mut value),
        ("HorizontalPodAutoscaler", "autoscaling", "v2", "autoscaling", "v1") => {
            autoscaler::to_v1(&mut value)
        }
        ("HorizontalPodAutoscaler", "autoscaling", "v1", "autoscaling", "v2") => {
            autoscaler::to_v2(&mut value)
        }
        _ => return Err(ConvertError::Unknown { kind, from: from.to_string(), to: to.to_string() }),
    }
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), Value::from(to.to_string()));
    }
    if let Some(ty) = schema::builtin().type_of_kind(to.group, to.version, &kind) {
        decode::complete(&mut value, ty)?;
    }
    Ok(value)
}
