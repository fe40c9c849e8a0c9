//! `POST /api/v1` on the agent: the operators' calls about containers and files, in JSON and in protobuf.
//!
//! A nested container here is a further process in a task's container, in its namespaces and its cgroup. A session's process
//! lives as long as its connection. Container ids are those of `/containers` (an executor's pod) or of a task's status (the
//! runtime's own); a nested one is called whatever its maker called it, within those that it is in.

use super::access::Asker;
use super::container_id::ContainerId;
use super::files::open_in;
use super::report;
use super::server::{Body, NOT_ACCEPTABLE, accepted, check_call, empty, media_type, read_body, text};
use super::sessions::{self, Ended, Input};
use super::standalone;
use super::tasks::Entry;
use crate::machine::chain;
use crate::shared::Shared;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json as value};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::Action;
use stoa_mesos::recordio::Decoder;
use stoa_mesos::{Blob, Encoding};
use stoa_runtime::ExecSpec;

/// Most bytes of one READ_FILE.
const READ_BYTES_MAX: u64 = 16 * 4096;
/// How long WAIT_CONTAINER waits before it must be asked again.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
const RECORDIO: &str = "application/recordio";

/// Calls that must say more, and the part of which that is true.
const WITH_PART: [&str; 14] = [
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "LAUNCH_NESTED_CONTAINER",
    "WAIT_NESTED_CONTAINER",
    "KILL_NESTED_CONTAINER",
    "REMOVE_NESTED_CONTAINER",
    "LAUNCH_NESTED_CONTAINER_SESSION",
    "ATTACH_CONTAINER_INPUT",
    "ATTACH_CONTAINER_OUTPUT",
    "LAUNCH_CONTAINER",
    "WAIT_CONTAINER",
    "KILL_CONTAINER",
    "REMOVE_CONTAINER",
];

/// A call, and who makes it.
struct Call<'a> {
    shared: &'a Arc<Shared>,
    asker: &'a Asker,
    headers: &'a HeaderMap,
    kind: String,
    part: Value,
    /// How the answer is written.
    encoding: Encoding,
}

