//! `metadata.managedFields`: who owns which fields, since when, and by which kind of write.

use super::Manager;
use super::compare::Changes;
use super::field_set::FieldSet;
use serde_json::{Map, Value, json};
use std::sync::OnceLock;
use stoa_kube::Cause;

/// How many managers that only update are told apart; older ones are counted as one.
const UPDATERS_MAX: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn text(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// One manager's fields.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub manager: String,
    pub operation: Operation,
    pub api_version: String,
    pub subresource: String,
    pub time: Option<String>,
    pub fields: FieldSet,
}

impl Entry {
    fn read(value: &Value) -> Option<Entry> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Entry {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: Some(text("time")).filter(|t| !t.is_empty()),
            fields: FieldSet::read(value.get("fieldsV1").unwrap_or(&Value::Null)),
        })
    }

    fn write(self) -> Value {
        let mut map = Map::new();
        let mut put = |key: &str, text: String| {
            if !text.is_empty() {
                map.insert(key.to_owned(), Value::from(text));
            }
        };
        put("manager", self.manager);
        put("operation", self.operation.text().to_owned());
        put("apiVersion", self.api_version);
        put("time", self.time.unwrap_or_default());
        put("fieldsType", "FieldsV1".to_owned());
        put("subresource", self.subresource);
        map.insert("fieldsV1".to_owned(), self.fields.write());
        Value::Object(map)
    }

    /// Whether it is this manager's entry. An applier has one entry, whatever version it applies in.
    fn is_of(&self, manager: &Manager<'_>, operation: Operation) -> bool {
        self.manager == manager.name
            && self.operation == operation
            && self.subresource == manager.subresource
            && (operation == Operation::Apply || self.api_version == manager.api_version)
    }

    /// The manager as conflicts name it.
    fn printed(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// The entries of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managed {
    entries: Vec<Entry>,
    is_reset: bool,
}

impl Managed {
    /// Reads the list; entries that make no sense are dropped, as on a stock server.
    pub(super) fn read(list: Option<&Value>) -> Managed {
        let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_reset = matches!(list, [Value::Object(only)] if only.is_empty());
        Managed { entries: list.iter().filter_map(Entry::read).collect(), is_reset }
    }

    /// The list, or nothing where nobody owns anything.
    pub(super) fn write(self) -> Option<Value> {
        fn order(e: &Entry) -> (Operation, &Option<String>, &str, &str, &str) {
            (e.operation, &e.time, &e.manager, &e.api_version, &e.subresource)
        }
        let mut entries = self.entries;
        entries.retain(|e| !e.fields.is_empty());
        entries.sort_by(|a, b| order(a).cmp(&order(b)));
        (!entries.is_empty()).then(|| entries.into_iter().map(Entry::write).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Takes out a manager's entry.
    pub(super) fn take(&mut self, manager: &Manager<'_>, operation: Operation) -> Option<Entry> {
        let at = self.entries.iter().position(|e| e.is_of(manager, operation))?;
        Some(self.entries.remove(at))
    }

    /// Puts an entry in and folds the oldest updaters into one where there are too many.
    pub(super) fn put(&mut self, entry: Entry) {
        self.entries.push(entry);
        let updaters = self.entries.iter().filter(|e| e.operation == Operation::Update).count();
        let Some(excess) = updaters.checked_sub(UPDATERS_MAX).filter(|n| *n > 0) else { return };
        let (mut updaters, kept): (Vec<Entry>, Vec<Entry>) =
            self.entries.drain(..).partition(|e| e.operation == Operation::Update);
        updaters.sort_by(|a, b| a.time.cmp(&b.time));
        let mut rest = updaters.split_off(excess + 1);
        // Fields are only comparable within one version.
        let mut folded: Vec<Entry> = Vec::new();
        for old in updaters {
            match folded.iter_mut().find(|f| f.api_version == old.api_version) {
                Some(f) => {
                    f.fields.add(old.fields);
                    f.time = f.time.take().max(old.time);
                }
                None => folded.push(Entry { manager: ANCIENT.to_owned(), subresource: String::new(), ..old }),
            }
        }
        self.entries = kept;
        self.entries.append(&mut folded);
        self.entries.append(&mut rest);
    }

    /// The fields of these managers that the changes would overwrite, sorted by manager.
    pub(super) fn conflicts(&self, changes: &Changes, api_version: &str) -> Vec<Cause> {
        let mut overwritten = changes.added.clone();
        overwritten.add(changes.modified.clone());
        let mut found: Vec<(String, Vec<String>)> = self
            .entries
            .iter()
            .filter(|e| e.api_version == api_version)
            .map(|e| (e.printed(), e.fields.both(&overwritten).paths()))
            .collect();
        found.sort();
        let cause = |who: &str, path: String| {
            Cause::new("FieldManagerConflict", path, format!("conflict with {who}"))
        };
        found.into_iter().flat_map(|(who, paths)| paths.into_iter().map(move |p| cause(&who, p))).collect()
    }

    /// Takes what was overwritten or removed from everybody in here.
    pub(super) fn release(&mut self, changes: &Changes, api_version: &str) {
        for entry in self.entries.iter_mut().filter(|e| e.api_version == api_version) {
            for lost in [&changes.added, &changes.modified, &changes.removed] {
                entry.fields.subtract(lost);
            }
        }
        self.entries.retain(|e| !e.fields.is_empty());
    }
}

/// Fields that identify an object or that only the server writes: nobody owns them.
pub(super) fn unowned() -> &'static FieldSet {
    static SET: OnceLock<FieldSet> = OnceLock::new();
    SET.get_or_init(|| {
        let mut meta = Map::new();
        meta.insert(".".to_owned(), json!({}));
        for field in [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ] {
            meta.insert(format!("f:{field}"), json!({}));
        }
        FieldSet::read(&json!({"f:apiVersion": {}, "f:kind": {}, "f:metadata": meta}))
    })
}

/// What a write through this subresource does not write, whatever its body says.
pub(super) fn reset_by(subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "" => &[&["f:status"]],
        "status" => &[&["f:spec"], &["f:metadata", "f:labels"]],
        _ => &[],
    }
}
