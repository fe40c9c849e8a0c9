//! Who asks and what they may.

#![allow(clippy::unwrap_used)]

mod common;
use common::{Server, Who};
use serde_json::{Value, json};

#[tokio::test]
async fn nothing_but_health_and_version_is_open() {
    let s = Server::start().await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(s.send(Who::Nobody, "GET", path, &[], "").await.code, 200, "{path}");
    }
    for path in ["/api", "/apis", "/api/v1/pods", "/metrics", "/openapi/v2", "/versionx", "/livez/ping", "/"]
    {
        let refused = s.send(Who::Nobody, "GET", path, &[], "").await;
        assert_eq!(refused.code, 403, "{path}");
        let why = &refused.json()["message"];
        let want = match path {
            "/api/v1/pods" => "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope".to_string(),
            _ => format!("forbidden: User \"system:anonymous\" cannot get path \"{path}\""),
        };
        assert_eq!(*why, want);
        assert_eq!(s.send(Who::Token("wrong"), "GET", path, &[], "").await.code, 401, "{path}");
    }
    let basic = s.send(Who::Nobody, "GET", "/version", &[("authorization", "Basic eDp5")], "").await;
    assert_eq!(basic.code, 200, "credentials of another kind are none");
}

#[tokio::test]
async fn what_is_not_granted_is_refused_in_the_stock_words() {
    let s = Server::start().await;
    s.namespace("t").await;
    let list = s.send(Who::Token("s3cr3t"), "GET", "/api/v1/namespaces/t/pods", &[], "").await;
    assert_eq!(list.code, 403);
    assert_eq!(
        list.json()["message"],
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"t\""
    );
    let path = s.send(Who::Token("s3cr3t"), "GET", "/metrics", &[], "").await.json();
    assert_eq!(path["message"], "forbidden: User \"jane\" cannot get path \"/metrics\"");
    assert_eq!(
        s.send(Who::Token("s3cr3t"), "GET", "/api", &[], "").await.code,
        200,
        "discovery is everybody's"
    );
}

/// Lets `jane` do something in namespace `t`.
async fn grant(s: &Server, rules: Value) {
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/t";
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    assert_eq!(s.post(&format!("{base}/roles"), role).await.code, 201);
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    let bound = s.post(&format!("{base}/rolebindings"), binding).await;
    assert_eq!(bound.code, 201, "{}", bound.json());
}

/// The authorizer follows the store's watch: asks until it has heard, for a bounded while.
async fn becomes(s: &Server, path: &str, code: u16) {
    let waiting = async {
        while s.send(Who::Token("s3cr3t"), "GET", path, &[], "").await.code != code {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), waiting)
        .await
        .expect("the grant to take effect");
}

#[tokio::test]
async fn grants_take_effect_and_nobody_grants_more_than_they_hold() {
    let s = Server::start().await;
    s.namespace("t").await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]},
    ]);
    grant(&s, rules).await;
    becomes(&s, "/api/v1/namespaces/t/pods", 200).await;
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/t/roles";
    let role = |name: &str, verbs: Value| {
        json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": verbs}]}).to_string()
    };
    let json = [("content-type", "application/json")];
    let held = s.send(Who::Token("s3cr3t"), "POST", roles, &json, role("ok", json!(["get"]))).await;
    assert_eq!(held.code, 201, "{}", held.json());
    let more = s.send(Who::Token("s3cr3t"), "POST", roles, &json, role("more", json!(["delete"]))).await;
    assert_eq!(more.code, 403, "{}", more.json());
    assert!(
        more.json()["message"]
            .as_str()
            .unwrap()
            .contains("is attempting to grant RBAC permissions not currently held")
    );
}

#[tokio::test]
async fn impersonation_needs_its_own_permission() {
    let s = Server::start().await;
    s.namespace("t").await;
    let act = [("impersonate-user", "bob"), ("impersonate-group", "dev")];
    let as_bob = s.send(Who::Admin, "GET", "/api/v1/pods", &act, "").await;
    assert_eq!(as_bob.code, 403);
    assert!(as_bob.json()["message"].as_str().unwrap().contains("User \"bob\""));
    let refused = s.send(Who::Token("s3cr3t"), "GET", "/api", &act, "").await;
    assert_eq!(refused.code, 403);
    assert!(
        refused.json()["message"]
            .as_str()
            .unwrap()
            .contains("User \"jane\" cannot impersonate resource \"users\"")
    );
    let none = s.send(Who::Admin, "GET", "/api/v1/nodes", &[("impersonate-user", "")], "").await;
    assert_eq!(none.code, 200, "a header without a value asks for nothing");
    let nobody = [("impersonate-group", "system:masters")];
    assert_eq!(s.send(Who::Token("s3cr3t"), "GET", "/api/v1/pods", &nobody, "").await.code, 400);
}

