//! What becomes of the operations on accepted offers: tasks to start, tasks to refuse, and what is left.
//!
//! Checks run in Mesos' order and say what Mesos says, since frameworks' authors look these texts up.

use crate::operation::{Change, Context, Done, Stock, plan_operation, split_of, text_of};
use stoa_ledger::Split;
use stoa_mesos::mark::{self, Mark, Sorted};
use stoa_mesos::offer::{Operation, OperationKind};
use stoa_mesos::task::{CommandInfo, ContainerInfo, ContainerKind, ExecutorInfo, TaskInfo};
use stoa_mesos::{Reason, TaskState, resource};
use stoa_units::{AgentId, Resources, TaskId};

/// Longest task id: it is part of a key in the store and of an annotation.
const TASK_ID_LEN_MAX: usize = 255;
/// Most tasks of one ACCEPT.
const TASKS_MAX: usize = 1_000;
/// Most tasks of one task group: each is a container of one pod.
const GROUP_TASKS_MAX: usize = 64;
/// Most bytes of arguments, environment and labels of one task, or of one executor.
const TASK_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a task under a custom executor: it is no part of a pod's object.
const ENTRY_BYTES_MAX: usize = 768 << 10;

/// What is accepted, by whom.
#[derive(Clone, Copy, Debug)]
pub struct Accept<'a> {
    /// The agent of the offers.
    pub agent: &'a AgentId,
    /// The role of the offers.
    pub role: &'a str,
    /// What all the offers hold together.
    pub offered: &'a Stock,
    /// The operations, in order.
    pub operations: &'a [Operation],
    /// The framework's custom executors that run on the agent.
    pub executors: &'a [ExecutorInfo],
    /// Whom the framework authenticated as.
    pub principal: Option<&'a str>,
}

/// A task to start.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The task.
    pub task: TaskInfo,
    /// What it takes without its executor, reserved parts included, volumes and what is lent not.
    pub resources: Resources,
    /// What of it is drawn from reservations, the volumes it uses, and what is lent to it.
    pub marked: Vec<(Mark, Resources)>,
    /// The custom executor that it runs under.
    pub under: Option<Under>,
}

/// A custom executor of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Under {
    /// The executor.
    pub info: ExecutorInfo,
    /// What it takes itself, if it has to be started for this task.
    pub start: Option<Resources>,
    /// What of that is drawn from reservations.
    pub marked: Vec<(Mark, Resources)>,
}

/// Tasks that start together in one pod, under the built-in executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The executor as the framework calls it.
    pub executor: ExecutorInfo,
    /// The tasks. The first takes the executor's resources, too.
    pub launches: Vec<Launch>,
}

impl Group {
    /// What the group takes.
    pub fn resources(&self) -> Resources {
        self.launches.iter().fold(Resources::default(), |sum, l| sum.plus(&l.resources))
    }

    /// What of that is unreserved.
    pub fn plain(&self) -> Resources {
        self.launches.iter().fold(Resources::default(), |sum, l| sum.plus(&l.plain()))
    }
}

/// A task that is not started.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The task's id.
    pub task: TaskId,
    /// What the framework hears.
    pub state: TaskState,
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    pub message: String,
}

/// What becomes of an ACCEPT.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Tasks to start.
    pub launches: Vec<Launch>,
    /// Task groups to start.
    pub groups: Vec<Group>,
    /// Tasks that are refused.
    pub refusals: Vec<Refusal>,
    /// Ids of operations that are not carried out and asked for feedback, with the reason.
    pub failed_operations: Vec<(String, String)>,
    /// What nobody takes of the unreserved part; with `marked` it counts as declined.
    pub remainder: Resources,
    /// What nobody takes of reservations and volumes.
    pub marked: Vec<(Mark, Resources)>,
    /// How reservations and volumes change.
    pub changes: Vec<Change>,
    /// Operations that are carried out, by their place in the call.
    pub done: Vec<(usize, Done)>,
}

impl Launch {
    /// What is lent to it, and to the executor that is started for it.
    pub fn lent(&self) -> Resources {
        let executors = self.under.iter().flat_map(|u| &u.marked);
        let lent = self.marked.iter().chain(executors).filter(|(m, _)| m.revocable.is_some());
        lent.fold(Resources::default(), |sum, (_, r)| sum.plus(r))
    }

    /// What the task claims.
    pub fn split(&self) -> Split {
        let plain = Resources::default();
        Split { amount: self.resources.clone(), ..split_of(&plain, &self.marked) }
    }

    /// What of it is unreserved.
    pub fn plain(&self) -> Resources {
        without_drawn(&self.resources, &self.marked)
    }
}

