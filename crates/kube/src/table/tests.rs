use super::*;
use crate::resource::resources;
use serde_json::json;

fn now() -> Time {
    Time::parse("2026-01-02T03:04:05Z").expect("a time")
}

fn print(group: &str, version: &str, plural: &str, object: Value) -> String {
    let resource = resources().find(group, version, plural).expect("a resource");
    let cells = row(resource, &object, now());
    assert_eq!(cells.len(), columns(resource).len(), "{plural}");
    let shown = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    cells.iter().map(shown).collect::<Vec<_>>().join(" | ")
}

const BORN: &str = "2026-01-02T02:59:05Z";

#[test]
fn every_resource_prints_as_many_cells_as_it_has_columns() {
    for resource in resources().iter().filter(|r| r.has_verb("get")) {
        for object in [
            json!({}),
            json!({"metadata": {"name": "x", "creationTimestamp": BORN}, "spec": {}, "status": {}}),
        ] {
            assert_eq!(row(resource, &object, now()).len(), columns(resource).len(), "{resource:?}");
        }
        assert!(all().contains_key(&(resource.group, resource.version, resource.plural)), "{resource:?}");
    }
    let pods = resources().find("", "v1", "pods").expect("pods");
    let names: Vec<_> = columns(pods).iter().map(|c| (c.name.as_str(), c.priority)).collect();
    assert_eq!(names[8], ("Readiness Gates", 1));
    assert_eq!(columns(pods)[0].format, "name");
    let services = resources().find("", "v1", "services").expect("services");
    assert_eq!(columns(services)[4].name, "Port(s)");
}

fn pod(spec: Value, status: Value, deletion: Option<&str>) -> String {
    let mut metadata = json!({"name": "p", "creationTimestamp": BORN});
    if let Some(at) = deletion {
        metadata["deletionTimestamp"] = json!(at);
    }
    let line = print("", "v1", "pods", json!({"metadata": metadata, "spec": spec, "status": status}));
    line.strip_prefix("p | ").expect("the name").to_owned()
}

