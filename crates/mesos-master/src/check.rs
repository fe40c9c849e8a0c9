//! Mesos' health checks and checks as the probes of a pod, and what the probes say as what Mesos says. Pure.
//!
//! A health check becomes two probes: one that ends the task after so many failures, one whose state is what the framework
//! hears as `healthy`. A check never ends anything and is the second alone.

use serde_json::{Value, json};
use stoa_mesos::task::TaskInfo;

/// What Mesos assumes where a check does not say.
const DELAY_SECONDS: f64 = 15.0;
const INTERVAL_SECONDS: f64 = 10.0;
const TIMEOUT_SECONDS: f64 = 20.0;
const GRACE_SECONDS: f64 = 10.0;
const FAILURES: u64 = 3;
/// Longest time of any kind: a year.
const SECONDS_MAX: f64 = 31_536_000.0;

fn seconds(check: &Value, name: &str, default: f64) -> u64 {
    let given = check[name].as_f64().filter(|s| s.is_finite()).unwrap_or(default);
    given.clamp(0.0, SECONDS_MAX).ceil() as u64
}

fn command(value: &Value) -> Value {
    let text = value["value"].as_str().unwrap_or_default();
    if value["shell"].as_bool().unwrap_or(true) {
        return json!(["/bin/sh", "-c", text]);
    }
    let arguments = value["arguments"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut all = vec![json!(text)];
    all.extend(arguments.iter().skip(1).cloned());
    all.into()
}

/// What the probe does, for both kinds of checks: their parts differ in where the command is.
fn action(check: &Value) -> Option<Value> {
    let http = &check["http"];
    if let Some(port) = http["port"].as_u64() {
        let scheme = http["scheme"].as_str().unwrap_or("http").to_ascii_uppercase();
        let path = http["path"].as_str().unwrap_or("/");
        return Some(json!({"httpGet": {"port": port, "path": path, "scheme": scheme}}));
    }
    if let Some(port) = check["tcp"]["port"].as_u64() {
        return Some(json!({"tcpSocket": {"port": port}}));
    }
    let of_check = &check["command"]["command"];
    let given = if of_check.is_object() { of_check } else { &check["command"] };
    given.is_object().then(|| json!({"exec": {"command": command(given)}}))
}

fn probe(check: &Value, delay: u64, failures: u64) -> Option<Value> {
    let mut out = action(check)?;
    out["initialDelaySeconds"] = delay.into();
    out["periodSeconds"] = seconds(check, "interval_seconds", INTERVAL_SECONDS).max(1).into();
    out["timeoutSeconds"] = seconds(check, "timeout_seconds", TIMEOUT_SECONDS).max(1).into();
    out["failureThreshold"] = failures.into();
    out["successThreshold"] = 1.into();
    Some(out)
}

/// Whether a check can be carried out. The texts are Mesos'.
pub(crate) fn check(task: &TaskInfo) -> Result<(), String> {
    for (check, name) in [(&task.health_check, "HealthCheck"), (&task.check, "CheckInfo")] {
        let Some(check) = check else { continue };
        if action(check).is_none() {
            return Err(format!("Task uses invalid {name}: Expecting 'type' to be set with its part"));
        }
        for part in ["delay_seconds", "interval_seconds", "timeout_seconds", "grace_period_seconds"] {
            if check[part].as_f64().is_some_and(|s| s < 0.0) {
                return Err(format!("Task uses invalid {name}: Expecting '{part}' to be non-negative"));
            }
        }
    }
    Ok(())
}

/// Adds a task's checks to its container.
pub(crate) fn add_probes(container: &mut Value, task: &TaskInfo) {
    if let Some(check) = &task.health_check {
        let delay = seconds(check, "delay_seconds", DELAY_SECONDS);
        // Failures within the grace period do not count.
        let grace = seconds(check, "grace_period_seconds", GRACE_SECONDS);
        let failures = check["consecutive_failures"].as_u64().unwrap_or(FAILURES).clamp(1, 1_000_000);
        if let Some(probe) = probe(check, delay.max(grace), failures) {
            container["livenessProbe"] = probe;
        }
        if let Some(probe) = probe(check, delay, 1) {
            container["readinessProbe"] = probe;
        }
    } else if let Some(check) = &task.check
        && let Some(probe) = probe(check, seconds(check, "delay_seconds", DELAY_SECONDS), 1)
    {
        container["readinessProbe"] = probe;
    }
}

/// What a check's result is called, as far as a probe tells it.
pub(crate) fn check_status(check: &Value, is_ready: bool) -> Value {
    if check["http"].is_object() {
        json!({"type": "HTTP", "http": if is_ready { json!({"status_code": 200}) } else { json!({}) }})
    } else if check["tcp"].is_object() {
        json!({"type": "TCP", "tcp": {"succeeded": is_ready}})
    } else {
        json!({"type": "COMMAND", "command": {"exit_code": i32::from(!is_ready)}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(more: Value) -> TaskInfo {
        let mut t = json!({"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "a"}});
        for (k, v) in more.as_object().unwrap() {
            t[k] = v.clone();
        }
        serde_json::from_value(t).unwrap()
    }

    #[test]
    fn a_health_check_is_a_probe_that_kills_and_one_that_tells() {
        let t = task(json!({"health_check": {"type": "HTTP", "http": {"port": 8080, "path": "/ok"},
            "interval_seconds": 0.5, "consecutive_failures": 5}}));
        let mut c = json!({});
        add_probes(&mut c, &t);
        assert_eq!(
            c["livenessProbe"],
            json!({"httpGet": {"port": 8080, "path": "/ok", "scheme": "HTTP"}, "initialDelaySeconds": 15,
                "periodSeconds": 1, "timeoutSeconds": 20, "failureThreshold": 5, "successThreshold": 1})
        );
        assert_eq!(c["readinessProbe"]["failureThreshold"], 1);
    }

    #[test]
    fn a_check_never_kills() {
        let t = task(
            json!({"check": {"type": "COMMAND", "command": {"command": {"value": "test -e x"}}, "delay_seconds": 0}}),
        );
        let mut c = json!({});
        add_probes(&mut c, &t);
        assert!(c.get("livenessProbe").is_none());
        assert_eq!(c["readinessProbe"]["exec"]["command"], json!(["/bin/sh", "-c", "test -e x"]));
        assert_eq!(
            check_status(t.check.as_ref().unwrap(), true),
            json!({"type": "COMMAND", "command": {"exit_code": 0}})
        );
    }

    #[test]
    fn checks_without_a_way_are_refused() {
        for bad in [
            json!({"health_check": {"type": "HTTP"}}),
            json!({"check": {"type": "TCP", "tcp": {}}}),
            json!({"health_check": {"tcp": {"port": 1}, "delay_seconds": -1}}),
        ] {
            assert!(check(&task(bad.clone())).is_err(), "{bad}");
        }
        assert!(check(&task(json!({"health_check": {"tcp": {"port": 1}}}))).is_ok());
    }
}
