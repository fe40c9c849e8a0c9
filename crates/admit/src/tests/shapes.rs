//! Whatever the shape of an object, admission answers; it never falls over. The decoder lets only well-typed objects pass,
//! yet what is stored may come from another version.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use stoa_kube::resources;
use stoa_units::Time;

use super::Objects;
use crate::{
    Operation, Request, STOCK, UserRef, check, default, mutate, prepare_create, prepare_update, service,
    validate_create, validate_update,
};

const KEYS: &[&str] = &[
    "metadata",
    "spec",
    "status",
    "template",
    "containers",
    "initContainers",
    "volumes",
    "ports",
    "name",
    "labels",
    "annotations",
    "selector",
    "matchLabels",
    "matchExpressions",
    "resources",
    "limits",
    "requests",
    "cpu",
    "image",
    "strategy",
    "updateStrategy",
    "type",
    "rollingUpdate",
    "jobTemplate",
    "env",
    "valueFrom",
    "fieldRef",
    "projected",
    "sources",
    "finalizers",
    "ownerReferences",
    "tolerations",
    "taints",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "subsets",
    "addresses",
    "endpoints",
    "rules",
    "roleRef",
    "subjects",
    "data",
    "stringData",
    "hard",
    "accessModes",
    "volumeClaimTemplates",
    "affinity",
    "livenessProbe",
    "httpGet",
    "webhooks",
    "securityContext",
    "schedule",
];

fn shape() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2i64..70000).prop_map(Value::from),
        prop::sample::select(
            &["", "1", "x", "NodePort", "ExternalName", "ClientIP", "RollingUpdate", "é/..", "None"][..]
        )
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 60, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => prop::collection::vec((prop::sample::select(KEYS), inner), 0..6)
                .prop_map(|entries| entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>().into()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    (shape(), shape()).prop_map(|(mut o, spec)| {
        if let Some(map) = o.as_object_mut() {
            map.entry("spec").or_insert(spec);
        }
        o
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_shape_of_an_object_is_too_odd(old in object(), new in object()) {
        let mut world = Objects::default();
        world.add("", "namespaces", json!({"metadata": {"name": "ns"}}));
        world.add("", "serviceaccounts", json!({"metadata": {"name": "default", "namespace": "ns"}}));
        world.add("", "limitranges", json!({"metadata": {"name": "l", "namespace": "ns"}, "spec": old}));
        world.add("", "resourcequotas", json!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": {"cpu": "1", "services": "0"}}}));
        for resource in resources().iter() {
            for subresource in ["", "status"] {
                let mut request = Request {
                    operation: Operation::Create, resource, subresource, namespace: if resource.namespaced { "ns" } else { "" },
                    name: "x", user: UserRef { name: "system:node:n", groups: &["system:nodes".to_owned()] },
                    now: Time::EPOCH, dry_run: false, seed: 0, policy: &STOCK, notes: None,
                };
                let mut o = new.clone();
                default(resource, &mut o);
                prepare_create(&request, &mut o);
                drop(mutate(&request, &mut o, &world));
                service::needs(&o);
                validate_create(&request, &o);
                drop(check(&request, &o, None, &world));
                request.operation = Operation::Update;
                let mut o = new.clone();
                default(resource, &mut o);
                prepare_update(&request, &old, &mut o);
                drop(mutate(&request, &mut o, &world));
                validate_update(&request, &old, &o);
                drop(check(&request, &o, Some(&old), &world));
            }
        }
    }

    #[test]
    fn defaulting_twice_is_defaulting_once(o in object()) {
        for resource in resources().iter() {
            let mut once = o.clone();
            default(resource, &mut once);
            let mut twice = once.clone();
            default(resource, &mut twice);
            prop_assert_eq!(once, twice, "{}", resource.plural);
        }
    }
}
