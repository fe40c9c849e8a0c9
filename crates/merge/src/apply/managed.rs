//! `metadata.managedFields`: who owns which fields, since when, and by which kind of write.

use super::Manager;
use super::compare::Changes;
use super::field_set::FieldSet;
use super::text;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
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
    pub(super) fn text(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// The fields of an entry.
#[derive(Clone, Debug)]
pub(super) enum Fields<'a> {
    /// As they are stored: most entries are not looked into.
    Stored(&'a Value),
    Set(FieldSet),
    /// As JSON.
    Text(Vec<u8>),
}

impl Fields<'_> {
    pub(super) fn to_set(&self) -> FieldSet {
        match self {
            Fields::Stored(value) => FieldSet::read(value),
            Fields::Set(set) => set.clone(),
            Fields::Text(text) => FieldSet::read(&serde_json::from_slice(text).unwrap_or_default()),
        }
    }

    pub(super) fn into_set(self) -> FieldSet {
        match self {
            Fields::Set(set) => set,
            other => other.to_set(),
        }
    }

    /// Takes away what is in the set, place by place.
    fn subtract(&mut self, lost: &FieldSet) {
        match self {
            Fields::Stored(value) if !lost.touches(value) => {}
            Fields::Set(set) => set.subtract(lost),
            other => {
                let mut set = other.to_set();
                set.subtract(lost);
                *other = Fields::Set(set);
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Fields::Stored(value) => value.as_object().is_none_or(Map::is_empty),
            Fields::Set(set) => set.is_empty(),
            Fields::Text(text) => text.is_empty(),
        }
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        match self {
            // A value always serialises, and a Vec always takes more.
            Fields::Stored(value) => drop(serde_json::to_writer(out, value)),
            Fields::Set(set) => set.write_text(out),
            Fields::Text(text) => out.extend_from_slice(text),
        }
    }
}

/// One manager's fields.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub manager: Cow<'a, str>,
    pub operation: Operation,
    pub api_version: Cow<'a, str>,
    pub subresource: Cow<'a, str>,
    pub time: Option<Cow<'a, str>>,
    pub fields: Fields<'a>,
}

impl<'a> Entry<'a> {
    /// What a manager has from now on.
    pub(super) fn of(
        manager: &Manager<'a>,
        operation: Operation,
        time: Option<Cow<'a, str>>,
        fields: Fields<'a>,
    ) -> Entry<'a> {
        Entry {
            manager: manager.name.into(),
            operation,
            api_version: manager.api_version.into(),
            subresource: manager.subresource.into(),
            time,
            fields,
        }
    }

    fn read(value: &'a Value) -> Option<Entry<'a>> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Entry {
            manager: text("manager").into(),
            operation,
            api_version: text("apiVersion").into(),
            subresource: text("subresource").into(),
            time: Some(text("time")).filter(|t| !t.is_empty()).map(Cow::from),
            fields: Fields::Stored(value.get("fieldsV1").unwrap_or(&Value::Null)),
        })
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        text::put_comma(out);
        out.push(b'{');
        text::put_member(out, "apiVersion", &self.api_version);
        text::put_member(out, "fieldsType", "FieldsV1");
        text::put_name(out, "fieldsV1");
        self.fields.write_text(out);
        text::put_member(out, "manager", &self.manager);
        text::put_member(out, "operation", self.operation.text());
        text::put_member(out, "subresource", &self.subresource);
        text::put_member(out, "time", self.time.as_deref().unwrap_or_default());
        out.push(b'}');
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
pub(super) struct Managed<'a> {
    entries: Vec<Entry<'a>>,
    is_reset: bool,
}

