//! The core group, a line a rule: a change to a good object, and what is said. The words are a stock server's.

use serde_json::{Value, json};

use super::kinds::{table, warned, world};
use super::rules::{causes, changes};

fn pod() -> Value {
    json!({"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn volumes_are_judged_by_their_source() {
    let with = |source: Value| {
        let mut o = pod();
        o["spec"]["volumes"] = json!([source]);
        o["spec"]["volumes"][0]["name"] = json!("v");
        causes("", "pods", "ns", o).join("; ")
    };
    let mut wrong = Vec::new();
    for (source, want) in [
        (json!({"hostPath": {"path": ""}}), "hostPath.path: Required value"),
        (
            json!({"hostPath": {"path": "/", "type": "Odd"}}),
            r#"hostPath.type: Unsupported value: "Odd": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
        ),
        (
            json!({"nfs": {"server": "", "path": "x"}}),
            r#"nfs.server: Required value; spec.volumes[0].nfs.path: Invalid value: "x": must be an absolute path"#,
        ),
        (json!({"csi": {"driver": ""}}), "csi.driver: Required value"),
        (json!({"image": {}}), "image.reference: Required value"),
        (json!({"secret": {}}), "secret.secretName: Required value"),
        (
            json!({"persistentVolumeClaim": {"claimName": ""}}),
            "persistentVolumeClaim.claimName: Required value",
        ),
        (
            json!({"gitRepo": {"repository": "", "directory": "/x"}}),
            r#"gitRepo.repository: Required value; spec.volumes[0].gitRepo.directory: Invalid value: "/x": must be a relative path"#,
        ),
        (
            json!({"emptyDir": {"sizeLimit": "-1"}}),
            "emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
        ),
        (
            json!({"rbd": {"monitors": [], "image": ""}}),
            "rbd.monitors: Required value; spec.volumes[0].rbd.image: Required value",
        ),
        (
            json!({"fc": {}}),
            "fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both",
        ),
    ] {
        let found = with(source.clone());
        let found = found.strip_prefix("spec.volumes[0].").unwrap_or(&found);
        if found != want {
            wrong.push(format!("{source}\n  found {found}\n  want  {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn containers_and_pods_are_judged_further() {
    let rows: &[(&str, Value, &str)] = &[
        (
            "/spec/containers/0/name",
            json!("A"),
            "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
        (
            "/spec/containers/0/imagePullPolicy",
            json!("No"),
            r#"spec.containers[0].imagePullPolicy: Unsupported value: "No": supported values: "Always", "IfNotPresent", "Never""#,
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "x", "mountPath": ""}]),
            r#"spec.containers[0].volumeMounts[0].name: Not found: "x"; spec.containers[0].volumeMounts[0].mountPath: Required value"#,
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"path": "/", "port": 1, "scheme": "FTP"}}),
            r#"spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS""#,
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"path": "/", "port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}}),
            "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"sleep": {"seconds": 31}}}),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            "/spec/containers/0/terminationMessagePolicy",
            json!("x"),
            r#"spec.containers[0].terminationMessagePolicy: Unsupported value: "x": supported values: "File", "FallbackToLogsOnError""#,
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"runAsUser": -1}),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            "/spec/restartPolicy",
            json!("x"),
            r#"spec.restartPolicy: Unsupported value: "x": supported values: "Always", "OnFailure", "Never""#,
        ),
        (
            "/spec/dnsPolicy",
            json!("x"),
            r#"spec.dnsPolicy: Unsupported value: "x": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None""#,
        ),
        (
            "/spec/hostAliases",
            json!([{"ip": "010.0.0.1", "hostnames": ["a"]}]),
            r#"spec.hostAliases[0].ip: Invalid value: "010.0.0.1": must not have leading 0s"#,
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": ""}]),
            r#"spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero; spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty; spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "": supported values: "DoNotSchedule", "ScheduleAnyway""#,
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 0}]),
            "spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero; spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["b"]}]),
            "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        ),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Equal", "value": "a b"}]),
            "spec.tolerations[0].operator: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Lt", "value": "5"}, {"key": "a", "operator": "Like"}]),
            r#"spec.tolerations[0].operator: Unsupported value: "Lt": supported values: "Equal", "Exists", "Lt", "Gt"; spec.tolerations[1].operator: Unsupported value: "Like": supported values: "Equal", "Exists""#,
        ),
        (
            "/spec/resources",
            json!({"claims": [{"name": "a"}, {}]}),
            r#"spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level; spec.resources.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty; spec.resources.claims[1]: Required value"#,
        ),
        (
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": []}]}]}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
        ),
        (
            "/spec/affinity",
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a", "labelSelector": {"matchLabels": {"b": "c"}}, "matchLabelKeys": ["b"]}]}}),
            r#"spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].matchLabelKeys[0]: Invalid value: "b": exists in both matchLabelKeys and labelSelector"#,
        ),
        ("/spec/terminationGracePeriodSeconds", json!(-1), ""),
        ("/metadata/name", json!("x"), ""),
    ];
    table("", "pods", "ns", &pod(), rows);
}

