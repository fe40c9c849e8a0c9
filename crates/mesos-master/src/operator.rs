//! `POST /api/v1` (and `/api/v1/operator`, as pymesos spells it): which call means what.

use crate::master::Master;
use crate::report::Viewer;
use crate::respond::{self, Body, Refusal, text};
use crate::scheduler::{NOT_ACCEPTABLE, accepted, check_call};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_authz::Action;
use stoa_units::{AgentId, FrameworkId};

/// Calls that have a part of their own name, which must be there.
const WITH_PART: [&str; 20] = [
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "UPDATE_WEIGHTS",
    "RESERVE_RESOURCES",
    "UNRESERVE_RESOURCES",
    "CREATE_VOLUMES",
    "DESTROY_VOLUMES",
    "GROW_VOLUME",
    "SHRINK_VOLUME",
    "UPDATE_MAINTENANCE_SCHEDULE",
    "START_MAINTENANCE",
    "STOP_MAINTENANCE",
    "DRAIN_AGENT",
    "DEACTIVATE_AGENT",
    "REACTIVATE_AGENT",
    "UPDATE_QUOTA",
    "SET_QUOTA",
    "REMOVE_QUOTA",
    "TEARDOWN",
];

/// How a call that changes something ended well.
enum Outcome {
    /// It is done.
    Done,
    /// It is accepted.
    Accepted,
}

fn agent_of(part: &Value) -> Result<AgentId, Refusal> {
    let id = part["agent_id"]["value"].as_str();
    id.map(AgentId::from).ok_or_else(|| Refusal::Bad("Expecting 'agent_id' to be present".into()))
}

/// `google.protobuf.Duration`: text in JSON, yet some clients send the object.
fn nanoseconds(value: &Value) -> Option<i64> {
    if let Some((seconds, nanos)) = value.as_str().and_then(stoa_mesos::proto::parse_duration) {
        return seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(nanos));
    }
    if let Some(n) = value["nanoseconds"].as_i64() {
        return Some(n);
    }
    value["seconds"].as_i64().and_then(|s| s.checked_mul(1_000_000_000))
}

impl Master {
    pub async fn operator_call(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: Bytes,
        principal: Option<&str>,
    ) -> Response<Body> {
        if !self.is_recovered() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery");
        }
        let encoding = match check_call(method, headers) {
            Ok(encoding) => encoding,
            Err(response) => return *response,
        };
        let call = match encoding.decode("master.Call", &body) {
            Ok(call) => call,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let invalid =
            |why: String| text(StatusCode::BAD_REQUEST, format!("Failed to validate master::Call: {why}"));
        let Some(kind) = call["type"].as_str().filter(|k| *k != "UNKNOWN") else {
            return invalid("Expecting 'type' to be present".into());
        };
        let part = kind.to_ascii_lowercase();
        if (WITH_PART.contains(&kind) || kind == "MARK_AGENT_GONE") && !call[&part].is_object() {
            return invalid(format!("Expecting '{part}' to be present"));
        }
        let Some(encoding) = accepted(headers) else {
            return text(StatusCode::NOT_ACCEPTABLE, NOT_ACCEPTABLE);
        };
        let viewer = Viewer { master: self, principal };
        let answer = |value: Value| {
            let mut out = json!({"type": kind});
            out[&part] = value;
            respond::message(encoding, "master.Response", &out)
        };
        match kind {
            "SUBSCRIBE" => return self.watch_events(encoding, principal),
            "LIST_FILES" => {
                let path = call[&part]["path"].as_str().unwrap_or_default();
                return match self.list_files(path, principal) {
                    Ok(infos) => answer(json!({"file_infos": infos})),
                    Err(refusal) => refusal.into_response(),
                };
            }
            "READ_FILE" => {
                return match self.read_file_call(&call[&part], principal) {
                    Ok(value) => answer(value),
                    Err(refusal) => refusal.into_response(),
                };
            }
            _ => {}
        }
        if let Some(value) = self.report(&part, viewer) {
            return answer(value);
        }
        match self.act(kind, &call[&part], principal).await {
            Some(Ok(Outcome::Done)) => respond::empty(StatusCode::OK),
            Some(Ok(Outcome::Accepted)) => respond::empty(StatusCode::ACCEPTED),
            Some(Err(refusal)) => refusal.into_response(),
            // A type that is not known is as good as none.
            None => invalid("Expecting 'type' to be present".into()),
        }
    }

