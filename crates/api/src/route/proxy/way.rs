//! Which port of which pod on which node a proxied name means: `name`, `name:port` or `scheme:name:port`, of a pod or of a service.

use super::super::Asked;
use rand::seq::IndexedRandom;
use serde_json::Value;
use stoa_kube::{Status, reason, resources};
use stoa_registry::{ListOptions, Selection, Target};

/// How a program is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) node: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) port: u16,
    pub(super) scheme: Scheme,
    pub(super) ip: String,
    /// What the pod takes itself to be called.
    pub(super) host: String,
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Scheme, name and port in a proxied name.
fn parse(name: &str) -> Result<(Scheme, &str, &str), Status> {
    let parts: Vec<&str> = name.split(':').collect();
    match parts[..] {
        [name] => Ok((Scheme::Http, name, "")),
        [name, port] => Ok((Scheme::Http, name, port)),
        ["" | "http", name, port] => Ok((Scheme::Http, name, port)),
        ["https", name, port] => Ok((Scheme::Https, name, port)),
        _ => Err(Status::bad_request(format!("invalid service request {name:?}"))),
    }
}

fn unavailable(why: String) -> Status {
    Status::failure(503, reason::SERVICE_UNAVAILABLE, why)
}

impl Way {
    pub(super) async fn find(asked: &Asked<'_>) -> Result<Way, Status> {
        let (scheme, name, port) = parse(&asked.path.name)?;
        if !matches!(asked.resource.plural, "pods" | "services") {
            return Err(unavailable(format!("this server does not proxy to {}", asked.resource.plural)));
        }
        let entry = asked.state.registry.get(Target::new(asked.resource, asked.namespace(), name))?;
        let object: Value =
            serde_json::from_slice(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
        match asked.resource.plural {
            "pods" => {
                let port = match port {
                    "" => first_port(&object).unwrap_or(80),
                    port => {
                        port.parse().map_err(|_| Status::bad_request(format!("invalid port {port:?}")))?
                    }
                };
                Way::to(&object, scheme, port)
            }
            _ => of_service(asked, &object, scheme, name, port).await,
        }
    }

    fn to(pod: &Value, scheme: Scheme, port: u16) -> Result<Way, Status> {
        let (node, ip) = (text(&pod["spec"], "nodeName"), text(&pod["status"], "podIP"));
        if node.is_empty() || ip.is_empty() {
            return Err(Status::bad_request("address not allowed"));
        }
        let host = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
        let meta = &pod["metadata"];
        Ok(Way {
            node: node.into(),
            pod: text(meta, "name").into(),
            uid: text(meta, "uid").into(),
            port,
            scheme,
            ip: ip.into(),
            host,
        })
    }
}

fn first_port(pod: &Value) -> Option<u16> {
    let ports = list(&pod["spec"], "containers").iter().find_map(|c| list(c, "ports").first())?;
    ports["containerPort"].as_u64().and_then(|p| u16::try_from(p).ok())
}

/// A pod's port by number or by name.
fn port_of(pod: &Value, target: &Value) -> Option<u16> {
    if let Some(number) = target.as_u64() {
        return u16::try_from(number).ok();
    }
    let all = list(&pod["spec"], "containers").iter().flat_map(|c| list(c, "ports"));
    let found = all.into_iter().find(|p| p["name"] == *target)?;
    found["containerPort"].as_u64().and_then(|p| u16::try_from(p).ok())
}

async fn of_service(
    asked: &Asked<'_>,
    service: &Value,
    scheme: Scheme,
    name: &str,
    port: &str,
) -> Result<Way, Status> {
    let ports = list(&service["spec"], "ports");
    let wanted = match ports {
        [only] if port.is_empty() => Some(only),
        ports => ports.iter().find(|p| {
            (!port.is_empty() && p["name"] == port)
                || p["port"].as_u64().is_some_and(|n| n.to_string() == port)
        }),
    };
    let wanted =
        wanted.ok_or_else(|| unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let none = || unavailable(format!("no endpoints available for service {name:?}"));
    let found = match by_slices(asked, name, wanted).await? {
        Some(found) => found,
        None => by_selector(asked, service, wanted).await?,
    };
    // Any of them will do; always the first would be unfair to it.
    let (pod, port) = found.choose(&mut rand::rng()).ok_or_else(none)?;
    Way::to(pod, scheme, *port)
}

type Backends = Vec<(Value, u16)>;

async fn objects(asked: &Asked<'_>, group: &str, plural: &str, labels: &str) -> Result<Vec<Value>, Status> {
    let Some(resource) = resources().find(group, "v1", plural) else { return Ok(Vec::new()) };
    let options = ListOptions::selecting(Selection::parse(resource, labels, "")?);
    let list = asked.state.registry.list(resource, asked.namespace(), &options).await?;
    Ok(list.entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect())
}

/// The pods that the service's slices name, if it has any slice.
async fn by_slices(asked: &Asked<'_>, name: &str, wanted: &Value) -> Result<Option<Backends>, Status> {
    let labels = format!("kubernetes.io/service-name={name}");
    let slices = objects(asked, "discovery.k8s.io", "endpointslices", &labels).await?;
    if slices.is_empty() {
        return Ok(None);
    }
    let pods = resources().find("", "v1", "pods").ok_or_else(|| Status::internal("pods are unknown"))?;
    let mut out = Vec::new();
    for slice in &slices {
        let port = list(slice, "ports").iter().find(|p| text(p, "name") == text(wanted, "name"));
        let Some(port) = port.and_then(|p| p["port"].as_u64()).and_then(|p| u16::try_from(p).ok()) else {
            continue;
        };
        for endpoint in list(slice, "endpoints") {
            let target = &endpoint["targetRef"];
            if endpoint["conditions"]["ready"] == false || target["kind"] != "Pod" {
                continue;
            }
            let place = Target::new(pods, asked.namespace(), text(target, "name"));
            if let Ok(entry) = asked.state.registry.get(place) {
                out.extend(serde_json::from_slice(&entry.value).ok().map(|pod| (pod, port)));
            }
        }
    }
    Ok(Some(out))
}

/// The pods that the service selects.
async fn by_selector(asked: &Asked<'_>, service: &Value, wanted: &Value) -> Result<Backends, Status> {
    let Some(selector) = service["spec"]["selector"].as_object().filter(|s| !s.is_empty()) else {
        return Ok(Vec::new());
    };
    let terms: Vec<String> =
        selector.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    let pods = objects(asked, "", "pods", &terms.join(",")).await?;
    let target = match &wanted["targetPort"] {
        Value::Null => &wanted["port"],
        target => target,
    };
    let ready = |pod: &Value| {
        let conditions = list(&pod["status"], "conditions");
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let backends = pods.into_iter().filter(ready);
    Ok(backends.filter_map(|pod| port_of(&pod, target).map(|port| (pod, port))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_proxied_name_says_scheme_name_and_port() {
        assert_eq!(parse("p").unwrap(), (Scheme::Http, "p", ""));
        assert_eq!(parse("p:80").unwrap(), (Scheme::Http, "p", "80"));
        assert_eq!(parse("http:p:web").unwrap(), (Scheme::Http, "p", "web"));
        assert_eq!(parse(":p:").unwrap(), (Scheme::Http, "p", ""));
        assert_eq!(parse("https:p:443").unwrap(), (Scheme::Https, "p", "443"));
        assert!(parse("ftp:p:21").is_err());
        assert!(parse("a:b:c:d").is_err());
    }

    #[test]
    fn a_pod_is_reached_where_it_runs_or_not_at_all() {
        let mut pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{}, {"ports": [
            {"name": "web", "containerPort": 8080}]}]}, "status": {}});
        assert!(Way::to(&pod, Scheme::Http, 80).is_err());
        pod["spec"]["nodeName"] = json!("n");
        pod["status"]["podIP"] = json!("10.0.0.2");
        assert_eq!(Way::to(&pod, Scheme::Http, 80).unwrap().host, "10.0.0.2:80");
        assert_eq!(first_port(&pod), Some(8080));
        assert_eq!(port_of(&pod, &json!("web")), Some(8080));
        assert_eq!(port_of(&pod, &json!(81)), Some(81));
        assert_eq!(port_of(&pod, &json!("none")), None);
    }
}
