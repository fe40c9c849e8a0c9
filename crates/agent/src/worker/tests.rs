//! Whole lives of pods on a scripted machine, on virtual time.

use super::*;
use crate::events::Recorder;
use crate::machine::Machine;
use crate::options::Options;
use crate::restore;
use crate::testing::Scripted;
use crate::tokens::Tokens;
use serde_json::{Value, json};
use stoa_units::Clock;
use stoa_wire::{Occurrence, Referent};
use tokio::time::Instant;

/// The wall clock of tokio's paused time.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Time {
        Time::EPOCH.plus(Duration::from_secs(1_000)).plus(self.0.elapsed())
    }
}

/// A pod's world: the machine, the worker's mailbox, what the leader would hear.
struct World {
    machine: Arc<Scripted>,
    shared: Arc<Shared>,
    nudge: mpsc::Sender<Nudge>,
    worker: tokio::task::JoinHandle<()>,
    events: mpsc::Receiver<Occurrence>,
    /// Reasons of the events that came so far.
    heard: Vec<String>,
    said: Option<PodStatus>,
    /// Summaries of all that was said.
    told: Vec<String>,
    stopped: bool,
    _dir: tempfile::TempDir,
}

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "n", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn one(container: Value) -> Pod {
    pod(json!({"containers": [container], "terminationGracePeriodSeconds": 30}))
}

impl World {
    fn new(pod: Pod) -> World {
        let clock: Arc<dyn Clock> = Arc::new(Virtual(Instant::now()));
        let machine = Scripted::new(Arc::clone(&clock));
        World::on(machine, clock, pod)
    }

    /// A fresh agent on a machine that may hold something already.
    fn on(machine: Arc<Scripted>, clock: Arc<dyn Clock>, pod: Pod) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new("n1", dir.path(), "c");
        options.clock = clock;
        let (out, events) = mpsc::channel(1_000);
        let recorder = Recorder::new(Arc::clone(&options.clock), out);
        let (tokens, _) = Tokens::new();
        let cpus = crate::cpus::Cpus::none(&options);
        let shared = Arc::new(Shared::new(
            options,
            Arc::clone(&machine) as Arc<dyn Machine>,
            cpus,
            recorder,
            tokens,
            vec!["192.0.2.1".to_owned()],
            1 << 30,
            [("cpu", "4"), ("memory", "1Gi")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            Default::default(),
        ));
        let observed = restore::observe(&pod, &machine.list(), shared.now());
        let (nudge, nudges) = mpsc::channel(NUDGES_MAX);
        // As the service does it.
        let held = crate::resize::held_resources(&pod, &observed);
        let wanted = held.is_some().then(|| pod.clone());
        let pod = Arc::new(held.unwrap_or(pod));
        if let Some(wanted) = wanted {
            nudge.try_send(Nudge::Desired(Arc::new(wanted))).unwrap();
        }
        let worker = Worker::new(Arc::clone(&shared), pod, observed, nudge.clone(), nudges);
        let worker = tokio::spawn(worker.run());
        let (mut exits, to) = (machine.exits(), nudge.clone());
        tokio::spawn(async move {
            while let Ok(exit) = exits.recv().await {
                let _ = to.send(Nudge::Exit(exit)).await;
            }
        });
        World {
            machine,
            shared,
            nudge,
            worker,
            events,
            heard: Vec::new(),
            said: None,
            told: Vec::new(),
            stopped: false,
            _dir: dir,
        }
    }