#[test]
fn services_are_judged_further() {
    let good = json!({"metadata": {}, "spec": {"type": "LoadBalancer", "selector": {"a": "b"}, "ports": [{"port": 80}]}});
    let rows: &[(&str, Value, &str)] = &[
        (
            "/spec/loadBalancerSourceRanges",
            json!(["10.0.0.1/8"]),
            r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length"#,
        ),
        (
            "/spec/loadBalancerClass",
            json!("a b"),
            "spec.loadBalancerClass: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            "/spec/healthCheckNodePort",
            json!(1),
            "spec.healthCheckNodePort: Invalid value: 1: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ),
        (
            "/spec/externalTrafficPolicy",
            json!("x"),
            r#"spec.externalTrafficPolicy: Unsupported value: "x": supported values: "Cluster", "Local""#,
        ),
        (
            "/spec/internalTrafficPolicy",
            json!("x"),
            r#"spec.internalTrafficPolicy: Unsupported value: "x": supported values: "Cluster", "Local""#,
        ),
        (
            "/spec/clusterIPs",
            json!(["10.0.0.1"]),
            r#"spec.clusterIPs: Invalid value: ["10.0.0.1"]: must be empty when `clusterIP` is not specified"#,
        ),
        (
            "/spec/ipFamilies",
            json!(["IPv5"]),
            r#"spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6""#,
        ),
        ("/spec/sessionAffinityConfig", json!({"clientIP": {}}), ""),
        (
            "/spec/type",
            json!("x"),
            r#"spec.type: Unsupported value: "x": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ),
    ];
    table("", "services", "ns", &good, rows);
    let held = |ips: Value| json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ips, "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}});
    let of = |f: fn(&mut Value)| changes("", "services", held(json!(["10.0.0.1"])), f).join("; ");
    for (found, want) in [
        (of(|o| o["spec"]["type"] = json!("NodePort")), "spec.externalTrafficPolicy: Required value"),
        (
            of(|o| o["spec"]["ipFamilies"] = json!(["IPv6"])),
            r#"spec.ipFamilies[0]: Invalid value: ["IPv6"]: may not change once set; spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
        ),
        (
            of(|o| {
                o["spec"]["clusterIP"] = json!("");
                o["spec"]["clusterIPs"] = json!([]);
            }),
            "spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset",
        ),
    ] {
        assert_eq!(found, want);
    }
}

#[test]
fn addresses_are_refused_before_all_else() {
    let said = |spec: Value| -> Vec<String> {
        let found = crate::validate_addresses(None, &json!({ "spec": spec }));
        found.iter().map(|c| c.to_string()).collect()
    };
    for (spec, want) in [
        (json!({"type": "ClusterIP", "ipFamilyPolicy": "SingleStack"}), ""),
        (
            json!({"type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack"}),
            r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#,
        ),
        (
            json!({"type": "ClusterIP", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"]}),
            r#"spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster"#,
        ),
        (
            json!({"type": "ClusterIP", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}),
            r#"spec.ipFamilyPolicy: Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "x", "clusterIPs": ["x"]}),
            r#"spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None", "10.0.0.1"]}),
            r#"spec.clusterIPs: Invalid value: ["None","10.0.0.1"]: 'None' must be the first and only value"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}),
            "",
        ),
        (
            json!({"type": "ClusterIP", "clusterIP": "::1", "clusterIPs": ["::1"], "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}),
            r#"spec.clusterIPs[0]: Invalid value: ["::1"]: IPv6 is not configured on this cluster"#,
        ),
        (
            json!({"type": "ClusterIP", "clusterIPs": ["::1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
            r#"spec.clusterIPs: Invalid value: ["::1"]: must be empty when `clusterIP` is not specified"#,
        ),
        (json!({"type": "ExternalName", "ipFamilies": ["IPv6"]}), ""),
    ] {
        assert_eq!(said(spec.clone()).join("; "), want, "{spec}");
    }
}

#[test]
fn volumes_and_claims_are_judged_further() {
    let volume = json!({"metadata": {}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}}});
    let rows: &[(&str, Value, &str)] = &[
        ("/spec/accessModes", json!([]), "spec.accessModes: Required value"),
        (
            "/spec/accessModes",
            json!(["x"]),
            r#"spec.accessModes: Unsupported value: "x": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
        ),
        (
            "/spec/capacity",
            json!({}),
            "spec.capacity: Required value; spec.capacity: Unsupported value: {}: supported values: \"storage\"",
        ),
        (
            "/spec/persistentVolumeReclaimPolicy",
            json!("x"),
            r#"spec.persistentVolumeReclaimPolicy: Unsupported value: "x": supported values: "Delete", "Recycle", "Retain""#,
        ),
        ("/spec/hostPath", json!({"path": ""}), "spec.hostPath.path: Required value"),
        (
            "/spec/nfs",
            json!({"server": "s", "path": "/"}),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        // The one source beside which another one goes unnoticed.
        ("/spec/flexVolume", json!({"driver": "a/b"}), ""),
    ];
    table("", "persistentvolumes", "", &volume, rows);
    let claim = json!({"metadata": {}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let rows: &[(&str, Value, &str)] = &[
        (
            "/spec/accessModes",
            json!([]),
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
        ("/spec/resources", json!({}), "spec.resources[storage]: Required value"),
        (
            "/spec/resources",
            json!({"requests": {"storage": "0"}}),
            r#"spec.resources[storage]: Invalid value: "0": must be greater than zero"#,
        ),
        (
            "/spec/dataSource",
            json!({"kind": "", "name": "x"}),
            r#"spec.dataSource.kind: Required value; spec.dataSource: Invalid value: "": must be 'PersistentVolumeClaim' when referencing the default apiGroup"#,
        ),
    ];
    table("", "persistentvolumeclaims", "ns", &claim, rows);
}

#[test]
fn metadata_is_judged_further() {
    let with = |key: &str, value: Value| {
        causes("", "configmaps", "ns", json!({"metadata": { key: value }})).join("; ")
    };
    for (key, value, want) in [
        (
            "labels",
            json!({"a b": "c"}),
            "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            "finalizers",
            json!(["orphan", "foregroundDeletion"]),
            r#"metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#,
        ),
        (
            "finalizers",
            json!(["x"]),
            r#"metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified"#,
        ),
        (
            "ownerReferences",
            json!([{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]),
            r#"metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"u"}: /v1, Kind=Event is disallowed from being an owner"#,
        ),
    ] {
        assert_eq!(with(key, value.clone()), want, "{key} {value}");
    }
}

#[test]
fn what_is_odd_in_the_core_group_is_taken_with_a_warning() {
    let item = |path: &str| json!({"key": "k", "path": path});
    for (plural, spec, want) in [
        (
            "pods",
            json!({"topologySpreadConstraints": [{"topologyKey": "a"}]}),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            "pods",
            json!({"containers": [{"ports": [{"containerPort": 1, "protocol": "TCP", "hostIP": "10.0.0.1"}]}]}),
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol:TCP HostIP:10.0.0.1}",
        ),
        (
            "pods",
            json!({"containers": [{"ports": [{"containerPort": 1, "hostPort": 2}, {"containerPort": 1}]}]}),
            "spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            "pods",
            json!({"volumes": [{"name": "v", "configMap": {"name": "c", "items": [item("a"), item("a/b")]}}]}),
            r#"volume "v" (ConfigMap "c"): overlapping paths: "a/b" with "a""#,
        ),
        (
            "pods",
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s", "items": [item("a"), item("ab"), item("a/"), item("a/b")]}}]}),
            r#"volume "v" (Secret "s"): overlapping paths: "a" with "a"; volume "v" (Secret "s"): overlapping paths: "a/b" with "a"; volume "v" (Secret "s"): overlapping paths: "a/b" with "a""#,
        ),
        (
            "pods",
            json!({"volumes": [{"name": "v", "projected": {"sources": [
                {"configMap": {"name": "c", "items": [item("a"), item("token/x")]}}, {"serviceAccountToken": {"path": "token"}},
                {"clusterTrustBundle": {"signerName": "s/n", "path": "a"}},
                {"podCertificate": {"keyPath": "a", "credentialBundlePath": "b"}}]}}]}),
            r#"volume "v" (Projected): overlapping paths: "token" (ServiceAccountToken) with "token/x" (ConfigMap "c"); volume "v" (Projected): overlapping paths: "a" (ClusterTrustBundle "s/n") with "a" (ConfigMap "c"); volume "v" (Projected): overlapping paths: "a" (PodCertificate key) with "a" (ConfigMap "c"); volume "v" (Projected): overlapping paths: "a" (PodCertificate key) with "a" (ClusterTrustBundle "s/n")"#,
        ),
        (
            "pods",
            json!({"volumes": [{"name": "v", "rbd": {}}]}),
            "spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            "pods",
            json!({"hostAliases": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}]}),
            r#"spec.hostAliases[1].ip: duplicate ip "1.1.1.1""#,
        ),
        (
            "services",
            json!({"type": "ClusterIP", "clusterIP": "None", "externalIPs": ["1.1.1.1"], "sessionAffinity": "None"}),
            "spec.externalIPs is ignored for headless services",
        ),
        (
            "services",
            json!({"type": "ClusterIP", "externalName": "a.b", "trafficDistribution": "PreferClose"}),
            r#"spec.externalName is ignored when spec.type is not "ExternalName"; spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
        ),
        (
            "persistentvolumeclaims",
            json!({"resources": {"requests": {"storage": "100m"}}}),
            r#"spec.resources.requests[storage]: fractional byte value "100m" is invalid, must be an integer"#,
        ),
    ] {
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        assert_eq!(warned("", plural, &object, None, &world()).join("; "), want, "{object}");
    }
}