impl Call<'_> {
    fn container(&self) -> Result<ContainerId, String> {
        let id = self.part.get("container_id").filter(|id| id.is_object());
        let name = self.kind.to_ascii_lowercase();
        let id = id.ok_or_else(|| format!("Expecting '{name}.container_id' to be present"))?;
        let id: ContainerId = serde_json::from_value(id.clone())
            .map_err(|_| format!("'{name}.container_id' is invalid: Expecting 'value' to be present"))?;
        id.check().map_err(|why| format!("'{name}.container_id' is invalid: {why}"))?;
        Ok(id)
    }

    /// Answers with a part of the response that is called as the call is.
    fn answer(&self, part: Value) -> Response<Body> {
        let name = self.kind.to_ascii_lowercase();
        let bytes = self.encoding.encode("agent.Response", &value!({"type": self.kind, name: part}));
        let mut response = Response::new(Full::new(bytes).boxed_unsync());
        let kind = HeaderValue::from_static(self.encoding.media_type());
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

/// Answers a call.
pub(crate) async fn call(
    shared: &Arc<Shared>,
    asker: &Asker,
    parts: &http::request::Parts,
    body: Incoming,
) -> Response<Body> {
    let headers = &parts.headers;
    if parts.method == http::Method::POST
        && let Some(RECORDIO | "application/x-recordio") =
            media_type(headers, header::CONTENT_TYPE.as_str()).as_deref()
    {
        return attach_input(shared, asker, headers, body).await;
    }
    let encoding = match check_call(&parts.method, headers) {
        Ok(encoding) => encoding,
        Err(response) => return *response,
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let call = match encoding.decode("agent.Call", &body) {
        Ok(call) => call,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let invalid = |why: &str| text(StatusCode::BAD_REQUEST, format!("Failed to validate agent::Call: {why}"));
    let Some(kind) = call["type"].as_str().filter(|k| *k != "UNKNOWN") else {
        return invalid("Expecting 'type' to be present");
    };
    let part = kind.to_ascii_lowercase();
    if WITH_PART.contains(&kind) && !call[&part].is_object() {
        return invalid(&format!("Expecting '{part}' to be present"));
    }
    let is_stream = matches!(kind, "LAUNCH_NESTED_CONTAINER_SESSION" | "ATTACH_CONTAINER_OUTPUT");
    let wants_records = headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|v| v.to_str().is_ok_and(|v| v.contains("recordio") || v.contains("*/*")));
    let by = if is_stream && wants_records { "message-accept" } else { "accept" };
    let Some(encoding) = accepted(headers, by) else {
        return text(StatusCode::NOT_ACCEPTABLE, NOT_ACCEPTABLE);
    };
    let call = Call { shared, asker, headers, kind: kind.to_owned(), part: call[&part].clone(), encoding };
    match answer(&call).await {
        Ok(response) => response,
        Err(why) => invalid(&why),
    }
}

async fn answer(call: &Call<'_>) -> Result<Response<Body>, String> {
    if let Some(part) = report::report(call.shared, &call.kind.to_ascii_lowercase(), &call.part, call.asker) {
        return Ok(call.answer(part));
    }
    match &*call.kind {
        "SET_LOGGING_LEVEL" => {
            if !call.asker.may(Action::SetLogLevel, "*") {
                return Ok(empty(StatusCode::FORBIDDEN));
            }
            let level = call.part["level"].as_u64().and_then(|n| u32::try_from(n).ok());
            let level = level.ok_or("Expecting 'level' to be present")?;
            let lasts = call.part["duration"]["nanoseconds"].as_u64().map(Duration::from_nanos);
            let lasts = lasts.ok_or("Expecting 'duration' to be present")?;
            call.shared.options.verbosity.set(level, lasts, call.shared.now());
            Ok(empty(StatusCode::OK))
        }
        "LIST_FILES" => list_files(call),
        "READ_FILE" => read_file(call).await,
        "LAUNCH_NESTED_CONTAINER_SESSION" => launch(call, Bound::Session).await,
        "LAUNCH_NESTED_CONTAINER" | "LAUNCH_CONTAINER" => launch(call, Bound::Nobody).await,
        "WAIT_NESTED_CONTAINER" | "WAIT_CONTAINER" => wait(call).await,
        "KILL_NESTED_CONTAINER" | "KILL_CONTAINER" => kill(call).await,
        "REMOVE_NESTED_CONTAINER" | "REMOVE_CONTAINER" => {
            let id = call.container()?;
            let actions = (Action::RemoveStandaloneContainer, Action::RemoveNestedContainer);
            if let Some(refused) = judge(call, &id, actions) {
                return Ok(refused);
            }
            let is_standalone = call.shared.standalone.user_of(&id).is_some();
            let removed = match is_standalone {
                true => call.shared.standalone.remove(&id.value),
                false => call.shared.sessions.remove(&id),
            };
            Ok(match removed {
                Ended::Unknown => {
                    text(StatusCode::NOT_FOUND, format!("Container {} cannot be found", id.key()))
                }
                Ended::Done => empty(StatusCode::OK),
                Ended::Running => {
                    text(StatusCode::BAD_REQUEST, format!("Container {} is still running", id.key()))
                }
            })
        }
        "ATTACH_CONTAINER_OUTPUT" => attach_output(call).await,
        "PRUNE_IMAGES" if call.asker.may(Action::PruneImages, "*") => {
            let excluded = call.part["excluded_images"].as_array().into_iter().flatten();
            let kept: Vec<String> = excluded
                .filter_map(|i| i["docker"]["name"].as_str().or_else(|| i["appc"]["name"].as_str()))
                .map(str::to_owned)
                .collect();
            Ok(match crate::evict::prune(call.shared, &kept).await {
                Ok(()) => empty(StatusCode::OK),
                Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
            })
        }
        "PRUNE_IMAGES" => Ok(empty(StatusCode::FORBIDDEN)),
        kind @ ("ADD_RESOURCE_PROVIDER_CONFIG"
        | "UPDATE_RESOURCE_PROVIDER_CONFIG"
        | "REMOVE_RESOURCE_PROVIDER_CONFIG"
        | "MARK_RESOURCE_PROVIDER_GONE") => {
            Ok(text(StatusCode::NOT_IMPLEMENTED, format!("{kind}: this agent has no resource providers")))
        }
        // A type that is not known is as good as none.
        _ => Err("Expecting 'type' to be present".into()),
    }
}

/// The task that a container is in.
fn find(shared: &Shared, id: &ContainerId) -> Option<Entry> {
    let root = &id.root().value;
    let all = shared.tasks.containers();
    // A name means one thing only: a standalone container's is no executor's.
    let is_standalone = shared.standalone.user_of(id.root()).is_some();
    let is_meant = |e: &Entry| match is_standalone {
        true => e.is_standalone && e.executor == *root,
        false => !e.is_standalone && e.is(root),
    };
    let mut mine: Vec<Entry> = all.into_iter().filter(is_meant).collect();
    let at = mine.iter().position(Entry::is_live).unwrap_or(0);
    (at < mine.len()).then(|| mine.swap_remove(at))
}

/// Refuses what the ACLs do not let somebody do to a container: one action is asked about where it is in no other container,
/// the other where it is. One that nobody knows is nobody's.
fn judge(call: &Call<'_>, id: &ContainerId, actions: (Action, Action)) -> Option<Response<Body>> {
    let action = if id.parent.is_none() { actions.0 } else { actions.1 };
    let user = call.shared.standalone.user_of(id.root()).or_else(|| find(call.shared, id).map(|e| e.user))?;
    (!call.asker.may(action, &user)).then(|| empty(StatusCode::FORBIDDEN))
}

/// The runtime's container that a name means: a task's own, or the first that runs of a pod.
fn running(shared: &Shared, id: &ContainerId) -> Option<String> {
    find(shared, id)?.container(&id.root().value)?.id.clone()
}

/// Whether a container ends with the connection that made it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Session,
    Nobody,
}

async fn launch(call: &Call<'_>, bound: Bound) -> Result<Response<Body>, String> {
    let shared = call.shared;
    let id = call.container()?;
    let Some(parent) = &id.parent else {
        if call.kind != "LAUNCH_CONTAINER" {
            let name = call.kind.to_ascii_lowercase();
            return Err(format!("Expecting '{name}.container_id.parent' to be present"));
        }
        return launch_standalone(call, &id).await;
    };
    if call.part["resources"].as_array().is_some_and(|r| !r.is_empty()) {
        let name = call.kind.to_ascii_lowercase();
        return Err(format!(
            "Resources may not be specified when using '{name}' to launch nested containers"
        ));
    }
    // It is a process in its parent's files; what asks for files of its own is no such thing.
    let container = &call.part["container"];
    if !(container["mesos"]["image"].is_null()
        && container["docker"].is_null()
        && container["volumes"].is_null())
    {
        return Ok(text(StatusCode::BAD_REQUEST, "The provided ContainerInfo is not supported"));
    }
    let action = match bound {
        Bound::Session => Action::LaunchNestedContainerSession,
        Bound::Nobody => Action::LaunchNestedContainer,
    };
    if let Some(refused) = judge(call, &id, (Action::LaunchStandaloneContainer, action)) {
        return Ok(refused);
    }
    // A container within one that was put there itself is in the same task.
    let is_there = parent.parent.is_none() || shared.sessions.knows(parent);
    let Some(container) = running(shared, parent).filter(|_| is_there) else {
        return Ok(text(StatusCode::BAD_REQUEST, format!("Unable to locate container {}", parent.key())));
    };
    let spec = exec_spec(&call.part)?;
    if !shared.sessions.begin(&id) {
        return Ok(match bound {
            Bound::Nobody => empty(StatusCode::ACCEPTED),
            Bound::Session => {
                text(StatusCode::CONFLICT, format!("Container {} is already launched", id.key()))
            }
        });
    }
    let started = match shared.machine.exec(&container, spec).await {
        Ok(started) => started,
        Err(error) => {
            shared.sessions.end(&id, 127);
            return Ok(text(StatusCode::BAD_REQUEST, chain(&error)));
        }
    };
    let is_bound = bound == Bound::Session;
    let output = sessions::run(Arc::clone(&shared.sessions), id, started, is_bound, call.encoding);
    Ok(match bound {
        Bound::Session => stream(output, call),
        Bound::Nobody => {
            // Nobody listens: its output is read all the same.
            tokio::spawn(async move {
                let mut output = output;
                while output.recv().await.is_some() {}
            });
            empty(StatusCode::OK)
        }
    })
}

/// Has this machine run something that no framework asked for, and waits until it runs.
async fn launch_standalone(call: &Call<'_>, id: &ContainerId) -> Result<Response<Body>, String> {
    let shared = call.shared;
    let salt = shared.now().since(stoa_units::Time::EPOCH).as_nanos() as u64;
    let (pod, user) = standalone::render(&id.value, &call.part, &shared.options.name, salt)?;
    if !call.asker.may(Action::LaunchStandaloneContainer, &user) {
        return Ok(empty(StatusCode::FORBIDDEN));
    }
    let failed =
        |why: &str| text(StatusCode::BAD_REQUEST, format!("Failed to launch container {}: {why}", id.key()));
    if shared.tasks.list().iter().any(|e| e.is(&id.value)) {
        return Ok(failed("an executor's container is called so"));
    }
    match shared.standalone.begin(&id.value, &user, pod) {
        Ok(true) => {}
        Ok(false) => return Ok(empty(StatusCode::ACCEPTED)),
        Err(why) => return Ok(failed(&why)),
    }
    // Seen to its end though nobody waits for the answer any more.
    let (all, name) = (Arc::clone(shared), id.value.clone());
    let started = tokio::spawn(async move { all.standalone.started(&name).await }).await;
    Ok(match started {
        Ok(Ok(())) => empty(StatusCode::OK),
        Ok(Err(why)) => failed(&why),
        Err(error) => failed(&error.to_string()),
    })
}

fn exec_spec(part: &Value) -> Result<ExecSpec, String> {
    let command = part.get("command").filter(|c| c.is_object()).ok_or("Expecting 'command' to be present")?;
    let command: stoa_mesos::task::CommandInfo =
        serde_json::from_value(command.clone()).map_err(|e| format!("'command' cannot be read: {e}"))?;
    let text = command.value.clone().unwrap_or_default();
    let args = match (command.shell.unwrap_or(true), text.is_empty()) {
        (_, true) if command.arguments.is_empty() => return Err("'command' says nothing to run".into()),
        (true, _) => vec!["/bin/sh".into(), "-c".into(), text],
        (false, true) => command.arguments.clone(),
        (false, false) => std::iter::once(text).chain(command.arguments.iter().skip(1).cloned()).collect(),
    };
    let variables = command.environment.iter().flat_map(|e| &e.variables);
    let env = variables.map(|v| format!("{}={}", v.name, v.value.as_deref().unwrap_or_default())).collect();
    let tty = part["container"]["tty_info"].is_object();
    Ok(ExecSpec { args, env, tty, stdin: true, ..ExecSpec::default() })
}

/// An answer of records, as the caller asked for them.
fn stream(output: tokio::sync::mpsc::Receiver<Bytes>, call: &Call<'_>) -> Response<Body> {
    let records = futures_util::stream::unfold(output, |mut rx| async move {
        let record = rx.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(record)), rx))
    });
    let mut response = Response::new(StreamBody::new(records).boxed_unsync());
    let accepted = call.headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let is_recordio = accepted.contains("recordio");
    let own = HeaderValue::from_static(call.encoding.media_type());
    let kind = if is_recordio { HeaderValue::from_static(RECORDIO) } else { own.clone() };
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if is_recordio {
        response.headers_mut().insert("message-content-type", own);
    }
    response
}

