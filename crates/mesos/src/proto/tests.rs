use super::*;
use crate::scheduler::Call;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn every_line_of_the_table_is_understood() {
    let text = include_str!("../../data/v1.txt");
    let lines = text.lines().filter(|l| !l.starts_with('#')).count();
    let fields: usize = TABLE.messages.iter().map(|m| m.fields.len()).sum();
    let values: usize = TABLE.enums.iter().map(Vec::len).sum();
    assert_eq!(TABLE.messages.len() + TABLE.enums.len() + fields + values, lines);
    for name in [
        "scheduler.Call",
        "scheduler.Event",
        "executor.Call",
        "executor.Event",
        "master.Call",
        "master.Response",
        "master.Event",
        "agent.Call",
        "agent.Response",
        "agent.ProcessIO",
    ] {
        assert!(has(name), "{name}");
    }
}

#[test]
fn a_call_in_protobuf_is_the_call_in_json() {
    // SUBSCRIBE { framework_info { user: "root" name: "n" capabilities { MULTI_ROLE } roles: "a" } }, by hand.
    let info = b"\x0a\x04root\x12\x01n\x52\x02\x08\x06\x62\x01a";
    let mut subscribe = vec![0x0a, info.len() as u8];
    subscribe.extend_from_slice(info);
    let mut bytes = vec![0x10, 0x01, 0x1a, subscribe.len() as u8];
    bytes.extend_from_slice(&subscribe);
    let value = decode("scheduler.Call", &bytes).unwrap();
    assert_eq!(
        value,
        json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "n",
            "capabilities": [{"type": "MULTI_ROLE"}], "roles": ["a"]}}})
    );
    assert!(serde_json::from_value::<Call>(value.clone()).unwrap().check().is_ok());
    assert_eq!(decode("scheduler.Call", &encode("scheduler.Call", &value)).unwrap(), value);
}

#[test]
fn every_kind_of_value_survives_both_ways() {
    let task = json!({
        "name": "t", "task_id": {"value": "t1"}, "agent_id": {"value": "a1"},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}},
        ],
        "command": {"value": "true", "shell": false, "arguments": ["a", "b"]},
        "kill_policy": {"grace_period": {"nanoseconds": -5}},
        "data": "AAEC/w==",
        "limits": {"cpus": {"value": "Infinity"}, "mem": {"value": 64.0}},
    });
    assert_eq!(decode("TaskInfo", &encode("TaskInfo", &task)).unwrap(), task);
    let drain = json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": {"value": "a"}, "max_grace_period": "1.500000000s",
        "mark_gone": true}});
    assert_eq!(decode("master.Call", &encode("master.Call", &drain)).unwrap(), drain);
}

#[test]
fn what_the_table_does_not_know_is_passed_over() {
    let value = json!({"type": "HEARTBEAT", "pod": {"namespace": "x"}});
    assert_eq!(
        decode("scheduler.Event", &encode("scheduler.Event", &value)).unwrap(),
        json!({"type": "HEARTBEAT"})
    );
    // Field 1000 as text, then type 13 (SUPPRESS is 12, REQUEST 11), then an enum value from the future.
    assert_eq!(decode("scheduler.Call", b"\xc2\x3e\x01x\x10\x0c").unwrap(), json!({"type": "SUPPRESS"}));
    assert_eq!(decode("scheduler.Call", b"\x10\xe8\x07").unwrap(), json!({}));
}

#[test]
fn bad_bytes_are_named() {
    assert_eq!(decode("scheduler.Call", b"\x10"), Err(Error::Malformed("scheduler.Call")));
    assert_eq!(decode("scheduler.Call", b"\x1a\x7f\x00"), Err(Error::Malformed("scheduler.Call")));
    assert_eq!(decode("OfferID", b""), Err(Error::Missing { message: "OfferID", field: "value" }));
    assert_eq!(decode("Nothing", b""), Err(Error::Unknown("Nothing".into())));
    // A ContainerID whose parents never end.
    let mut bytes = b"\x0a\x01x".to_vec();
    for _ in 0..100 {
        let mut outer = b"\x0a\x01x".to_vec();
        put_part(&mut outer, 2, &bytes);
        bytes = outer;
    }
    assert_eq!(decode("ContainerID", &bytes), Err(Error::TooDeep));
}

#[test]
fn durations_are_read_as_protobuf_writes_them() {
    for (text, want) in [
        ("5s", Some((5, 0))),
        ("0.5s", Some((0, 500_000_000))),
        ("-1.25s", Some((-1, -250_000_000))),
        ("5", None),
        ("s", None),
        ("1.s2s", None),
        ("--1s", None),
    ] {
        assert_eq!(parse_duration(text), want, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["scheduler.Call", "master.Call", "TaskInfo", "agent.ProcessIO"] {
            let _ = decode(name, &bytes);
        }
    }

    #[test]
    fn cut_messages_never_panic(cut in 0usize..80) {
        let value = json!({"type": "ACCEPT", "framework_id": {"value": "f"}, "accept": {"offer_ids": [{"value": "o"}],
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": []}}], "filters": {"refuse_seconds": 5.0}}});
        let bytes = encode("scheduler.Call", &value);
        let _ = decode("scheduler.Call", &bytes[..cut.min(bytes.len())]);
    }
}