impl<'a> Managed<'a> {
    /// Reads the list that is stored; entries that make no sense are dropped, as on a stock server.
    pub(super) fn stored(list: Option<&'a Value>) -> Managed<'a> {
        let list = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_reset = matches!(list, [Value::Object(only)] if only.is_empty());
        Managed { entries: list.iter().filter_map(Entry::read).collect(), is_reset }
    }

    /// The same for a list that a client has sent, who may write its elements in other forms.
    pub(super) fn sent(list: Option<&'a Value>) -> Managed<'a> {
        let mut managed = Managed::stored(list);
        for entry in &mut managed.entries {
            entry.fields = Fields::Set(entry.fields.to_set());
        }
        managed
    }

    /// The list as JSON, or nothing where nobody owns anything.
    pub(super) fn write(self) -> Option<String> {
        fn order<'e>(e: &'e Entry<'_>) -> (Operation, Option<&'e str>, &'e str, &'e str, &'e str) {
            (e.operation, e.time.as_deref(), &e.manager, &e.api_version, &e.subresource)
        }
        let mut entries = self.entries;
        entries.retain(|e| !e.fields.is_empty());
        entries.sort_by(|a, b| order(a).cmp(&order(b)));
        if entries.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(1_024);
        out.push(b'[');
        entries.iter().for_each(|e| e.write_text(&mut out));
        out.push(b']');
        // It is made of strings and brackets.
        String::from_utf8(out).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_reset(&self) -> bool {
        self.is_reset
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.iter()
    }

    /// Takes out a manager's entry.
    pub(super) fn take(&mut self, manager: &Manager<'_>, operation: Operation) -> Option<Entry<'a>> {
        let at = self.entries.iter().position(|e| e.is_of(manager, operation))?;
        Some(self.entries.remove(at))
    }

    /// Whether the changes leave a manager with just the fields that it has: those it has changed are its own already. Then only
    /// the time is new, and what others lose is all there is to do.
    pub(super) fn renew(&mut self, manager: &Manager<'_>, changes: &Changes, time: &str) -> bool {
        let own = self.entries.iter_mut().find(|e| e.is_of(manager, Operation::Update));
        let Some(Entry { fields: Fields::Stored(stored), time: last, .. }) = own else { return false };
        let taken = [&changes.added, &changes.modified];
        if changes.removed.touches(stored) || !taken.iter().all(|set| set.is_within(stored)) {
            return false;
        }
        if !taken.iter().all(|set| set.is_empty()) {
            *last = Some(time.to_owned().into());
        }
        let others = self.entries.iter_mut().filter(|e| !e.is_of(manager, Operation::Update));
        release(others, changes, manager.api_version);
        self.entries.retain(|e| !e.fields.is_empty());
        true
    }

    /// Puts an entry in and folds the oldest updaters into one where there are too many.
    pub(super) fn put(&mut self, entry: Entry<'a>) {
        self.entries.push(entry);
        let updaters = self.entries.iter().filter(|e| e.operation == Operation::Update).count();
        let Some(excess) = updaters.checked_sub(UPDATERS_MAX).filter(|n| *n > 0) else { return };
        let (mut updaters, kept): (Vec<_>, Vec<_>) =
            self.entries.drain(..).partition(|e| e.operation == Operation::Update);
        updaters.sort_by(|a, b| a.time.cmp(&b.time));
        let mut rest = updaters.split_off(excess + 1);
        // Fields are only comparable within one version.
        let mut folded: Vec<Entry<'a>> = Vec::new();
        for old in updaters {
            match folded.iter_mut().find(|f| f.api_version == old.api_version) {
                Some(f) => {
                    let mut fields = f.fields.to_set();
                    fields.add(old.fields.into_set());
                    f.fields = Fields::Set(fields);
                    f.time = f.time.take().max(old.time);
                }
                None => folded.push(Entry { manager: ANCIENT.into(), subresource: "".into(), ..old }),
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
            .filter(|e| !matches!(e.fields, Fields::Stored(stored) if !overwritten.touches(stored)))
            .map(|e| (e.printed(), e.fields.to_set().both(&overwritten).paths()))
            .collect();
        found.sort();
        let cause = |who: &str, path: String| {
            Cause::new("FieldManagerConflict", path, format!("conflict with {who}"))
        };
        found.into_iter().flat_map(|(who, paths)| paths.into_iter().map(move |p| cause(&who, p))).collect()
    }

    /// Takes what was overwritten or removed from everybody in here.
    pub(super) fn release(&mut self, changes: &Changes, api_version: &str) {
        release(self.entries.iter_mut(), changes, api_version);
        self.entries.retain(|e| !e.fields.is_empty());
    }
}

fn release<'e, 'a: 'e>(
    entries: impl Iterator<Item = &'e mut Entry<'a>>,
    changes: &Changes,
    api_version: &str,
) {
    for entry in entries.filter(|e| e.api_version == api_version) {
        for lost in [&changes.added, &changes.modified, &changes.removed] {
            entry.fields.subtract(lost);
        }
    }
}

/// Those of [`unowned`] that are in the metadata.
pub(super) const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

/// Those at its root.
pub(super) const UNOWNED_ROOT: [&str; 2] = ["apiVersion", "kind"];

/// Fields that identify an object or that only the server writes: nobody owns them.
pub(super) fn unowned() -> &'static FieldSet {
    static SET: OnceLock<FieldSet> = OnceLock::new();
    SET.get_or_init(|| {
        let mut meta = Map::new();
        meta.insert(".".to_owned(), json!({}));
        for field in UNOWNED_METADATA {
            meta.insert(format!("f:{field}"), json!({}));
        }
        let mut root = Map::from_iter(UNOWNED_ROOT.map(|field| (format!("f:{field}"), json!({}))));
        root.insert("f:metadata".to_owned(), meta.into());
        FieldSet::read(&Value::Object(root))
    })
}

/// The kind of which all that is said is nobody's: what a certificate is asked for with never changes.
const RESET_WHOLE: &str = "CertificateSigningRequest";

/// What a write of this kind through this subresource does not write, whatever its body says.
pub(super) fn reset_by(kind: &str, subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "" if kind == RESET_WHOLE => &[&["f:spec"], &["f:status"]],
        "" => &[&["f:status"]],
        "status" => &[&["f:spec"], &["f:metadata", "f:labels"]],
        _ => &[],
    }
}