async fn wait(call: &Call<'_>) -> Result<Response<Body>, String> {
    let id = call.container()?;
    if let Some(refused) = judge(call, &id, (Action::WaitStandaloneContainer, Action::WaitNestedContainer)) {
        return Ok(refused);
    }
    let waiting = async {
        match call.shared.standalone.user_of(&id) {
            Some(_) => call.shared.standalone.wait(&id.value).await.map(|exit| (exit.code, exit.signal)),
            None => {
                let code = call.shared.sessions.wait(&id).await;
                code.map(|code| (code, (code > 128).then_some(code - 128)))
            }
        }
    };
    let Ok(Some((code, signal))) = tokio::time::timeout(WAIT_MAX, waiting).await else {
        return Ok(text(StatusCode::NOT_FOUND, format!("Container {} cannot be found", id.key())));
    };
    let status = stoa_mesos::plane::wait_status(code, signal);
    let state = if status == 0 { "TASK_FINISHED" } else { "TASK_FAILED" };
    Ok(call.answer(value!({"exit_status": status, "state": state})))
}

async fn kill(call: &Call<'_>) -> Result<Response<Body>, String> {
    let (shared, id) = (call.shared, call.container()?);
    if let Some(refused) = judge(call, &id, (Action::KillStandaloneContainer, Action::KillNestedContainer)) {
        return Ok(refused);
    }
    let signal = call.part["signal"].as_i64().map_or(Some(9), |n| i32::try_from(n).ok()).unwrap_or(0);
    if !(1..=64).contains(&signal) {
        return Err("'signal' is no signal".into());
    }
    if shared.sessions.signal(&id, signal) || (id.parent.is_none() && shared.standalone.give_up(&id.value)) {
        return Ok(empty(StatusCode::OK));
    }
    let found = if id.parent.is_none() { running(shared, &id) } else { None };
    let Some(container) = found else {
        return Ok(text(StatusCode::NOT_FOUND, format!("Container {} cannot be found", id.key())));
    };
    match shared.machine.kill(&container, signal).await {
        Ok(()) => Ok(empty(StatusCode::OK)),
        Err(error) => Ok(text(StatusCode::INTERNAL_SERVER_ERROR, chain(&error))),
    }
}

