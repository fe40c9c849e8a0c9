use super::*;
use serde_json::{Value, json};

fn at(s: u64) -> Time {
    Time::EPOCH.plus(Duration::from_secs(s))
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec}),
    )
    .unwrap()
}

fn ended(code: i32) -> Ended {
    Ended {
        id: "x".into(),
        code,
        signal: None,
        reason: if code == 0 { "Completed" } else { "Error" }.into(),
        message: String::new(),
        started_at: Some(at(90)),
        finished_at: at(100),
    }
}

fn observed(containers: &str) -> Observed {
    let mut o = Observed::new(at(0));
    o.sandbox = Sandbox::Ready { ips: vec!["10.0.0.2".into()] };
    for word in containers.split_whitespace() {
        let (name, state) = word.split_once('=').unwrap();
        let seen = o.seen_mut(name);
        match state {
            "run" => {
                (seen.life, seen.started, seen.ready) =
                    (Life::Running { id: "x".into(), started_at: at(1) }, true, true)
            }
            "unready" => {
                (seen.life, seen.started) = (Life::Running { id: "x".into(), started_at: at(1) }, true)
            }
            "ok" => seen.life = Life::Ended(ended(0)),
            "fail" => seen.life = Life::Ended(ended(1)),
            "resting" => {
                seen.life = Life::Ended(ended(1));
                seen.backoff = Duration::from_secs(80);
            }
            "noimage" => {
                seen.life =
                    Life::Refused { reason: "ErrImagePull".into(), message: "m".into(), retry_at: at(200) };
            }
            other => panic!("{other}"),
        }
        seen.attempts = 1;
    }
    o
}

/// One line: phase, true conditions, and each container's state.
fn show(spec: &Value, o: &Observed) -> String {
    let status = compute(&pod(spec.clone()), o, &["192.0.2.1".to_owned()], None, at(105));
    let conditions: Vec<String> = status
        .conditions
        .unwrap()
        .into_iter()
        // Of every pod that is here.
        .filter(|c| c.type_ != "PodScheduled")
        .map(|c| format!("{}{}", if c.status == "True" { "+" } else { "-" }, c.reason.unwrap_or_default()))
        .collect();
    let states: Vec<String> = status
        .init_container_statuses
        .into_iter()
        .chain(status.container_statuses)
        .flatten()
        .map(|c| {
            let state = c.state.unwrap();
            let word = match (state.waiting, state.running, state.terminated) {
                (Some(w), _, _) => w.reason.unwrap(),
                (_, Some(_), _) => "Running".into(),
                (_, _, Some(t)) => t.reason.unwrap(),
                _ => "?".into(),
            };
            format!("{}:{word}{}", c.name, if c.ready { "+" } else { "" })
        })
        .collect();
    format!("{} [{}] {}", status.phase.unwrap(), conditions.join(" "), states.join(" "))
}