#[tokio::test]
async fn an_accounts_token_lives_as_long_as_the_account() {
    let s = Server::start().await;
    s.namespace("t").await;
    let path = "/api/v1/namespaces/t/serviceaccounts/default";
    let made = s.post(&format!("{path}/token"), json!({"spec": {"expirationSeconds": 600}})).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let token = made.json()["status"]["token"].as_str().unwrap().to_string();
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let json = [("content-type", "application/json")];
    let who = s.send(Who::Token(&token), "POST", reviews, &json, "{}").await.json();
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:t:default", "{who}");
    assert!(who["status"]["userInfo"]["groups"].as_array().unwrap().contains(&json!("system:authenticated")));
    let review =
        s.post("/apis/authentication.k8s.io/v1/tokenreviews", json!({"spec": {"token": token}})).await.json();
    assert_eq!(review["status"]["authenticated"], true, "{review}");
    let short = s.post(&format!("{path}/token"), json!({"spec": {"expirationSeconds": 10}})).await;
    assert_eq!(short.code, 422);
    s.delete(path).await;
    assert_eq!(s.send(Who::Token(&token), "GET", "/api", &[], "").await.code, 401);
}

#[tokio::test]
async fn reviews_say_what_the_authorizer_would() {
    let s = Server::start().await;
    let base = "/apis/authorization.k8s.io/v1";
    let own = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let mine = s.post(&format!("{base}/selfsubjectaccessreviews"), own.clone()).await;
    assert_eq!((mine.code, &mine.json()["status"]["allowed"]), (201, &json!(true)));
    let json = [("content-type", "application/json")];
    let path = format!("{base}/selfsubjectaccessreviews");
    let janes = s.send(Who::Token("s3cr3t"), "POST", &path, &json, own.to_string()).await.json();
    assert_eq!(janes["status"]["allowed"], false, "{janes}");
    let other =
        json!({"spec": {"user": "jane", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}});
    let asked = s.post(&format!("{base}/subjectaccessreviews"), other).await.json();
    assert_eq!(asked["status"]["allowed"], false);
    assert_eq!(
        s.post(&format!("{base}/subjectaccessreviews"), json!({"spec": {"user": "x"}})).await.code,
        422
    );
    // A question has no name; one about a namespace is asked in it.
    let mut named = own;
    named["metadata"] = json!({"name": "x"});
    let refused = s.post(&path, named.clone()).await;
    assert_eq!(refused.code, 422);
    let causes = &refused.json()["details"]["causes"];
    assert_eq!(
        causes,
        &json!([{"reason": "FieldValueInvalid", "field": "metadata", "message": "Invalid value: {\"name\":\"x\"}: must be empty"}])
    );
    s.namespace("t").await;
    let local = format!("{base}/namespaces/t/localsubjectaccessreviews");
    named["metadata"] = json!({"namespace": "t"});
    named["spec"]["user"] = json!("jane");
    named["spec"]["resourceAttributes"]["namespace"] = json!("t");
    assert_eq!(s.post(&local, named.clone()).await.code, 201);
    // What is empty says nothing, and a namespace says nothing where there are none.
    let all = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let mut elsewhere = named.clone();
    elsewhere["kind"] = json!("SubjectAccessReview");
    for metadata in [json!({"name": "", "labels": {}}), json!({"namespace": "elsewhere"})] {
        elsewhere["metadata"] = metadata;
        let answer = s.post(all, elsewhere.clone()).await;
        assert_eq!(answer.code, 201, "{}", answer.json());
        assert_eq!(answer.json()["metadata"].get("namespace"), None);
    }
    let values: Vec<String> = (0..2_000).map(|i| format!("v{i}")).chain(["a b".to_owned()]).collect();
    elsewhere["spec"]["resourceAttributes"]["labelSelector"] =
        json!({"requirements": [{"key": "k", "operator": "In", "values": values}]});
    assert_eq!(s.post(all, elsewhere).await.code, 422);
    // All that is wrong is told at once.
    named["metadata"] = json!({"labels": {"a": "b"}});
    named["spec"] = json!({
        "resourceAttributes": {
            "namespace": "u",
            "fieldSelector": {"rawSelector": "a=b", "requirements": [{"operator": "In"}]},
            "labelSelector": {},
        },
        "nonResourceAttributes": {"path": "/x", "verb": "get"},
    });
    let refused = s.post(&local, named).await;
    assert_eq!(refused.code, 422);
    let causes = refused.json()["details"]["causes"].clone();
    let told: Vec<String> = causes
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{}: {}", c["field"].as_str().unwrap(), c["message"].as_str().unwrap()))
        .collect();
    let at_fields = "spec.resourceAttributes.fieldSelector";
    assert_eq!(
        told,
        [
            r#"spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":"get"}: cannot be specified in combination with resourceAttributes"#.to_owned(),
            r#"spec.user: Invalid value: "": at least one of user or group must be specified"#.to_owned(),
            format!(r#"{at_fields}.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements"#),
            format!("{at_fields}.requirements[0].key: Required value: must be specified"),
            format!("{at_fields}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
            "spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required".to_owned(),
            r#"metadata: Invalid value: {"labels":{"a":"b"},"namespace":"t"}: must be empty except for namespace"#.to_owned(),
            r#"spec.resourceAttributes.namespace: Invalid value: "u": must match metadata.namespace"#.to_owned(),
            r#"spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":"get"}: disallowed on this kind of request"#.to_owned(),
        ]
    );
    let nothing = s.post("/apis/authentication.k8s.io/v1/tokenreviews", json!({"spec": {}})).await;
    assert_eq!(
        (nothing.code, nothing.json()["message"].as_str().unwrap()),
        (400, "token is required for TokenReview in authentication")
    );
}

#[tokio::test]
async fn a_node_reads_only_what_its_pods_refer_to() {
    let s = Server::start().await;
    s.namespace("t").await;
    let secrets = "/api/v1/namespaces/t/secrets";
    s.post(secrets, json!({"metadata": {"name": "mine"}})).await;
    s.post(secrets, json!({"metadata": {"name": "other"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}],
        "volumes": [{"name": "v", "secret": {"secretName": "mine"}}]}});
    let made = s.post("/api/v1/namespaces/t/pods", pod).await;
    assert_eq!(made.code, 201, "{}", made.json());
    let node = |name: &'static str| Who::Certificate(name, "system:nodes");
    let waiting = async {
        while s.send(node("system:node:n1"), "GET", &format!("{secrets}/mine"), &[], "").await.code != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.expect("the pod to be seen");
    assert_eq!(s.send(node("system:node:n1"), "GET", &format!("{secrets}/other"), &[], "").await.code, 403);
    assert_eq!(s.send(node("system:node:n2"), "GET", &format!("{secrets}/mine"), &[], "").await.code, 403);
    assert_eq!(s.send(node("system:node:n1"), "GET", secrets, &[], "").await.code, 403);
    // A question about a list says what it selects, in one form or the other.
    for (selector, allowed) in [
        (json!({"rawSelector": "spec.nodeName=n1"}), true),
        (json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}), true),
        (json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n2"]}]}), false),
        (json!({"requirements": [{"key": "spec.nodeName", "operator": "NotIn", "values": ["n1"]}]}), false),
        (
            json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1", "n2"]}]}),
            false,
        ),
    ] {
        let asked = json!({"spec": {"user": "system:node:n1", "groups": ["system:nodes"],
            "resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": selector}}});
        let answer = s.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", asked).await.json();
        assert_eq!(answer["status"]["allowed"], allowed, "{answer}");
    }
}

