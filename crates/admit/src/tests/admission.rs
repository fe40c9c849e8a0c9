//! Webhooks, policies, definitions and services of the API: a good object, a change to it, and what is said.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::kinds::table;
use super::request;
use super::rules::{causes, changes};
use crate::{Operation, Request, validate_update};

const GROUP: &str = "admissionregistration.k8s.io";
const LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]})
}

#[test]
fn a_webhook_says_where_it_is_and_what_it_is_asked() {
    let hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule()],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}}});
    let good = json!({"metadata": {}, "webhooks": [hook]});
    let unknown = format!(
        "webhooks[0].admissionReviewVersions[0]: Invalid value: \"V\": {LABEL}; webhooks[0].admissionReviewVersions: Invalid value: [\"V\"]: must include at least one of v1, v1beta1"
    );
    for plural in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        table(
            GROUP,
            plural,
            "",
            &good,
            &[
                (
                    "/webhooks/0/name",
                    json!("a.b"),
                    "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
                ),
                (
                    "/webhooks/0/sideEffects",
                    Value::Null,
                    "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
                ),
                (
                    "/webhooks/0/sideEffects",
                    json!("Some"),
                    "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
                ),
                (
                    "/webhooks/0/admissionReviewVersions",
                    json!([]),
                    "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
                ),
                ("/webhooks/0/admissionReviewVersions", json!(["V"]), &unknown),
                (
                    "/webhooks/0/timeoutSeconds",
                    json!(31),
                    "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({}),
                    "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
                ),
                (
                    "/webhooks/0/clientConfig",
                    json!({"url": "http://u@h/p?q#f"}),
                    "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]; webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL; webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL; webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
                ),
                (
                    "/webhooks/0/clientConfig/service/path",
                    json!("a//b"),
                    "webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": must start with a '/'; webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[0] may not be empty; webhooks[0].clientConfig.service.path: Invalid value: \"a//b\": segment[1] may not be empty",
                ),
                (
                    "/webhooks/0/rules/0/operations",
                    json!(["*", "LOOK"]),
                    "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"LOOK\"]: if '*' is present, must not specify other operations; webhooks[0].rules[0].operations[1]: Unsupported value: \"LOOK\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
                ),
                (
                    "/webhooks/0/rules/0/apiGroups",
                    json!([]),
                    "webhooks[0].rules[0].apiGroups: Required value",
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["*", "pods"]),
                    "webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources",
                ),
                (
                    "/webhooks/0/rules/0/resources",
                    json!(["pods/*", "pods/log"]),
                    "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                ),
                (
                    "/webhooks/0/matchConditions",
                    json!([{"name": "", "expression": " "}]),
                    "webhooks[0].matchConditions[0].expression: Required value; webhooks[0].matchConditions[0].name: Required value",
                ),
            ],
        );
    }
    let twice = json!({"metadata": {}, "webhooks": [hook, hook]});
    assert_eq!(
        causes(GROUP, "validatingwebhookconfigurations", "", twice),
        ["webhooks[1].name: Duplicate value: \"a.b.c\""]
    );
    let mut old = good;
    old["webhooks"][0]["sideEffects"] = json!("Unknown");
    assert_eq!(
        changes(GROUP, "validatingwebhookconfigurations", old, |o| {
            o["webhooks"][0]["timeoutSeconds"] = json!(5);
        }),
        Vec::<String>::new(),
        "what was taken once stays"
    );
}

