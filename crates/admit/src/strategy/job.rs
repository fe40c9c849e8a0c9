//! A job finds its pods by a label that holds its own uid.

use serde_json::Value;

use crate::default::is_manual_selector;
use crate::value::{at, ensure, is_empty, path, set, set_default, text};

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
/// The same labels as they were called before they had a prefix; tools still read them.
const OLD: [&str; 2] = ["controller-uid", "job-name"];

pub(super) fn created(object: &mut Value) {
    // Labels that the job took over from its template are the template's own on a stock server, and get what that gets.
    let taken_over =
        path(object, &["metadata", "labels"]) == path(object, &["spec", "template", "metadata", "labels"]);
    if !is_manual_selector(at(object, "spec")) {
        generate_selector(object);
    }
    let labels = path(object, &["spec", "template", "metadata", "labels"]).clone();
    if let Some(meta) = ensure(object, "metadata")
        && (taken_over || is_empty(meta, "labels"))
        && !labels.is_null()
    {
        set(meta, "labels", labels);
    }
}

fn generate_selector(object: &mut Value) {
    let (uid, name) =
        (text(at(object, "metadata"), "uid").to_owned(), text(at(object, "metadata"), "name").to_owned());
    let Some(spec) = ensure(object, "spec") else { return };
    let template = ensure(spec, "template").and_then(|t| ensure(t, "metadata"));
    if let Some(labels) = template.and_then(|m| ensure(m, "labels")) {
        for (key, value) in [(UID, &uid), (NAME, &name), (OLD[0], &uid), (OLD[1], &name)] {
            // A label that contradicts is left for validation to name.
            set_default(labels, key, value.as_str());
        }
    }
    if let Some(labels) = ensure(spec, "selector").and_then(|s| ensure(s, "matchLabels")) {
        set_default(labels, UID, uid);
    }
}
