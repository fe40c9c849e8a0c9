//! Probes and lifecycle hooks.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{Errors, Path, indexed, not_negative, port_number, port_number_or_name, required_text};
use crate::value::{at, has, int, text};

/// A container's hooks and probes, in a pod of this `spec`.
pub(super) fn check(c: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let (hooks, lifecycle) = (at(c, "lifecycle"), path.child("lifecycle"));
    let grace = int(spec, "terminationGracePeriodSeconds");
    for hook in ["postStart", "preStop"] {
        if has(hooks, hook) {
            handler(at(hooks, hook), &HOOK_ACTIONS, grace, lifecycle.child(hook), errors);
        }
    }
    if has(hooks, "stopSignal") {
        let os = text(at(spec, "os"), "name");
        stop_signal(text(hooks, "stopSignal"), os, lifecycle.child("stopSignal"), errors);
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if has(c, kind) {
            probe(at(c, kind), kind, grace, path.child(kind), errors);
        }
    }
}

/// Signals by name, besides those of real time.
const SIGNALS: [&str; 34] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
/// How far the signals of real time reach from either end.
const ABOVE_MIN: u8 = 15;
const BELOW_MAX: u8 = 14;

/// A signal means something only where it is said for which system the pod is.
fn stop_signal(signal: &str, os: &str, path: Path<'_>, errors: &mut Errors) {
    let mut known: Vec<String> = match os {
        "" => {
            let why = "may not be set for containers with empty `spec.os.name`";
            return errors.push(Cause::forbidden(path, why));
        }
        "windows" => ["SIGKILL", "SIGTERM"].map(String::from).to_vec(),
        "linux" => {
            let above = (1..=ABOVE_MIN).map(|n| format!("SIGRTMIN+{n}"));
            let below = (1..=BELOW_MAX).map(|n| format!("SIGRTMAX-{n}"));
            let ends = ["SIGRTMIN", "SIGRTMAX"];
            SIGNALS.into_iter().chain(ends).map(String::from).chain(above).chain(below).collect()
        }
        // The system itself is refused.
        _ => return,
    };
    if !known.iter().any(|k| k == signal) {
        known.sort();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        errors.push(Cause::not_supported(path, signal, &known));
    }
}

const PROBE_ACTIONS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK_ACTIONS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

fn probe(p: &Value, kind: &str, grace: Option<i64>, path: Path<'_>, errors: &mut Errors) {
    handler(p, &PROBE_ACTIONS, grace, path, errors);
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(p, key, path, errors);
    }
    if let Some(n) = int(p, "terminationGracePeriodSeconds").filter(|n| *n <= 0) {
        errors.push(Cause::invalid(path.child("terminationGracePeriodSeconds"), n, "must be greater than 0"));
    }
    if kind == "readinessProbe" {
        if let Some(n) = int(p, "terminationGracePeriodSeconds") {
            let why = "must not be set for readinessProbes";
            errors.push(Cause::invalid(path.child("terminationGracePeriodSeconds"), n, why));
        }
    } else if let Some(n) = int(p, "successThreshold").filter(|n| *n != 1) {
        errors.push(Cause::invalid(path.child("successThreshold"), n, "must be 1"));
    }
}

fn handler(h: &Value, actions: &[&str], grace: Option<i64>, path: Path<'_>, errors: &mut Errors) {
    let mut found = 0;
    for action in actions.iter().filter(|a| has(h, a)) {
        found += 1;
        if found > 1 {
            let why = "may not specify more than 1 handler type";
            errors.push(Cause::forbidden(path.child(action), why));
            continue;
        }
        let (v, path) = (at(h, action), path.child(action));
        match *action {
            "exec" => {
                if indexed(v, "command").next().is_none() {
                    errors.push(Cause::required(path.child("command"), ""));
                }
            }
            "httpGet" => {
                required_text(v, "path", path, errors);
                port_number_or_name(at(v, "port"), path.child("port"), errors);
                let scheme = text(v, "scheme");
                if !["HTTP", "HTTPS"].contains(&scheme) {
                    errors.push(Cause::not_supported(path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
                }
                for (_, header) in indexed(v, "httpHeaders") {
                    header_name(text(header, "name"), path.child("httpHeaders"), errors);
                }
            }
            "tcpSocket" => port_number_or_name(at(v, "port"), path.child("port"), errors),
            "grpc" => port_number(int(v, "port").unwrap_or(0), path.child("port"), errors),
            _ => sleep(int(v, "seconds").unwrap_or(0), grace, path, errors),
        }
    }
    if found == 0 {
        errors.push(Cause::required(path, "must specify a handler type"));
    }
}

const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

fn header_name(name: &str, path: Path<'_>, errors: &mut Errors) {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        errors.push(Cause::invalid(path, name, HEADER));
    }
}

/// A pod may not be told to sleep beyond its own end.
fn sleep(seconds: i64, grace: Option<i64>, path: Path<'_>, errors: &mut Errors) {
    if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(Cause::invalid(path, seconds, &why));
    }
}
