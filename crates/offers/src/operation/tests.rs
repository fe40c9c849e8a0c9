use super::*;
use serde_json::{Value, json};

fn stock() -> Stock {
    Stock {
        plain: Resources {
            milli_cpu: 4000,
            disk_bytes: 100 << 20,
            ports: PortSet::from_ranges([stoa_units::PortRange { begin: 31000, end: 31009 }]),
            ..Default::default()
        },
        marked: vec![],
    }
}

fn cpus(n: f64, roles: &[&str]) -> Value {
    let stack: Vec<Value> =
        roles.iter().map(|r| json!({"type": "DYNAMIC", "role": r, "principal": "p"})).collect();
    json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": n}, "reservations": stack})
}

fn disk(n: f64, volume: Option<&str>) -> Value {
    let mut out = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": n},
        "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "p"}]});
    if let Some(id) = volume {
        out["disk"] = json!({"persistence": {"id": id, "principal": "p"}, "volume": {"container_path": "data", "mode": "RW"}});
    }
    out
}

struct Case {
    stock: Stock,
    changes: Vec<Change>,
}

impl Case {
    fn new() -> Case {
        Case { stock: stock(), changes: vec![] }
    }

    fn run(&mut self, kind: &str, part: Value) -> Result<Done, String> {
        self.run_as(kind, part, Context { role: Some("web"), principal: Some("p") })
    }

    fn run_as(&mut self, kind: &str, part: Value, context: Context<'_>) -> Result<Done, String> {
        let mut operation = json!({"type": kind});
        operation[kind.to_ascii_lowercase()] = part;
        let operation: Operation = serde_json::from_value(operation).unwrap();
        plan_operation(&mut self.stock, &mut self.changes, &operation, context)
    }

    /// The pools' names' roles and volumes with what they gained and lost in CPUs and MiB.
    fn net(&self) -> Vec<(String, u64, u64)> {
        let of = |r: &Resources| r.milli_cpu / 1000 + (r.disk_bytes >> 20);
        self.changes
            .iter()
            .map(|c| {
                (format!("{}{}", c.mark.role(), c.mark.volume().unwrap_or("")), of(&c.gained), of(&c.lost))
            })
            .filter(|(_, g, l)| g + l > 0)
            .collect()
    }
}

#[test]
fn reserve_create_destroy_unreserve_end_where_they_began() {
    let mut c = Case::new();
    c.run("RESERVE", json!({"resources": [disk(64.0, None), cpus(1.0, &["web"])]})).unwrap();
    assert_eq!(c.stock.plain.milli_cpu, 3000);
    c.run("CREATE", json!({"volumes": [disk(64.0, Some("v1"))]})).unwrap();
    assert_eq!(c.net(), [("web".into(), 1, 0), ("webv1".into(), 64, 0)]);
    assert_eq!(c.stock.split().amount.disk_bytes, 36 << 20, "the volume's space is its own");
    assert_eq!(c.stock.split().draws.len(), 2);
    c.run("GROW_VOLUME", json!({"volume": disk(64.0, Some("v1")), "addition": disk(1.0, None)})).unwrap_err();
    c.run("RESERVE", json!({"resources": [disk(8.0, None)]})).unwrap();
    c.run("GROW_VOLUME", json!({"volume": disk(64.0, Some("v1")), "addition": disk(8.0, None)})).unwrap();
    c.run("SHRINK_VOLUME", json!({"volume": disk(72.0, Some("v1")), "subtract": {"value": 10.0}})).unwrap();
    assert_eq!(c.net(), [("web".into(), 11, 0), ("webv1".into(), 62, 0)]);
    c.run("UNRESERVE", json!({"resources": [disk(62.0, Some("v1"))]})).unwrap_err();
    c.run("DESTROY", json!({"volumes": [disk(62.0, Some("v1"))]})).unwrap();
    c.run("UNRESERVE", json!({"resources": [disk(72.0, None), cpus(1.0, &["web"])]})).unwrap();
    assert_eq!(c.stock, stock());
    assert_eq!(c.net(), []);
}

