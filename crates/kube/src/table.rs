//! What `kubectl get` prints: the columns of each resource and the cells of each object, worked out on the server exactly as a
//! stock server does. The columns are facts (`data/table-columns.tsv`); a printer per kind fills them.

mod autoscaler;
mod cluster;
mod event;
mod human;
mod network;
mod node;
mod pod;
mod storage;
#[cfg(test)]
mod tests;
mod view;
mod workload;

use crate::resource::Resource;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::OnceLock;
use stoa_units::Time;
use view::View;

const COLUMNS_TSV: &str = include_str!("../data/table-columns.tsv");

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading: `Nominated Node`.
    pub name: String,
    /// `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the object's name, else mostly empty.
    pub format: &'static str,
    /// What it means, where that is known.
    pub description: &'static str,
    /// 0 is always shown, 1 only in wide output.
    pub priority: u8,
}

type Key = (&'static str, &'static str, &'static str);
type Columns = HashMap<Key, Vec<Column>>;

fn all() -> &'static Columns {
    static COLUMNS: OnceLock<Columns> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        COLUMNS_TSV
            .lines()
            .filter(|l| !l.starts_with('#') && !l.starts_with("group/"))
            .filter_map(parse_row)
            .collect()
    })
}

fn parse_row(line: &'static str) -> Option<(Key, Vec<Column>)> {
    let mut parts = line.split('\t');
    let (group_version, plural, columns) = (parts.next()?, parts.next()?, parts.next()?);
    let columns = columns.split(' ').filter_map(parse_column).collect();
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    Some(((group, version, plural), columns))
}

fn parse_column(text: &'static str) -> Option<Column> {
    let mut parts = text.rsplitn(4, ':');
    let (priority, format, kind, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let name = name.replace('_', " ");
    let description = describe(&name);
    Some(Column { name, kind, format, description, priority: priority.parse().ok()? })
}

fn describe(name: &str) -> &'static str {
    match name {
        "Name" => "The object's name, unique within its namespace.",
        "Age" | "Created At" => "When the object was created.",
        "Containers" => "Names of the containers.",
        "Images" => "Images of the containers.",
        "Selector" => "Which pods belong to the object.",
        "Ready" => "How much of it is ready.",
        "Status" => "The state of the object, in a word.",
        "Restarts" => "How often its containers were restarted, and when last.",
        "IP" => "The pod's address.",
        "Node" => "The node that it is on.",
        "Nominated Node" => "The node that is being cleared for the pod.",
        "Readiness Gates" => "How many of the pod's own readiness conditions hold.",
        "Desired" => "How many there should be.",
        "Current" => "How many there are.",
        "Up-to-date" => "How many are of the newest template.",
        "Available" => "How many have been ready long enough.",
        "Type" => "The object's type.",
        "Data" => "How many entries it holds.",
        _ => "",
    }
}

/// The columns of a resource's table; [`default_columns`] where it has none of its own.
pub fn columns(resource: &Resource) -> &'static [Column] {
    all()
        .get(&(resource.group, resource.version, resource.plural))
        .map_or_else(default_columns, Vec::as_slice)
}

/// The cells of one object, one for each column.
pub fn row(resource: &Resource, object: &Value, now: Time) -> Vec<Value> {
    let view = View { object, now };
    match (resource.group, resource.kind) {
        ("", "Pod") => pod::cells(view),
        ("", "Node") => node::cells(view),
        ("" | "events.k8s.io", "Event") => event::cells(view),
        ("autoscaling", "Scale") => autoscaler::scale(view),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::cells(view, resource.group_version()),
        ("" | "apps" | "batch" | "policy", _) if workload::knows(resource.kind) => {
            workload::cells(view, resource.kind)
        }
        ("" | "networking.k8s.io" | "discovery.k8s.io", _) if network::knows(resource.kind) => {
            network::cells(view, resource.kind)
        }
        ("" | "storage.k8s.io", _) if storage::knows(resource.kind) => storage::cells(view, resource.kind),
        _ if cluster::knows(resource.kind) => cluster::cells(view, resource.kind),
        _ => vec![view.name(), view.created_at()],
    }
}

/// The columns of a resource that has no printer of its own: its name and when it was made.
pub fn default_columns() -> &'static [Column] {
    static DEFAULT: OnceLock<Vec<Column>> = OnceLock::new();
    DEFAULT
        .get_or_init(|| "Name:string:name:0 Created_At:date::0".split(' ').filter_map(parse_column).collect())
}
