//! Rules of the kinds about devices and about the flow of requests.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::request;
use super::rules::{causes, changes};
use crate::{Operation, default, validate_update};

const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const DEVICES: &str = "resource.k8s.io";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[track_caller]
fn refused(group: &str, plural: &str, namespace: &str, spec: Value, want: &[&str]) {
    let texts = [("LABEL", LABEL), ("SUBDOMAIN", SUBDOMAIN), ("QUALIFIED", super::classes::QUALIFIED)];
    let whole = |w: &&str| texts.iter().fold(w.to_string(), |w, (short, text)| w.replace(short, text));
    let want: Vec<String> = want.iter().map(whole).collect();
    assert_eq!(causes(group, plural, namespace, json!({"metadata": {}, "spec": spec})), want, "{spec}");
}

#[test]
fn flow_schemas_name_a_level_whom_they_are_about_and_what() {
    let schema = |spec: Value, want: &[&str]| refused(FLOW, "flowschemas", "", spec, want);
    let level = json!({"name": "global-default"});
    schema(json!({"priorityLevelConfiguration": level}), &[]);
    schema(
        json!({"priorityLevelConfiguration": {"name": ""}, "matchingPrecedence": -1, "distinguisherMethod": {"type": "ByMood"}, "rules": [{}]}),
        &[
            "spec.matchingPrecedence: Invalid value: -1: must be a positive value",
            "spec.distinguisherMethod.type: Unsupported value: {\"Type\":\"ByMood\"}: supported values: \"ByNamespace\", \"ByUser\"",
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            "spec.rules[0].subjects: Required value: subjects must contain at least one value",
            "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
        ],
    );
    for (precedence, why) in [
        (1, "only the schema named 'exempt' may have matchingPrecedence 1"),
        (10_001, "must not be greater than 10000"),
    ] {
        let why = format!("spec.matchingPrecedence: Invalid value: {precedence}: {why}");
        schema(json!({"priorityLevelConfiguration": level, "matchingPrecedence": precedence}), &[&why]);
    }
    let rule = |subjects: Value, resources: Value, paths: Value| json!({"priorityLevelConfiguration": level, "rules": [{"subjects": subjects, "resourceRules": resources, "nonResourceRules": paths}]});
    let all = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    schema(
        rule(
            json!([{"kind": "User"}, {"kind": "Mood"}, {"kind": "Group", "group": {"name": ""}, "user": {"name": "x"}},
                {"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": ""}}]),
            json!([]),
            all,
        ),
        &[
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "spec.rules[0].subjects[1].kind: Unsupported value: \"Mood\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
            "spec.rules[0].subjects[2].group.name: Required value",
            "spec.rules[0].subjects[2].user: Forbidden: user is forbidden when subject kind is not 'User'",
            "spec.rules[0].subjects[3].serviceAccount.namespace: Required value: must specify namespace for service account",
        ],
    );
    let who = json!([{"kind": "User", "user": {"name": "x"}}]);
    schema(
        rule(
            who.clone(),
            json!([{"verbs": ["get", "*"], "apiGroups": ["*", "a"], "resources": []},
                {"verbs": ["jump"], "apiGroups": [""], "resources": ["*"], "namespaces": ["A_b"], "clusterScope": true},
                {"verbs": ["get"], "apiGroups": [""], "resources": ["*"], "clusterScope": true}]),
            json!([]),
        ),
        &[
            "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify other verbs",
            "spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api groups",
            "spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource",
            "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            "spec.rules[0].resourceRules[1].verbs: Unsupported value: [\"jump\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
            "spec.rules[0].resourceRules[1].namespaces[0]: Invalid value: \"A_b\": each member of this list must be '*' or a DNS-1123 label; LABEL",
        ],
    );
    let urls =
        json!([{"verbs": ["get"], "nonResourceURLs": ["", "healthz", "/a b", "/a//b", "/a*", "/a/*", "/"]}]);
    schema(
        rule(who, json!([]), urls),
        &[
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"\": must not be empty",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"healthz\": must start with slash",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: \"/a b\": must not contain white-space",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[3]: Invalid value: \"/a//b\": must not contain double slash",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[4]: Invalid value: \"/a*\": wildcard can only do suffix matching",
        ],
    );
}