impl Under {
    /// What of the executor's own resources is unreserved, if it has to be started.
    fn plain(&self) -> Option<Resources> {
        self.start.as_ref().map(|all| without_drawn(all, &self.marked))
    }

    /// What the executor claims, if it has to be started.
    pub fn split(&self) -> Option<Split> {
        let amount = self.start.clone()?;
        Some(Split { amount, ..split_of(&Resources::default(), &self.marked) })
    }
}

/// An amount without what is drawn of it; volumes are beside it.
fn without_drawn(all: &Resources, marked: &[(Mark, Resources)]) -> Resources {
    let parts = marked.iter().filter(|(m, _)| !m.is_beside());
    parts.fold(all.clone(), |rest, (_, part)| rest.minus(part))
}

impl Plan {
    /// What is left of the offers.
    pub fn rest(&self) -> Split {
        split_of(&Resources { pods: 0, ..self.remainder.clone() }, &self.marked)
    }
}

/// Plans an ACCEPT. `is_known` says whether the framework already has a task of that id, `is_allowed` whether it may carry
/// out an operation on reservations or volumes.
pub fn plan_accept(
    accept: Accept<'_>,
    is_known: &dyn Fn(&TaskId) -> bool,
    is_allowed: &dyn Fn(&Operation) -> Result<(), String>,
) -> Plan {
    let mut plan = Plan {
        remainder: accept.offered.plain.clone(),
        marked: accept.offered.marked.clone(),
        ..Plan::default()
    };
    for (i, operation) in accept.operations.iter().enumerate() {
        match operation.kind {
            OperationKind::Launch => {
                for task in operation.launch.iter().flat_map(|l| &l.task_infos) {
                    plan_task(&mut plan, accept, task, is_known);
                }
            }
            OperationKind::LaunchGroup => {
                if let Some(group) = &operation.launch_group {
                    plan_group(&mut plan, accept, &group.executor, &group.task_group.tasks, is_known);
                }
            }
            _ => {
                let context = Context { role: Some(accept.role), principal: accept.principal };
                let mut stock = Stock { plain: plan.remainder.clone(), marked: plan.marked.clone() };
                let result = is_allowed(operation)
                    .and_then(|()| plan_operation(&mut stock, &mut plan.changes, operation, context));
                match (result, &operation.id) {
                    (Ok(done), _) => {
                        plan.remainder = stock.plain;
                        plan.marked = stock.marked;
                        plan.done.push((i, done));
                    }
                    (Err(why), Some(id)) => plan.failed_operations.push((id.value.clone(), why)),
                    (Err(_), None) => {}
                }
            }
        }
    }
    plan
}

/// Whether the framework, or this very call, already has a task of that id.
fn is_taken(plan: &Plan, id: &TaskId, is_known: &dyn Fn(&TaskId) -> bool) -> bool {
    let planned = plan.launches.iter().chain(plan.groups.iter().flat_map(|g| &g.launches));
    is_known(id) || planned.into_iter().any(|l| l.task.task_id.value == *id)
}

fn plan_task(plan: &mut Plan, accept: Accept<'_>, task: &TaskInfo, is_known: &dyn Fn(&TaskId) -> bool) {
    let id = &task.task_id.value;
    let twice = is_taken(plan, id, is_known);
    let checked = check_task(accept, task, twice).and_then(|want| {
        if plan.launches.len() >= TASKS_MAX {
            return Err(format!("More than {TASKS_MAX} tasks in one ACCEPT"));
        }
        let under = task.executor.as_ref().map(|info| plan_executor(plan, accept, info)).transpose()?;
        let executor = under.as_ref().and_then(Under::plain);
        let total = executor.map_or(want.clone(), |executor| want.plus(&executor));
        check_room(&plan.remainder, &total)?;
        let before = plan.marked.clone();
        let own = under.as_ref().map_or(&[][..], |u| &u.marked);
        let marked = take_marked(&mut plan.marked, own, None)
            .and_then(|_| take_marked(&mut plan.marked, &[], Some(task)));
        if marked.is_err() {
            plan.marked = before;
        }
        Ok((want, under, total, marked?))
    });
    match checked {
        Ok((plain, under, total, marked)) => {
            plan.remainder = plan.remainder.minus(&total);
            let resources = split_of(&plain, &marked).amount;
            plan.launches.push(Launch { task: task.clone(), resources, marked, under });
        }
        Err(message) => plan.refusals.push(Refusal {
            task: id.clone(),
            state: TaskState::Error,
            reason: Reason::TaskInvalid,
            message,
        }),
    }
}

