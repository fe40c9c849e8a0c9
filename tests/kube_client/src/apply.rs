//! Server-side apply: who owns which field, what conflicts, and what goes when its last owner lets go.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

const NAME: &str = "applied";

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec})
}

fn ports(service: &Service) -> Vec<(String, i32)> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).into_iter().flatten();
    ports.map(|p| (p.name.clone().unwrap_or_default(), p.port)).collect()
}

/// The refusal of a request.
fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> Result<kube::core::Status> {
    match answer {
        Err(kube::Error::Api(status)) => Ok(*status),
        Err(other) => Err(other).context("no answer of the server"),
        Ok(done) => bail!("{done:?} where a refusal was expected"),
    }
}

/// Two managers share a Service.
pub async fn run(client: Client, namespace: &str) -> Result<()> {
    let api: Api<Service> = Api::namespaced(client, namespace);
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let web = json!({"name": "web", "port": 80, "protocol": "TCP"});
    let metrics = json!({"name": "metrics", "port": 9090, "protocol": "TCP"});

    // What is not there is made; a rehearsal makes nothing.
    let mine = Patch::Apply(service(json!({"selector": {"app": "a"}, "ports": [web]})));
    api.patch(NAME, &PatchParams { dry_run: true, ..one.clone() }, &mine).await?;
    ensure!(api.get_opt(NAME).await?.is_none(), "a dry run made the object");
    let made = api.patch(NAME, &one, &mine).await?;
    ensure!(ports(&made) == [("web".into(), 80)], "{made:?}");
    // Applied once more, nothing changes.
    let again = api.patch(NAME, &one, &mine).await?;
    ensure!(again.resource_version() == made.resource_version(), "an apply of the same wrote a new revision");

    // Entries of a list that has keys are owned one by one.
    let both = api.patch(NAME, &two, &Patch::Apply(service(json!({"ports": [metrics]})))).await?;
    ensure!(ports(&both) == [("web".into(), 80), ("metrics".into(), 9090)], "{both:?}");

    // Another's value is not taken without force.
    let other = Patch::Apply(service(json!({"selector": {"app": "b"}, "ports": [metrics]})));
    let status = refusal(api.patch(NAME, &two, &other).await)?;
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    ensure!(status.code == 409 && status.reason == "Conflict", "{status:?}");
    ensure!(
        causes.len() == 1
            && causes[0].reason == "FieldManagerConflict"
            && causes[0].field == ".spec.selector",
        "{causes:?}"
    );
    let forced = api.patch(NAME, &two.clone().force(), &other).await?;
    let selector = forced.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
    ensure!(selector.get("app").is_some_and(|a| a == "b"), "{selector:?}");

    // What its last owner no longer names goes; what the other one has stays.
    let less = api.patch(NAME, &two, &Patch::Apply(service(json!({"selector": {"app": "b"}})))).await?;
    ensure!(ports(&less) == [("web".into(), 80)], "{less:?}");

    // A field that nobody knows.
    let strict = PatchParams { field_validation: Some(ValidationDirective::Strict), ..one.clone() };
    let odd = Patch::Apply(service(json!({"selektor": {}, "ports": [web]})));
    let status = refusal(api.patch(NAME, &strict, &odd).await)?;
    ensure!(status.code == 500, "{status:?}");
    ensure!(status.message.contains("spec.selektor: field not declared in schema"), "{status:?}");

    // The status has owners of its own; only a balancer's may say where it is reached.
    let refused = json!({"apiVersion": "v1", "kind": "Service", "status": {"loadBalancer": {"ingress": [{"hostname": "a.example"}]}}});
    let status =
        refusal(api.patch_status(NAME, &PatchParams::apply("balancer"), &Patch::Apply(refused)).await)?;
    ensure!(
        status.code == 422 && status.message.contains("status.loadBalancer.ingress: Forbidden"),
        "{status:?}"
    );
    let balanced = json!({"spec": {"type": "LoadBalancer"}});
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(balanced)).await?;
    let status = json!({"apiVersion": "v1", "kind": "Service", "status": {"loadBalancer": {"ingress": [{"hostname": "a.example"}]}}});
    let told = api.patch_status(NAME, &PatchParams::apply("balancer"), &Patch::Apply(status)).await?;
    let entries = told.managed_fields();
    let balancer =
        entries.iter().find(|e| e.manager.as_deref() == Some("balancer")).context("no entry of balancer")?;
    ensure!(balancer.subresource.as_deref() == Some("status"), "{balancer:?}");
    ensure!(balancer.operation.as_deref() == Some("Apply"), "{balancer:?}");
    Ok(())
}
