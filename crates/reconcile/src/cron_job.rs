//! CronJobs: a job at each moment of a schedule. What runs is read from the jobs themselves; the name of a job tells its
//! moment, so that no moment is served twice.

mod schedule;

use crate::job::{finished, is_finished};
use crate::meta::{annotation, created, id, is_deleting, owner_reference, resource, time};
use crate::{Action, Announce, Key, Level, ObjectId, OnExists, Propagation, World};
use schedule::Schedule;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::typed::{CronJob, Job};
use stoa_units::Time;

type Spec = k8s_openapi::api::batch::v1::CronJobSpec;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Moments missed before people are told that something is wrong.
const MISSED_LEN_MAX: u64 = 100;

/// Looks at one.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(cron) = world.cron_jobs.get(&key.namespace, &key.name) else { return Vec::new() };
    let spec = &cron.spec;
    let id = id(resource("batch", "cronjobs"), &cron.metadata);
    let jobs: Vec<&Arc<Job>> = world.jobs.owned_by(&id.uid).collect();
    let mut look = Look { world, cron, spec, jobs, id, actions: Vec::new() };
    let mut status = look.observe();
    let mut start = Vec::new();
    if !is_deleting(&cron.metadata) {
        look.tidy();
        if !spec.suspend.unwrap_or(false) {
            start = look.start(&mut status);
        }
    }
    look.write(&status, start)
}

struct Look<'a> {
    world: &'a World,
    cron: &'a CronJob,
    spec: &'a Spec,
    jobs: Vec<&'a Arc<Job>>,
    id: ObjectId,
    actions: Vec<Action>,
}

/// The status as it is to be.
struct Status {
    active: Vec<Value>,
    last_schedule: Option<Time>,
    last_success: Option<Time>,
}

fn job_id(job: &Job) -> ObjectId {
    id(resource("batch", "jobs"), &job.metadata)
}

fn uid(job: &Job) -> &str {
    job.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether the schedule made the job, rather than a person by hand.
fn is_scheduled(job: &Job) -> bool {
    annotation(&job.metadata, SCHEDULED).is_some()
}

fn reference(job: &Job) -> Value {
    let m = &job.metadata;
    json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": m.namespace, "name": m.name, "uid": m.uid,
        "resourceVersion": m.resource_version})
}

impl<'a> Look<'a> {
    fn event(&mut self, level: Level, reason: &'static str, message: String) {
        self.actions.push(Action::Event { about: self.id.clone(), level, reason, message });
    }

    /// What the jobs say.
    fn observe(&mut self) -> Status {
        let old = self.cron.status.clone().unwrap_or_default();
        let listed = old.active.unwrap_or_default();
        for entry in &listed {
            let (name, uid_was) = (entry.name.as_deref().unwrap_or_default(), entry.uid.as_deref());
            match self.jobs.iter().find(|j| Some(uid(j)) == uid_was) {
                Some(job) => {
                    if let Some((condition, _)) = finished(job) {
                        let message = format!("Saw completed job: {name}, condition: {condition}");
                        self.event(Level::Normal, "SawCompletedJob", message);
                    }
                }
                None => self.event(Level::Normal, "MissingJob", format!("Active job went missing: {name}")),
            }
        }
        let done = |j: &&Arc<Job>| j.status.as_ref()?.completion_time.as_ref().map(|t| Time(t.0));
        let before = old.last_successful_time.map(|t| Time(t.0));
        let mut active: Vec<&&Arc<Job>> =
            self.jobs.iter().filter(|j| !is_finished(j) && is_scheduled(j)).collect();
        active.sort_by_key(|j| created(&j.metadata));
        // The reference stays as it was first made: a job's own progress is no news here.
        let known = |j: &Job| listed.iter().find(|r| r.uid.as_deref() == Some(uid(j))).map(|r| json!(r));
        Status {
            active: active.into_iter().map(|j| known(j).unwrap_or_else(|| reference(j))).collect(),
            last_schedule: old.last_schedule_time.map(|t| Time(t.0)),
            last_success: self.jobs.iter().filter_map(done).chain(before).max(),
        }
    }

    /// Jobs that are over go, but for the latest.
    fn tidy(&mut self) {
        let limits = [
            ("Complete", self.spec.successful_jobs_history_limit),
            ("Failed", self.spec.failed_jobs_history_limit),
        ];
        for (condition, limit) in limits {
            let Some(limit) = limit.and_then(|l| usize::try_from(l).ok()) else { continue };
            let over = |j: &&&'a Arc<Job>| finished(j).is_some_and(|(c, _)| c == condition);
            let mut over: Vec<&'a Arc<Job>> = self.jobs.iter().filter(over).copied().collect();
            let begun = |j: &Job| j.status.as_ref().and_then(|s| s.start_time.as_ref().map(|t| Time(t.0)));
            over.sort_by_key(|j| (begun(j), j.metadata.name.clone()));
            let excess = over.len().saturating_sub(limit);
            for job in over.into_iter().take(excess).filter(|j| !is_deleting(&j.metadata)) {
                self.delete(job);
            }
        }
    }

    fn delete(&mut self, job: &Job) {
        self.actions.push(Action::Delete {
            id: job_id(job),
            propagation: Propagation::Background,
            grace_seconds: None,
            announce: Some(Announce {
                about: self.id.clone(),
                reason: "SuccessfulDelete",
                done: "Deleted job ".into(),
                end: "".into(),
                failed: "FailedDelete",
                error: "Deleted job: ".into(),
            }),
        });
    }

