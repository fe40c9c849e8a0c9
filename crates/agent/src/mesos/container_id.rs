//! The name of a container that somebody put into another: its own and its parents', the outermost being a task's.

use serde::{Deserialize, Serialize};

/// How deep containers may be nested.
const DEPTH_MAX: usize = 8;
/// Longest part of a name.
const VALUE_LEN_MAX: usize = 255;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerId {
    pub(crate) value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Box<ContainerId>>,
}

impl ContainerId {
    /// Checks that every part is a name.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut part = Some(self);
        for _ in 0..DEPTH_MAX {
            let Some(id) = part else { return Ok(()) };
            let is_name = !id.value.is_empty() && id.value.len() <= VALUE_LEN_MAX;
            let bad = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\');
            if !is_name || id.value.contains(bad) || matches!(&*id.value, "." | "..") {
                return Err(format!("'ContainerID.value' '{}' contains invalid characters", id.value));
            }
            part = id.parent.as_deref();
        }
        if part.is_some() { Err(format!("containers nest deeper than {DEPTH_MAX}")) } else { Ok(()) }
    }

    /// The outermost.
    pub(crate) fn root(&self) -> &ContainerId {
        self.parent.as_deref().map_or(self, ContainerId::root)
    }

    /// All parts, the outermost first.
    pub(crate) fn key(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{}/{}", parent.key(), self.value),
            None => self.value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_by_all_its_parts() {
        let id: ContainerId =
            serde_json::from_str(r#"{"value":"c","parent":{"value":"b","parent":{"value":"a"}}}"#).unwrap();
        assert_eq!((id.key().as_str(), id.root().value.as_str(), id.check()), ("a/b/c", "a", Ok(())));
        for bad in ["", "a/b", "..", "a b", "a\0"] {
            assert!(ContainerId { value: bad.into(), parent: None }.check().is_err(), "{bad:?}");
        }
        let mut deep = ContainerId { value: "x".into(), parent: None };
        for _ in 0..DEPTH_MAX {
            deep = ContainerId { value: "x".into(), parent: Some(Box::new(deep)) };
        }
        assert!(deep.check().is_err());
    }
}