#[test]
fn priority_levels_are_limited_and_their_hands_are_dealt() {
    let level = |spec: Value, want: &[&str]| refused(FLOW, "prioritylevelconfigurations", "", spec, want);
    let limited = |limited: Value| json!({"type": "Limited", "limited": limited});
    let queue = |queuing: Value| limited(json!({"limitResponse": {"type": "Queue", "queuing": queuing}}));
    level(queue(json!({})), &[]);
    level(limited(json!({"limitResponse": {"type": "Reject"}})), &[]);
    level(
        json!({"type": ""}),
        &["spec.type: Unsupported value: \"\": supported values: \"Exempt\", \"Limited\""],
    );
    level(
        json!({"type": "Limited"}),
        &["spec.limited: Required value: must not be empty when type is Limited"],
    );
    level(
        json!({"type": "Exempt", "limited": {"limitResponse": {"type": "Reject"}}}),
        &[
            "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            "spec.limited: Forbidden: must be nil if the type is not Limited",
        ],
    );
    level(
        limited(
            json!({"nominalConcurrencyShares": -1, "lendablePercent": 101, "borrowingLimitPercent": -1, "limitResponse": {"type": "Queue"}}),
        ),
        &[
            "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer",
            "spec.limited.limitResponse.queuing: Required value: must not be empty if limited.limitResponse.type is Limited",
        ],
    );
    level(
        queue(json!({"queues": 4, "handSize": 5, "queueLengthLimit": -1})),
        &[
            "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive",
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)",
        ],
    );
    level(
        queue(json!({"queues": 1024, "handSize": 7})),
        &[
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60",
        ],
    );
}

