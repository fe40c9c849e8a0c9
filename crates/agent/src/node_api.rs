//! What an agent answers of itself, for those who may read a node through the API server: nothing listens here, each question
//! comes down the session as a tunnel.

use crate::shared::Shared;
use crate::summary;
use crate::tunnels::Refused;
use bytes::Bytes;
use serde_json::{Value, json};

/// Answers a path.
pub(crate) fn answer(shared: &Shared, path: &str) -> Result<Bytes, Refused> {
    let text = match path.trim_matches('/') {
        "stats/summary" => summary::summary(shared).to_string(),
        "metrics/resource" => summary::resource(shared),
        "metrics/cadvisor" => summary::cadvisor(shared),
        "metrics" => summary::resource(shared),
        "pods" => pods(shared).to_string(),
        "configz" => configz(shared).to_string(),
        "healthz" | "healthz/ping" | "healthz/log" | "healthz/syncloop" => "ok".to_owned(),
        _ => return Err((404, "404 page not found".to_owned())),
    };
    Ok(Bytes::from(text))
}

/// Every pod that this agent holds, as it knows it.
fn pods(shared: &Shared) -> Value {
    let live = shared.live.lock();
    let mut items: Vec<Value> = live
        .values()
        .map(|l| {
            let mut pod = json!(&*l.object);
            if let Some(status) = &l.status {
                pod["status"] = json!(status);
            }
            pod
        })
        .collect();
    items.sort_by_key(|p| p["metadata"]["uid"].as_str().map(str::to_owned));
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
}

/// The settings in the form of a kubelet's configuration.
fn configz(shared: &Shared) -> Value {
    let o = &shared.options;
    let hard: serde_json::Map<String, Value> =
        o.eviction_hard.iter().map(|t| (t.signal.as_str().to_owned(), t.value.to_string().into())).collect();
    json!({"kubeletconfig": {
        "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "maxPods": o.pods_max, "podPidsLimit": o.pod_pids_max, "cgroupDriver": "cgroupfs", "serializeImagePulls": false,
        "imageGCHighThresholdPercent": o.image_gc_high_percent, "imageGCLowThresholdPercent": o.image_gc_low_percent,
        "evictionHard": hard, "evictionPressureTransitionPeriod": format!("{}s", o.pressure_hold.as_secs()),
        "containerLogMaxSize": o.log_bytes_max.to_string(), "containerLogMaxFiles": o.log_files_max,
        "authentication": {"anonymous": {"enabled": false}}, "readOnlyPort": 0, "enableServer": false,
        "seccompDefault": true, "failSwapOn": false,
    }})
}
