use super::*;

fn offered() -> Resources {
    Resources {
        milli_cpu: 4000,
        memory_bytes: 4 << 30,
        pods: 10,
        ports: stoa_units::PortSet::from_ranges([stoa_units::PortRange { begin: 31000, end: 31010 }]),
        ..Default::default()
    }
}

fn plan(operations: &str) -> Plan {
    let operations: Vec<Operation> = serde_json::from_str(operations).unwrap();
    let running: stoa_mesos::task::ExecutorInfo =
        serde_json::from_str(r#"{"executor_id":{"value":"running"},"command":{"value":"x"}}"#).unwrap();
    let offered = Stock { plain: offered(), marked: vec![] };
    let accept = Accept {
        agent: &"a1".into(),
        role: "web",
        offered: &offered,
        operations: &operations,
        executors: &[running],
        principal: None,
    };
    plan_accept(accept, &|id| id.as_str() == "old", &|_| Ok(()))
}

fn launch(tasks: &[String]) -> Plan {
    plan(&format!(r#"[{{"type":"LAUNCH","launch":{{"task_infos":[{}]}}}}]"#, tasks.join(",")))
}

/// A good task, with parts replaced.
fn task(id: &str, more: &str) -> String {
    let mut t: serde_json::Value = serde_json::from_str(
        r#"{"name":"n","agent_id":{"value":"a1"},"command":{"value":"true"},
        "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":64}}]}"#,
    )
    .unwrap();
    t["task_id"] = serde_json::json!({ "value": id });
    let more: serde_json::Map<String, serde_json::Value> = serde_json::from_str(more).unwrap();
    for (k, v) in more {
        if v.is_null() {
            t.as_object_mut().unwrap().remove(&k);
        } else {
            t[&k] = v;
        }
    }
    t.to_string()
}

