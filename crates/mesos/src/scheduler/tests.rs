use super::*;
use crate::framework::Capability;
use crate::json::to_ascii;

fn check(text: &str) -> Result<Request, String> {
    serde_json::from_str::<Call>(text).map_err(|e| e.to_string())?.check()
}

/// The bodies are those that pymesos 0.3.15 and dpark 0.5.0 send, with the fields no Mesos knows left in.
#[test]
fn calls_of_python_clients_are_understood() {
    let subscribe = check(
        r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"nobody","name":"[dpark] wc.py","hostname":"h",
            "webui_url":"","failover_timeout":100,"capabilities":[{"type":"GPU_RESOURCES"},{"type":"PARTITION_AWARE"}],
            "checkpoint":false,"principal":""},"credentials":{"principal":"p"}},"framework_id":{"value":""}}"#,
    )
    .unwrap();
    let Request::Subscribe(s) = subscribe else { panic!("{subscribe:?}") };
    assert!(s.framework_info.has(Capability::GpuResources));
    assert_eq!(s.framework_info.known_id(), None);

    let accept = check(
        r#"{"type":"ACCEPT","framework_id":{"value":"f"},"accept":{"offer_ids":[{"value":"o1"}],"operations":[{"type":"LAUNCH",
            "launch":{"task_infos":[{"name":"task 1","task_id":{"value":"1:0:1"},"agent_id":{"value":"a"},"slave_id":{"value":"a"},
            "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1.0}},{"name":"mem","type":"SCALAR","scalar":{"value":1000}},
            {"name":"gpus","type":"SCALAR","scalar":{"value":0}}],"data":"gAR9lC4=","executor":{"executor_id":{"value":"default"},
            "framework_id":{"value":"f"},"command":{"value":"/usr/bin/python3 executor.py","environment":{"variables":[{"name":"UID","value":"1000"}]}},
            "data":"eA==","resources":[]}}]}}],"filters":{"refuse_seconds":4294967295}}}"#,
    )
    .unwrap();
    let Request::Of(id, command) = accept else { panic!() };
    assert_eq!(id.as_str(), "f");
    let Command::Accept(a) = *command else { panic!() };
    assert_eq!(a.filters.unwrap().refuse_seconds, Some(Double(4_294_967_295.0)));
    let task = &a.operations[0].launch.as_ref().unwrap().task_infos[0];
    assert_eq!(task.task_id.value.as_str(), "1:0:1");
    assert!(task.executor.is_some() && task.command.is_none());

    for (text, want) in [
        (r#"{"type":"REVIVE","framework_id":{"value":"f"}}"#, Command::Revive(vec![])),
        (r#"{"type":"SUPPRESS","framework_id":{"value":"f"}}"#, Command::Suppress(vec![])),
        (
            r#"{"type":"SUPPRESS","framework_id":{"value":"f"},"suppress":{"roles":["a"]}}"#,
            Command::Suppress(vec!["a".into()]),
        ),
        (r#"{"type":"TEARDOWN","framework_id":{"value":"f"}}"#, Command::Teardown),
        (
            r#"{"type":"KILL","framework_id":{"value":"f"},"kill":{"task_id":{"value":"t"}}}"#,
            Command::Kill(Kill { task_id: Id::new("t"), agent_id: None, kill_policy: None }),
        ),
        (
            r#"{"type":"ACKNOWLEDGE_OPERATION_STATUS","framework_id":{"value":"f"},"acknowledge_operation_status":{"uuid":"eA==","status":{"operation_id":{"value":"o"}}}}"#,
            Command::AcknowledgeOperation(AcknowledgeOperation {
                uuid: Some(Blob(b"x".to_vec())),
                operation_id: None,
                agent_id: None,
                status: Some(serde_json::json!({"operation_id": {"value": "o"}})),
            }),
        ),
        (
            r#"{"type":"RECONCILE","framework_id":{"value":"f"},"reconcile":{}}"#,
            Command::Reconcile(Reconcile { tasks: vec![] }),
        ),
    ] {
        assert_eq!(check(text), Ok(Request::Of("f".into(), Box::new(want))), "{text}");
    }
}

#[test]
fn an_incomplete_call_says_what_is_missing() {
    for (text, want) in [
        ("{}", "Expecting 'type' to be present"),
        (r#"{"type":"SUBSCRIBE"}"#, "Expecting 'subscribe' to be present"),
        (r#"{"type":"DECLINE"}"#, "Expecting 'framework_id' to be present"),
        (r#"{"type":"DECLINE","framework_id":{"value":"f"}}"#, "Expecting 'decline' to be present"),
        (r#"{"type":"KILL","framework_id":{"value":"f"}}"#, "Expecting 'kill' to be present"),
        (r#"{"type":"SOMETHING","framework_id":{"value":"f"}}"#, "Expecting 'type' to be present"),
        (
            r#"{"type":"ACKNOWLEDGE","framework_id":{"value":"f"},"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"eA=="}}"#,
            "Not a valid UUID: 1 bytes instead of 16",
        ),
        (
            r#"{"type":"SUBSCRIBE","framework_id":{"value":"f"},"subscribe":{"framework_info":{"user":"u","name":"n"}}}"#,
            "'framework_id' differs from 'subscribe.framework_info.id'",
        ),
    ] {
        assert_eq!(check(text), Err(want.into()), "{text}");
    }
    assert!(check(r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"name":"n"}}}"#).is_err());
}

#[test]
fn events_are_compact_records() {
    let record = Event::Heartbeat.to_record(Encoding::Json);
    assert_eq!(&record[..], b"20\n{\"type\":\"HEARTBEAT\"}");
    let subscribed = Event::Subscribed {
        subscribed: Subscribed {
            framework_id: Id::new("f-0000"),
            heartbeat_interval_seconds: Some(Double(15.0)),
            master_info: None,
        },
    };
    insta::assert_snapshot!(String::from_utf8(to_ascii(&subscribed)).unwrap(),
        @r#"{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"f-0000"},"heartbeat_interval_seconds":15.0}}"#);
    let offer = Offer {
        id: Id::new("o"),
        framework_id: Id::new("f"),
        agent_id: Id::new("a"),
        hostname: "höst".into(),
        resources: crate::resource::list(
            &stoa_units::Resources { milli_cpu: 1500, memory_bytes: 1 << 30, ..Default::default() },
            None,
        ),
        attributes: vec![],
        executor_ids: vec![],
        url: None,
        domain: None,
        allocation_info: None,
        unavailability: None,
    };
    insta::assert_snapshot!(String::from_utf8(to_ascii(&Event::Offers { offers: Offers { offers: vec![offer] } })).unwrap(),
        @r#"{"type":"OFFERS","offers":{"offers":[{"id":{"value":"o"},"framework_id":{"value":"f"},"agent_id":{"value":"a"},"hostname":"h\u00f6st","resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1.5},"role":"*"},{"name":"mem","type":"SCALAR","scalar":{"value":1024.0},"role":"*"}],"attributes":[],"executor_ids":[]}]}}"#);
    let failure = Event::Failure {
        failure: Failure {
            agent_id: Some(Id::new("a")),
            executor_id: Some(Id::new(ExecutorId("e".into()))),
            status: Some(Int(256)),
        },
    };
    insta::assert_snapshot!(String::from_utf8(to_ascii(&failure)).unwrap(),
        @r#"{"type":"FAILURE","failure":{"agent_id":{"value":"a"},"executor_id":{"value":"e"},"status":256}}"#);
}
