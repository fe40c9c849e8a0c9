use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

struct Fixed;

impl Objects for Fixed {
    fn config_map(&self, _: &str, name: &str) -> Lookup<ConfigMap> {
        match name {
            "cm" => Lookup::Found(Arc::new(
                serde_json::from_value(json!({"metadata": {}, "data": {"a": "1", "b c": "skipped"}}))
                    .unwrap(),
            )),
            "late" => Lookup::Pending,
            _ => Lookup::Absent,
        }
    }
    fn secret(&self, _: &str, name: &str) -> Lookup<Secret> {
        match name {
            "s" => Lookup::Found(Arc::new(
                serde_json::from_value(json!({"metadata": {}, "data": {"k": "djE=", "bin": "/w=="}}))
                    .unwrap(),
            )),
            _ => Lookup::Absent,
        }
    }
}

fn show(container: Value) -> String {
    let container: Container = serde_json::from_value(container).unwrap();
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"},
        "spec": {"containers": [container.clone()]}}))
    .unwrap();
    let services = BTreeMap::from([("KUBERNETES_SERVICE_HOST".to_owned(), "10.96.0.1".to_owned())]);
    match make(&pod, &container, &Fixed, &Place::default(), &Made::new(), &services) {
        Ok(env) => {
            let own = env.iter().filter(|(k, _)| *k != "KUBERNETES_SERVICE_HOST");
            own.map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
        }
        Err(EnvError::Pending) => "pending".to_owned(),
        Err(EnvError::Invalid(e)) => format!("error: {e}"),
    }
}

#[test]
fn the_environment_comes_from_where_the_container_says() {
    let env = |vars: Value| json!({"name": "c", "env": vars});
    let from = |kind: &str, name: &str, key: &str| json!({"name": "V", "valueFrom": {kind: {"name": name, "key": key}}});
    for (container, want) in [
        (
            env(json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(NO)-$$(A)"}])),
            "A=1 B=1-$(NO)-$(A)",
        ),
        (env(json!([{"name": "A", "value": "$(KUBERNETES_SERVICE_HOST)"}])), "A=10.96.0.1"),
        (env(json!([{"name": "A"}])), "A="),
        (env(json!([{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}])), "N=p"),
        (env(json!([from("configMapKeyRef", "cm", "a")])), "V=1"),
        (env(json!([from("configMapKeyRef", "cm", "z")])), "error: couldn't find key z in ConfigMap ns/cm"),
        (env(json!([from("configMapKeyRef", "none", "z")])), "error: configmap \"none\" not found"),
        (env(json!([from("configMapKeyRef", "late", "z")])), "pending"),
        (env(json!([from("secretKeyRef", "s", "k")])), "V=v1"),
        (
            env(
                json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k", "optional": true}}}]),
            ),
            "",
        ),
        (
            json!({"name": "c", "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}],
            "env": [{"name": "k", "value": "own"}]}),
            "P_a=1 k=own",
        ),
    ] {
        assert_eq!(show(container.clone()), want, "{container}");
    }
}

#[test]
fn the_command_line_prefers_the_container_over_the_image() {
    let words = |w: &[&str]| w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let env = BTreeMap::from([("X".to_owned(), "y".to_owned())]);
    for (container, want) in [
        (json!({"name": "c"}), "e c"),
        (json!({"name": "c", "args": ["$(X)"]}), "e y"),
        (json!({"name": "c", "command": ["k"]}), "k"),
        (json!({"name": "c", "command": ["k"], "args": ["a", "$(Z)"]}), "k a $(Z)"),
    ] {
        let c: Container = serde_json::from_value(container).unwrap();
        assert_eq!(command_line(&c, &words(&["e"]), &words(&["c"]), &env).join(" "), want);
    }
}

proptest! {
    #[test]
    fn expansion_never_panics_and_leaves_plain_text(text in "[a-z$() ]{0,40}") {
        let out = expand(&text, |_| None);
        prop_assert!(out.len() <= text.len());
        if !text.contains('$') {
            prop_assert_eq!(out, text);
        }
    }
}

#[test]
fn a_value_comes_from_a_file_that_an_earlier_container_left() {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::write(tmp.path().join("env"), "A='1'\nLONG='").unwrap();
    let made = Made::from([(
        "v".to_owned(),
        stoa_volume::Mounted { path: tmp.path().to_owned(), read_only: false, is_image: false },
    )]);
    let pod = Pod::default();
    let ask = |volume: &str, path: &str, key: &str, optional: bool| {
        let source = json!({"volumeName": volume, "path": path, "key": key, "optional": optional});
        let container: Container = serde_json::from_value(
            json!({"name": "c", "env": [{"name": "V", "valueFrom": {"fileKeyRef": source}}]}),
        )
        .unwrap();
        match make(&pod, &container, &Fixed, &Place::default(), &made, &BTreeMap::new()) {
            Ok(env) => env.get("V").cloned().unwrap_or_else(|| "unset".to_owned()),
            Err(EnvError::Invalid(why)) => why,
            Err(EnvError::Pending) => "pending".to_owned(),
        }
    };
    assert_eq!(ask("v", "env", "A", false), "1");
    assert_eq!(ask("v", "none", "A", true), "unset");
    for (volume, path, key, want) in [
        ("w", "env", "A", "cannot find the volume \"w\" referenced by FileKeyRef"),
        ("v", "none", "A", "couldn't parse env file"),
        ("v", "env", "B", "couldn't parse env file: invalid environment variable format starting at line 2"),
    ] {
        assert!(ask(volume, path, key, false).starts_with(want), "{}", ask(volume, path, key, false));
    }
    std::fs::write(tmp.path().join("env"), "A='1'").unwrap();
    assert_eq!(ask("v", "env", "B", true), "unset");
    assert_eq!(ask("v", "env", "B", false), "environment variable key \"B\" not found in file \"env\"");
}