async fn attach_output(call: &Call<'_>) -> Result<Response<Body>, String> {
    let (shared, id) = (call.shared, call.container()?);
    if let Some(refused) = judge(call, &id, (Action::AttachContainerOutput, Action::AttachContainerOutput)) {
        return Ok(refused);
    }
    let found = if id.parent.is_none() { running(shared, &id) } else { None };
    let Some(container) = found else {
        return Ok(text(StatusCode::NOT_FOUND, format!("Container {} cannot be found", id.key())));
    };
    match shared.machine.attach(&container).await {
        Ok(attached) => {
            let output = sessions::follow(attached.stdout, Some(attached.stderr), call.encoding);
            Ok(stream(output, call))
        }
        Err(error) => Ok(text(StatusCode::BAD_REQUEST, chain(&error))),
    }
}

/// Records of input for a session: first whose, then what.
async fn attach_input(
    shared: &Arc<Shared>,
    asker: &Asker,
    headers: &HeaderMap,
    mut body: Incoming,
) -> Response<Body> {
    let encoding = match media_type(headers, "message-content-type").as_deref() {
        None => {
            let words = "Expecting 'Message-Content-Type' to be set for streaming requests";
            return text(StatusCode::BAD_REQUEST, words);
        }
        Some(kind) => match Encoding::of(kind) {
            Some(encoding) => encoding,
            None => {
                let words = "Expecting 'Message-Content-Type' of application/json or application/x-protobuf";
                return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
            }
        },
    };
    let mut decoder = Decoder::default();
    let mut to: Option<tokio::sync::mpsc::Sender<Input>> = None;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        decoder.push(&data);
        loop {
            let record = match decoder.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
            };
            let call = match encoding.decode("agent.Call", &record) {
                Ok(call) if call["type"] == "ATTACH_CONTAINER_INPUT" => call,
                Ok(_) => {
                    let words = "Expecting 'Content-Type' of application/json or application/x-protobuf";
                    return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
                }
                Err(why) => return text(StatusCode::BAD_REQUEST, why),
            };
            let part = &call["attach_container_input"];
            if let Some(sender) = &to {
                if let Some(input) = Input::read(&part["process_io"])
                    && sender.send(input).await.is_err()
                {
                    return empty(StatusCode::OK);
                }
                continue;
            }
            let Ok(id) = serde_json::from_value::<ContainerId>(part["container_id"].clone()) else {
                let words = "Expecting 'attach_container_input.container_id' to be present";
                return text(StatusCode::BAD_REQUEST, words);
            };
            let user = find(shared, &id).map(|e| e.user);
            if user.is_some_and(|user| !asker.may(Action::AttachContainerInput, &user)) {
                return empty(StatusCode::FORBIDDEN);
            }
            to = shared.sessions.input(&id);
            if to.is_none() {
                return text(StatusCode::NOT_FOUND, format!("Container {} cannot be found", id.key()));
            }
        }
    }
    empty(StatusCode::OK)
}