#[tokio::test]
async fn what_of_a_question_was_not_understood_is_said() {
    let s = Server::start().await;
    let told = async |selectors: Value| {
        let mut asked =
            json!({"spec": {"user": "x", "resourceAttributes": {"verb": "list", "resource": "pods"}}});
        for (key, selector) in selectors.as_object().unwrap() {
            asked["spec"]["resourceAttributes"][key] = selector.clone();
        }
        let answer = s.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", asked).await.json();
        answer["status"]["evaluationError"]
            .as_str()
            .unwrap_or_default()
            .replace("spec.resourceAttributes.", "")
    };
    let one = json!({"key": "a", "operator": "In", "values": ["b"]});
    let exists = json!({"key": "a", "operator": "Exists"});
    assert_eq!(
        told(json!({"fieldSelector": {"requirements": [one]}, "labelSelector": {"rawSelector": "a=b"}}))
            .await,
        ""
    );
    assert_eq!(
        told(json!({"fieldSelector": {"requirements": [one, exists]}, "labelSelector": {"rawSelector": "A_b!"}})).await,
        "fieldSelector partially ignored due to parse error; labelSelector ignored due to parse error"
    );
    assert_eq!(
        told(json!({"fieldSelector": {"rawSelector": "x:y"}, "labelSelector": {"requirements": [exists]}}))
            .await,
        "fieldSelector ignored due to parse error"
    );
}

#[tokio::test]
async fn what_a_review_of_a_token_says_already_stays() {
    let s = Server::start().await;
    let asked = json!({"spec": {"token": "x"}, "status": {"audiences": ["a"], "user": {"username": "u"}}});
    let answer = s.post("/apis/authentication.k8s.io/v1/tokenreviews", asked).await.json();
    let status = &answer["status"];
    assert_eq!((&status["audiences"], &status["user"]["username"]), (&json!(["a"]), &json!("u")));
    assert_eq!(status["error"], "invalid bearer token");
}
