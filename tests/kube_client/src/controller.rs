//! A controller over built-in kinds: every Deployment gets a ConfigMap that repeats a field of it, and is cleaned up after by a
//! finalizer.

use crate::within;
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const FINALIZER: &str = "stories.stoa.dev/cleanup";
const MANAGER: &str = "settings-controller";
/// When a failed reconciliation is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// What the reconciler is handed.
struct Ctx {
    deployments: Api<Deployment>,
    config_maps: Api<ConfigMap>,
}

fn settings(deployment: &str) -> String {
    format!("{deployment}-settings")
}

fn farewell(deployment: &str) -> String {
    format!("{deployment}-was-here")
}

async fn reconcile(object: Arc<Deployment>, ctx: Arc<Ctx>) -> Result<Action, finalizer::Error<kube::Error>> {
    finalizer(&ctx.deployments, FINALIZER, object, |event| async {
        match event {
            finalizer::Event::Apply(d) => apply(&d, &ctx).await,
            finalizer::Event::Cleanup(d) => clean_up(&d, &ctx).await,
        }
    })
    .await
}

async fn apply(deployment: &Deployment, ctx: &Ctx) -> Result<Action, kube::Error> {
    let name = settings(&deployment.name_any());
    let seconds = deployment.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
    let wanted = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [deployment.controller_owner_ref(&())]},
        "data": {"minReadySeconds": seconds.to_string()},
    });
    ctx.config_maps.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted)).await?;
    Ok(Action::await_change())
}

async fn clean_up(deployment: &Deployment, ctx: &Ctx) -> Result<Action, kube::Error> {
    let name = farewell(&deployment.name_any());
    let witness = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    ctx.config_maps.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&witness)).await?;
    Ok(Action::await_change())
}

/// Runs the controller and, beside it, the user whose objects it serves.
pub async fn run(client: Client, namespace: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let config_maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let ctx = Arc::new(Ctx { deployments: deployments.clone(), config_maps: config_maps.clone() });
    let controller = Controller::new(deployments.clone(), watcher::Config::default().streaming_lists())
        .owns(config_maps.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(RETRY), ctx)
        .for_each(|done| {
            // Conflicts are part of life; where they are not overcome, these lines say what they were.
            if let Err(e) = done {
                eprintln!("controller: {e}");
            }
            std::future::ready(())
        });
    tokio::select! {
        () = controller => anyhow::bail!("the controller ended"),
        done = story(&deployments, &config_maps) => done,
    }
}

async fn repeats(config_maps: &Api<ConfigMap>, name: &str, seconds: &str) -> Result<ConfigMap> {
    let says = |o: Option<&ConfigMap>| {
        let data = o.filter(|o| o.metadata.deletion_timestamp.is_none()).and_then(|o| o.data.as_ref());
        data.and_then(|d| d.get("minReadySeconds")).is_some_and(|s| s == seconds)
    };
    let seen = await_condition(config_maps.clone(), name, says);
    within(&format!("minReadySeconds {seconds} in {name}"), seen)
        .await??
        .context("the config map is not there")
}

async fn story(deployments: &Api<Deployment>, config_maps: &Api<ConfigMap>) -> Result<()> {
    let (name, child_name) = ("controlled", settings("controlled"));
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 0, "minReadySeconds": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}},
        },
    }))?;
    let made = deployments.create(&PostParams::default(), &deployment).await?;
    let child = repeats(config_maps, &child_name, "1").await?;
    let owners = child.owner_references();
    ensure!(owners.len() == 1 && Some(&owners[0].uid) == made.uid().as_ref(), "owners {owners:?}");
    let held = deployments.get(name).await?;
    ensure!(held.finalizers() == [FINALIZER], "finalizers {:?}", held.finalizers());

    let patch = json!({"spec": {"minReadySeconds": 2}});
    deployments.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    repeats(config_maps, &child_name, "2").await?;
    // What others do to the child is undone, for the controller owns the field.
    let tampered = json!({"data": {"minReadySeconds": "99"}});
    config_maps.patch(&child_name, &PatchParams::default(), &Patch::Merge(tampered)).await?;
    repeats(config_maps, &child_name, "2").await?;
    // A child that is deleted comes back as another object.
    config_maps.delete(&child_name, &DeleteParams::default()).await?;
    let uid = child.uid().context("an object has a uid")?;
    let replaced = await_condition(config_maps.clone(), &child_name, conditions::is_deleted(&uid));
    within("the child's removal", replaced).await??;
    let child = repeats(config_maps, &child_name, "2").await?;
    ensure!(child.uid().as_ref() != Some(&uid), "the same object is back");

    deployments.delete(name, &DeleteParams::background()).await?;
    let uid = made.uid().context("an object has a uid")?;
    let gone = Box::pin(await_condition(deployments.clone(), name, conditions::is_deleted(&uid)));
    within("the deployment's end", gone).await??;
    ensure!(config_maps.get_opt(&farewell(name)).await?.is_some(), "gone before the finalizer was done");
    let uid = child.uid().context("an object has a uid")?;
    let collected = await_condition(config_maps.clone(), &child_name, conditions::is_deleted(&uid));
    within("the child's collection", collected).await??;
    Ok(())
}
