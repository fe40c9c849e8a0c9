//! The endpoints of before the v1 API: which path and method means what, in the bodies that tools of the time send.

use crate::command::RECONCILE_LEN_MAX;
use crate::master::Master;
use crate::report::{Viewer, quota_config, quota_info};
use crate::respond::{self, Body, Refusal, text};
use crate::server::parse_query;
use http::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use stoa_authz::Action;
use stoa_units::FrameworkId;

/// Tasks that `/tasks` shows unless asked for another number.
const TASKS_LIMIT_DEFAULT: usize = 100;

/// Those that are judged as a whole, by their path; others show what each asker may see.
const JUDGED: [&str; 4] = ["/files/debug", "/logging/toggle", "/metrics/snapshot", "/system/stats"];

fn form_call(form: &[u8], part: &str) -> Result<Value, Refusal> {
    let form = parse_query(&String::from_utf8_lossy(form));
    let bad = |what: &str| Refusal::Bad(format!("Missing '{what}' query parameter in the request body"));
    let agent = form.get("slaveId").or_else(|| form.get("agentId")).ok_or_else(|| bad("slaveId"))?;
    let list = form.get(part).ok_or_else(|| bad(part))?;
    let list: Value = serde_json::from_str(list).map_err(|e| {
        Refusal::Bad(format!("Error in parsing '{part}' query parameter in the request body: {e}"))
    })?;
    let mut call = json!({"agent_id": {"value": agent}});
    call[part] = list;
    Ok(call)
}

fn body_json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|e| Refusal::Bad(format!("Failed to parse the request JSON: {e}")))
}

fn not_allowed(allowed: &[&str], method: &Method) -> Response<Body> {
    let list = allowed.iter().map(|m| format!("'{m}'")).collect::<Vec<_>>().join(", ");
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("Expecting one of {{ {list} }}, but received '{method}'"),
    );
    if let Ok(value) = http::HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// What a path that changes something takes.
fn methods(path: &str) -> Option<&'static [&'static str]> {
    Some(match path {
        "/reserve" | "/unreserve" | "/create-volumes" | "/destroy-volumes" | "/teardown"
        | "/machine/down" | "/machine/up" => &["POST"],
        "/maintenance/schedule" | "/logging/toggle" => &["GET", "POST"],
        "/weights" => &["GET", "PUT"],
        "/quota" => &["GET", "POST"],
        _ if path.starts_with("/quota/") => &["DELETE"],
        _ => return None,
    })
}

