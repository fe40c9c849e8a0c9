//! Two indexes by labels: which pods a selector means, and whose selectors mean a pod. Neither looks at more than shares
//! one label, so that a change costs what it concerns and not what the namespace holds.

use crate::device_claim::{self, Of};
use crate::{Key, Pod, Table};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use stoa_units::{LabelSelector, NamespacedName, Operator};

/// A label in a namespace.
type Term = (Arc<str>, String, String);

/// Pods by each of their labels, and by the claims that they use.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodIndex {
    by_label: HashMap<Term, BTreeSet<Arc<str>>>,
    by_claim: HashMap<NamespacedName, BTreeSet<Arc<str>>>,
    by_device: HashMap<(Of, NamespacedName), BTreeSet<Arc<str>>>,
}

impl PodIndex {
    /// A pod changed, came or went.
    pub fn change(&mut self, name: &NamespacedName, old: Option<&Pod>, new: Option<&Pod>) {
        if let (Some(old), Some(new)) = (old, new)
            && (&old.labels, &old.claims, &old.devices) == (&new.labels, &new.claims, &new.devices)
        {
            return;
        }
        if let Some(pod) = old {
            for (key, value) in &pod.labels {
                take(&mut self.by_label, &(name.namespace.clone(), key.clone(), value.clone()), &name.name);
            }
            for claim in &pod.claims {
                let claim = NamespacedName::new(name.namespace.clone(), claim.as_str());
                take(&mut self.by_claim, &claim, &name.name);
            }
            device_claim::names(pod).for_each(|at| take(&mut self.by_device, &at, &name.name));
        }
        if let Some(pod) = new {
            for (key, value) in &pod.labels {
                let term = (name.namespace.clone(), key.clone(), value.clone());
                self.by_label.entry(term).or_default().insert(name.name.clone());
            }
            for claim in &pod.claims {
                let claim = NamespacedName::new(name.namespace.clone(), claim.as_str());
                self.by_claim.entry(claim).or_default().insert(name.name.clone());
            }
            for at in device_claim::names(pod) {
                self.by_device.entry(at).or_default().insert(name.name.clone());
            }
        }
    }

    /// The pods that a selector means, by name. Of the labels that it demands the rarest is looked through.
    pub fn matching<'a>(
        &self,
        pods: &'a Table<Pod>,
        namespace: &str,
        selector: &LabelSelector,
    ) -> Vec<&'a Arc<Pod>> {
        let place: Arc<str> = namespace.into();
        let mut rarest: Option<Option<&BTreeSet<Arc<str>>>> = None;
        for (key, value) in equalities(selector) {
            let set = self.by_label.get(&(place.clone(), key.to_string(), value.to_string()));
            let len = |s: Option<&BTreeSet<Arc<str>>>| s.map_or(0, BTreeSet::len);
            if rarest.is_none_or(|r| len(set) < len(r)) {
                rarest = Some(set);
            }
        }
        match rarest {
            Some(names) => {
                let found = names.into_iter().flatten().filter_map(|n| pods.get(namespace, n));
                found.filter(|p| selector.matches(&p.labels)).collect()
            }
            None => pods.in_namespace(namespace).filter(|p| selector.matches(&p.labels)).collect(),
        }
    }

    /// The pods that use a claim.
    pub fn using(&self, claim: &NamespacedName) -> impl Iterator<Item = &Arc<str>> {
        self.by_claim.get(claim).into_iter().flatten()
    }
}

impl PodIndex {
    /// The pods that name a claim of devices, or a template of such.
    pub fn naming(&self, of: Of, name: NamespacedName) -> impl Iterator<Item = &Arc<str>> {
        self.by_device.get(&(of, name)).into_iter().flatten()
    }
}

fn take<K: Hash + Eq, V: Ord>(sets: &mut HashMap<K, BTreeSet<V>>, key: &K, member: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

/// The labels that a selector demands by one value.
fn equalities(selector: &LabelSelector) -> impl Iterator<Item = (&str, &str)> {
    selector.0.iter().filter(|r| r.operator == Operator::In).filter_map(|r| match r.values.as_slice() {
        [only] => Some((r.key.as_str(), only.as_str())),
        _ => None,
    })
}

/// Who selects pods, found by a pod's labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selecting {
    selectors: HashMap<Key, LabelSelector>,
    by_term: HashMap<Term, BTreeSet<Key>>,
    /// Those that demand no label by one value, by namespace.
    others: HashMap<Arc<str>, BTreeSet<Key>>,
}

impl Selecting {
    /// The object of a key selects these pods now; `None` means no pod.
    pub fn set(&mut self, key: &Key, selector: Option<LabelSelector>) {
        if self.selectors.get(key) == selector.as_ref() {
            return;
        }
        if let Some(old) = self.selectors.remove(key) {
            match term(key, &old) {
                Some(term) => take(&mut self.by_term, &term, key),
                None => take(&mut self.others, &key.namespace, key),
            }
        }
        if let Some(new) = selector {
            let set = match term(key, &new) {
                Some(term) => self.by_term.entry(term).or_default(),
                None => self.others.entry(key.namespace.clone()).or_default(),
            };
            set.insert(key.clone());
            self.selectors.insert(key.clone(), new);
        }
    }

    /// Whose selectors mean a pod with these labels.
    pub fn matching(&self, namespace: &Arc<str>, labels: &BTreeMap<String, String>) -> Vec<Key> {
        let terms = labels.iter().map(|(k, v)| (namespace.clone(), k.clone(), v.clone()));
        let by_term = terms.filter_map(|t| self.by_term.get(&t)).flatten();
        let all = by_term.chain(self.others.get(namespace).into_iter().flatten());
        all.filter(|k| self.selectors.get(*k).is_some_and(|s| s.matches(labels))).cloned().collect()
    }
}

/// The label under which a selector is found.
fn term(key: &Key, selector: &LabelSelector) -> Option<Term> {
    let (label, value) = equalities(selector).next()?;
    Some((key.namespace.clone(), label.to_string(), value.to_string()))
}