#[test]
fn a_policy_has_something_to_say_of_something() {
    let good = json!({"metadata": {}, "spec": {"matchConstraints": {"resourceRules": [rule()]}, "variables": [],
        "validations": [{"expression": "true"}]}});
    let kind = format!(
        "spec.paramKind.apiVersion: Invalid value: \"V1\": {LABEL}; spec.paramKind.kind: Required value"
    );
    table(
        GROUP,
        "validatingadmissionpolicies",
        "",
        &good,
        &[
            ("/spec/matchConstraints", Value::Null, "spec.matchConstraints: Required value"),
            (
                "/spec/matchConstraints/resourceRules",
                json!([]),
                "spec.matchConstraints.resourceRules: Required value",
            ),
            (
                "/spec/matchConstraints/resourceRules/0/resourceNames",
                json!(["a/b"]),
                "spec.matchConstraints.resourceRules[0].resourceNames[0]: Invalid value: \"a/b\": may not contain '/'",
            ),
            (
                "/spec/validations",
                json!([]),
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item; spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ),
            (
                "/spec/validations/0",
                json!({"expression": "", "message": "a\nb", "reason": "No"}),
                "spec.validations[0].expression: Required value: expression is not specified; spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks; spec.validations[0].reason: Unsupported value: \"No\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
            ),
            (
                "/spec/variables",
                json!([{"name": "in", "expression": "1"}]),
                "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier",
            ),
            (
                "/spec/validations/0/expression",
                json!("object.spec.replicas <="),
                "spec.validations[0].expression: Invalid value: \"object.spec.replicas <=\": compilation failed: ERROR: <input>:1:24: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | object.spec.replicas <=\n | .......................^",
            ),
            (
                "/spec/validations/0/expression",
                json!("params.a"),
                "spec.validations[0].expression: Invalid value: \"params.a\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.a\n | ^",
            ),
            (
                "/spec/validations/0/expression",
                json!("1"),
                "spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
            ),
            (
                "/spec/validations/0/messageExpression",
                json!("authorizer.x"),
                "spec.validations[0].messageExpression: Invalid value: \"authorizer.x\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')\n | authorizer.x\n | ^",
            ),
            ("/spec/paramKind", json!({"apiVersion": "V1"}), &kind),
            (
                "/spec/auditAnnotations",
                json!([{"key": "k", "valueExpression": ""}, {"key": "k", "valueExpression": "'a'"}]),
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified; spec.auditAnnotations[1].key: Duplicate value: \"k\"",
            ),
        ],
    );
    let good = json!({"metadata": {}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    table(
        GROUP,
        "validatingadmissionpolicybindings",
        "",
        &good,
        &[
            ("/spec/policyName", json!(""), "spec.policyName: Required value"),
            (
                "/spec/validationActions",
                json!([]),
                "spec.validationActions: Required value: at least one validation action is required",
            ),
            (
                "/spec/validationActions",
                json!(["Deny", "Warn"]),
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            ),
            (
                "/spec/paramRef",
                json!({}),
                "spec.paramRef: Required value: one of name or selector must be specified; spec.paramRef.parameterNotFoundAction: Required value",
            ),
        ],
    );
    let good = json!({"metadata": {}, "spec": {"matchConstraints": {"resourceRules": [rule()]}, "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}});
    table(
        GROUP,
        "mutatingadmissionpolicies",
        "",
        &good,
        &[
            (
                "/spec/mutations",
                json!([]),
                "spec.mutations: Required value: mutations must contain at least one item",
            ),
            (
                "/spec/mutations/0",
                json!({"patchType": "ApplyConfiguration"}),
                "spec.mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
            ),
            (
                "/spec/mutations/0",
                json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}, "jsonPatch": {}}),
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"1\": must evaluate to Object but got int; spec.mutations[0].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is ApplyConfiguration",
            ),
            ("/spec/matchConstraints/resourceRules/0/operations", json!(["*"]), ""),
            (
                "/spec/matchConstraints/resourceRules/0/operations",
                json!(["DELETE"]),
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
            ),
            (
                "/spec/reinvocationPolicy",
                json!("Ever"),
                "spec.reinvocationPolicy: Unsupported value: \"Ever\": supported values: \"IfNeeded\", \"Never\"",
            ),
        ],
    );
}

#[test]
fn a_service_of_the_api_is_called_by_its_version_and_group() {
    let found = causes("apiregistration.k8s.io", "apiservices", "", json!({"metadata": {}, "spec": {}}));
    assert_eq!(
        found,
        [
            "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \".\"".to_owned(),
            "spec.group: Required value: only v1 may have an empty group and it better be legacy kube"
                .to_owned(),
            format!("spec.version: Invalid value: \"\": {LABEL}"),
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000".to_owned(),
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000".to_owned(),
        ]
    );
}

fn definition(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}});
    let mut o = json!({"metadata": {}, "status": {"storedVersions": ["v1"]}, "spec": {"group": "a.b", "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    change(&mut o);
    let mut found = causes("apiextensions.k8s.io", "customresourcedefinitions", "", o);
    // The tests' object is called otherwise.
    assert_eq!(
        found.remove(0),
        "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group"
    );
    found
}

#[test]
fn the_names_that_a_definition_took_are_names() {
    let with = |status: Value| json!({"metadata": {"name": "x", "resourceVersion": "1"}, "spec": {"group": "a.b"}, "status": status});
    let told = |status: Value| -> Vec<String> {
        let group = "apiextensions.k8s.io";
        let plain = request(crate::Operation::Update, group, "customresourcedefinitions", "", "x");
        let r = crate::Request { subresource: "status", ..plain };
        crate::validate_update(&r, &with(json!({})), &with(status)).iter().map(Cause::to_string).collect()
    };
    let names = json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList", "shortNames": ["f"]});
    assert_eq!(told(json!({"acceptedNames": names, "storedVersions": ["v1"]})), Vec::<String>::new());
    // Conditions, and what is said to be stored, are a controller's and a migrator's to say.
    let odd = json!({"conditions": [{"type": "x", "status": "Maybe"}], "storedVersions": ["v9"]});
    assert_eq!(told(odd), Vec::<String>::new());
    let names = json!({"plural": "Foos", "kind": "Foo", "listKind": "Foo", "shortNames": ["f", "1"]});
    let found = told(json!({"acceptedNames": names}));
    let fields: Vec<&str> = found.iter().filter_map(|cause| cause.split(": ").next()).collect();
    let at = ["plural", "shortNames[1]", "listKind"].map(|field| format!("status.acceptedNames.{field}"));
    assert_eq!(fields, at, "{found:?}");
}

/// What is said of a schema, below `spec.validation.openAPIV3Schema`.
fn schema(schema: Value) -> Vec<String> {
    let mut schema = schema;
    schema["type"] = json!("object");
    let found = definition(|o| o["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema);
    found.iter().map(|f| f.replace("spec.validation.openAPIV3Schema.", "")).collect()
}

#[test]
fn what_judges_values_says_nothing_of_their_shape() {
    let none = Vec::<String>::new();
    let nested = schema(json!({"allOf": [{"type": "object", "title": "t", "x-kubernetes-list-type": "set",
        "properties": {"a": {"minimum": 1}}, "not": {"nullable": true}}]}));
    assert_eq!(
        nested,
        [
            "allOf[0].not.nullable: Forbidden: must be false to be structural",
            "allOf[0].title: Forbidden: must be empty to be structural",
            "allOf[0].type: Forbidden: must be empty to be structural",
            "allOf[0].x-kubernetes-list-type: Forbidden: must be undefined to be structural",
            "properties[a]: Required value: because it is defined in allOf[0].properties[a]",
            "allOf[0].type: Invalid value: \"object\": must be array if x-kubernetes-list-type is specified",
        ]
    );
    let either =
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
    assert_eq!(schema(json!({"properties": {"a": either}})), none);
    assert_eq!(
        schema(json!({"properties": {"a": {"type": "string", "pattern": "("}, "metadata": {"type": "object", "nullable": true}}})).len(),
        2
    );
}

#[test]
fn words_that_schemas_do_not_know_are_refused_wherever_they_stand() {
    assert_eq!(
        schema(json!({"definitions": {"a": {"$ref": "x", "type": "x"}}})),
        [
            "definitions: Forbidden: definitions is not supported",
            "definitions[a].type: Unsupported value: \"x\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"",
            "definitions[a].$ref: Forbidden: $ref is not supported",
        ]
    );
    // Said alone, for nothing else is wrong with it.
    assert_eq!(
        schema(json!({"$schema": "x"})),
        ["spec.validation.openAPIV3Schema: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"]
    );
    assert_eq!(
        schema(json!({"nullable": true, "properties": {"kind": {"type": "string", "default": "x"}}})),
        [
            "nullable: Forbidden: nullable cannot be true at the root",
            "properties[kind].default: Forbidden: must not be set in top-level kind",
        ]
    );
}

#[test]
fn entries_of_a_map_are_told_apart_by_what_they_always_have() {
    let item = json!({"type": "object", "nullable": true, "properties": {"a": {"type": "object"}, "b": {"type": "string", "nullable": true}}});
    let list = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b", "b", "c"], "items": item});
    let found = schema(json!({"properties": {"l": list}}));
    let fields: Vec<&str> = found.iter().map(|f| f.strip_prefix("properties[l].").unwrap_or(f)).collect();
    assert_eq!(
        fields,
        [
            "items.properties[a].type: Invalid value: \"object\": must be a scalar type if parent array's x-kubernetes-list-type is map",
            "x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\",\"b\",\"c\"]: must not contain duplicate entries",
            "x-kubernetes-list-map-keys: Invalid value: [\"a\",\"b\",\"b\",\"c\"]: entries must all be names of item properties",
            "items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
            "items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            "items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            "items.properties[b].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
            "items.properties[b].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            "items.properties[b].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
        ]
    );
}

#[test]
fn rules_are_read_where_nothing_else_is_wrong() {
    let rules = |rules: Value| {
        schema(json!({"properties": {"a": {"type": "string"}}, "x-kubernetes-validations": rules}))
    };
    assert_eq!(
        rules(json!([{"rule": "self.a == oldSelf.a", "fieldPath": ".a", "reason": "FieldValueForbidden"}])),
        Vec::<String>::new()
    );
    assert_eq!(
        rules(json!([{"rule": "nonsense", "fieldPath": ".b", "reason": "Mood"}])),
        [
            "x-kubernetes-validations[0].reason: Unsupported value: \"Mood\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
            "x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": must be a valid path",
        ]
    );
    let read = rules(json!([{"rule": "true", "messageExpression": "1", "optionalOldSelf": true}]));
    assert!(read[0].ends_with(": messageExpression must evaluate to a string"), "{read:?}");
    assert_eq!(
        read[1],
        "x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
    );
    let list = json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}});
    assert_eq!(
        schema(json!({"properties": {"l": list}})),
        [
            "properties[l].items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the uncorrelatable portion of the schema within properties[l]"
        ]
    );
}

#[test]
fn a_definition_with_a_status_of_its_own_describes_both_apart() {
    let told = |schema: Value| {
        definition(|o| {
            o["spec"]["versions"][0]["subresources"] = json!({"status": {}});
            o["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
        })
    };
    assert_eq!(told(json!({"type": "object", "description": "d"})), Vec::<String>::new());
    let found = told(json!({"type": "object", "maxProperties": 1}));
    assert!(
        found[0].starts_with("spec.validation.openAPIV3Schema: Invalid value: {") && found.len() == 1,
        "{found:?}"
    );
    let found = definition(|o| {
        o["spec"]["preserveUnknownFields"] = json!(true);
        o["spec"]["versions"][0]["selectableFields"] =
            json!([{"jsonPath": ".spec"}, {"jsonPath": ".x"}, {"jsonPath": ""}]);
    });
    assert_eq!(
        found,
        [
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            "spec.selectableFields[1].jsonPath: Invalid value: \".x\": is an invalid path: does not refer to a valid field",
            "spec.selectableFields[2].jsonPath: Required value",
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ]
    );
}

#[test]
fn formats_that_nobody_knows_are_named_when_they_come() {
    let with = |formats: [&str; 2]| {
        let [a, b] = formats.map(|f| json!({"type": "string", "format": f}));
        json!({"metadata": {"name": "x"}, "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"properties": {"a": a, "b": b}}}}]}})
    };
    let told = |old: Option<&Value>, new: &Value| {
        let operation = if old.is_some() { crate::Operation::Update } else { crate::Operation::Create };
        let r = request(operation, "apiextensions.k8s.io", "customresourcedefinitions", "", "x");
        crate::warn::warnings(&r, new, old)
    };
    let (one, two) = (with(["date-time", "shoe"]), with(["hat", "shoe"]));
    assert_eq!(told(None, &one), ["unrecognized format \"shoe\""]);
    assert_eq!(told(Some(&one), &two), ["unrecognized format \"hat\""]);
}

#[test]
fn a_definition_is_named_versioned_and_typed() {
    let schema = "/spec/versions/0/schema/openAPIV3Schema";
    assert_eq!(definition(|_| {}), Vec::<String>::new());
    for (pointer, value, want) in [
        (
            "/spec/group",
            json!("a"),
            vec!["spec.group: Invalid value: \"a\": should be a domain with at least one dot"],
        ),
        (
            "/spec/scope",
            json!("Some"),
            vec!["spec.scope: Unsupported value: \"Some\": supported values: \"Cluster\", \"Namespaced\""],
        ),
        (
            "/spec/versions/0/schema",
            Value::Null,
            vec!["spec.versions[0].schema.openAPIV3Schema: Required value"],
        ),
        (
            "/spec/names/listKind",
            json!("Foo"),
            vec!["spec.names.listKind: Invalid value: \"Foo\": kind and listKind may not be the same"],
        ),
        (
            schema,
            json!({"properties": {"spec": {"items": {}}}, "additionalProperties": {"type": "string"}}),
            vec![
                "spec.validation.openAPIV3Schema.additionalProperties: Forbidden: must not be used at the root",
                "spec.validation.openAPIV3Schema.properties[spec].items.type: Required value: must not be empty for specified array items",
                "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
                "spec.validation.openAPIV3Schema.type: Required value: must not be empty at the root",
                "spec.validation.openAPIV3Schema.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            schema,
            json!({"type": "object", "x-kubernetes-validations": [{"rule": " "}]}),
            vec![
                "spec.validation.openAPIV3Schema.x-kubernetes-validations[0].rule: Required value: rule is not specified",
            ],
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "a", "type": "some", "jsonPath": "x"}]),
            vec![
                "spec.additionalPrinterColumns[0].type: Invalid value: \"some\": must be one of boolean,date,integer,number,string",
                "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"x\": must be a simple json path starting with .",
            ],
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".status.n"}}),
            vec![
                "spec.subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path under .spec",
                "spec.subresources.scale.statusReplicasPath: Required value",
            ],
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook"}),
            vec![
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.conversionReviewVersions: Required value",
            ],
        ),
        (
            "/status/storedVersions",
            json!(["v1", "v0"]),
            vec![
                "status.storedVersions[1]: Invalid value: \"v0\": missing from spec.versions; v0 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 and removes v0 from status.storedVersions",
            ],
        ),
        (
            "/spec/group",
            json!("a.k8s.io"),
            vec![
                "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
            ],
        ),
    ] {
        let found = definition(|o| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            o.pointer_mut(parent).unwrap()[key] = value;
        });
        assert_eq!(found, want, "{pointer}");
    }
    let found = definition(|o| o["spec"]["versions"][0]["storage"] = json!(false));
    assert!(found[0].ends_with(": must have exactly one version marked as storage version"), "{found:?}");
    let object =
        json!({"spec": {"group": "a.b", "scope": "Cluster", "names": {"plural": "foos", "kind": "Foo"}}});
    assert!(
        changes("apiextensions.k8s.io", "customresourcedefinitions", object, |o| o["spec"]["group"] =
            json!("c.d"))
        .contains(&"spec.group: Invalid value: \"c.d\": field is immutable".to_owned())
    );
}

#[test]
fn what_is_reported_of_policies_and_services_of_the_api_is_judged() {
    let said = |group: &str, plural: &str, status: Value| -> Vec<String> {
        let r = Request { subresource: "status", ..request(Operation::Update, group, plural, "", "x") };
        let old = json!({"metadata": {"name": "x", "uid": "u"}, "spec": {}});
        let mut new = old.clone();
        new["status"] = status;
        validate_update(&r, &old, &new).iter().map(Cause::to_string).collect()
    };
    let condition =
        json!({"type": "A", "status": "Maybe", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let found = said(
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        json!({"typeChecking": {"expressionWarnings": [{"fieldRef": "f"}, {"warning": "w"}]}, "conditions": [condition]}),
    );
    assert_eq!(
        found,
        [
            "status.typeChecking.expressionWarnings[0].warning: Required value",
            "status.typeChecking.expressionWarnings[1].fieldRef: Required value",
            r#"status.conditions[0].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown""#,
        ]
    );
    let found = said("apiregistration.k8s.io", "apiservices", json!({"conditions": [{"status": ""}]}));
    assert_eq!(
        found,
        [
            r#"status.conditions[0].status: Unsupported value: "": supported values: "True", "False", "Unknown""#
        ]
    );
}