#[test]
fn claims_say_which_devices_and_how_many() {
    let claim = |devices: Value, want: &[&str]| {
        refused(DEVICES, "resourceclaims", "ns", json!({"devices": devices}), want);
        let template = json!({"spec": {"devices": devices}});
        let want: Vec<String> = want.iter().map(|w| w.replace("spec.", "spec.spec.")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        refused(DEVICES, "resourceclaimtemplates", "ns", template, &want);
    };
    let gpu = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu"}});
    claim(json!({"requests": [gpu], "constraints": [{"matchAttribute": "a.b/model"}]}), &[]);
    claim(
        json!({"requests": [{"name": "A"}, gpu, gpu, {"name": "two", "exactly": {"deviceClassName": "c"}, "firstAvailable": [{"name": "x", "deviceClassName": "c"}]}]}),
        &[
            "spec.devices.requests[0].name: Invalid value: \"A\": LABEL",
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            "spec.devices.requests[3]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            "spec.devices.requests[2]: Duplicate value: \"gpu\"",
        ],
    );
    let exactly = |v: Value| json!({"requests": [{"name": "r", "exactly": v}]});
    claim(
        exactly(json!({"deviceClassName": "", "allocationMode": "All", "count": 2, "selectors": [{}]})),
        &[
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
            "spec.devices.requests[0].exactly.selectors[0].cel: Required value",
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ],
    );
    claim(
        exactly(json!({"deviceClassName": "c", "allocationMode": "Some"})),
        &[
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
        ],
    );
    claim(
        exactly(json!({"deviceClassName": "c", "count": -1})),
        &["spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero"],
    );
    let either = json!({"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "c"}, {"name": "big", "deviceClassName": "c"}]});
    claim(
        json!({"requests": [either], "constraints": [{"requests": ["any/big", "any/small", "a/b/c"], "matchAttribute": "model"}],
            "config": [{"requests": ["any"]}, {"opaque": {"driver": "", "parameters": [1]}}]}),
        &[
            "spec.devices.requests[0].firstAvailable[1]: Duplicate value: \"big\"",
            "spec.devices.constraints[0].requests[1]: Invalid value: \"any/small\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.constraints[0].requests[2]: Invalid value: \"a/b/c\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"model\": a fully qualified name must be a domain and a name separated by a slash",
            "spec.devices.config[0].opaque: Required value",
            "spec.devices.config[1].opaque.driver: Required value",
            "spec.devices.config[1].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
        ],
    );
    let many: Vec<Value> =
        (0..33).map(|i| json!({"name": format!("r{i}"), "exactly": {"deviceClassName": "c"}})).collect();
    claim(json!({"requests": many}), &["spec.devices.requests: Too many: 33: must have at most 32 items"]);
    claim(
        exactly(json!({"deviceClassName": "c", "tolerations": [
            {"operator": "Exists"},
            {"key": "a b", "operator": "Exists", "value": "v"},
            {"key": "a", "operator": "Like", "effect": "Sometimes"},
        ]})),
        &[
            "spec.devices.requests[0].exactly.tolerations[1].key: Invalid value: \"a b\": QUALIFIED",
            "spec.devices.requests[0].exactly.tolerations[1].value: Invalid value: \"v\": must be empty for operator `Exists`",
            "spec.devices.requests[0].exactly.tolerations[2].operator: Unsupported value: \"Like\": supported values: \"Equal\", \"Exists\"",
            "spec.devices.requests[0].exactly.tolerations[2].effect: Unsupported value: \"Sometimes\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ],
    );
    refused(
        DEVICES,
        "resourceclaimtemplates",
        "ns",
        json!({"metadata": {"name": "mine", "labels": {"a": "b"}}, "spec": {"devices": {}}}),
        &["spec.metadata.name: Forbidden: cannot be set"],
    );
}

#[test]
fn a_template_is_judged_whole_each_time_and_never_changes() {
    let old = json!({"spec": {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}}});
    let found = changes(DEVICES, "resourceclaimtemplates", old, |o| {
        o["spec"]["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = json!("");
    });
    assert_eq!(found[0], "spec.spec.devices.requests[0].exactly.deviceClassName: Required value");
    assert!(found[1].starts_with("spec: Invalid value: {") && found.len() == 2, "{found:?}");
}

#[test]
fn devices_in_use_are_looked_into_from_labelled_namespaces_only() {
    let told = |labels: Value, subresource: &'static str, new: Value| -> Vec<String> {
        let namespace = json!({"metadata": {"name": "ns", "labels": labels}});
        let mut world = super::Objects::default();
        world.add("", "namespaces", namespace);
        let plain = request(Operation::Create, DEVICES, "resourceclaims", "ns", "x");
        let r = crate::Request { subresource, ..plain };
        let old = json!({});
        let old = Some(&old).filter(|_| !subresource.is_empty());
        crate::validate_devices(&r, old, &new, &world).iter().map(Cause::to_string).collect()
    };
    let asks =
        json!({"spec": {"devices": {"requests": [{"exactly": {}}, {"exactly": {"adminAccess": true}}]}}});
    let why = "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    assert_eq!(told(json!({}), "", asks.clone()), [format!("spec.devices.requests[1].adminAccess: {why}")]);
    let labels = json!({"resource.kubernetes.io/admin-access": "true"});
    assert_eq!(told(labels, "", asks), Vec::<String>::new());
    let given = json!({"status": {"allocation": {"devices": {"results": [{"adminAccess": true}]}}}});
    let place = "status.allocation.devices.results[0].adminAccess";
    assert_eq!(told(json!({}), "status", given), [format!("{place}: {why}")]);
}

#[test]
fn who_names_no_number_of_devices_asks_for_one() {
    let r = request(Operation::Create, DEVICES, "resourceclaims", "ns", "x");
    let mut claim = json!({"spec": {"devices": {"requests": [{"exactly": {"deviceClassName": "c"}}, {"exactly": {"allocationMode": "All"}}, {"firstAvailable": [{"name": "a"}]}]}}});
    default(r.resource, &mut claim);
    assert_eq!(
        claim["spec"]["devices"]["requests"],
        json!([{"exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}}, {"exactly": {"allocationMode": "All"}},
            {"firstAvailable": [{"name": "a", "allocationMode": "ExactCount", "count": 1}]}])
    );
}

#[test]
fn classes_and_slices_are_what_drivers_offer() {
    refused(
        DEVICES,
        "deviceclasses",
        "",
        json!({"selectors": [{}], "config": [{}]}),
        &["spec.selectors[0].cel: Required value", "spec.config[0].opaque: Required value"],
    );
    refused(
        DEVICES,
        "deviceclasses",
        "",
        json!({"extendedResourceName": "cpu"}),
        &["spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name"],
    );
    let slice = |spec: Value, want: &[&str]| refused(DEVICES, "resourceslices", "", spec, want);
    let pool = json!({"name": "p", "resourceSliceCount": 1});
    slice(
        json!({"driver": "d.example", "pool": pool, "nodeName": "n", "devices": [{"name": "d", "attributes": {"model": {"string": "x"}}}]}),
        &[],
    );
    slice(
        json!({"driver": "", "pool": {"name": "", "generation": -1}}),
        &[
            "spec.driver: Required value",
            "spec.pool.name: Required value",
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ],
    );
    slice(
        json!({"driver": "d.example", "pool": {"name": "p/", "resourceSliceCount": 1}, "nodeName": "n", "allNodes": true,
            "devices": [{"name": "A", "attributes": {"9x": {}, "a.b/ok": {"int": 1, "bool": true}}}, {"name": "d"}, {"name": "d"}]}),
        &[
            "spec.pool.name: Invalid value: \"\": SUBDOMAIN",
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            "spec.devices[0].name: Invalid value: \"A\": LABEL",
            "spec.devices[0].attributes: Invalid value: \"9x\": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')",
            "spec.devices[0].attributes[9x]: Invalid value: \"\": exactly one value must be specified",
            "spec.devices[0].attributes[a.b/ok]: Invalid value: {\"IntValue\":1,\"BoolValue\":true,\"StringValue\":null,\"VersionValue\":null,\"IntValues\":null,\"BoolValues\":null,\"StringValues\":null,\"VersionValues\":null}: exactly one value must be specified",
            "spec.devices[2]: Duplicate value: \"d\"",
        ],
    );
    let one =
        |device: Value| json!({"driver": "d.example", "pool": pool, "nodeName": "n", "devices": [device]});
    slice(
        one(json!({"name": "d", "taints": [{"key": "a", "effect": "NoExecute"}],
            "capacity": {"memory": {"value": "1Gi"}},
            "consumesCounters": [{"counterSet": "s", "counters": {"slices": {"value": "1"}}}],
            "bindingConditions": ["a/ready"], "bindingFailureConditions": ["a/failed"]})),
        &[],
    );
    slice(
        one(json!({"name": "d", "allNodes": true, "taints": [{"key": "a"}],
            "capacity": {"memory": {"value": "1", "requestPolicy": {}}},
            "consumesCounters": [{"counterSet": "", "counters": {}}],
            "bindingConditions": ["a", "a"], "bindingFailureConditions": ["a"]})),
        &[
            "spec.devices[0].capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true",
            "spec.devices[0].taints[0].effect: Required value",
            "spec.devices[0].consumesCounters[0].counterSet: Required value",
            "spec.devices[0].consumesCounters[0].counters: Required value",
            "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            "spec.devices[0].bindingConditions[1]: Duplicate value: \"a\"",
            "spec.devices[0].bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not overlap with bindingConditions",
        ],
    );
    slice(
        json!({"driver": "d.example", "pool": pool, "perDeviceNodeSelection": true, "devices": [{"name": "a", "nodeName": "n"}, {"name": "b"}]}),
        &[
            "spec.devices[1]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ],
    );
}

#[test]
fn what_is_shared_is_shared_in_amounts_that_fit() {
    let device = |policy: Value| {
        json!({"driver": "d.example", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n", "devices": [
            {"name": "d", "allowMultipleAllocations": true, "capacity": {"m": {"value": "10Gi", "requestPolicy": policy}}}]})
    };
    let shared = |policy: Value, want: &[&str]| {
        let at = "spec.devices[0].capacity[m].requestPolicy";
        let want: Vec<String> = want.iter().map(|w| format!("{at}{w}")).collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        refused(DEVICES, "resourceslices", "", device(policy), &want);
    };
    shared(json!({}), &[]);
    shared(json!({"default": "20Gi"}), &[]);
    shared(json!({"default": "2Gi", "validValues": ["1Gi", "2Gi", "10Gi"]}), &[]);
    shared(json!({"default": "2Gi", "validRange": {"min": "1Gi", "max": "9Gi", "step": "512Mi"}}), &[]);
    shared(
        json!({"default": "1Gi", "validValues": ["1Gi"], "validRange": {"min": "1Gi"}}),
        &[
            ": Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ],
    );
    shared(
        json!({"validValues": ["1Gi"]}),
        &[".default: Required value: required when validValues is defined"],
    );
    shared(
        json!({"validRange": {"min": "1Gi"}}),
        &[".default: Required value: required when validRange is defined"],
    );
    shared(
        json!({"default": "3Gi", "validValues": ["2Gi", "1Gi", "1024Mi", "11Gi"]}),
        &[
            ".validValues[1]: Invalid value: \"1Gi\": values must be sorted in ascending order",
            ".validValues[3]: Invalid value: \"11Gi\": option is larger than capacity value: 10Gi",
            ".validValues[2]: Duplicate value: \"1073741824\"",
            ".validValues: Invalid value: \"3Gi\": default value is not valid according to the requestPolicy",
        ],
    );
    let many: Vec<String> = (1..12).map(|n| n.to_string()).collect();
    shared(
        json!({"default": "1", "validValues": many}),
        &[
            ".validValues: Too many: 11: must have at most 10 items",
            ".validValues: Invalid value: \"1\": default value is not valid according to the requestPolicy",
        ],
    );
    shared(
        json!({"default": "1Gi", "validRange": {}}),
        &[".validRange.min: Required value: required when validRange is defined"],
    );
    shared(
        json!({"default": "1Gi", "validRange": {"min": "11Gi", "max": "12Gi", "step": "3Gi"}}),
        &[
            ".validRange.min: Invalid value: \"11Gi\": min is larger than capacity value: 10Gi",
            ".validRange.min: Invalid value: \"1Gi\": default is less than min: 11Gi",
            ".validRange.max: Invalid value: \"12Gi\": max is larger than capacity value: 10Gi",
            ".validRange.step: Invalid value: \"3Gi\": one step 14Gi is larger than capacity value: 10Gi",
            ".validRange.step: Invalid value: \"1Gi\": value is not a multiple of a given step (3Gi) from (11Gi)",
            ".validRange.step: Invalid value: \"12Gi\": value is not a multiple of a given step (3Gi) from (11Gi)",
        ],
    );
    shared(
        json!({"default": "9Gi", "validRange": {"min": "5Gi", "max": "4Gi", "step": "0"}}),
        &[
            ".validRange.max: Invalid value: \"5Gi\": min is larger than max: 4Gi",
            ".validRange.max: Invalid value: \"9Gi\": default is more than max: 4Gi",
            ".validRange.step: Invalid value: \"0\": must be greater than zero",
        ],
    );
}

#[test]
fn attributes_are_versions_and_not_too_many() {
    let device = |attributes: Value| {
        json!({"driver": "d.example", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n",
            "devices": [{"name": "d", "attributes": attributes}]})
    };
    let slice = |attributes: Value, want: &[&str]| {
        refused(DEVICES, "resourceslices", "", device(attributes), want);
    };
    slice(json!({"v": {"version": "1.2.3-rc.1+build"}}), &[]);
    slice(
        json!({"v": {"version": "1.2"}, "w": {"version": "x".repeat(65)}}),
        &[
            "spec.devices[0].attributes[v].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0",
            &format!(
                "spec.devices[0].attributes[w].version: Invalid value: {:?}: must be a string compatible with semver.org spec 2.0.0",
                "x".repeat(65)
            ),
            "spec.devices[0].attributes[w].version: Too long: may not be more than 64 bytes",
        ],
    );
    let slice = |attributes: Value| {
        let mut object = json!({"metadata": {"name": "x"}, "spec": device(attributes)});
        object["spec"]["pool"]["generation"] = json!(1);
        object
    };
    // Lists of values are a feature that is off: who has none stored gets none.
    let mut fresh = slice(json!({"v": {"versions": ["1.2.3"]}, "w": {"int": 1}}));
    crate::prepare_create(&request(Operation::Create, DEVICES, "resourceslices", "", "x"), &mut fresh);
    assert_eq!(fresh["spec"]["devices"][0]["attributes"], json!({"v": {}, "w": {"int": 1}}));
    let changed = |old: &Value, mut new: Value| {
        let r = request(Operation::Update, DEVICES, "resourceslices", "", "x");
        crate::prepare_update(&r, old, &mut new);
        validate_update(&r, old, &new).iter().map(Cause::to_string).collect::<Vec<_>>()
    };
    let old = slice(json!({"v": {"ints": [1]}}));
    assert_eq!(
        changed(&old, slice(json!({"v": {"versions": ["1.2.3", "1"]}, "w": {"strings": []}}))),
        [
            "spec.devices[0].attributes[v].versions[1]: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
            "spec.devices[0].attributes[w].strings: Invalid value: []: must not be empty if specified",
        ]
    );
    assert_eq!(
        changed(&old, slice(json!({"v": {"ints": (0..49).collect::<Vec<i64>>()}}))),
        ["spec.devices[0]: Invalid value: 49: the total number of attribute values must not exceed 48"]
    );
}

#[test]
fn what_a_stored_taint_does_is_left_to_newer_versions() {
    let slice = |effect: &str, value: &str| {
        json!({"metadata": {"name": "x"}, "spec": {"driver": "d.example", "pool": {"name": "p", "resourceSliceCount": 1},
            "nodeName": "n", "devices": [{"name": "d", "taints": [{"key": "k", "value": value, "effect": effect}]}]}})
    };
    let changed = |old: &Value, new: &Value| {
        let r = request(Operation::Update, DEVICES, "resourceslices", "", "x");
        validate_update(&r, old, new).iter().map(Cause::to_string).collect::<Vec<_>>()
    };
    let old = slice("Later", "a");
    assert_eq!(changed(&old, &old), [""; 0]);
    assert_eq!(
        changed(&old, &slice("Later", "b")),
        [
            "spec.devices[0].taints[0].effect: Unsupported value: \"Later\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""
        ]
    );
}

#[test]
fn the_expressions_of_a_class_are_read_once() {
    let class = |expression: &str, label: &str| json!({"metadata": {"name": "x", "labels": {"l": label}}, "spec": {"selectors": [{"cel": {"expression": expression}}]}});
    let changed = |old: &Value, new: &Value| {
        let r = request(Operation::Update, DEVICES, "deviceclasses", "", "x");
        validate_update(&r, old, new).len()
    };
    let old = class("what.a.later.version.knows(", "a");
    assert_eq!(changed(&old, &class("what.a.later.version.knows(", "b")), 0);
    assert_eq!(changed(&old, &class("nothing(", "a")), 1);
}

#[test]
fn drivers_tell_of_the_devices_that_a_claim_was_given() {
    let mut r = request(Operation::Update, DEVICES, "resourceclaims", "ns", "x");
    r.subresource = "status";
    let id = json!({"driver": "d.example", "pool": "p", "device": "d"});
    let mut result = id.clone();
    result["request"] = json!("r");
    let old = json!({
        "metadata": {"name": "x", "namespace": "ns"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All"}}]}},
        "status": {"allocation": {"devices": {"results": [result]}}},
    });
    let told = |change: Value| {
        let mut device = id.clone();
        for (key, value) in change.as_object().unwrap() {
            device[key] = value.clone();
        }
        let mut new = old.clone();
        new["status"]["devices"] = json!([device]);
        validate_update(&r, &old, &new).iter().map(Cause::to_string).collect::<Vec<_>>()
    };
    let network = json!({"interfaceName": "eth0", "ips": ["10.1.2.3/24", "2001:db8::1/64"]});
    assert_eq!(told(json!({"data": {"a": 1}, "networkData": network})), [""; 0]);
    assert_eq!(
        told(json!({"device": "e"})),
        [
            r#"status.devices[0]: Invalid value: {"Driver":"d.example","Pool":"p","Device":"e","ShareID":""}: must be an allocated device in the claim"#
        ]
    );
    assert_eq!(
        told(
            json!({"data": [1], "networkData": {"interfaceName": "x".repeat(257), "ips": ["10.1.2.3", "2001:DB8::1/64"]}})
        ),
        [
            r#"status.devices[0].data: Invalid value: "<value omitted>": must be a valid JSON object"#,
            "status.devices[0].networkData.interfaceName: Too long: may not be more than 256 bytes",
            r#"status.devices[0].networkData.ips[0]: Invalid value: "10.1.2.3": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"#,
            r#"status.devices[0].networkData.ips[1]: Invalid value: "2001:DB8::1/64": must be in canonical form ("2001:db8::1/64")"#,
        ]
    );
    let share = told(json!({"shareID": "5CDA1F8E-0000-0000-0000-000000000000"}));
    assert!(
        share[0].starts_with("status.devices[0].shareID: Invalid value: ")
            && share[0].contains("normalized form"),
        "{share:?}"
    );
}

#[test]
fn a_claim_is_reserved_once_it_is_allocated() {
    let devices = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}}]}});
    let claim = |status: Value| json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": devices, "status": status});
    let said = |old: &Value, new: &Value, subresource: &'static str| -> Vec<String> {
        let mut r = request(Operation::Update, DEVICES, "resourceclaims", "ns", "x");
        r.subresource = subresource;
        validate_update(&r, old, new).iter().map(Cause::to_string).collect()
    };
    let pod = json!({"resource": "pods", "name": "p", "uid": "u"});
    let allocation = |request: &str| json!({"devices": {"results": [{"request": request, "driver": "d.example", "pool": "p", "device": "d"}]}});
    let (free, taken) =
        (claim(json!({})), claim(json!({"allocation": allocation("r"), "reservedFor": [pod]})));
    assert_eq!(said(&free, &taken, "status"), Vec::<String>::new());
    assert_eq!(
        said(&free, &claim(json!({"reservedFor": [{"resource": "pods"}]})), "status"),
        [
            "status.reservedFor[0].name: Required value",
            "status.reservedFor[0].uid: Required value",
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ]
    );
    assert_eq!(
        said(&free, &claim(json!({"allocation": allocation("q")})), "status"),
        [
            "status.allocation.devices.results[0].request: Invalid value: \"q\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
        ]
    );
    let moved = said(&taken, &claim(json!({"allocation": allocation("r/x")})), "status");
    assert!(moved.len() == 1 && moved[0].starts_with("status.allocation: Invalid value: "), "{moved:?}");
    let mut other = taken.clone();
    other["spec"]["devices"]["requests"][0]["name"] = json!("s");
    let changed = said(&taken, &other, "");
    assert!(changed.len() == 1 && changed[0].ends_with(": field is immutable"), "{changed:?}");
}