impl Master {
    /// Answers everything but the v1 API.
    pub async fn legacy(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
        principal: Option<&str>,
    ) -> Response<Body> {
        let is_read = *method == Method::GET || *method == Method::HEAD;
        let allowed = methods(path).unwrap_or(&["GET"]);
        let name = if *method == Method::HEAD { "GET" } else { method.as_str() };
        if !allowed.contains(&name) {
            return not_allowed(allowed, method);
        }
        // It is changed by whatever method; asked for nothing, it is shown.
        let is_change = path == "/logging/toggle" && !query.is_empty();
        if is_read && !is_change {
            return self.read(path, query, principal);
        }
        if !self.is_recovered() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery");
        }
        let is_accepted = matches!(path, "/reserve" | "/unreserve" | "/create-volumes" | "/destroy-volumes");
        let status = if is_accepted { StatusCode::ACCEPTED } else { StatusCode::OK };
        match self.change(path, query, body, principal).await {
            Ok(()) => respond::empty(status),
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn change(
        &self,
        path: &str,
        query: &str,
        body: &[u8],
        principal: Option<&str>,
    ) -> Result<(), Refusal> {
        let operation = |kind: &str, part: &str| {
            let call = form_call(body, part)?;
            Master::operation_of(kind, &call).map_err(Refusal::Bad)
        };
        match path {
            "/reserve" => {
                let (agent, operation) = operation("RESERVE_RESOURCES", "resources")?;
                self.operate(&agent, &operation, principal).await
            }
            "/unreserve" => {
                let (agent, operation) = operation("UNRESERVE_RESOURCES", "resources")?;
                self.operate(&agent, &operation, principal).await
            }
            "/create-volumes" => {
                let (agent, operation) = operation("CREATE_VOLUMES", "volumes")?;
                self.operate(&agent, &operation, principal).await
            }
            "/destroy-volumes" => {
                let (agent, operation) = operation("DESTROY_VOLUMES", "volumes")?;
                self.operate(&agent, &operation, principal).await
            }
            "/teardown" => {
                let form = parse_query(&String::from_utf8_lossy(body));
                let id = form
                    .get("frameworkId")
                    .ok_or_else(|| Refusal::Bad("Missing 'frameworkId' query parameter".into()))?;
                self.teardown_by_operator(&FrameworkId::from(id.as_str()), principal).await
            }
            "/maintenance/schedule" => self.update_schedule(&body_json(body)?, principal).await,
            "/machine/down" => self.start_maintenance(&body_json(body)?, principal).await,
            "/machine/up" => self.stop_maintenance(&body_json(body)?, principal).await,
            "/weights" => self.update_weights(&body_json(body)?, principal).await,
            "/quota" => self.set_quota(&body_json(body)?, principal).await,
            "/logging/toggle" => {
                if !self.options.acls.may(principal, Action::SetLogLevel, Some("*")) {
                    return Err(Refusal::Forbidden);
                }
                let query = parse_query(query);
                let part = |name: &str| query.get(name).map(String::as_str);
                let toggle = stoa_mesos::verbosity::read_toggle(part("level"), part("duration"));
                let (level, lasts) = toggle.map_err(Refusal::Bad)?;
                self.options.verbosity.set(level, lasts, self.now());
                Ok(())
            }
            _ => self.remove_quota(path.trim_start_matches("/quota/"), principal).await,
        }
    }

    fn read(&self, path: &str, query: &str, principal: Option<&str>) -> Response<Body> {
        let query = parse_query(query);
        let get = |name: &str| query.get(name).map(String::as_str);
        let json = |value: &Value| respond::jsonp(value, get("jsonp"));
        let viewer = Viewer { master: self, principal };
        let or_refuse = |result: Result<Value, Refusal>| match result {
            Ok(value) => respond::jsonp(&value, get("jsonp")),
            Err(refusal) => refusal.into_response(),
        };
        match path {
            "/health" => return respond::empty(StatusCode::OK),
            "/version" => return json(&crate::view::version(self.started)),
            "" => {
                return text(
                    StatusCode::OK,
                    "stoa speaks the Mesos API here: try /version, /state, /api/v1/scheduler\n",
                );
            }
            "/redirect" => return self.redirect(""),
            _ if !self.is_recovered() => {
                return text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery");
            }
            _ => {}
        }
        let is_judged = JUDGED.contains(&path);
        if is_judged && !self.options.acls.may(principal, Action::GetEndpoint, Some(path)) {
            return respond::empty(StatusCode::FORBIDDEN);
        }
        match path {
            "/state" => self.view_state(viewer, |state| respond::jsonp(state, get("jsonp"))),
            "/state-summary" => json(&self.view_summary(viewer)),
            "/slaves" => json(&self.view_slaves(get("slave_id"))),
            "/frameworks" => {
                self.view_frameworks(get("framework_id"), viewer, |all| respond::jsonp(all, get("jsonp")))
            }
            "/roles" => json(&self.view_roles(viewer)),
            "/metrics/snapshot" => json(&self.view_metrics()),
            "/system/stats" => json(&crate::view::view_system()),
            "/logging/toggle" => {
                text(StatusCode::OK, format!("{}\n", self.options.verbosity.level(self.now())))
            }
            "/tasks" => {
                // Less than nothing means all, as a number without a sign that was made of it would.
                let number = |name: &str, default| match get(name).map(str::parse::<i64>) {
                    Some(Ok(n)) => usize::try_from(n).unwrap_or(usize::MAX),
                    _ => default,
                };
                let mut tasks = self.view_tasks(get("framework_id"), get("task_id"), viewer);
                if get("order") != Some("asc") {
                    tasks.reverse();
                }
                let limit = number("limit", TASKS_LIMIT_DEFAULT).min(RECONCILE_LEN_MAX);
                let page: Vec<_> = tasks.into_iter().skip(number("offset", 0)).take(limit).collect();
                json(&json!({ "tasks": page }))
            }
            "/flags" => {
                if !viewer.may(Action::ViewFlags, "*") {
                    return respond::empty(StatusCode::FORBIDDEN);
                }
                json(
                    &json!({"flags": self.flags().into_iter().collect::<std::collections::BTreeMap<_, _>>()}),
                )
            }
            "/weights" => {
                let weights = self.weights();
                let seen = weights.iter().filter(|(role, _)| viewer.may(Action::ViewRole, role));
                json(&seen.map(|(role, weight)| json!({"role": role, "weight": weight})).collect())
            }
            "/quota" => {
                let state = self.state.lock();
                let seen: Vec<_> = state
                    .rules
                    .quotas
                    .iter()
                    .filter(|(role, _)| viewer.may(Action::GetQuota, role))
                    .collect();
                json(&json!({
                    "infos": seen.iter().map(|(role, q)| quota_info(role, q)).collect::<Vec<_>>(),
                    "configs": seen.iter().map(|(role, q)| quota_config(role, q)).collect::<Vec<_>>(),
                }))
            }
            "/maintenance/schedule" => json(&self.view_schedule(viewer)),
            "/maintenance/status" => json(&self.view_maintenance(viewer)),
            "/registrar/registry" => json(&self.view_registry()),
            "/allocator/offer_constraints_debug" => json(&self.view_constraints(viewer)),
            "/files/browse" => or_refuse(self.browse_legacy(get("path").unwrap_or_default(), principal)),
            "/files/read" => {
                let number = |name: &str| get(name).and_then(|v| v.parse::<i64>().ok());
                let (path, offset) = (get("path").unwrap_or_default(), number("offset").unwrap_or(-1));
                or_refuse(self.read_file_legacy(path, offset, number("length"), principal))
            }
            "/files/download" => match self.read_file(get("path").unwrap_or_default(), 0, None, principal) {
                Ok((_, data)) => respond::bytes("application/octet-stream", data.into()),
                Err(refusal) => refusal.into_response(),
            },
            "/files/debug" => json(&json!({"/master/log": "memory"})),
            "/help" => text(StatusCode::OK, HELP),
            _ => text(StatusCode::NOT_FOUND, format!("No such endpoint: {path}")),
        }
    }

    /// What the store has of agents, in the shape of Mesos' registry.
    fn view_registry(&self) -> Value {
        let state = self.state.lock();
        let agents: Vec<Value> = state
            .agents
            .iter()
            .map(|(id, a)| json!({"info": {"id": {"value": id.as_str()}, "hostname": a.hostname, "port": a.port()}}))
            .collect();
        let gone: Vec<Value> = state
            .rules
            .gone
            .iter()
            .map(|(id, at)| json!({"id": {"value": id.as_str()}, "timestamp": crate::watch::time_info(*at)}))
            .collect();
        json!({"master": {"info": self.info()}, "slaves": {"slaves": agents}, "gone": {"slaves": gone}})
    }

    /// Which agents each framework's constraints leave out.
    fn view_constraints(&self, viewer: Viewer<'_>) -> Value {
        let state = self.state.lock();
        let mut out = serde_json::Map::new();
        for f in state.frameworks.values().filter(|f| !f.is_removed() && viewer.may_view_framework(f)) {
            let constraints = f.subscription().constraints;
            let roles: serde_json::Map<String, Value> = constraints
                .roles()
                .map(|role| {
                    let excluded: Vec<&str> = state
                        .agents
                        .iter()
                        .filter(|(_, a)| !constraints.admit(role, Some(&a.facts())))
                        .map(|(id, _)| id.as_str())
                        .collect();
                    (role.to_string(), json!({"excluded_by_attribute_constraints": excluded}))
                })
                .collect();
            if !roles.is_empty() {
                out.insert(f.record.id.to_string(), json!({"roles": roles}));
            }
        }
        json!({"frameworks": out})
    }
}

const HELP: &str = "/api/v1 /api/v1/scheduler /state /state-summary /slaves /frameworks /tasks /roles /weights /quota \
/metrics/snapshot /flags /version /health /redirect /maintenance/schedule /maintenance/status /machine/down /machine/up \
/reserve /unreserve /create-volumes /destroy-volumes /teardown /files/browse /files/read /files/download /files/debug \
/logging/toggle /registrar(1)/registry /allocator/offer_constraints_debug\n";
