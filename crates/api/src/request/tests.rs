use super::*;
use proptest::prelude::*;

fn parse(method: Method, uri: &str) -> Result<RequestInfo, Status> {
    RequestInfo::parse(&method, &uri.parse().expect("a URI"))
}

#[test]
fn paths_say_what_they_ask_for() {
    let table = [
        ("GET", "/api/v1/pods", "list  pods  "),
        ("GET", "/api/v1/pods?watch=1", "watch  pods  "),
        ("GET", "/api/v1/watch/namespaces/a/pods", "watch a pods  "),
        ("GET", "/api/v1/namespaces/a/pods/p", "get a pods p "),
        ("HEAD", "/api/v1/namespaces/a/pods/p", "get a pods p "),
        ("GET", "/api/v1/namespaces/a/pods/p/log", "get a pods p log"),
        ("POST", "/api/v1/namespaces/a/pods/p/exec", "create a pods p exec"),
        ("GET", "/api/v1/namespaces", "list  namespaces  "),
        ("GET", "/api/v1/namespaces/a", "get a namespaces a "),
        ("PUT", "/api/v1/namespaces/a/finalize", "update a namespaces a finalize"),
        ("GET", "/api/v1/namespaces/a/status", "get a namespaces a status"),
        ("DELETE", "/apis/apps/v1/namespaces/a/deployments", "deletecollection a deployments  "),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", "patch a deployments d scale"),
        ("POST", "/api/v1/nodes", "create  nodes  "),
        ("GET", "//api//v1//nodes/n/", "get  nodes n "),
        ("OPTIONS", "/api/v1/nodes", "options  nodes  "),
    ];
    for (method, uri, want) in table {
        let info = parse(method.parse().unwrap(), uri).unwrap();
        let r = info.resource().unwrap_or_else(|| panic!("{uri}"));
        let found = format!("{} {} {} {} {}", info.verb, r.namespace, r.resource, r.name, r.subresource);
        assert_eq!(found, want, "{method} {uri}");
    }
    for uri in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/version", "/metrics"] {
        assert_eq!(parse(Method::GET, uri).unwrap().target, Target::Path, "{uri}");
    }
}

#[test]
fn an_escape_cannot_move_a_request_elsewhere() {
    for uri in [
        "/api/v1/namespaces/a%2F..%2Fb/pods",
        "/api/v1/namespaces/../secrets",
        "/api/v1/namespaces/%2e%2e/secrets",
        "/api/v1/namespaces/a/pods/%2Fx",
        "/api/v1/namespaces/a%00/pods",
        "/api/v1/namespaces/a/pods/%zz",
    ] {
        assert_eq!(parse(Method::GET, uri).map_err(|s| s.code()), Err(400), "{uri}");
    }
    // Beyond a proxy the path is not ours to read, and nothing before it is lost.
    let info = parse(Method::GET, "/api/v1/namespaces/a/pods/p/proxy/x%2Fy/../%zz").unwrap();
    let r = info.resource().unwrap();
    assert_eq!((r.name.as_str(), r.subresource.as_str(), r.rest.as_str()), ("p", "proxy", "x%2Fy/../%zz"));
    let long = format!("/api/v1/{}", "a".repeat(URI_BYTES_MAX));
    assert_eq!(parse(Method::GET, &long).map_err(|s| s.code()), Err(414));
}

proptest! {
    #[test]
    fn no_path_panics_and_parts_hold_no_slash(path in "(/[a-z0-9%.+-]{0,8}|/api|/apis|/v1|/namespaces){0,12}", query in "[a-z=&%+]{0,20}") {
        let Ok(uri) = format!("/{path}?{query}").parse::<Uri>() else { return Ok(()) };
        if let Ok(info) = RequestInfo::parse(&Method::GET, &uri)
            && let Some(r) = info.resource()
        {
            for part in [&r.group, &r.version, &r.namespace, &r.resource, &r.name, &r.subresource] {
                prop_assert!(!part.contains('/') && part != "..");
            }
        }
    }
}