fn check_room(left: &Resources, want: &Resources) -> Result<(), String> {
    if left.contains(want) {
        return Ok(());
    }
    Err(format!(
        "Total resources {} required by task and its executor is more than available {}",
        resource::text(want),
        resource::text(left)
    ))
}

/// All tasks of a group, or none.
fn plan_group(
    plan: &mut Plan,
    accept: Accept<'_>,
    executor: &ExecutorInfo,
    tasks: &[TaskInfo],
    is_known: &dyn Fn(&TaskId) -> bool,
) {
    match check_group(plan, accept, executor, tasks, is_known) {
        Ok((group, marked)) => {
            plan.remainder = plan.remainder.minus(&group.plain());
            plan.marked = marked;
            plan.groups.push(group);
        }
        Err(message) => plan.refusals.extend(tasks.iter().map(|task| Refusal {
            task: task.task_id.value.clone(),
            state: TaskState::Error,
            reason: Reason::TaskGroupInvalid,
            message: message.clone(),
        })),
    }
}

fn check_group(
    plan: &Plan,
    accept: Accept<'_>,
    executor: &ExecutorInfo,
    tasks: &[TaskInfo],
    is_known: &dyn Fn(&TaskId) -> bool,
) -> Result<(Group, Vec<(Mark, Resources)>), String> {
    check_id(&executor.executor_id.value.0)?;
    if executor.kind.as_deref() != Some("DEFAULT") {
        return Err("'ExecutorInfo.type' must be 'DEFAULT': this master launches task groups on the built-in executor".into());
    }
    if executor.command.is_some() {
        return Err("'ExecutorInfo.command' must not be set for 'DEFAULT' executor".into());
    }
    if tasks.is_empty() {
        return Err("Task group cannot be empty".into());
    }
    if tasks.len() > GROUP_TASKS_MAX {
        return Err(format!("More than {GROUP_TASKS_MAX} tasks in one task group"));
    }
    let mut rest = plan.remainder.clone();
    let mut left = plan.marked.clone();
    let sorted = executor_amount(accept, executor)?;
    let mut of_executor = take_marked(&mut left, &sorted.marked, None)?;
    let mut extra = sorted.plain;
    let mut launches: Vec<Launch> = Vec::with_capacity(tasks.len());
    for task in tasks {
        let id = &task.task_id.value;
        let twice = is_taken(plan, id, is_known) || launches.iter().any(|l| l.task.task_id.value == *id);
        if task.executor.is_some() {
            return Err(format!("Task '{id}' is invalid: 'TaskInfo.executor' must not be set"));
        }
        let own = check_task(accept, task, twice).map_err(|e| format!("Task '{id}' is invalid: {e}"))?;
        let mut want = own.plus(&std::mem::take(&mut extra));
        // A group is one pod, however many tasks are in it.
        want.pods = u64::from(launches.is_empty());
        check_room(&rest, &want)?;
        rest = rest.minus(&want);
        let mut marked = take_marked(&mut left, &[], Some(task))?;
        marked.append(&mut of_executor);
        let resources = split_of(&want, &marked).amount;
        launches.push(Launch { task: task.clone(), resources, marked, under: None });
    }
    Ok((Group { executor: executor.clone(), launches }, left))
}

/// The executor of a task: the one that runs or is planned already, or one to start.
fn plan_executor(plan: &Plan, accept: Accept<'_>, info: &ExecutorInfo) -> Result<Under, String> {
    let planned = plan.launches.iter().filter_map(|l| Some(&l.under.as_ref()?.info));
    let known = accept.executors.iter().chain(planned).find(|e| e.executor_id == info.executor_id);
    match known {
        // Whose it is may be said or left out; everything else must be the same.
        Some(known) if is_same(known, info) => Ok(Under { info: info.clone(), start: None, marked: vec![] }),
        Some(known) => Err(format!(
            "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID '{}'",
            known.executor_id.value
        )),
        None => {
            let sorted = executor_amount(accept, info)?;
            let plain = Resources { pods: 1, ..sorted.plain };
            let start = Some(split_of(&plain, &sorted.marked).amount);
            Ok(Under { info: info.clone(), start, marked: sorted.marked })
        }
    }
}

fn is_same(a: &ExecutorInfo, b: &ExecutorInfo) -> bool {
    let plain = |e: &ExecutorInfo| ExecutorInfo { framework_id: None, ..e.clone() };
    plain(a) == plain(b)
}

