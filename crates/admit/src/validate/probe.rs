//! Probes and lifecycle hooks.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{
    Errors, Path, indexed, not_negative, one_of, port_number, port_number_or_name, required_text,
};
use crate::value::{at, has, int, text};

/// A container's hooks and probes, in a pod for the system `os`.
pub(super) fn check(c: &Value, os: &str, path: Path<'_>, errors: &mut Errors) {
    let lifecycle = path.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        if has(at(c, "lifecycle"), hook) {
            handler(at(at(c, "lifecycle"), hook), &HOOK_ACTIONS, lifecycle.child(hook), errors);
        }
    }
    if has(at(c, "lifecycle"), "stopSignal") {
        stop_signal(text(at(c, "lifecycle"), "stopSignal"), os, lifecycle.child("stopSignal"), errors);
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if has(c, kind) {
            probe(at(c, kind), kind, path.child(kind), errors);
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

fn probe(p: &Value, kind: &str, path: Path<'_>, errors: &mut Errors) {
    handler(p, &PROBE_ACTIONS, path, errors);
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

fn handler(h: &Value, actions: &[&str], path: Path<'_>, errors: &mut Errors) {
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
                one_of(v, "scheme", &["HTTP", "HTTPS"], path, errors);
                let list = path.child("httpHeaders");
                for (i, header) in indexed(v, "httpHeaders") {
                    header_name(header, list.index(i), errors);
                }
            }
            "tcpSocket" => port_number_or_name(at(v, "port"), path.child("port"), errors),
            "grpc" => port_number(int(v, "port").unwrap_or(0), path.child("port"), errors),
            _ => not_negative(v, "seconds", path, errors),
        }
    }
    if found == 0 {
        errors.push(Cause::required(path, "must specify a handler type"));
    }
}

const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

fn header_name(header: &Value, path: Path<'_>, errors: &mut Errors) {
    let name = at(header, "name").as_str().unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        errors.push(Cause::invalid(path.child("name"), name, HEADER));
    }
}
