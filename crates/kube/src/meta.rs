//! An object's metadata and nothing else, read from its bytes in one cheap pass: enough for the collector, selectors and
//! bookkeeping, which look at every object and at none of its contents.

use serde::Deserialize;
use std::collections::BTreeMap;
use stoa_units::{Revision, Time};

/// A reference to an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OwnerRef {
    /// The owner's `apiVersion`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Whether it is the managing controller.
    pub controller: bool,
    /// Whether it may not go before this object has gone.
    pub block_owner_deletion: bool,
}

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Meta {
    /// The `apiVersion` beside the metadata.
    #[serde(skip)]
    pub api_version: String,
    /// The `kind` beside the metadata.
    #[serde(skip)]
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`, as text.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub creation_timestamp: Option<Time>,
    /// `metadata.deletionTimestamp`.
    pub deletion_timestamp: Option<Time>,
    /// `metadata.deletionGracePeriodSeconds`.
    pub deletion_grace_period_seconds: Option<i64>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.finalizers`.
    pub finalizers: Vec<String>,
    /// `metadata.ownerReferences`.
    pub owner_references: Vec<OwnerRef>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Envelope {
    api_version: String,
    kind: String,
    metadata: Meta,
}

impl Meta {
    /// Reads the metadata of an object's JSON; everything else is skipped without being built.
    pub fn read(bytes: &[u8]) -> Result<Meta, serde_json::Error> {
        // serde would read a list as a struct whose fields are all absent.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(serde::de::Error::custom("an object's JSON starts with {"));
        }
        let Envelope { api_version, kind, metadata } = serde_json::from_slice(bytes)?;
        Ok(Meta { api_version, kind, ..metadata })
    }

    /// The revision of the last write, if the object has been stored.
    pub fn revision(&self) -> Option<Revision> {
        Revision::parse(&self.resource_version)
    }

    /// The owner that manages this object.
    pub fn controller(&self) -> Option<&OwnerRef> {
        self.owner_references.iter().find(|o| o.controller)
    }

    /// Whether deletion has begun.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_and_the_rest_is_skipped() {
        let text = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","resourceVersion":"7",
            "creationTimestamp":"2026-01-02T03:04:05Z","labels":{"x":"y"},"unknown":[1],
            "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u","controller":true}]},
            "spec":{"containers":[{"name":1}]}}"#;
        let meta = Meta::read(text).expect("metadata");
        assert_eq!((meta.kind.as_str(), meta.name.as_str(), meta.namespace.as_str()), ("Pod", "a", "n"));
        assert_eq!(meta.revision(), Some(Revision(7)));
        assert_eq!(meta.controller().map(|o| o.uid.as_str()), Some("u"));
        assert!(!meta.is_deleting());
        assert!(Meta::read(b"[]").is_err());
    }
}