    /// Carries out a call that changes something.
    async fn act(
        &self,
        kind: &str,
        part: &Value,
        principal: Option<&str>,
    ) -> Option<Result<Outcome, Refusal>> {
        self.state.lock().log.line(&format!(
            "{} {kind} by {}",
            self.now().to_rfc3339_seconds(),
            principal.unwrap_or("-")
        ));
        let done = |result: Result<(), Refusal>| Some(result.map(|()| Outcome::Done));
        match kind {
            "UPDATE_WEIGHTS" => done(self.update_weights(&part["weight_infos"], principal).await),
            "UPDATE_QUOTA" => {
                let is_forced = part["force"].as_bool().unwrap_or(false);
                done(self.update_quota(&part["quota_configs"], is_forced, principal).await)
            }
            "SET_QUOTA" => done(self.set_quota(&part["quota_request"], principal).await),
            "REMOVE_QUOTA" => {
                done(self.remove_quota(part["role"].as_str().unwrap_or_default(), principal).await)
            }
            "RESERVE_RESOURCES"
            | "UNRESERVE_RESOURCES"
            | "CREATE_VOLUMES"
            | "DESTROY_VOLUMES"
            | "GROW_VOLUME"
            | "SHRINK_VOLUME" => {
                let result = match Master::operation_of(kind, part) {
                    Ok((agent, operation)) => self.operate(&agent, &operation, principal).await,
                    Err(why) => Err(Refusal::Bad(why)),
                };
                Some(result.map(|()| Outcome::Accepted))
            }
            "UPDATE_MAINTENANCE_SCHEDULE" => done(self.update_schedule(&part["schedule"], principal).await),
            "START_MAINTENANCE" => done(self.start_maintenance(&part["machines"], principal).await),
            "STOP_MAINTENANCE" => done(self.stop_maintenance(&part["machines"], principal).await),
            "DRAIN_AGENT" | "DEACTIVATE_AGENT" | "REACTIVATE_AGENT" | "MARK_AGENT_GONE" => {
                let agent = match agent_of(part) {
                    Ok(agent) => agent,
                    Err(refusal) => return Some(Err(refusal)),
                };
                done(match kind {
                    "DRAIN_AGENT" => {
                        let grace = nanoseconds(&part["max_grace_period"]);
                        if grace.is_some_and(|g| g < 0) {
                            return Some(Err(Refusal::Bad("'max_grace_period' must be non-negative".into())));
                        }
                        let mark_gone = part["mark_gone"].as_bool().unwrap_or(false);
                        self.drain_agent(&agent, grace, mark_gone, principal).await
                    }
                    "DEACTIVATE_AGENT" => self.deactivate_agent(&agent, principal).await,
                    "REACTIVATE_AGENT" => self.reactivate_agent(&agent, principal).await,
                    _ => self.mark_gone(&agent, principal).await,
                })
            }
            "SET_LOGGING_LEVEL" => {
                if !self.options.acls.may(principal, Action::SetLogLevel, Some("*")) {
                    return Some(Err(Refusal::Forbidden));
                }
                let absent = |name: &str| {
                    Some(Err(Refusal::Bad(format!(
                        "Failed to validate master::Call: Expecting '{name}' to be present"
                    ))))
                };
                let level = part["level"].as_u64().and_then(|n| u32::try_from(n).ok());
                let Some(level) = level else { return absent("level") };
                let lasts = nanoseconds(&part["duration"]).and_then(|n| u64::try_from(n).ok());
                let Some(lasts) = lasts else { return absent("duration") };
                self.options.verbosity.set(level, Duration::from_nanos(lasts), self.now());
                done(Ok(()))
            }
            "TEARDOWN" => {
                let Some(id) = part["framework_id"]["value"].as_str() else {
                    return Some(Err(Refusal::Bad(
                        "Failed to validate master::Call: Expecting 'framework_id' to be present".into(),
                    )));
                };
                done(self.teardown_by_operator(&FrameworkId::from(id), principal).await)
            }
            _ => None,
        }
    }

    /// Ends a framework on an operator's behalf.
    pub async fn teardown_by_operator(
        &self,
        id: &FrameworkId,
        principal: Option<&str>,
    ) -> Result<(), Refusal> {
        {
            let mut state = self.state.lock();
            let Some(f) = state.frameworks.get(id).filter(|f| !f.is_removed()) else {
                return Err(Refusal::Bad("No framework found with specified ID".into()));
            };
            let owner = f.record.info.principal.clone().unwrap_or_default();
            if !self.options.acls.may(principal, Action::TeardownFramework, Some(&owner)) {
                return Err(Refusal::Forbidden);
            }
            state.remove_framework(&mut self.ledger.lock(), id, self.now());
        }
        self.flush().await;
        self.tell_ledger();
        Ok(())
    }
}