#[test]
fn tasks_take_from_the_offer_in_order_until_it_is_used_up() {
    let p = launch(&[
        task("t1", "{}"),
        task("t2", "{}"),
        task("t3", r#"{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":3}}]}"#),
        task("t4", "{}"),
    ]);
    let launched: Vec<&str> = p.launches.iter().map(|l| l.task.task_id.value.as_str()).collect();
    assert_eq!(launched, ["t1", "t2", "t4"]);
    assert_eq!(p.remainder.milli_cpu, 1000);
    assert_eq!(p.remainder.pods, 7, "a task is one pod");
    assert_eq!(p.refusals.len(), 1);
    assert_eq!(
        p.refusals[0].message,
        "Total resources cpus:3 required by task and its executor is more than available cpus:2; mem:3968; ports:[31000-31010]"
    );
}

#[test]
fn a_bad_task_is_refused_with_mesos_words() {
    for (id, more, want) in [
        ("", "{}", "ID must not be empty"),
        ("a/b", "{}", "'a/b' contains invalid characters"),
        ("..", "{}", "'..' is disallowed"),
        ("old", "{}", "Task has duplicate ID: old"),
        ("t", r#"{"agent_id":{"value":"a2"}}"#, "Task uses invalid agent a2 while agent a1 is expected"),
        (
            "t",
            r#"{"command":null}"#,
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        (
            "t",
            r#"{"executor":{"executor_id":{"value":"e"}}}"#,
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        ("t", r#"{"command":{}}"#, "Shell command is not specified"),
        ("t", r#"{"resources":[]}"#, "Task uses no resources"),
        (
            "t",
            r#"{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"x"}}]}"#,
            "Task uses resources allocated to role 'x' but the offers are allocated to role 'web'",
        ),
        (
            "t",
            r#"{"resources":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":80,"end":80}]}}]}"#,
            "Total resources ports:[80-80] required by task and its executor is more than available cpus:4; mem:4096; ports:[31000-31010]",
        ),
        (
            "t",
            r#"{"kill_policy":{"grace_period":{"nanoseconds":-1}}}"#,
            "Task's 'kill_policy.grace_period' must be non-negative",
        ),
        (
            "t",
            r#"{"limits":{"cpus":{"value":0.5}}}"#,
            "Resource limit for 'cpus' (0.5) is less than its request (1)",
        ),
        (
            "t",
            r#"{"container":{"type":"DOCKER","docker":{"image":"x","network":"NONE"}}}"#,
            "Docker network NONE is not supported by this master",
        ),
    ] {
        let p = launch(&[task(id, more)]);
        assert!(p.launches.is_empty(), "{id} {more}");
        assert_eq!(p.refusals[0].message, want);
        assert_eq!(p.refusals[0].reason, Reason::TaskInvalid);
        assert_eq!(p.remainder, offered());
    }
}

#[test]
fn what_python_clients_add_does_no_harm() {
    let more = r#"{"limits":{"mem":{"value":"Infinity"}},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},
        {"name":"gpus","type":"SCALAR","scalar":{"value":0}}],"container":{"type":"MESOS","mesos":{}},"data":"eA=="}"#;
    let p = launch(&[task("t", more)]);
    assert_eq!(p.refusals, []);
    assert_eq!(p.launches[0].resources, Resources { milli_cpu: 500, pods: 1, ..Default::default() });
}

#[test]
fn the_same_id_twice_in_one_call_is_refused_once() {
    let p = launch(&[task("t", "{}"), task("t", "{}")]);
    assert_eq!((p.launches.len(), p.refusals.len()), (1, 1));
}

#[test]
fn other_operations_are_answered_where_an_answer_was_asked_for() {
    let p = plan(
        r#"[{"type":"RESERVE","reserve":{"resources":[]}},{"type":"CREATE","id":{"value":"op"}},
            {"type":"LAUNCH_GROUP","launch_group":{"executor":{"executor_id":{"value":"e"}},"task_group":{"tasks":[
             {"name":"n","task_id":{"value":"t"},"agent_id":{"value":"a1"}}]}}}]"#,
    );
    assert_eq!(p.failed_operations, [("op".into(), "Expecting 'create' to be present".into())]);
    assert_eq!(p.refusals[0].reason, Reason::TaskGroupInvalid);
    assert_eq!(p.remainder, offered());
}

/// A task under a custom executor that takes half a CPU itself.
fn under(id: &str, executor: &str, command: &str) -> String {
    let more = format!(
        r#"{{"command":null,"executor":{{"executor_id":{{"value":"{executor}"}},"command":{{"value":"{command}"}},
           "resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":0.5}}}}]}}}}"#
    );
    task(id, &more)
}

#[test]
fn an_executor_is_paid_for_by_its_first_task_alone() {
    let p = launch(&[under("t1", "e", "x"), under("t2", "e", "x")]);
    assert_eq!(p.refusals, []);
    let starts: Vec<bool> =
        p.launches.iter().map(|l| l.under.as_ref().is_some_and(|u| u.start.is_some())).collect();
    assert_eq!(starts, [true, false]);
    assert_eq!((p.remainder.milli_cpu, p.remainder.pods), (1500, 9), "an executor and its tasks are one pod");
}