#[test]
fn statuses_read_as_a_kubelet_writes_them() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let never = json!({"restartPolicy": "Never", "containers": [{"name": "a"}]});
    let row = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let row_never =
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let gate = json!({"readinessGates": [{"conditionType": "g"}], "containers": [{"name": "a"}]});
    let table = [
        (
            &two,
            "",
            "Pending [+ + -ContainersNotReady -ContainersNotReady] a:ContainerCreating b:ContainerCreating",
        ),
        (
            &two,
            "a=run",
            "Pending [+ + -ContainersNotReady -ContainersNotReady] a:Running+ b:ContainerCreating",
        ),
        (&two, "a=run b=run", "Running [+ + + +] a:Running+ b:Running+"),
        (
            &two,
            "a=run b=unready",
            "Running [+ + -ContainersNotReady -ContainersNotReady] a:Running+ b:Running",
        ),
        (
            &two,
            "a=run b=resting",
            "Running [+ + -ContainersNotReady -ContainersNotReady] a:Running+ b:CrashLoopBackOff",
        ),
        (
            &two,
            "a=run b=noimage",
            "Pending [+ + -ContainersNotReady -ContainersNotReady] a:Running+ b:ErrImagePull",
        ),
        (&never, "a=ok", "Succeeded [+ +PodCompleted -PodCompleted -PodCompleted] a:Completed"),
        (&never, "a=fail", "Failed [+ + -PodFailed -PodFailed] a:Error"),
        (
            &row,
            "i=run",
            "Pending [+ -ContainersNotInitialized -ContainersNotReady -ContainersNotReady] i:Running a:PodInitializing",
        ),
        (
            &row,
            "i=ok",
            "Pending [+ + -ContainersNotReady -ContainersNotReady] i:Completed+ a:PodInitializing",
        ),
        (&row, "i=ok a=run", "Running [+ + + +] i:Completed+ a:Running+"),
        (
            &row_never,
            "i=fail",
            "Failed [+ -ContainersNotInitialized -PodFailed -PodFailed] i:Error a:PodInitializing",
        ),
        (&gate, "a=run", "Running [+ + -ReadinessGatesNotReady +] a:Running+"),
    ];
    for (spec, containers, want) in table {
        assert_eq!(show(spec, &observed(containers)), want, "{spec} with {containers}");
    }
}

#[test]
fn an_image_has_its_whole_name_once_there_is_a_container() {
    let name = |image: &str, containers: &str, id: &str| {
        let mut o = observed(containers);
        o.seen_mut("a").image_id = id.to_owned();
        let p = pod(json!({"containers": [{"name": "a", "image": image}]}));
        compute(&p, &o, &[], None, at(105)).container_statuses.unwrap().remove(0).image
    };
    let by_digest = format!("busybox@sha256:{}", "0".repeat(64));
    for (image, containers, id, want) in [
        ("busybox", "a=run", "x", "docker.io/library/busybox:latest"),
        ("a.b/c:1", "a=run", "x", "a.b/c:1"),
        ("busybox", "", "", "busybox"),
        (&by_digest, "a=run", "x", &by_digest),
        // What runs from no image has no name to be made whole.
        ("stoa.dev/host", "a=run", "", "stoa.dev/host"),
    ] {
        assert_eq!(name(image, containers, id), want);
    }
}

#[test]
fn a_resting_container_says_for_how_long() {
    let status =
        compute(&pod(json!({"containers": [{"name": "a"}]})), &observed("a=resting"), &[], None, at(105));
    let state = &status.container_statuses.unwrap()[0];
    assert_eq!(
        state.state.as_ref().unwrap().waiting.as_ref().unwrap().message.as_deref(),
        Some("back-off 1m20s restarting failed container=a pod=p_n(u)")
    );
    assert_eq!(read_terminated(state.last_state.as_ref()), Some(ended(1)));
}

