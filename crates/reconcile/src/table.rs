//! Objects of one kind, found by name, by namespace and by controlling owner.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stoa_units::NamespacedName;

/// Objects of one kind.
#[derive(Clone, Debug)]
pub struct Table<T> {
    rows: HashMap<NamespacedName, (Arc<T>, Option<Arc<str>>)>,
    by_namespace: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    by_owner: HashMap<Arc<str>, BTreeSet<NamespacedName>>,
    /// Those that nobody controls, by namespace.
    free: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table {
            rows: HashMap::new(),
            by_namespace: HashMap::new(),
            by_owner: HashMap::new(),
            free: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    /// Adds or replaces a row; returns what was there.
    pub fn put(&mut self, name: NamespacedName, row: T, owner: Option<&str>) -> Option<Arc<T>> {
        let old = self.remove(&name);
        let owner: Option<Arc<str>> = owner.map(Arc::from);
        match &owner {
            Some(owner) => self.by_owner.entry(owner.clone()).or_default().insert(name.clone()),
            None => self.free.entry(name.namespace.clone()).or_default().insert(name.name.clone()),
        };
        self.by_namespace.entry(name.namespace.clone()).or_default().insert(name.name.clone());
        self.rows.insert(name, (Arc::new(row), owner));
        old
    }

    /// Removes a row and returns it.
    pub fn remove(&mut self, name: &NamespacedName) -> Option<Arc<T>> {
        let (row, owner) = self.rows.remove(name)?;
        if let Some(owner) = owner
            && let Some(set) = self.by_owner.get_mut(&owner)
        {
            set.remove(name);
            if set.is_empty() {
                self.by_owner.remove(&owner);
            }
        } else if let Some(set) = self.free.get_mut(&name.namespace) {
            set.remove(&name.name);
            if set.is_empty() {
                self.free.remove(&name.namespace);
            }
        }
        if let Some(set) = self.by_namespace.get_mut(&name.namespace) {
            set.remove(&name.name);
            if set.is_empty() {
                self.by_namespace.remove(&name.namespace);
            }
        }
        Some(row)
    }

    /// The row of that name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.rows.get(&NamespacedName::new(namespace, name)).map(|(row, _)| row)
    }

    /// The rows of a namespace, by name.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        self.by_namespace
            .get_key_value(namespace)
            .into_iter()
            .flat_map(|(ns, names)| {
                names.iter().map(|n| NamespacedName { namespace: ns.clone(), name: n.clone() })
            })
            .filter_map(|n| self.rows.get(&n).map(|(row, _)| row))
    }

    /// The rows whose controlling owner has that uid, by name.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<T>> {
        self.by_owner.get(uid).into_iter().flatten().filter_map(|n| self.rows.get(n).map(|(row, _)| row))
    }

    /// The rows of a namespace that nobody controls, by name.
    pub fn free_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> {
        self.free.get(namespace).into_iter().flatten().filter_map(move |n| {
            self.rows.get(&NamespacedName::new(namespace, n.clone())).map(|(row, _)| row)
        })
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.rows.values().map(|(row, _)| row)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