fn executor_amount(accept: Accept<'_>, info: &ExecutorInfo) -> Result<Sorted, String> {
    let sorted = mark::sort(&info.resources).map_err(|e| format!("Executor uses invalid resources: {e}"))?;
    match sorted.allocated_to.clone().filter(|r| r != accept.role) {
        Some(role) => Err(format!(
            "Executor uses resources allocated to role '{role}' but the offers are allocated to role '{}'",
            accept.role
        )),
        None => Ok(sorted),
    }
}

fn check_executor(info: &ExecutorInfo) -> Result<(), String> {
    check_id(&info.executor_id.value.0)?;
    if info.kind.as_deref() == Some("DEFAULT") {
        return Err(
            "'ExecutorInfo.type' must be 'CUSTOM' for tasks that are launched without a task group".into()
        );
    }
    if info.shutdown_grace_period.as_ref().is_some_and(|d| d.nanoseconds.0 < 0) {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".into());
    }
    let command = info.command.as_ref().ok_or("'ExecutorInfo.command' must be set for 'CUSTOM' executor")?;
    check_command(command)?;
    if let Some(container) = &info.container {
        check_container(container)?;
    }
    if command_bytes(command) + info.data.as_ref().map_or(0, |d| d.0.len()) > TASK_BYTES_MAX {
        return Err(format!("Executor is larger than {TASK_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// Takes what a task, or an executor, wants of reservations and volumes.
fn take_marked(
    left: &mut Vec<(Mark, Resources)>,
    own: &[(Mark, Resources)],
    task: Option<&TaskInfo>,
) -> Result<Vec<(Mark, Resources)>, String> {
    let mut want = mark::sort(task.map_or(&[][..], |t| &t.resources))
        .map_err(|e| format!("Task uses invalid resources: {e}"))?;
    want.plain = Resources::default();
    want.marked.extend(own.iter().cloned());
    let mut stock = Stock { plain: Resources::default(), marked: std::mem::take(left) };
    let taken = stock.take_all(&want).map_err(|_| {
        format!(
            "Total resources {} required by task and its executor is more than available {}",
            text_of(&want.plain, &want.marked),
            stock.text()
        )
    });
    *left = stock.marked;
    taken.map(|()| want.marked)
}

/// Checks a task by itself, and returns what it takes of the unreserved part.
fn check_task(accept: Accept<'_>, task: &TaskInfo, is_twice: bool) -> Result<Resources, String> {
    check_id(task.task_id.value.as_str())?;
    if is_twice {
        return Err(format!("Task has duplicate ID: {}", task.task_id.value));
    }
    if task.agent_id.value != *accept.agent {
        return Err(format!(
            "Task uses invalid agent {} while agent {} is expected",
            task.agent_id.value, accept.agent
        ));
    }
    if let Some(nanoseconds) = task.kill_policy.as_ref().and_then(|k| k.grace_period.as_ref())
        && nanoseconds.nanoseconds.0 < 0
    {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".into());
    }
    if task.max_completion_time.as_ref().is_some_and(|d| d.nanoseconds.0 < 0) {
        return Err("Task's `max_completion_time` must be non-negative".into());
    }
    match (&task.command, &task.executor) {
        (Some(command), None) => check_command(command)?,
        (None, Some(executor)) => check_executor(executor)?,
        _ => {
            return Err(
                "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".into(),
            );
        }
    }
    if let Some(container) = &task.container {
        check_container(container)?;
    }
    check_size(task)?;
    check_resources(accept, task)
}

/// An id is part of paths and keys.
fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("ID must not be empty".into());
    }
    if id.len() > TASK_ID_LEN_MAX {
        return Err(format!("ID must not be greater than {TASK_ID_LEN_MAX} characters"));
    }
    if id == "." || id == ".." {
        return Err(format!("'{id}' is disallowed"));
    }
    if id.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(format!("'{id}' contains invalid characters"));
    }
    Ok(())
}

fn check_command(command: &CommandInfo) -> Result<(), String> {
    let value = command.value.as_deref().unwrap_or_default();
    if command.shell.unwrap_or(true) && value.is_empty() {
        return Err("Shell command is not specified".into());
    }
    if !command.shell.unwrap_or(true) && value.is_empty() && command.arguments.is_empty() {
        return Err("Executable of command is not specified".into());
    }
    if command.uris.iter().any(|u| u.get("value").and_then(|v| v.as_str()).is_none_or(str::is_empty)) {
        return Err("CommandInfo.uris has an URI without a value".into());
    }
    for v in command.environment.iter().flat_map(|e| &e.variables) {
        if v.kind.as_deref() == Some("SECRET") {
            let secret = v.secret.as_ref().ok_or_else(|| {
                format!("Environment variable '{}' of type 'SECRET' must have a secret set", v.name)
            })?;
            let is_known = secret["value"]["data"].is_string() || secret["reference"]["name"].is_string();
            if !is_known || v.value.is_some() {
                return Err(format!("Environment variable '{}' specifies an invalid secret", v.name));
            }
        }
        if v.name.is_empty() || v.name.contains(['=', '\0']) {
            return Err(format!("Environment variable '{}' has an invalid name", v.name));
        }
        if v.value.as_deref().is_some_and(|x| x.contains('\0')) {
            return Err(format!("Environment variable '{}' contains a null byte", v.name));
        }
    }
    let texts = command.value.iter().chain(&command.arguments);
    if texts.into_iter().any(|t| t.contains('\0')) {
        return Err("CommandInfo contains a null byte".into());
    }
    Ok(())
}

fn check_container(container: &ContainerInfo) -> Result<(), String> {
    match (container.kind, &container.docker, &container.mesos) {
        (ContainerKind::Docker, None, _) => {
            Err("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo".into())
        }
        (ContainerKind::Docker, Some(docker), _) => match docker.network.as_deref() {
            None | Some("HOST" | "BRIDGE" | "USER") => Ok(()),
            Some(other) => Err(format!("Docker network {other} is not supported by this master")),
        },
        (ContainerKind::Mesos, _, Some(mesos)) => match &mesos.image {
            Some(image) if image.docker.is_none() => {
                Err("Only images of type DOCKER are supported by this master".into())
            }
            _ => Ok(()),
        },
        (ContainerKind::Mesos, _, None) => Ok(()),
    }
}

/// What is lent is not mixed with what is kept. The text is Mesos'.
fn check_revocable(list: &[stoa_mesos::Resource]) -> Result<(), String> {
    let is_lent = |r: &&stoa_mesos::Resource| r.revocable.is_some();
    let mixed = list.iter().filter(is_lent).find(|r| list.iter().any(|o| o.name == r.name && !is_lent(&o)));
    mixed.map_or(Ok(()), |r| {
        Err(format!("Cannot use both revocable and non-revocable '{}' at the same time", r.name))
    })
}

/// Bounds what becomes part of a pod's object.
fn check_size(task: &TaskInfo) -> Result<(), String> {
    let command = task.command.iter().map(command_bytes);
    let labels = task.labels.iter().flat_map(|l| &l.labels);
    let bytes = command.sum::<usize>()
        + task.data.as_ref().map_or(0, |d| d.0.len())
        + labels.map(|l| l.key.len() + l.value.as_deref().map_or(0, str::len)).sum::<usize>()
        + task.name.len();
    let bytes_max = if task.executor.is_some() { ENTRY_BYTES_MAX } else { TASK_BYTES_MAX };
    if bytes > bytes_max {
        return Err(format!("Task is larger than {bytes_max} bytes"));
    }
    Ok(())
}

fn command_bytes(command: &CommandInfo) -> usize {
    let variables = command.environment.iter().flat_map(|e| &e.variables);
    let uris = command.uris.iter().map(|u| u.to_string().len());
    command.value.as_deref().map_or(0, str::len)
        + uris.sum::<usize>()
        + command.arguments.iter().map(String::len).sum::<usize>()
        + variables.map(|v| v.name.len() + v.value.as_deref().map_or(0, str::len)).sum::<usize>()
}

fn check_resources(accept: Accept<'_>, task: &TaskInfo) -> Result<Resources, String> {
    let sorted = mark::sort(&task.resources).map_err(|e| format!("Task uses invalid resources: {e}"))?;
    let total = sorted.total();
    // A framework with a single role leaves the allocation out: it is the offer's.
    if let Some(role) = sorted.allocated_to.filter(|r| r != accept.role) {
        return Err(format!(
            "Task uses resources allocated to role '{role}' but the offers are allocated to role '{}'",
            accept.role
        ));
    }
    if total.is_empty() {
        return Err("Task uses no resources".into());
    }
    check_revocable(&task.resources)?;
    for (name, limit) in &task.limits {
        let request = match name.as_str() {
            "cpus" => total.milli_cpu as f64 / 1000.0,
            "mem" => total.memory_bytes as f64 / 1_048_576.0,
            _ => return Err(format!("Resource limit for '{name}' is not supported")),
        };
        if limit.value.0.is_nan() || limit.value.0 < request {
            return Err(format!(
                "Resource limit for '{name}' ({}) is less than its request ({request})",
                limit.value.0
            ));
        }
    }
    // A task under a custom executor is an entry in the executor's pod.
    let pods = u64::from(task.executor.is_none());
    Ok(Resources { pods, ..sorted.plain })
}

#[cfg(test)]
mod tests;