#[test]
fn pods_print_what_their_containers_do() {
    let one = json!({"containers": [{"name": "c"}], "nodeName": "n1"});
    let two = json!({"containers": [{"name": "c"}, {"name": "d"}]});
    let with_init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    let running = json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}});
    let cases = [
        (&one, json!({"phase": "Pending"}), "0/1 | Pending | 0 | 5m | <none> | n1 | <none> | <none>"),
        (
            &one,
            json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "containerStatuses": [running]}),
            "1/1 | Running | 0 | 5m | 10.0.0.1 | n1 | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-02T03:03:55Z"}}}]}),
            "0/1 | CrashLoopBackOff | 3 (10s ago) | 5m | <none> | n1 | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Succeeded", "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]}),
            "0/1 | Completed | 0 | 5m | <none> | n1 | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 3}}}]}),
            "0/1 | ExitCode:3 | 0 | 5m | <none> | n1 | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "0/1 | Signal:9 | 0 | 5m | <none> | n1 | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Failed", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}),
            "0/1 | OOMKilled | 0 | 5m | <none> | n1 | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Failed", "reason": "Evicted"}),
            "0/1 | Evicted | 0 | 5m | <none> | n1 | <none> | <none>",
        ),
        (
            &two,
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"name": "c", "state": {"terminated": {"reason": "Completed"}}}, running]}),
            "1/2 | NotReady | 0 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"running": {}}}, {"name": "s"}]}),
            "0/2 | Init:0/2 | 2 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]}),
            "0/2 | Init:ErrImagePull | 0 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &with_init,
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            "0/2 | Init:Error | 1 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &with_init,
            json!({"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}], "containerStatuses": [running],
                "initContainerStatuses": [{"name": "i", "restartCount": 4, "state": {"terminated": {"exitCode": 0}}},
                    {"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}}]}),
            "2/2 | Running | 1 | 5m | <none> | <none> | <none> | <none>",
        ),
        (
            &one,
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            "0/1 | SchedulingGated | 0 | 5m | <none> | n1 | <none> | <none>",
        ),
    ];
    for (spec, status, want) in cases {
        assert_eq!(pod(spec.clone(), status, None), want);
    }
    let status = json!({"phase": "Running", "containerStatuses": [running]});
    assert!(pod(one.clone(), status, Some(BORN)).starts_with("1/1 | Terminating | "));
    assert!(
        pod(one.clone(), json!({"phase": "Running", "reason": "NodeLost"}), Some(BORN))
            .starts_with("0/1 | Unknown | ")
    );
    assert!(pod(one, json!({"phase": "Succeeded"}), Some(BORN)).starts_with("0/1 | Succeeded | "));
    let gates = json!({"containers": [], "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]});
    assert!(pod(gates, json!({"conditions": [{"type": "b", "status": "True"}]}), None).ends_with("| 1/2"));
}

#[test]
fn workloads_print_their_progress() {
    let template =
        json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "j"}]}});
    let selector = json!({"matchLabels": {"b": "c", "a": "b"}, "matchExpressions": [{"key": "z", "operator": "In", "values": ["y", "x"]}]});
    let metadata = json!({"name": "x", "creationTimestamp": BORN});
    let object = |spec: Value, status: Value| {
        let mut spec = spec;
        spec["template"] = template.clone();
        json!({"metadata": metadata, "spec": spec, "status": status})
    };
    let status = json!({"replicas": 4, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2});
    let spec = json!({"replicas": 3, "selector": selector});
    assert_eq!(
        print("apps", "v1", "deployments", object(spec.clone(), status.clone())),
        "x | 2/3 | 1 | 2 | 5m | c,d | i,j | a=b,b=c,z in (x,y)"
    );
    assert_eq!(
        print("apps", "v1", "replicasets", object(spec.clone(), status.clone())),
        "x | 3 | 4 | 2 | 5m | c,d | i,j | a=b,b=c,z in (x,y)"
    );
    assert_eq!(print("apps", "v1", "statefulsets", object(spec, status)), "x | 2/3 | 5m | c,d | i,j");
    let job = |status: Value| print("batch", "v1", "jobs", object(json!({"completions": 2}), status));
    assert_eq!(job(json!({})), "x | Running | 0/2 |  | 5m | c,d | i,j | <none>");
    assert_eq!(
        job(
            json!({"succeeded": 2, "startTime": "2026-01-02T03:00:00Z", "completionTime": "2026-01-02T03:00:07Z",
            "conditions": [{"type": "Complete", "status": "True"}]})
        ),
        "x | Complete | 2/2 | 7s | 5m | c,d | i,j | <none>"
    );
    let cron = json!({"metadata": metadata, "spec": {"schedule": "* * * * *", "suspend": false, "jobTemplate": {"spec": {"template": template}}},
        "status": {"active": [{}], "lastScheduleTime": "2026-01-02T03:04:00Z"}});
    assert_eq!(
        print("batch", "v1", "cronjobs", cron),
        "x | * * * * * | <none> | False | 1 | 5s | 5m | c,d | i,j | <none>"
    );
    let revision = json!({"metadata": {"name": "r", "creationTimestamp": BORN, "ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}, "revision": 2});
    assert_eq!(print("apps", "v1", "controllerrevisions", revision), "r | daemonset.apps/d | 2 | 5m");
}

#[test]
fn services_and_endpoints_print_their_addresses() {
    let service = |spec: Value, status: Value| {
        print(
            "",
            "v1",
            "services",
            json!({"metadata": {"name": "s", "creationTimestamp": BORN}, "spec": spec, "status": status}),
        )
    };
    let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]);
    let balanced = json!({"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "1.2.3.4"}]}});
    assert_eq!(
        service(
            json!({"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "ports": ports, "selector": {"a": "b"}}),
            balanced
        ),
        "s | LoadBalancer | 10.0.0.1 | 1.2.3.4,h | 80:30080/TCP,53/UDP | 5m | a=b"
    );
    assert_eq!(
        service(json!({"type": "LoadBalancer"}), json!({})),
        "s | LoadBalancer | <none> | <pending> | <none> | 5m | <none>"
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "e.x"}), json!({})),
        "s | ExternalName | <none> | e.x | <none> | 5m | <none>"
    );
    let endpoints = json!({"metadata": {"name": "e", "creationTimestamp": BORN}, "subsets": [
        {"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 80}, {"port": 81}]}]});
    assert_eq!(
        print("", "v1", "endpoints", endpoints),
        "e | 1.1.1.1:80,[::1]:80,1.1.1.1:81 + 1 more... | 5m"
    );
    let slice = json!({"metadata": {"name": "e", "creationTimestamp": BORN}, "addressType": "IPv4",
        "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}, {"addresses": ["1.1.1.2"]}]});
    assert_eq!(
        print("discovery.k8s.io", "v1", "endpointslices", slice),
        "e | IPv4 | 80 | 1.1.1.1,1.1.1.2 | 5m"
    );
}

#[test]
fn nodes_events_and_the_rest_print_as_on_a_stock_server() {
    let node = json!({"metadata": {"name": "n", "creationTimestamp": BORN, "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "db"}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}], "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"}}});
    assert_eq!(
        print("", "v1", "nodes", node),
        "n | Ready,SchedulingDisabled | control-plane,db | 5m | v1.36.0 | 10.1.1.1 | <none> | Debian | <unknown> | <unknown>"
    );
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "reason": "Started",
        "message": " started \n", "type": "Normal", "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": BORN, "lastTimestamp": null, "count": 0});
    let want = "5m | Normal | Started | pod/p | spec.containers{c} | kubelet, n | started | 5m | 1 | e";
    assert_eq!(print("", "v1", "events", event.clone()), want);
    let gv = |g: &str| *resources().group_versions().iter().find(|x| x.group == g).expect("a group");
    let mut kind = event;
    kind["kind"] = json!("Event");
    let new = crate::convert(kind, gv(""), gv("events.k8s.io")).expect("converts");
    assert_eq!(print("events.k8s.io", "v1", "events", new), want);
    let meta = json!({"name": "x", "creationTimestamp": BORN});
    let cases = [
        ("", "namespaces", json!({"metadata": meta, "status": {"phase": "Active"}}), "x | Active | 5m"),
        (
            "",
            "configmaps",
            json!({"metadata": meta, "data": {"a": "b"}, "binaryData": {"c": ""}}),
            "x | 2 | 5m",
        ),
        (
            "",
            "secrets",
            json!({"metadata": meta, "type": "Opaque", "data": {"a": ""}}),
            "x | Opaque | 1 | 5m",
        ),
        ("", "serviceaccounts", json!({"metadata": meta}), "x | 5m"),
        ("", "limitranges", json!({"metadata": meta}), "x | 2026-01-02T02:59:05Z"),
        (
            "",
            "resourcequotas",
            json!({"metadata": meta, "status": {"hard": {"pods": "10", "limits.cpu": "4"}, "used": {"pods": "1", "limits.cpu": "0"}}}),
            "x | pods: 1/10 | limits.cpu: 0/4 | 5m",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"metadata": meta, "spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
            "x | Bound | v | 1Gi | RWO,RWX | s | <unset> | 5m | Filesystem",
        ),
        (
            "rbac.authorization.k8s.io",
            "rolebindings",
            json!({"metadata": meta, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
                {"kind": "User", "name": "v"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
            "x | Role/r | 5m | u, v |  | n/s",
        ),
        (
            "policy",
            "poddisruptionbudgets",
            json!({"metadata": meta, "spec": {"minAvailable": "50%"}}),
            "x | 50% | N/A | 0 | 5m",
        ),
        (
            "coordination.k8s.io",
            "leases",
            json!({"metadata": meta, "spec": {"holderIdentity": "h"}}),
            "x | h | 5m",
        ),
        (
            "autoscaling",
            "horizontalpodautoscalers",
            json!({"kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3, "targetCPUUtilizationPercentage": 80}}),
            "x | Deployment/d | cpu: <unknown>/80% | <unset> | 3 | 0 | 5m",
        ),
    ];
    for (group, plural, object, want) in cases {
        assert_eq!(print(group, "v1", plural, object), want);
    }
    let address = json!({"metadata": meta, "spec": {"parentRef": {"group": "g.io", "resource": "Gates", "namespace": "n", "name": "p"}}});
    assert_eq!(print("networking.k8s.io", "v1", "ipaddresses", address), "x | gates.g.io/n/p");
}
