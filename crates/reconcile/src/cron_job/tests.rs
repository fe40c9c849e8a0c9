use crate::stage::Stage;
use crate::{Controller, Key};
use serde_json::{Value, json};

fn key() -> Key {
    Key::new(Controller::CronJob, "d", "c")
}

/// The stage's clock stands at midnight, when the cron job is made.
fn stage(spec: Value) -> Play {
    let mut stage = Stage::new();
    let mut whole = json!({"schedule": "*/5 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"spec": {"containers": []}}}}});
    for (k, v) in spec.as_object().expect("an object") {
        whole[k] = v.clone();
    }
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "c", "namespace": "d", "uid": "c"}, "spec": whole});
    assert!(stage.put(cron).contains(&key()));
    Play(stage)
}

struct Play(Stage);

impl std::ops::Deref for Play {
    type Target = Stage;
    fn deref(&self) -> &Stage {
        &self.0
    }
}

impl std::ops::DerefMut for Play {
    fn deref_mut(&mut self) -> &mut Stage {
        &mut self.0
    }
}

impl Play {
    fn tick(&mut self, seconds: u64) {
        self.wait(seconds);
        self.settle(&key());
    }

    fn jobs(&self) -> Vec<String> {
        self.all("jobs")
            .iter()
            .map(|j| j["metadata"]["name"].as_str().unwrap_or_default().to_string())
            .collect()
    }

    fn cron(&self) -> &Value {
        &self.get("cronjobs", "d", "c")["status"]
    }

    fn finish(&mut self, job: &str, kind: &str) {
        let now = self.world.now.to_rfc3339_seconds();
        let mut status = json!({"startTime": now,
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now}]});
        if kind == "Complete" {
            status["completionTime"] = json!(now);
        }
        let named = self.patch("jobs", "d", job, &json!({"status": status}));
        assert!(named.contains(&key()), "a job's end concerns its cron job");
    }

    fn told(&self, reason: &str) -> usize {
        self.events.iter().filter(|(r, _)| r == reason).count()
    }
}

#[test]
fn a_job_is_made_at_each_moment_and_named_after_it() {
    let mut s = stage(json!({}));
    let next = s.settle(&key()).expect("a moment");
    assert_eq!(next.since(s.world.now).as_secs(), 300);
    assert!(s.jobs().is_empty());
    s.tick(300);
    let minutes = s.world.now.0.as_second() / 60;
    assert_eq!(s.jobs(), [format!("c-{minutes}")]);
    let job = s.get("jobs", "d", &s.jobs()[0]).clone();
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(
        job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        "2026-01-01T00:05:00Z"
    );
    assert_eq!(s.cron()["lastScheduleTime"], "2026-01-01T00:05:00Z");
    assert_eq!(s.cron()["active"][0]["uid"], job["metadata"]["uid"]);
    s.tick(10);
    assert_eq!(s.jobs().len(), 1);
    let name = s.jobs()[0].clone();
    s.finish(&name, "Complete");
    s.settle(&key());
    assert!(s.cron()["active"].is_null());
    assert_eq!(s.cron()["lastSuccessfulTime"], "2026-01-01T00:05:10Z");
    assert_eq!((s.told("SuccessfulCreate"), s.told("SawCompletedJob")), (1, 1));
}

#[test]
fn moments_missed_make_one_job_unless_it_is_too_late() {
    let mut s = stage(json!({}));
    s.tick(17 * 60);
    assert_eq!(s.cron()["lastScheduleTime"], "2026-01-01T00:15:00Z");
    assert_eq!(s.jobs().len(), 1);
    s.tick(24 * 3600);
    assert_eq!((s.jobs().len(), s.told("TooManyMissedTimes")), (2, 1));
    let mut s = stage(json!({"startingDeadlineSeconds": 60}));
    s.tick(17 * 60);
    assert!(s.jobs().is_empty());
    assert_eq!(s.told("MissSchedule"), 1);
    s.tick(3 * 60 + 30);
    assert_eq!(s.jobs().len(), 1);
}

#[test]
fn a_run_that_lasts_is_joined_waited_for_or_replaced() {
    for (policy, jobs) in [("Allow", 2), ("Forbid", 1), ("Replace", 1)] {
        let mut s = stage(json!({"concurrencyPolicy": policy}));
        s.tick(300);
        let first = s.jobs()[0].clone();
        s.tick(300);
        assert_eq!(s.jobs().len(), jobs, "{policy}");
        assert_eq!(s.jobs().contains(&first), policy != "Replace");
        assert_eq!(s.cron()["active"].as_array().map(Vec::len), Some(jobs));
        if policy == "Forbid" {
            assert!(s.told("JobAlreadyActive") > 0);
            s.finish(&first, "Failed");
            s.settle(&key());
            assert_eq!(s.jobs().len(), 2, "the moment that was waited for comes late");
        }
    }
}

#[test]
fn old_jobs_go_and_a_suspended_one_makes_none() {
    let mut s = stage(json!({"successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 0}));
    for i in 0..5 {
        s.tick(300);
        let name = s.jobs().pop().expect("a job");
        s.finish(&name, if i == 3 { "Failed" } else { "Complete" });
        s.settle(&key());
    }
    assert_eq!((s.jobs().len(), s.told("SuccessfulDelete")), (2, 3));
    s.patch("cronjobs", "d", "c", &json!({"spec": {"suspend": true}}));
    s.tick(3600);
    assert_eq!(s.jobs().len(), 2);
}

#[test]
fn zones_and_schedules_that_nobody_knows_are_told() {
    for (spec, reason) in [
        (json!({"timeZone": "Mars/Olympus"}), "UnknownTimeZone"),
        (json!({"schedule": "often"}), "UnparseableSchedule"),
        (json!({"schedule": "0 0 31 2 *"}), "InvalidSchedule"),
    ] {
        let mut s = stage(spec);
        s.tick(600);
        assert!(s.jobs().is_empty());
        assert!(s.told(reason) > 0, "{reason}");
    }
}

#[test]
fn a_job_made_by_hand_counts_for_nothing() {
    let mut s = stage(json!({"concurrencyPolicy": "Forbid"}));
    s.put(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "m", "namespace": "d",
        "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": "c", "uid": "c", "controller": true}]}}));
    s.tick(300);
    assert_eq!(s.jobs().len(), 2);
    assert_eq!(s.cron()["active"].as_array().map(Vec::len), Some(1));
}