    /// Starts the job of the latest moment, if it is due; always says when to look again.
    fn start(&mut self, status: &mut Status) -> Vec<Action> {
        let now = self.world.now;
        let zone = match self.spec.time_zone.as_deref() {
            None => jiff::tz::TimeZone::UTC,
            Some(name) => match jiff::tz::TimeZone::get(name) {
                Ok(zone) => zone,
                Err(e) => {
                    self.event(Level::Warning, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {e}"));
                    return Vec::new();
                }
            },
        };
        let schedule = match Schedule::parse(&self.spec.schedule) {
            Ok(schedule) => schedule,
            Err(why) => {
                let message = format!("unparseable schedule: {:?} : {why}", self.spec.schedule);
                self.event(Level::Warning, "UnparseableSchedule", message);
                return Vec::new();
            }
        };
        let Some(next) = schedule.next(now, &zone) else {
            // A day that no month has.
            let why = "time difference between two schedules is less than 1 second";
            let message = format!("invalid schedule: {} : {why}", self.spec.schedule);
            self.event(Level::Warning, "InvalidSchedule", message);
            return Vec::new();
        };
        self.actions.push(Action::Again { at: next });
        let deadline = self.spec.starting_deadline_seconds.and_then(|s| u64::try_from(s).ok());
        let born = created(&self.cron.metadata);
        let since = status.last_schedule.unwrap_or(born);
        let Some(due) = schedule.last(since, now, &zone) else { return Vec::new() };
        if deadline.is_some_and(|d| due.plus(Duration::from_secs(d)) < now) {
            let message = format!(
                "Missed scheduled time to start a job: {}",
                due.0.strftime("%a, %d %b %Y %H:%M:%S +0000")
            );
            self.event(Level::Warning, "MissSchedule", message);
            return Vec::new();
        }
        if deadline.is_none() {
            self.complain(&schedule, since, due, &zone);
        }
        let name = format!("{}-{}", self.id.name, due.0.as_second().div_euclid(60));
        if self.jobs.iter().any(|j| j.metadata.name.as_deref() == Some(&name)) {
            status.last_schedule = Some(due);
            return Vec::new();
        }
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !status.active.is_empty() => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.event(Level::Normal, "JobAlreadyActive", message.to_string());
                return Vec::new();
            }
            Some("Replace") => {
                let listed: BTreeSet<String> =
                    status.active.iter().filter_map(|r| r["uid"].as_str().map(String::from)).collect();
                let running: Vec<&'a Arc<Job>> =
                    self.jobs.iter().filter(|j| listed.contains(uid(j))).copied().collect();
                running.into_iter().filter(|j| !is_deleting(&j.metadata)).for_each(|j| self.delete(j));
                status.active.clear();
            }
            _ => {}
        }
        status.last_schedule = Some(due);
        vec![self.create(&name, due, &zone)]
    }

    /// Says so where many moments were missed: somebody's clock is wrong, or nobody was there for long.
    fn complain(&mut self, schedule: &Schedule, since: Time, due: Time, zone: &jiff::tz::TimeZone) {
        let Some(first) = schedule.next(since, zone).filter(|t| *t < due) else { return };
        let Some(second) = schedule.next(first, zone) else { return };
        let between = second.since(first).as_secs().max(1);
        if due.since(first).as_secs() / between >= MISSED_LEN_MAX {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.event(Level::Warning, "TooManyMissedTimes", message.to_string());
        }
    }

    fn create(&self, name: &str, due: Time, zone: &jiff::tz::TimeZone) -> Action {
        let template = &self.spec.job_template;
        let meta = template.metadata.clone().unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        let moment = due.0.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        annotations.insert(SCHEDULED.to_string(), moment.replace("+00:00", "Z"));
        let mut metadata = json!({"name": name, "namespace": self.id.namespace, "annotations": annotations,
            "ownerReferences": [owner_reference(&self.id)]});
        if let Some(labels) = meta.labels {
            metadata["labels"] = json!(labels);
        }
        Action::Create {
            resource: resource("batch", "jobs"),
            namespace: self.id.namespace.clone(),
            object: json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template.spec}),
            on_exists: OnExists::Fine,
            announce: Some(Announce {
                about: self.id.clone(),
                reason: "SuccessfulCreate",
                done: "Created job ".into(),
                end: "".into(),
                failed: "FailedCreate",
                error: "Error creating job: ".into(),
            }),
        }
    }

    fn write(self, status: &Status, start: Vec<Action>) -> Vec<Action> {
        let old = json!(self.cron.status);
        let active = if status.active.is_empty() { Value::Null } else { json!(status.active) };
        let mut new = json!({"active": active});
        for (field, at) in
            [("lastScheduleTime", status.last_schedule), ("lastSuccessfulTime", status.last_success)]
        {
            if let Some(at) = at {
                new[field] = time(at);
            }
        }
        // A job that cannot be made leaves its moment open.
        let mut plan = self.actions;
        plan.extend(start);
        if crate::deployment::differs(&old, &new) {
            plan.push(Action::Patch { id: self.id, subresource: "status", patch: json!({"status": new}) });
        } else {
            // What is seen is told once, when the status changes with it.
            plan.retain(|a| !matches!(a, Action::Event { reason: "SawCompletedJob" | "MissingJob", .. }));
        }
        plan
    }
}

#[cfg(test)]
mod tests;