#[test]
fn a_pod_names_its_claims_and_its_containers_name_them_again() {
    let pod = |claims: Value, used: Value| {
        let containers = json!([{"name": "c", "image": "i", "resources": {"claims": used}}]);
        causes(
            "",
            "pods",
            "ns",
            json!({"metadata": {}, "spec": {"containers": containers, "resourceClaims": claims}}),
        )
    };
    let good = json!([{"name": "gpu", "resourceClaimName": "mine"}, {"name": "nic", "resourceClaimTemplateName": "t"}]);
    assert_eq!(
        pod(good.clone(), json!([{"name": "gpu"}, {"name": "nic", "request": "fast"}])),
        Vec::<String>::new()
    );
    assert_eq!(
        pod(good, json!([{"name": ""}, {"name": "gpu"}, {"name": "gpu"}, {"name": "tpu"}])),
        [
            "spec.containers[0].resources.claims[0]: Required value",
            "spec.containers[0].resources.claims[2]: Duplicate value: \"gpu\"",
            "spec.containers[0].resources.claims[3]: Not found: \"tpu\": must be one of the names in pod.spec.resourceClaims: gpu, nic",
        ]
    );
    let both =
        json!([{"name": "a", "resourceClaimName": "x", "resourceClaimTemplateName": "y"}, {"name": "a"}]);
    assert_eq!(
        pod(both, json!([])),
        [
            "spec.resourceClaims[0]: Invalid value: {\"Name\":\"a\",\"ResourceClaimName\":\"x\",\"ResourceClaimTemplateName\":\"y\"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            "spec.resourceClaims[1].name: Duplicate value: \"a\"",
            "spec.resourceClaims[1]: Invalid value: {\"Name\":\"a\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        ]
    );
    assert_eq!(
        pod(json!([]), json!([{"name": "gpu"}])),
        [
            "spec.containers[0].resources.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty"
        ]
    );
}

#[test]
fn what_must_always_be_there_stays_as_it_is() {
    let named = |plural: &str, name: &str, spec: Value| {
        let r = request(Operation::Create, FLOW, plural, "", name);
        let mut object = json!({"metadata": {"name": name}, "spec": spec});
        crate::default(r.resource, &mut object);
        crate::validate_create(&r, &object).iter().map(|c| c.to_string()).collect::<Vec<_>>()
    };
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
    let schema = |group: &str| {
        json!({
            "priorityLevelConfiguration": {"name": "exempt"},
            "matchingPrecedence": 1,
            "rules": [{
                "subjects": [{"kind": "Group", "group": {"name": group}}],
                "resourceRules": all,
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            }],
        })
    };
    assert_eq!(named("flowschemas", "exempt", schema("system:masters")), [""; 0]);
    let other = named("flowschemas", "exempt", schema("system:authenticated"));
    assert!(
        other.len() == 1
            && other[0]
                .starts_with(r#"spec: Invalid value: {"PriorityLevelConfiguration":{"Name":"exempt"}"#)
            && other[0].ends_with(": spec of 'exempt' must equal the fixed value"),
        "{other:?}"
    );
    let level = |shares: i64| json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": shares}});
    assert_eq!(named("prioritylevelconfigurations", "exempt", level(7)), [""; 0]);
    assert_eq!(named("prioritylevelconfigurations", "exempt", json!({"type": "Exempt"})), [""; 0]);
    let last = |shares: i64| json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "limitResponse": {"type": "Reject"}}});
    assert_eq!(named("prioritylevelconfigurations", "catch-all", last(5)), [""; 0]);
    let other = named("prioritylevelconfigurations", "catch-all", last(6));
    assert!(
        other.len() == 1 && other[0].ends_with(": spec of 'catch-all' must equal the fixed value"),
        "{other:?}"
    );
}

#[test]
fn what_became_of_a_schema_is_said_once_of_each_type() {
    let mut r = request(Operation::Update, FLOW, "flowschemas", "", "x");
    r.subresource = "status";
    let old = json!({"metadata": {"name": "x"}});
    let mut new = old.clone();
    new["status"] = json!({"conditions": [{"type": "Dangling"}, {"type": "Dangling"}, {}]});
    let told: Vec<String> = crate::validate_update(&r, &old, &new).iter().map(|c| c.to_string()).collect();
    assert_eq!(
        told,
        [
            r#"status.conditions[1].type: Duplicate value: "Dangling""#,
            "status.conditions[2].type: Required value",
        ]
    );
}