#[test]
fn an_end_that_is_news_is_told_before_the_rest_after_it() {
    let p = pod(json!({"containers": [{"name": "a"}]}));
    let state = |o: &Observed| {
        let status = compute(&p, o, &[], None, at(105)).container_statuses.unwrap().remove(0);
        (status.state.unwrap(), read_terminated(status.last_state.as_ref()))
    };
    let mut o = observed("a=resting");
    o.seen_mut("a").is_news = true;
    assert_eq!(state(&o), (terminated(&ended(1)), None));
    let unstarted = Ended { reason: START_ERROR.into(), message: "no such file".into(), ..ended(128) };
    o.seen_mut("a").life = Life::Ended(unstarted.clone());
    let words = "no such file".to_owned();
    assert_eq!(state(&o), (waiting("RunContainerError", Some(&words)), Some(unstarted)));
    o.seen_mut("a").hook_error = Some("hooked".to_owned());
    assert_eq!(state(&o).0.waiting.unwrap().reason.as_deref(), Some("PostStartHookError"));
    o.seen_mut("a").is_news = false;
    assert_eq!(state(&o).0.waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    // It is tried again in this moment: still it never ran.
    let status = compute(&p, &o, &[], None, at(1_000)).container_statuses.unwrap().remove(0);
    assert_eq!(status.state.unwrap().waiting.unwrap().reason.as_deref(), Some("RunContainerError"));
}

#[test]
fn a_pod_out_of_time_fails_with_the_words_it_was_given() {
    let spec = json!({"containers": [{"name": "a"}]});
    let mut o = observed("a=run");
    o.doom = Some(Doom::Failed { reason: "DeadlineExceeded".into(), message: "late".into() });
    assert!(show(&spec, &o).starts_with("Running"));
    assert_eq!(compute(&pod(spec.clone()), &o, &[], None, at(105)).reason, None);
    o.seen_mut("a").end(ended(143));
    let status = compute(&pod(spec), &o, &[], None, at(105));
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn a_transition_keeps_its_time_until_it_turns() {
    let spec = json!({"containers": [{"name": "a"}]});
    let first = compute(&pod(spec.clone()), &observed("a=run"), &[], None, at(10));
    let second = compute(&pod(spec.clone()), &observed("a=run"), &[], Some(&first), at(20));
    assert_eq!(first, second);
    let third = compute(&pod(spec), &observed("a=unready"), &[], Some(&second), at(30));
    let conditions = third.conditions.unwrap();
    assert!(conditions.iter().all(|c| c.observed_generation == Some(3)));
    assert!(conditions.iter().any(|c| c.type_ == "PodScheduled" && c.status == "True"));
    let ready = conditions.into_iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(ready.last_transition_time, Some(meta_time(at(30))));
    assert_eq!(third.observed_generation, Some(3));
}

#[test]
fn a_container_is_not_said_to_run_before_its_first_hook_has_ended() {
    let spec = json!({"containers": [{"name": "a"}]});
    let mut o = observed("a=run");
    let mut show_with = |hooking: bool, attempts: u32| {
        let seen = o.seen_mut("a");
        (seen.hooking, seen.attempts) = (hooking, attempts);
        show(&spec, &o)
    };
    let unready = "+ + -ContainersNotReady -ContainersNotReady";
    assert_eq!(show_with(true, 1), format!("Pending [{unready}] a:ContainerCreating"));
    assert_eq!(show_with(false, 1), "Running [+ + + +] a:Running+");
    // A pod that ran once does not wait again.
    assert_eq!(show_with(true, 2), format!("Running [{unready}] a:Running"));
}

#[test]
fn a_container_that_there_was_tells_of_its_resources_also_where_it_names_none() {
    let amount = json!({"requests": {"cpu": "100m"}});
    let spec = json!({"containers": [{"name": "a"}, {"name": "b", "resources": amount}, {"name": "c", "resources": amount}]});
    let status = compute(&pod(spec), &observed("a=run b=fail"), &[], None, at(105));
    let told: Vec<Value> = status
        .container_statuses
        .unwrap()
        .iter()
        .map(|c| json!([c.name, c.resources, c.allocated_resources]))
        .collect();
    let want = [json!(["a", {}, null]), json!(["b", amount, {"cpu": "100m"}]), json!(["c", null, null])];
    assert_eq!(told, want);
}

#[test]
fn a_pod_tells_what_its_containers_have_together() {
    let of = |cpu: &str, limit: &str| json!({"requests": {"cpu": cpu}, "limits": {"memory": limit}});
    let spec = json!({
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": of("100m", "1Gi")},
            {"name": "i", "resources": of("1", "1Gi")}],
        "containers": [{"name": "a", "resources": of("300m", "512Mi")}, {"name": "b"}],
        "overhead": {"cpu": "10m", "memory": "1Mi"}});
    let told = |spec: &Value| {
        let status = compute(&pod(spec.clone()), &observed(""), &[], None, at(105));
        json!([status.resources, status.allocated_resources])
    };
    let (limits, asked) = (json!({"memory": "2049Mi"}), json!({"cpu": "1110m", "memory": "1Mi"}));
    assert_eq!(told(&spec), json!([{"limits": limits, "requests": asked}, asked]));
    assert_eq!(told(&json!({"containers": [{"name": "a"}]})), json!([{}, null]));
    let mut own = spec.clone();
    own["resources"] = json!({"requests": {"cpu": "3"}});
    assert_eq!(told(&own)[1], json!({"cpu": "3010m", "memory": "1Mi"}));
}

#[test]
fn all_last_words_of_a_pod_have_a_bound() {
    let six: Vec<Value> = ('a'..='f').map(|c| json!({"name": c.to_string()})).collect();
    let mut o = observed("a=fail b=run");
    let long = Ended { message: "\u{e9}".repeat(3_000), ..ended(1) };
    o.seen_mut("a").life = Life::Ended(long.clone());
    o.seen_mut("b").last = Some(long);
    let status = compute(&pod(json!({"containers": six})), &o, &[], None, at(105));
    let statuses = status.container_statuses.unwrap();
    let len = |state: &Option<ContainerState>| {
        state.as_ref().unwrap().terminated.as_ref().unwrap().message.as_ref().unwrap().len()
    };
    assert_eq!((len(&statuses[0].state), len(&statuses[1].last_state)), (2_048, 2_048));
}

#[test]
fn what_never_ran_is_told_as_lost_once_its_pod_is_over() {
    let row = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    for (spec, containers, want) in [
        (&two, "a=noimage", "a:ContainerStatusUnknown b:ContainerStatusUnknown"),
        (&two, "a=fail", "a:Error b:ContainerStatusUnknown"),
        (&row, "", "i:ContainerStatusUnknown j:PodInitializing a:PodInitializing"),
        (&row, "i=ok", "i:Completed+ j:PodInitializing a:PodInitializing"),
        (&row, "i=ok j=ok", "i:Completed+ j:Completed+ a:ContainerStatusUnknown"),
    ] {
        let mut o = observed(containers);
        o.doom = Some(Doom::Deleted);
        let shown = show(spec, &o);
        assert_eq!(shown.split_once("] ").unwrap().1, want, "{containers}");
    }
}

#[test]
fn a_pod_sent_back_to_its_beginning_says_so_of_each_container_once() {
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i"}],
        "containers": [{"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}]});
    let mut o = observed("i=ok a=fail");
    o.containers.values_mut().for_each(Seen::start_over);
    let unready = "+ + -ContainersNotReady -ContainersNotReady -";
    let all = "i:RestartingAllContainers a:RestartingAllContainers";
    assert_eq!(show(&spec, &o), format!("Running [{unready}] {all}"));
    o.containers.values_mut().for_each(|seen| seen.is_news = false);
    assert_eq!(show(&spec, &o), format!("Running [{unready}] i:PodInitializing a:PodInitializing"));
    o.seen_mut("i").begin("y".into(), at(101), String::new());
    assert_eq!(show(&spec, &o), format!("Pending [{unready}] i:Running a:PodInitializing"));
    let status = compute(&pod(spec), &o, &[], None, at(105));
    let (i, a) = (&status.init_container_statuses.unwrap()[0], &status.container_statuses.unwrap()[0]);
    assert_eq!((i.restart_count, a.restart_count, &a.container_id), (1, 1, &None));
    let last = a.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.reason.as_deref(), last.exit_code), (Some(RESTARTING_ALL), 137));
    assert_eq!((&last.finished_at, &last.container_id), (&None, &None));
}

#[test]
fn containers_are_told_by_name_and_init_containers_in_their_order() {
    let both = json!([{"name": "z"}, {"name": "b"}]);
    let spec = json!({"initContainers": both, "containers": [{"name": "y"}, {"name": "a"}]});
    let status = compute(&pod(spec), &observed(""), &[], None, at(105));
    let names =
        |list: Option<Vec<ContainerStatus>>| list.unwrap().into_iter().map(|c| c.name).collect::<Vec<_>>();
    assert_eq!(names(status.init_container_statuses), ["z", "b"]);
    assert_eq!(names(status.container_statuses), ["a", "y"]);
}