/// What a path means, if the asker may look there.
fn resolve(call: &Call<'_>) -> Result<(std::path::PathBuf, std::path::PathBuf), Response<Body>> {
    let path = call.part["path"].as_str().unwrap_or_default();
    match call.shared.tasks.resolve(Path::new(path)) {
        Some((entry, inside)) if call.asker.may_access(&entry) => Ok((entry.directory, inside)),
        Some(_) => Err(empty(StatusCode::FORBIDDEN)),
        None => Err(empty(StatusCode::NOT_FOUND)),
    }
}

fn list_files(call: &Call<'_>) -> Result<Response<Body>, String> {
    let path = call.part["path"].as_str().ok_or("Expecting 'path' to be present")?;
    let (root, inside) = match resolve(call) {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let Ok(entries) = open_in(&root, &inside).and_then(|dir| super::files::infos(&dir, Path::new(path)))
    else {
        return Ok(empty(StatusCode::NOT_FOUND));
    };
    Ok(call.answer(value!({"file_infos": entries})))
}

async fn read_file(call: &Call<'_>) -> Result<Response<Body>, String> {
    let part = &call.part;
    let offset = part["offset"].as_u64().ok_or("Expecting 'offset' to be present")?;
    let length = part["length"].as_u64().unwrap_or(READ_BYTES_MAX).min(READ_BYTES_MAX);
    let (root, inside) = match resolve(call) {
        Ok(found) => found,
        Err(refused) => return Ok(refused),
    };
    let work = tokio::task::spawn_blocking(move || -> std::io::Result<(u64, Vec<u8>)> {
        let mut file = open_in(&root, &inside)?;
        let size = super::files::check_file(&file)?;
        let mut data = Vec::new();
        if offset < size {
            file.seek(SeekFrom::Start(offset))?;
            file.take(length).read_to_end(&mut data)?;
        }
        Ok((size, data))
    });
    match work.await {
        Ok(Ok((size, data))) => Ok(call.answer(value!({"size": size, "data": Blob(data)}))),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Ok(text(StatusCode::BAD_REQUEST, error.to_string()))
        }
        _ => Ok(empty(StatusCode::NOT_FOUND)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_containers_command_is_read_as_a_tasks_is() {
        for (part, want) in [
            (value!({"command": {"value": "ls; id"}}), vec!["/bin/sh", "-c", "ls; id"]),
            (
                value!({"command": {"shell": false, "value": "ls", "arguments": ["ls", "-l"]}}),
                vec!["ls", "-l"],
            ),
            (value!({"command": {"shell": false, "arguments": ["id"]}}), vec!["id"]),
        ] {
            assert_eq!(exec_spec(&part).unwrap().args, want);
        }
        assert!(exec_spec(&value!({})).is_err());
        assert!(exec_spec(&value!({"command": {}})).is_err());
        assert!(exec_spec(&value!({"command": {"value": "sh"}, "container": {"tty_info": {}}})).unwrap().tty);
    }
}