    /// Listens until `wanted` holds of what was said; at most some virtual minutes.
    async fn until(&mut self, what: &str, wanted: impl Fn(&World) -> bool) {
        let begun = Instant::now();
        loop {
            while let Ok(o) = self.events.try_recv() {
                self.heard.push(o.reason);
            }
            if wanted(self) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(900), "{what} did not come: {:?}", self.summary());
            match self.shared.outbox.take() {
                Some(report) => {
                    for status in [report.passing, report.status].into_iter().flatten() {
                        self.said = Some(serde_json::from_slice(&status).unwrap());
                        self.told.push(self.summary());
                    }
                    self.stopped |= report.stopped;
                }
                None => tokio::select! {
                    () = self.shared.outbox.changed() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                },
            }
        }
    }

    async fn until_said(&mut self, wanted: &str) {
        self.until(wanted, |w| w.summary() == wanted).await;
    }

    /// Phase and the first container's state, restarts, readiness.
    fn summary(&self) -> String {
        let Some(status) = &self.said else { return String::new() };
        let Some(c) = status.container_statuses.as_ref().and_then(|c| c.first()) else {
            return String::new();
        };
        let state = c.state.clone().unwrap_or_default();
        let word = match (state.waiting, state.running, state.terminated) {
            (Some(w), _, _) => w.reason.unwrap_or_default(),
            (_, Some(_), _) => "running".to_owned(),
            (_, _, Some(t)) => format!("exit {}", t.exit_code),
            _ => "?".to_owned(),
        };
        let ready = if c.ready { " ready" } else { "" };
        format!("{} {word} {}{ready}", status.phase.clone().unwrap_or_default(), c.restart_count)
    }

    async fn delete(&self, mut pod: Pod, grace: i64) {
        let now = self.shared.now();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now.0));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.nudge.send(Nudge::Desired(Arc::new(pod))).await.unwrap();
    }

    fn log(&self) -> String {
        self.machine.log.lock().join(", ")
    }

    fn is_machine_clean(&self) -> bool {
        self.machine.list().is_empty()
            && self.machine.pods().is_empty()
            && self.machine.networks.lock().is_empty()
    }

    async fn until_heard(&mut self, reason: &str) {
        self.until(reason, |w| w.heard.iter().any(|r| r == reason)).await;
    }

    fn reasons(&mut self) -> Vec<String> {
        let mut out = std::mem::take(&mut self.heard);
        while let Ok(o) = self.events.try_recv() {
            out.push(o.reason);
        }
        out
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_runs_and_is_deleted_politely() {
    let p = one(json!({"name": "c", "image": "img"}));
    let mut world = World::new(p.clone());
    world.until_said("Running running 0 ready").await;
    assert_eq!(world.said.as_ref().unwrap().pod_ip.as_deref(), Some("10.0.0.2"));
    world.delete(p, 30).await;
    world.until("stopped", |w| w.stopped).await;
    assert_eq!(world.log(), "start c 0, signal c 15");
    assert!(world.is_machine_clean());
    assert_eq!(world.summary(), "Failed exit 143 0");
    assert_eq!(world.reasons(), ["Pulled", "Created", "Started", "Killing"]);
    world.nudge.send(Nudge::Gone).await.unwrap();
    world.worker.await.unwrap();
    assert!(
        !world.shared.logs_of(&PodRef { namespace: "n".into(), name: "p".into(), uid: "u".into() }).exists()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stubborn_container_is_killed_when_its_grace_is_over_and_not_before() {
    let p = one(json!({"name": "c", "image": "img"}));
    let mut world = World::new(p.clone());
    world.machine.stubborn.lock().insert("c".to_owned());
    world.until_said("Running running 0 ready").await;
    let begun = Instant::now();
    world.delete(p, 30).await;
    world.until("stopped", |w| w.stopped).await;
    assert_eq!(world.log(), "start c 0, signal c 15, kill c");
    let took = begun.elapsed().as_secs();
    assert!((30..33).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_hurries_a_kill_that_is_under_way() {
    let p = one(json!({"name": "c", "image": "img"}));
    let mut world = World::new(p.clone());
    world.machine.stubborn.lock().insert("c".to_owned());
    world.until_said("Running running 0 ready").await;
    let begun = Instant::now();
    world.delete(p.clone(), 600).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.delete(p, 1).await;
    world.until("stopped", |w| w.stopped).await;
    assert!(begun.elapsed().as_secs() < 10);
}

#[tokio::test(start_paused = true)]
async fn a_failing_container_is_restarted_and_then_rests() {
    let mut world = World::new(one(json!({"name": "c", "image": "img"})));
    world.until_said("Running running 0 ready").await;
    let id = world.machine.running("c").unwrap();
    world.machine.end(&id, 1);
    world.until_said("Running running 1 ready").await;
    let id = world.machine.running("c").unwrap();
    let begun = Instant::now();
    world.machine.end(&id, 1);
    world.until_said("Running CrashLoopBackOff 1").await;
    world.until_said("Running running 2 ready").await;
    assert!((10..13).contains(&begun.elapsed().as_secs()));
    assert_eq!(world.log(), "start c 0, start c 1, start c 2");
    assert!(world.reasons().contains(&"BackOff".to_owned()));
    // Only the life before is kept beside the one that runs.
    assert_eq!(world.machine.list().len(), 1);
    // Each end was told before what came of it.
    let told = world.told.iter().skip_while(|t| *t != "Running running 0 ready");
    let (exits, rest) = (["Running exit 1 0", "Running exit 1 1"], "Running CrashLoopBackOff 1");
    let lives = [0, 1, 2].map(|n| format!("Running running {n} ready"));
    assert!(told.eq([&lives[0], exits[0], &lives[1], exits[1], rest, &lives[2]]), "{:?}", world.told);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_runs_to_its_end_is_taken_down_and_its_end_is_remembered() {
    let p = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "img"}]}));
    let mut world = World::new(p);
    world.until_said("Running running 0 ready").await;
    let id = world.machine.running("c").unwrap();
    world.machine.end(&id, 0);
    world.until_said("Succeeded exit 0 0").await;
    world.until("a clean machine", World::is_machine_clean).await;
    let kept = finished::read(&world.shared.options.finished_dir(), "u").unwrap();
    assert_eq!(kept.phase.as_deref(), Some("Succeeded"));
}

#[tokio::test(start_paused = true)]
async fn what_is_ended_to_start_again_is_told_with_its_new_life() {
    let mut world = World::new(one(json!({"name": "c", "image": "img",
        "livenessProbe": {"exec": {"command": ["x"]}, "initialDelaySeconds": 9000}})));
    world.until_said("Running running 0 ready").await;
    for life in 0..2 {
        let id = world.machine.running("c").unwrap();
        let failed =
            Probed { container: "c".into(), id, which: crate::probe::Which::Liveness, success: false };
        world.nudge.send(Nudge::Probed(failed)).await.unwrap();
        world.until_said(&format!("Running running {} ready", life + 1)).await;
    }
    assert!(!world.told.iter().any(|t| t.contains("exit")), "{:?}", world.told);
}

#[tokio::test(start_paused = true)]
async fn a_missing_object_is_waited_for() {
    let p = one(json!({"name": "c", "image": "img",
        "env": [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]}));
    let mut world = World::new(p);
    world.until_said("Pending ContainerCreating 0").await;
    world.until_heard("Pulled").await;
    world.shared.pushed.absent(Referent::ConfigMap, "n", "cm");
    world.shared.objects_changed();
    world.until_said("Pending CreateContainerConfigError 0").await;
    // Whatever else is pushed does not use up the pod's events.
    for _ in 0..50 {
        world.shared.objects_changed();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.reasons(), ["Pulled", "Pulled", "Failed"]);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(world.reasons().contains(&"Failed".to_owned()), "it is still tried in its time");
    world.shared.pushed.put(Referent::ConfigMap, "n", "cm", br#"{"metadata":{},"data":{"k":"v"}}"#).unwrap();
    world.shared.objects_changed();
    world.until_said("Running running 0 ready").await;
    let spec = Arc::clone(&world.machine.list()[0].spec);
    assert!(spec.env.contains(&"V=v".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_what_it_claims_does_not_start() {
    let p = pod(json!({"containers": [{"name": "c", "image": "img"}],
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]}));
    let mut world = World::new(p);
    world.until_said("Pending ContainerCreating 0").await;
    world.shared.pushed.absent(Referent::ResourceClaim, "n", "mine");
    world.shared.objects_changed();
    world.until_heard("FailedPrepareDynamicResources").await;
    assert!(world.log().is_empty() && world.is_machine_clean());
    // Reserved, and no device in it: there is nothing to prepare.
    let claim = json!({"metadata": {"name": "mine"}, "spec": {},
        "status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}], "allocation": {}}});
    world.shared.pushed.put(Referent::ResourceClaim, "n", "mine", claim.to_string().as_bytes()).unwrap();
    world.shared.objects_changed();
    world.until_said("Running running 0 ready").await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_told_and_found_when_it_comes() {
    let mut world = World::new(one(json!({"name": "c", "image": "other"})));
    world.until_said("Pending ErrImagePull 0").await;
    world.until_said("Pending ImagePullBackOff 0").await;
    world.machine.images.lock().insert("other".to_owned());
    world.until_said("Running running 0 ready").await;
    let mut world = World::new(one(json!({"name": "c", "image": "other", "imagePullPolicy": "Never"})));
    world.until_said("Pending ErrImageNeverPull 0").await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_takes_over_what_runs() {
    let p = one(json!({"name": "c", "image": "img"}));
    let mut first = World::new(p.clone());
    first.until_said("Running running 0 ready").await;
    first.worker.abort();
    let clock = Arc::clone(&first.shared.options.clock);
    let mut second = World::on(Arc::clone(&first.machine), clock, p.clone());
    second.until_said("Running running 0 ready").await;
    assert_eq!(second.log(), "start c 0");
    second.delete(p, 30).await;
    second.until("stopped", |w| w.stopped).await;
    assert!(second.is_machine_clean());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_told_of_is_found_by_looking() {
    let mut world = World::new(one(json!({"name": "c", "image": "img"})));
    world.until_said("Running running 0 ready").await;
    world.machine.containers.lock().clear();
    world.nudge.send(Nudge::Resync).await.unwrap();
    world.until_said("Running running 1 ready").await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_out_of_time_fails() {
    let p = pod(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c", "image": "img"}]}));
    let mut world = World::new(p);
    world.until_said("Running running 0 ready").await;
    world.until_said("Failed exit 143 0").await;
    assert_eq!(world.said.as_ref().unwrap().reason.as_deref(), Some("DeadlineExceeded"));
}

#[tokio::test(start_paused = true)]
async fn host_ports_are_published_and_taken_back() {
    let p = one(json!({"name": "c", "image": "img", "ports": [{"containerPort": 80, "hostPort": 8080}]}));
    let mut world = World::new(p.clone());
    world.until_said("Running running 0 ready").await;
    world.delete(p, 1).await;
    world.until("stopped", |w| w.stopped).await;
    assert_eq!(world.log(), "ports 1, start c 0, signal c 15, ports 0");
}

#[tokio::test(start_paused = true)]
async fn a_changed_image_restarts_the_container() {
    let mut world = World::new(one(json!({"name": "c", "image": "img"})));
    world.until_said("Running running 0 ready").await;
    world.machine.images.lock().insert("newer".to_owned());
    let newer = one(json!({"name": "c", "image": "newer"}));
    world.nudge.send(Nudge::Desired(Arc::new(newer))).await.unwrap();
    world.until_said("Running running 1 ready").await;
    assert_eq!(world.log(), "start c 0, signal c 15, start c 1");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_put_right_starts_at_once() {
    let with = |path: &str| {
        let mut p = pod(json!({
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "img",
                "env": [{"name": "P", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['p']"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(P)"}]}]}));
        p.metadata.annotations = Some([("p".to_owned(), path.to_owned())].into());
        p
    };
    let mut world = World::new(with("/absolute"));
    world.until_said("Pending CreateContainerConfigError 0").await;
    let since = tokio::time::Instant::now();
    world.nudge.send(Nudge::Desired(Arc::new(with("relative")))).await.unwrap();
    world.until_said("Running running 0 ready").await;
    assert!(since.elapsed() < crate::worker::RETRY_AFTER, "it waited {:?}", since.elapsed());
}

/// A pod as the agent gets it.
fn sent(spec: Value) -> Nudge {
    Nudge::Desired(Arc::new(crate::pod::absorb_ephemeral(pod(spec))))
}

impl World {
    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let all = self.said.as_ref()?.conditions.as_ref()?;
        let found = all.iter().find(|c| c.type_ == kind)?;
        Some((found.status.clone(), found.reason.clone().unwrap_or_default()))
    }

    fn allocated(&self, resource: &str) -> Option<String> {
        let first = self.said.as_ref()?.container_statuses.as_ref()?.first()?;
        Some(first.allocated_resources.as_ref()?.get(resource)?.0.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_grows_in_place_and_what_does_not_fit_waits() {
    let sized = |cpu: &str, memory: &str| {
        let r = json!({"cpu": cpu, "memory": memory});
        json!({"containers": [{"name": "c", "image": "img", "resources": {"requests": r, "limits": r}}]})
    };
    let mut world = World::new(pod(sized("1", "64Mi")));
    world.until_said("Running running 0 ready").await;
    world.nudge.send(sent(sized("2", "128Mi"))).await.unwrap();
    world.until("two processors", |w| w.allocated("cpu").as_deref() == Some("2")).await;
    let log = world.log();
    assert!(log.contains("pod memory 134217728, update c memory 134217728"), "{log}");
    assert_eq!(world.condition("PodResizeInProgress"), None);
    world.nudge.send(sent(sized("5", "128Mi"))).await.unwrap();
    let infeasible = Some(("True".to_owned(), "Infeasible".to_owned()));
    world.until("a refusal", |w| w.condition("PodResizePending") == infeasible).await;
    assert_eq!(world.allocated("cpu").as_deref(), Some("2"));
    let other = crate::refuse::claim(&pod(sized("2", "1Mi")));
    world.shared.claims.lock().insert("other".to_owned(), other);
    world.nudge.send(sent(sized("3", "128Mi"))).await.unwrap();
    let deferred = Some(("True".to_owned(), "Deferred".to_owned()));
    world.until("a delay", |w| w.condition("PodResizePending") == deferred).await;
    world.shared.claims.lock().remove("other");
    world.until("three processors", |w| w.allocated("cpu").as_deref() == Some("3")).await;
    assert_eq!(world.condition("PodResizePending"), None);
    assert_eq!(world.summary(), "Running running 0 ready");
    let reasons = world.reasons();
    assert!(
        reasons.contains(&"ResizeCompleted".to_owned()) && reasons.contains(&"ResizeDeferred".to_owned())
    );
    // The next agent goes by what the containers have.
    world.worker.abort();
    let clock = Arc::clone(&world.shared.options.clock);
    let held = restore::observe(&pod(sized("4", "128Mi")), &world.machine.list(), clock.now());
    let held = crate::resize::held_resources(&pod(sized("4", "128Mi")), &held).unwrap();
    assert_eq!(crate::limits::claim(&held).0, 3000);
}

#[tokio::test(start_paused = true)]
async fn what_a_pod_names_for_itself_grows_with_what_it_bounds() {
    let sized = |cpu: &str, policy: &str| {
        let amount = json!({"cpu": cpu, "memory": "1Gi"});
        json!({"resources": {"requests": amount, "limits": amount},
            "containers": [{"name": "c", "image": "img", "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}]}]})
    };
    let limit = |w: &World| w.machine.list()[0].spec.limits.cpu_quota_us;
    let mut world = World::new(pod(sized("1", "NotRequired")));
    world.until_said("Running running 0 ready").await;
    assert_eq!(limit(&world), Some(100_000));
    world.nudge.send(sent(sized("2", "NotRequired"))).await.unwrap();
    world.until("two processors", |w| limit(w) == Some(200_000)).await;
    assert_eq!(world.condition("PodResizeInProgress"), None);
    assert_eq!(world.summary(), "Running running 0 ready");
    // A container that names no limit of its own has the pod's, and its policy is about that.
    world.nudge.send(sent(sized("3", "RestartContainer"))).await.unwrap();
    world.until_said("Running running 1 ready").await;
    assert_eq!(limit(&world), Some(300_000));
    assert_eq!(world.condition("PodResizeInProgress"), None);
}

/// A pod that names memory for itself, and a container that names none.
fn bounding(memory: &str, policy: &str) -> Value {
    let amount = json!({"memory": memory});
    let policy = json!([{"resourceName": "memory", "restartPolicy": policy}]);
    json!({"resources": {"requests": amount, "limits": amount},
        "containers": [{"name": "c", "image": "img", "resizePolicy": policy}]})
}

impl World {
    /// What holds for the pod and for its container.
    fn memory(&self) -> (Option<i64>, Option<i64>) {
        (self.machine.pod_memory("u"), self.machine.list()[0].spec.limits.memory_bytes)
    }

    fn refusals(&self) -> usize {
        self.machine.log.lock().iter().filter(|l| *l == "refused u").count()
    }

    /// The next agent on the same machine.
    fn succeeded_by(self, pod: Pod) -> World {
        self.worker.abort();
        World::on(Arc::clone(&self.machine), Arc::clone(&self.shared.options.clock), pod)
    }
}

const BIG: Option<i64> = Some(512 << 20);
const SMALL: Option<i64> = Some(256 << 20);

#[tokio::test(start_paused = true)]
async fn a_resize_that_cannot_be_finished_starts_a_container_again_once() {
    let mut world = World::new(pod(bounding("512Mi", "RestartContainer")));
    world.until_said("Running running 0 ready").await;
    *world.machine.refused_pod_memory.lock() = SMALL;
    world.nudge.send(sent(bounding("256Mi", "RestartContainer"))).await.unwrap();
    world.until("several tries", |w| w.refusals() >= 5 && w.machine.starts() >= 2).await;
    assert_eq!(world.machine.starts(), 2, "{}", world.log());
    assert_eq!(world.memory(), (BIG, SMALL));
    let failing = Some(("True".to_owned(), "Error".to_owned()));
    world.until("a word of it", |w| w.condition("PodResizeInProgress") == failing).await;
    *world.machine.refused_pod_memory.lock() = None;
    world.until_heard("ResizeCompleted").await;
    world.until("the end", |w| w.condition("PodResizeInProgress").is_none()).await;
    assert_eq!((world.memory(), world.machine.starts()), ((SMALL, SMALL), 2));
}

#[tokio::test(start_paused = true)]
async fn an_agent_goes_on_with_the_resize_of_a_pod_that_an_earlier_one_did_not_finish() {
    for (policy, starts) in [("NotRequired", 1), ("RestartContainer", 2)] {
        let mut world = World::new(pod(bounding("256Mi", policy)));
        world.until_said("Running running 0 ready").await;
        let mut world = world.succeeded_by(pod(bounding("512Mi", policy)));
        world.until_heard("ResizeCompleted").await;
        world.until("a word", |w| w.said.is_some() && w.condition("PodResizeInProgress").is_none()).await;
        assert_eq!((world.memory(), world.machine.starts()), ((BIG, BIG), starts), "{policy}");
        // One that finds it done does nothing.
        let log = world.log();
        let mut world = world.succeeded_by(pod(bounding("512Mi", policy)));
        world.until("a word", |w| w.said.is_some()).await;
        assert_eq!((world.log(), world.condition("PodResizeInProgress")), (log, None), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_next_agent_cannot_set_either_is_not_taken_for_done() {
    let mut world = World::new(pod(bounding("512Mi", "NotRequired")));
    world.until_said("Running running 0 ready").await;
    *world.machine.refused_pod_memory.lock() = SMALL;
    world.nudge.send(sent(bounding("256Mi", "NotRequired"))).await.unwrap();
    world.until("a refusal", |w| w.refusals() > 0).await;
    // All that is missing is the last step.
    assert_eq!(world.memory(), (BIG, SMALL));
    let mut world = world.succeeded_by(pod(bounding("256Mi", "NotRequired")));
    let failing = Some(("True".to_owned(), "Error".to_owned()));
    world.until("a word of it", |w| w.condition("PodResizeInProgress") == failing).await;
    *world.machine.refused_pod_memory.lock() = None;
    world.until("the end", |w| w.condition("PodResizeInProgress").is_none()).await;
    assert_eq!(world.memory(), (SMALL, SMALL));
}

#[tokio::test(start_paused = true)]
async fn a_resize_is_completed_though_a_container_has_ended_for_good() {
    let sized = |memory: &str, policy: &str| {
        let policy = json!([{"resourceName": "memory", "restartPolicy": policy}]);
        json!({"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "img",
            "resources": {"limits": {"memory": memory}}, "resizePolicy": policy}, {"name": "d", "image": "img"}]})
    };
    let mut world = World::new(pod(sized("64Mi", "NotRequired")));
    world.until("both", |w| w.machine.running("d").is_some()).await;
    world.machine.end(&world.machine.running("d").unwrap(), 0);
    let has_ended = |w: &World| {
        let said = w.said.as_ref().and_then(|s| s.container_statuses.as_ref());
        said.is_some_and(|all| all[1].state.as_ref().is_some_and(|s| s.terminated.is_some()))
    };
    world.until("an end", has_ended).await;
    world.nudge.send(sent(sized("128Mi", "NotRequired"))).await.unwrap();
    world.until_heard("ResizeCompleted").await;
    world.heard.clear();
    // One that ends for good instead of being started again has nothing to wait for either.
    let (mut world, id) = (World::new(pod(sized("64Mi", "RestartContainer"))), "c");
    world.machine.stubborn.lock().insert(id.to_owned());
    world.until("both", |w| w.machine.running("d").is_some()).await;
    world.nudge.send(sent(sized("128Mi", "RestartContainer"))).await.unwrap();
    world.until("a signal", |w| w.log().contains("signal c 15")).await;
    world.machine.end(&world.machine.running(id).unwrap(), 0);
    world.until_heard("ResizeCompleted").await;
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_policy_says_so_is_started_again_to_be_resized() {
    let sized = |memory: &str| {
        json!({"containers": [{"name": "c", "image": "img", "resources": {"limits": {"memory": memory}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]})
    };
    let mut world = World::new(pod(sized("64Mi")));
    world.until_said("Running running 0 ready").await;
    world.nudge.send(sent(sized("128Mi"))).await.unwrap();
    world.until_said("Running running 1 ready").await;
    assert!(world.log().contains("signal c 15"));
    assert_eq!(world.machine.list()[0].spec.limits.memory_bytes, Some(128 << 20));
    assert_eq!(world.condition("PodResizeInProgress"), None);
}

#[tokio::test(start_paused = true)]
async fn an_ephemeral_container_comes_late_and_changes_nothing_for_the_others() {
    let spec = |ephemeral: Value| json!({"containers": [{"name": "c", "image": "img"}], "ephemeralContainers": ephemeral});
    let mut world = World::new(pod(spec(json!([]))));
    world.until_said("Running running 0 ready").await;
    let target = world.machine.running("c").unwrap();
    world
        .nudge
        .send(sent(spec(json!([{"name": "e", "image": "img", "targetContainerName": "c"}]))))
        .await
        .unwrap();
    let running = |w: &World| {
        w.said.as_ref()?.ephemeral_container_statuses.as_ref()?.first()?.state.as_ref()?.running.clone()
    };
    world.until("the debugger", |w| running(w).is_some()).await;
    let id = world.machine.running("e").unwrap();
    let joins = world.machine.list().iter().find(|c| c.spec.id == id).and_then(|c| c.spec.joins.clone());
    assert_eq!(joins, Some(target));
    world.machine.end(&id, 1);
    world.until("its end", |w| running(w).is_none()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (world.summary().as_str(), world.log().as_str()),
        ("Running running 0 ready", "start c 0, start e 0")
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_over_before_the_next_container_starts() {
    let hook = json!({"postStart": {"sleep": {"seconds": 20}}});
    let mut world = World::new(pod(json!({"containers": [
        {"name": "a", "image": "img", "lifecycle": hook}, {"name": "b", "image": "img"}]})));
    let begun = Instant::now();
    world.until("the second", |w| w.machine.running("b").is_some()).await;
    assert!((20..23).contains(&begun.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn sidecars_share_the_grace_period_of_what_they_serve() {
    let p = pod(json!({"terminationGracePeriodSeconds": 30,
        "initContainers": [{"name": "s", "image": "img", "restartPolicy": "Always"}],
        "containers": [{"name": "c", "image": "img"}]}));
    let mut world = World::new(p.clone());
    world.machine.stubborn.lock().extend(["c".to_owned(), "s".to_owned()]);
    world.until_said("Running running 0 ready").await;
    let begun = Instant::now();
    world.delete(p, 30).await;
    world.until("stopped", |w| w.stopped).await;
    // The one that serves is asked when there is no time left to wait, and has its two seconds all the same.
    assert_eq!(world.log(), "start s 0, start c 0, signal c 15, signal s 15, kill c, kill s");
    assert!((32..36).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_makes_room_fails_and_is_told_why() {
    let mut world = World::new(one(json!({"name": "c", "image": "img"})));
    world.until_said("Running running 0 ready").await;
    world.machine.stubborn.lock().insert("c".to_owned());
    let (reason, message) = ("Preempting".to_owned(), "Preempted in order to admit critical pod".to_owned());
    let condition = Some("Pod was preempted by Kubelet to accommodate a critical pod.".to_owned());
    world.nudge.send(Nudge::Disrupt { reason, message, condition, grace: None }).await.unwrap();
    world.until("the signal", |w| w.log().contains("signal c 15")).await;
    assert_eq!(world.condition("DisruptionTarget"), None, "not before it has ended");
    world.machine.end(&world.machine.running("c").unwrap(), 143);
    world.until_said("Failed exit 143 0").await;
    assert_eq!(world.said.as_ref().unwrap().reason.as_deref(), Some("Preempting"));
    assert_eq!(
        world.condition("DisruptionTarget"),
        Some(("True".to_owned(), "TerminationByKubelet".to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_sent_back_runs_its_init_containers_again() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let p = pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "img"}],
        "containers": [
            {"name": "a", "image": "img", "restartPolicy": "Never", "restartPolicyRules": rules},
            {"name": "b", "image": "img", "lifecycle": {"preStop": {"sleep": {"seconds": 100}}}}]}));
    let mut world = World::new(p);
    let run_init = async |world: &mut World| {
        let machine = Arc::clone(&world.machine);
        world.until("init", |_| machine.running("i").is_some()).await;
        world.machine.end(&world.machine.running("i").unwrap(), 0);
    };
    run_init(&mut world).await;
    world.until_said("Running running 0 ready").await;
    assert_eq!(world.condition("AllContainersRestarting").map(|c| c.0).as_deref(), Some("False"));
    world.machine.end(&world.machine.running("a").unwrap(), 42);
    run_init(&mut world).await;
    world.until_said("Running running 1 ready").await;
    let status = world.said.clone().unwrap();
    let restarts = |l: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        l.iter().flatten().map(|c| c.restart_count).collect::<Vec<_>>()
    };
    assert_eq!(restarts(&status.init_container_statuses), [1]);
    assert_eq!(restarts(&status.container_statuses), [1, 1]);
    assert_eq!(world.condition("AllContainersRestarting").map(|c| c.0).as_deref(), Some("False"));
    assert_eq!(world.log(), "start i 0, start a 0, start b 0, signal b 15, start i 1, start a 1, start b 1");
    // Without the rule's code the pod ends as its policy says.
    world.machine.end(&world.machine.running("a").unwrap(), 1);
    world.machine.end(&world.machine.running("b").unwrap(), 0);
    world.until_said("Failed exit 1 1").await;
}

#[tokio::test(start_paused = true)]
async fn hooks_of_sidecars_do_not_wait_for_whom_they_serve() {
    let hook = json!({"preStop": {"sleep": {"seconds": 5}}});
    let p = pod(json!({"terminationGracePeriodSeconds": 30,
        "initContainers": [
            {"name": "s", "image": "img", "restartPolicy": "Always", "lifecycle": hook},
            {"name": "t", "image": "img", "restartPolicy": "Always", "lifecycle": hook}],
        "containers": [{"name": "c", "image": "img", "lifecycle": hook}]}));
    let mut world = World::new(p.clone());
    world.until_said("Running running 0 ready").await;
    world.reasons();
    let begun = Instant::now();
    world.delete(p, 30).await;
    world.until("stopped", |w| w.stopped).await;
    assert_eq!(world.reasons(), ["Killing", "Killing", "Killing"]);
    assert!((5..7).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let log = world.log();
    assert!(log.ends_with("signal c 15, signal t 15, signal s 15"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_tells_of_its_ends_once_all_have_ended() {
    let p = pod(json!({"terminationGracePeriodSeconds": 30, "containers": [
        {"name": "a", "image": "img"}, {"name": "b", "image": "img"}]}));
    let mut world = World::new(p.clone());
    world.until_said("Running running 0 ready").await;
    world.machine.stubborn.lock().insert("b".to_owned());
    world.told.clear();
    world.delete(p, 30).await;
    world.until("stopped", |w| w.stopped).await;
    assert_eq!(world.told.last().map(String::as_str), Some("Failed exit 143 0"));
    assert!(
        world.told.iter().all(|t| t == "Running running 0 ready" || t.starts_with("Failed")),
        "{:?}",
        world.told
    );
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_containers_all_end_well_when_it_must_go_did_not_fail() {
    let mut world = World::new(one(json!({"name": "c", "image": "img"})));
    world.until_said("Running running 0 ready").await;
    world.machine.stubborn.lock().insert("c".to_owned());
    let (reason, message) = ("Evicted".to_owned(), "low".to_owned());
    let condition = Some(message.clone());
    world.nudge.send(Nudge::Disrupt { reason, message, condition, grace: None }).await.unwrap();
    world.until("the signal", |w| w.log().contains("signal c 15")).await;
    world.machine.end(&world.machine.running("c").unwrap(), 0);
    world.until_said("Succeeded exit 0 0").await;
    assert_eq!(world.said.as_ref().unwrap().reason, None);
    assert!(world.condition("DisruptionTarget").is_some());
}

#[tokio::test(start_paused = true)]
async fn that_a_pod_is_here_is_told_before_its_surroundings_are_made() {
    let p = one(json!({"name": "c", "image": "img"}));
    let clock: Arc<dyn Clock> = Arc::new(Virtual(Instant::now()));
    let machine = Scripted::new(Arc::clone(&clock));
    *machine.network_takes.lock() = Duration::from_secs(60);
    let begun = Instant::now();
    let mut world = World::on(Arc::clone(&machine), Arc::clone(&clock), p.clone());
    let ready = |w: &World| w.condition("PodReadyToStartContainers").map(|c| c.0);
    world.until_said("Pending ContainerCreating 0").await;
    assert!(begun.elapsed() < Duration::from_secs(60) && ready(&world).as_deref() == Some("False"));
    assert!(world.said.as_ref().is_some_and(|s| s.start_time.is_some() && s.host_ip.is_some()));
    world.until_said("Running running 0 ready").await;
    assert_eq!(ready(&world).as_deref(), Some("True"));
    // Whoever takes it over does not take that back.
    world.worker.abort();
    let mut world = World::on(machine, clock, p);
    world.until("anything", |w| w.said.is_some()).await;
    assert_eq!(ready(&world).as_deref(), Some("True"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_takes_its_time_to_be_deleted_is_hurried_where_the_machine_cannot_wait() {
    let p = one(json!({"name": "c", "image": "img"}));
    let mut world = World::new(p.clone());
    world.machine.stubborn.lock().insert("c".to_owned());
    world.until_said("Running running 0 ready").await;
    let begun = Instant::now();
    world.delete(p, 600).await;
    world.until("the signal", |w| w.log().contains("signal c 15")).await;
    let (reason, message) = ("Evicted".to_owned(), "low".to_owned());
    let grace = Some(Duration::from_secs(1));
    world.nudge.send(Nudge::Disrupt { reason, message, condition: None, grace }).await.unwrap();
    world.until("stopped", |w| w.stopped).await;
    assert!((1..5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
