use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Amount, Error> {
    amount(&serde_json::from_str::<Vec<Resource>>(text).unwrap())
}

#[test]
fn a_resource_list_adds_up_in_whole_units() {
    let a = read(
        r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"role":"*"},
            {"name":"cpus","type":"SCALAR","scalar":{"value":"0.2"}},
            {"name":"mem","type":"SCALAR","scalar":{"value":32}},
            {"name":"gpus","type":"SCALAR","scalar":{"value":0}},
            {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31002,"end":31003},{"begin":31000.0,"end":"31001"}]}},
            {"name":"widgets","type":"SCALAR","scalar":{"value":1.5},"allocation_info":{"role":"a"}}]"#,
    )
    .unwrap();
    assert_eq!(a.resources.milli_cpu, 300);
    assert_eq!(a.resources.memory_bytes, 32 << 20);
    assert_eq!(a.resources.ports.to_string(), "[31000-31003]");
    assert_eq!(a.resources.extended_milli("widgets"), 1500);
    assert_eq!(a.resources.extended.len(), 1, "a zero scalar is dropped");
    assert_eq!(a.allocated_to.as_deref(), Some("a"));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (text, want) in [
        (r#"[{"name":"cpus","type":"SCALAR"}]"#, "Resource 'cpus' of type SCALAR has no value of that type"),
        (r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]"#, "Invalid scalar resource 'cpus': -1"),
        (
            r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":"NaN"}}]"#,
            "Invalid scalar resource 'cpus': NaN",
        ),
        (
            r#"[{"name":"mem","type":"SCALAR","scalar":{"value":"Infinity"}}]"#,
            "Invalid scalar resource 'mem': inf",
        ),
        (
            r#"[{"name":"gpus","type":"SCALAR","scalar":{"value":0.5}}]"#,
            "The 'gpus' resource must be an unsigned integer",
        ),
        (
            r#"[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":2,"end":1}]}}]"#,
            "Invalid ranges resource 'ports': [2-1]",
        ),
        (
            r#"[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":65536}]}}]"#,
            "Invalid ranges resource 'ports': [1-65536]",
        ),
        (
            r#"[{"name":"ports","type":"SCALAR","scalar":{"value":1}}]"#,
            "Resource 'ports' of type SCALAR is not known here",
        ),
        (
            r#"[{"name":"gpus","type":"SET","set":{"item":["a"]}}]"#,
            "Resource 'gpus' of type SET is not known here",
        ),
        (
            r#"[{"name":"mem","type":"SCALAR","scalar":{"value":1},"role":"a"}]"#,
            "Resource 'mem' is reserved, which no agent here offers",
        ),
        (
            r#"[{"name":"mem","type":"SCALAR","scalar":{"value":1},"revocable":{}}]"#,
            "Resource 'mem' is revocable, which no agent here offers",
        ),
        (
            r#"[{"name":"mem","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"a"}},
                {"name":"cpus","type":"SCALAR","scalar":{"value":1},"allocation_info":{"role":"b"}}]"#,
            "The resources have multiple allocation roles ('a' and 'b') but only one allocation role is allowed",
        ),
    ] {
        assert_eq!(read(text).map_err(|e| e.to_string()), Err(want.into()), "{text}");
    }
}

#[test]
fn the_flat_and_text_forms_are_those_of_the_legacy_endpoints() {
    let mut r = Resources { milli_cpu: 8000, memory_bytes: 1 << 30, ..Default::default() };
    r.ports = PortSet::from_ranges([PortRange { begin: 31000, end: 32000 }]);
    assert_eq!(
        flat(&r).to_string(),
        r#"{"cpus":8.0,"disk":0.0,"gpus":0.0,"mem":1024.0,"ports":"[31000-32000]"}"#
    );
    assert_eq!(text(&r), "cpus:8; mem:1024; ports:[31000-32000]");
    assert_eq!(text(&Resources::default()), "{}");
}

proptest! {
    #[test]
    fn what_was_offered_and_comes_back_fits_what_was_there(
        cpu in 0u64..1 << 40, mem in 0u64..1 << 49, disk in 0u64..1 << 49, begin in 0u16..60000, n in 0u16..5000,
    ) {
        let have = Resources {
            milli_cpu: cpu, memory_bytes: mem, disk_bytes: disk,
            ports: PortSet::from_ranges([PortRange { begin, end: begin + n }]), ..Default::default()
        };
        let wire = serde_json::to_string(&list(&have, Some("r"))).unwrap();
        let back = read(&wire).unwrap();
        prop_assert!(have.contains(&back.resources));
        prop_assert_eq!(back.resources.milli_cpu, cpu);
        prop_assert!(mem - back.resources.memory_bytes <= 1 << 20);
        // A second trip changes nothing more: the fixed point is reached at once.
        let again = amount(&list(&back.resources, None)).unwrap().resources;
        prop_assert!(back.resources.memory_bytes - again.memory_bytes <= 2 << 10);
    }
}