#[test]
fn reservations_are_refined_layer_by_layer() {
    let mut c = Case::new();
    let dev = Context { role: Some("eng/dev"), principal: None };
    c.run_as("RESERVE", json!({"resources": [cpus(2.0, &["eng", "eng/dev"])]}), dev).unwrap_err();
    c.run_as("RESERVE", json!({"resources": [cpus(2.0, &["eng"])]}), dev).unwrap();
    c.run_as("RESERVE", json!({"resources": [cpus(1.0, &["eng", "eng/dev"])]}), dev).unwrap();
    assert_eq!(c.net(), [("eng".into(), 1, 0), ("eng/dev".into(), 1, 0)]);
    c.run_as("UNRESERVE", json!({"resources": [cpus(1.0, &["eng", "eng/dev"])]}), dev).unwrap();
    assert_eq!(c.net(), [("eng".into(), 2, 0)]);
    // From one role to another in one step, as an operator may.
    let operator = Context { role: None, principal: None };
    let source = json!({"source": [cpus(2.0, &["eng"])], "resources": [cpus(2.0, &["ops"])]});
    c.run_as("RESERVE", source, operator).unwrap();
    assert_eq!(c.net(), [("ops".into(), 2, 0)]);
}

#[test]
fn what_may_not_be_is_refused_and_changes_nothing() {
    for (kind, part, want) in [
        ("RESERVE", json!({"resources": [cpus(5.0, &["web"])]}), "does not contain"),
        ("RESERVE", json!({"resources": [cpus(1.0, &["other"])]}), "reserved to role 'other'"),
        ("RESERVE", json!({"resources": [cpus(1.0, &[])]}), "is not reserved"),
        ("RESERVE", json!({"resources": []}), "none given"),
        ("RESERVE", json!({"resources": [cpus(1.0, &["web", "web2"])]}), "not a refinement"),
        (
            "RESERVE",
            json!({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}, "role": "web", "reservation": {"principal": "q"}}]}),
            "authenticated principal 'p'",
        ),
        (
            "RESERVE",
            json!({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}, "role": "web"}]}),
            "type DYNAMIC",
        ),
        ("CREATE", json!({"volumes": [disk(64.0, Some("v1"))]}), "does not contain"),
        ("CREATE", json!({"volumes": [disk(64.0, Some("a/b"))]}), "invalid characters"),
        ("CREATE", json!({"volumes": [disk(64.0, None)]}), "is not a persistent volume"),
        ("DESTROY", json!({"volumes": [disk(64.0, Some("v1"))]}), "does not contain"),
        ("CREATE_DISK", json!({}), "no resource provider"),
    ] {
        let mut c = Case::new();
        let error = c.run(kind, part).unwrap_err();
        assert!(error.contains(want), "{kind}: {error}");
        assert_eq!(c.stock, stock());
        assert!(c.changes.is_empty());
    }
}

#[test]
fn a_volume_is_taken_whole_and_a_shared_one_stays() {
    let mut c = Case::new();
    c.run("RESERVE", json!({"resources": [disk(64.0, None)]})).unwrap();
    let mut shared = disk(32.0, Some("s"));
    shared["shared"] = json!({});
    c.run("CREATE", json!({"volumes": [disk(32.0, Some("v")), shared]})).unwrap();
    let want = |v: Value| mark::sort(&[serde_json::from_value(v).unwrap()]).unwrap();
    assert!(c.stock.take_all(&want(disk(16.0, Some("v")))).is_err(), "not in parts");
    assert!(c.stock.take_all(&want(disk(32.0, Some("v")))).is_ok());
    assert!(c.stock.take_all(&want(disk(32.0, Some("v")))).is_err(), "only once");
    let mut shared = disk(32.0, Some("s"));
    shared["shared"] = json!({});
    assert!(c.stock.take_all(&want(shared.clone())).is_ok());
    assert!(c.stock.take_all(&want(shared)).is_ok());
}
