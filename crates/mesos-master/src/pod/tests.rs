use super::*;
use stoa_mesos::framework::FrameworkInfo;

fn rendered(task: &str) -> Value {
    let task: TaskInfo = serde_json::from_str(task).unwrap();
    let info: FrameworkInfo = serde_json::from_str(r#"{"user":"root","name":"n"}"#).unwrap();
    let mut resources = stoa_mesos::resource::amount(&task.resources).unwrap().resources;
    resources.pods = 1;
    let place = Place {
        framework: &"f-0000".into(),
        info: &info,
        agent: &"a1".into(),
        role: "*",
        namespace: "mesos",
        name: "t-1",
        volumes_dir: None,
    };
    render_pod(place, &Launch { task, resources, marked: vec![], under: None }).unwrap()
}

#[test]
fn a_shell_task_becomes_a_host_pod() {
    let pod = rendered(
        r#"{"name":"sleeper","task_id":{"value":"Job:1"},"agent_id":{"value":"a1"},
        "command":{"value":"echo $$ $(date)","environment":{"variables":[{"name":"X","value":"$Y"}]}},
        "kill_policy":{"grace_period":{"nanoseconds":1500000000}},"max_completion_time":{"nanoseconds":60000000000},
        "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.5}},{"name":"mem","type":"SCALAR","scalar":{"value":16}},
        {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":31001}]}}]}"#,
    );
    insta::assert_json_snapshot!(pod);
}

#[test]
fn without_a_shell_the_arguments_are_argv() {
    let pod = rendered(
        r#"{"name":"n","task_id":{"value":"t"},"agent_id":{"value":"a1"},
        "command":{"shell":false,"value":"/bin/echo","arguments":["echo","a b"]},
        "container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"busybox"}}}},
        "limits":{"mem":{"value":"Infinity"},"cpus":{"value":2}},
        "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"mem","type":"SCALAR","scalar":{"value":64}}]}"#,
    );
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["command"], json!(["/bin/echo"]));
    assert_eq!(container["args"], json!(["a b"]));
    assert_eq!(container["image"], "busybox");
    assert_eq!(container["resources"]["limits"], json!({"cpu": "2000m"}));
}

#[test]
fn names_and_namespaces_are_what_kubernetes_accepts() {
    for (task, stem) in [("Job:1", "job-1-"), ("___", "task-"), ("a", "a-"), (&"x".repeat(300), "xxxx")] {
        let name = pod_name(&"f".into(), task, "o");
        assert!(name.starts_with(stem), "{name}");
        assert!(check_dns_label(&name).is_ok(), "{name}");
    }
    assert_ne!(pod_name(&"f".into(), "a:b", "o"), pod_name(&"f".into(), "a/b", "o"));
    assert_ne!(pod_name(&"f".into(), "a", "o1"), pod_name(&"f".into(), "a", "o2"));
    assert_eq!(namespaces("*")[0], "mesos");
    assert_eq!(namespaces("web")[0], "web");
    // What a namespace cannot spell, and names of the cluster's own, are set apart.
    for role in ["a/b", "a-B", "kube-system", "mesos", &"r".repeat(100)] {
        for name in namespaces(role) {
            assert!(name.starts_with("mesos-") && check_dns_label(&name).is_ok(), "{role}: {name}");
        }
    }
    assert_ne!(namespaces("a/b"), namespaces("a-b/"));
    assert_eq!(label_safe("a.b_c"), "a.b_c");
    assert_eq!(label_safe("a b").len(), 10);
}