#[test]
fn an_executor_that_differs_from_the_one_that_runs_is_refused() {
    for (id, command) in [("running", "y"), ("e", "y")] {
        let p = launch(&[under("t1", "e", "x"), under("t2", id, command)]);
        assert_eq!(
            p.refusals[0].message,
            format!("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID '{id}'")
        );
    }
    let p = launch(&[task("t", r#"{"command":null,"executor":{"executor_id":{"value":"e"}}}"#)]);
    assert_eq!(p.refusals[0].message, "'ExecutorInfo.command' must be set for 'CUSTOM' executor");
}

fn group(executor: &str, tasks: &[String]) -> Plan {
    plan(&format!(
        r#"[{{"type":"LAUNCH_GROUP","launch_group":{{"executor":{executor},"task_group":{{"tasks":[{}]}}}}}}]"#,
        tasks.join(",")
    ))
}

#[test]
fn a_group_is_taken_whole_or_not_at_all() {
    let executor = r#"{"type":"DEFAULT","executor_id":{"value":"g"},"resources":[
        {"name":"cpus","type":"SCALAR","scalar":{"value":0.5}}]}"#;
    let p = group(executor, &[task("t1", "{}"), task("t2", "{}")]);
    assert_eq!(p.groups.len(), 1);
    assert_eq!((p.remainder.milli_cpu, p.remainder.pods), (1500, 9));
    let big = r#"{"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":3}}]}"#;
    for tasks in [
        vec![task("t1", "{}"), task("t2", big)],
        vec![task("t1", "{}"), task("t1", "{}")],
        vec![task("t1", "{}"), under("t2", "e", "x")],
    ] {
        let p = group(executor, &tasks);
        assert!(p.groups.is_empty() && p.refusals.len() == 2, "{:?}", p.refusals);
        assert!(p.refusals.iter().all(|r| r.reason == Reason::TaskGroupInvalid));
        assert_eq!(p.remainder, offered());
    }
    let p = group(r#"{"executor_id":{"value":"g"},"command":{"value":"x"}}"#, &[task("t1", "{}")]);
    assert_eq!(p.refusals.len(), 1);
}

#[test]
fn a_task_uses_what_the_same_call_reserved_and_made() {
    let reserved = |name: &str, n: f64, more: &str| {
        format!(
            r#"{{"name":"{name}","type":"SCALAR","scalar":{{"value":{n}}},"role":"web","reservation":{{"principal":"p"}}{more}}}"#
        )
    };
    let volume = reserved(
        "disk",
        64.0,
        r#","disk":{"persistence":{"id":"v1","principal":"p"},"volume":{"container_path":"data","mode":"RW"}}"#,
    );
    let (cpus, disk) = (reserved("cpus", 1.0, ""), reserved("disk", 64.0, ""));
    let mut offered = Stock { plain: offered(), marked: vec![] };
    offered.plain.disk_bytes = 100 << 20;
    let t = task(
        "t",
        &format!(
            r#"{{"resources":[{cpus},{{"name":"mem","type":"SCALAR","scalar":{{"value":32}}}},{volume}]}}"#
        ),
    );
    let u = task("u", &format!(r#"{{"resources":[{volume}]}}"#));
    let operations: Vec<Operation> = serde_json::from_str(&format!(
        r#"[{{"type":"RESERVE","reserve":{{"resources":[{cpus},{disk}]}}}},
            {{"type":"CREATE","create":{{"volumes":[{volume}]}}}},
            {{"type":"LAUNCH","launch":{{"task_infos":[{t},{u}]}}}},
            {{"type":"DESTROY","id":{{"value":"d"}},"destroy":{{"volumes":[{volume}]}}}}]"#
    ))
    .unwrap();
    let accept = Accept {
        agent: &"a1".into(),
        role: "web",
        offered: &offered,
        operations: &operations,
        executors: &[],
        principal: None,
    };
    let p = plan_accept(accept, &|_| false, &|_| Ok(()));
    assert_eq!(p.done.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(p.launches.len(), 1, "{:?}", p.refusals);
    let split = p.launches[0].split();
    assert_eq!((split.amount.milli_cpu, split.amount.disk_bytes, split.draws.len()), (1000, 0, 2));
    assert_eq!(p.refusals[0].task.as_str(), "u", "a volume is used by one task");
    assert_eq!(p.failed_operations[0].0, "d", "and not destroyed while it is");
    assert_eq!(p.rest().amount.milli_cpu, 3000);
    // Whoever may not, does not.
    let p = plan_accept(accept, &|_| false, &|_| Err("no".into()));
    assert!(p.changes.is_empty() && p.launches.is_empty());
}
