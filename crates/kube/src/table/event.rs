//! Events of both groups, which name the same fields differently.

use super::view::{View, or, text};
use serde_json::Value;

pub(super) fn cells(view: View<'_>) -> Vec<Value> {
    let either = |core: &str, new: &str| or(view.text(core), view.text(new)).to_owned();
    let since = |path: &str| view.at(path).is_string().then(|| view.since(path));
    let unknown = || "<unknown>".to_owned();
    let first =
        since("firstTimestamp").or_else(|| since("deprecatedFirstTimestamp")).or_else(|| since("eventTime"));
    let mut last =
        since("lastTimestamp").or_else(|| since("deprecatedLastTimestamp")).or_else(|| first.clone());
    let mut count = view.number("count").max(view.number("deprecatedCount")).max(1);
    if view.at("series").is_object() {
        last = since("series.lastObservedTime");
        count = view.number("series.count");
    }
    let regarding =
        if view.at("involvedObject").is_object() { view.at("involvedObject") } else { view.at("regarding") };
    let kind = text(regarding, "kind").to_lowercase();
    let object = match text(regarding, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.unwrap_or_else(unknown).into(),
        view.text("type").into(),
        view.text("reason").into(),
        object.into(),
        text(regarding, "fieldPath").into(),
        source(view).into(),
        either("message", "note").trim().into(),
        first.unwrap_or_else(unknown).into(),
        count.into(),
        view.name(),
    ]
}

/// The component that reports, and its instance if it says so.
fn source(view: View<'_>) -> String {
    let pick = |paths: [&str; 3]| {
        paths.into_iter().map(|p| view.text(p)).find(|t| !t.is_empty()).unwrap_or_default()
    };
    let component = or(
        pick(["source.component", "deprecatedSource.component", "reportingComponent"]),
        view.text("reportingController"),
    );
    match pick(["source.host", "deprecatedSource.host", "reportingInstance"]) {
        "" => component.to_owned(),
        instance => format!("{component}, {instance}"),
    }
}
