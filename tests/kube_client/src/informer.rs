//! Watchers and reflectors: a selection of objects is followed from its first list on, whichever way that list is taken.

use crate::within;
use anyhow::{Context, Result, bail, ensure};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::discovery::Discovery;
use kube::runtime::reflector::{self, store};
use kube::runtime::watcher::{self, Event, watch_object, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::pin::pin;

/// The label of what is followed.
const SELECTED: &str = "app=followed";
/// More objects than a page of the list holds.
const OBJECTS: usize = 5;

/// A list in pages, then a watch. The watch is cut off every second, so that it is taken up again where it was.
pub fn paged() -> watcher::Config {
    watcher::Config::default().labels(SELECTED).page_size(2).timeout(1)
}

/// One watch that begins with what is there.
pub fn streaming() -> watcher::Config {
    watcher::Config::default().labels(SELECTED).streaming_lists().timeout(1)
}

fn config_map(name: &str, app: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": app}}, "data": {"step": "0"}
    }))?)
}

async fn merge(api: &Api<ConfigMap>, name: &str, patch: serde_json::Value) -> Result<ConfigMap> {
    Ok(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
}

/// The next event, which must be one.
async fn next<K>(
    what: &str,
    events: &mut (impl Stream<Item = watcher::Result<Event<K>>> + Unpin),
) -> Result<Event<K>> {
    within(what, events.next())
        .await?
        .context("the watcher ended")?
        .with_context(|| format!("waiting for {what}"))
}

/// What is selected comes, changes and goes in the store as it does on the server, in one life of the watcher.
pub async fn follow(client: Client, namespace: &str, config: watcher::Config) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    for i in 0..OBJECTS {
        api.create(&PostParams::default(), &config_map(&format!("seen-{i}"), "followed")?).await?;
    }
    api.create(&PostParams::default(), &config_map("other", "not-followed")?).await?;

    let (reader, writer) = store::<ConfigMap>();
    let mut events = pin!(reflector::reflector(writer, watcher(api.clone(), config)));
    ensure!(matches!(next("the beginning", &mut events).await?, Event::Init), "a watcher begins with Init");
    loop {
        match next("the first list", &mut events).await? {
            Event::InitApply(_) => {}
            Event::InitDone => break,
            other => bail!("{other} in the midst of the first list"),
        }
    }
    let names = || {
        let mut all: Vec<String> = reader.state().iter().map(|o| o.name_any()).collect();
        all.sort();
        all
    };
    ensure!(
        names() == ["seen-0", "seen-1", "seen-2", "seen-3", "seen-4"],
        "after the first list: {:?}",
        names()
    );

    let changed = merge(&api, "seen-0", json!({"data": {"step": "1"}})).await?;
    match next("a change", &mut events).await? {
        Event::Apply(o) => ensure!(o == changed, "another object than was written: {o:?}"),
        other => bail!("{other} where a change was expected"),
    }
    api.delete("seen-1", &DeleteParams::default()).await?;
    match next("a removal", &mut events).await? {
        Event::Delete(o) => ensure!(o.name_any() == "seen-1" && o.data.is_some(), "the last state: {o:?}"),
        other => bail!("{other} where a removal was expected"),
    }
    // Out of the selection is gone, into it is new.
    merge(&api, "seen-2", json!({"metadata": {"labels": {"app": "not-followed"}}})).await?;
    match next("a change out of the selection", &mut events).await? {
        Event::Delete(o) => ensure!(o.name_any() == "seen-2", "{}", o.name_any()),
        other => bail!("{other} where an object left the selection"),
    }
    merge(&api, "other", json!({"metadata": {"labels": {"app": "followed"}}})).await?;
    match next("a change into the selection", &mut events).await? {
        Event::Apply(o) => ensure!(o.name_any() == "other", "{}", o.name_any()),
        other => bail!("{other} where an object came into the selection"),
    }
    ensure!(names() == ["other", "seen-0", "seen-3", "seen-4"], "at the end: {:?}", names());

    // Cut off twice and more, the watch goes on where it was: nothing is listed again, nothing comes twice.
    for step in 2..4 {
        let quiet = tokio::time::timeout(CUT_OFF, events.next()).await;
        ensure!(quiet.is_err(), "nothing happened, and yet: {quiet:?}");
        merge(&api, "seen-3", json!({"data": {"step": step.to_string()}})).await?;
        match next("a change after the watch was cut off", &mut events).await? {
            Event::Apply(o) => {
                ensure!(o.data.as_ref().is_some_and(|d| d["step"] == step.to_string()), "{o:?}")
            }
            other => bail!("{other} where a change was expected"),
        }
    }
    Ok(())
}

/// Longer than a watch of [`paged`] and [`streaming`] lasts.
const CUT_OFF: std::time::Duration = std::time::Duration::from_millis(1_500);

/// Metadata alone, and one object by its name.
pub async fn partial(client: Client, namespace: &str) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let mut one = pin!(watch_object(api.clone(), "partial"));
    let absent = within("word that it is absent", one.next()).await?.context("the watcher ended")??;
    ensure!(absent.is_none(), "{absent:?} is there before it was made");

    let made = api.create(&PostParams::default(), &config_map("partial", "followed")?).await?;
    let seen = within("the object", one.next()).await?.context("the watcher ended")??;
    ensure!(seen.as_ref() == Some(&made), "{seen:?}");

    let meta = api.get_metadata("partial").await?;
    ensure!(meta.metadata.uid == made.metadata.uid, "{meta:?}");
    let listed = api.list_metadata(&ListParams::default().labels(SELECTED)).await?;
    ensure!(listed.items.len() == 1 && listed.items[0].name_any() == "partial", "{listed:?}");

    let fields = watcher::Config::default().fields("metadata.name=partial").streaming_lists();
    let metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(api.clone().into_client(), namespace);
    let mut events = pin!(watcher(metadata, fields));
    ensure!(matches!(next("the beginning", &mut events).await?, Event::Init), "a watcher begins with Init");
    match next("the metadata", &mut events).await? {
        Event::InitApply(o) => ensure!(o.metadata == made.metadata, "{o:?}"),
        other => bail!("{other} where the object was expected"),
    }
    ensure!(
        matches!(next("the end of the list", &mut events).await?, Event::InitDone),
        "the list ends with InitDone"
    );

    api.delete("partial", &DeleteParams::default()).await?;
    match next("the removal", &mut events).await? {
        Event::Delete(o) => ensure!(o.name_any() == "partial", "{o:?}"),
        other => bail!("{other} where a removal was expected"),
    }
    let gone = within("word that it is gone", one.next()).await?.context("the watcher ended")??;
    ensure!(gone.is_none(), "{gone:?} is still there");
    Ok(())
}

/// Discovery in one document says what discovery in many says.
pub async fn discover(client: Client) -> Result<()> {
    let one = Discovery::new(client.clone()).run_aggregated().await?;
    let many = Discovery::new(client).run().await?;
    let kinds = |d: &Discovery| {
        let mut all: Vec<String> = d
            .groups()
            .flat_map(|g| g.versions().flat_map(|v| g.versioned_resources(v)).collect::<Vec<_>>())
            .map(|(r, c)| format!("{} {} {:?} {:?}", r.api_version, r.plural, c.scope, c.operations))
            .collect();
        all.sort();
        all
    };
    let (one, many) = (kinds(&one), kinds(&many));
    ensure!(one == many, "aggregated:\n{}\nlegacy:\n{}", one.join("\n"), many.join("\n"));
    ensure!(one.iter().any(|k| k.starts_with("apps/v1 deployments")), "no deployments in {one:?}");
    Ok(())
}
