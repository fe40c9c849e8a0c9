//! What a stock server writes down about itself for clients to read: which groups of the API it serves, how requests are
//! sorted by urgency, by whom it knows its users. Nothing here reads it back: it is there for those who look it up.

use super::find;
use crate::{Context, Registry, Target};
use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};
use stoa_kube::{Resource, Status, resources};

/// Schemas and levels, recorded from a stock v1.36 server; levels come first, for schemas name them.
const FLOW: &str = include_str!("../../data/bootstrap-flow.json");
const FLOW_GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Says that the cluster keeps the specification as it should be; who wants another one takes this off.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const CONFIG: &str = "kube-system";

/// How groups are ranked: the group's own number, then its version's.
const RANKS: [(&str, &str, u32, u32); 22] = [
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    // Elsewhere a server of its own, at this place.
    ("metrics.k8s.io", "v1beta1", 100, 100),
];

impl Registry {
    /// Makes what is missing, and brings what the cluster keeps to what it should say.
    pub(super) async fn publish(&self) -> Result<(), Status> {
        self.publish_flow().await?;
        self.publish_groups().await?;
        // Since when old tokens are noted as they are used.
        let today = self.now().to_rfc3339_seconds();
        let since = today.split('T').next().unwrap_or_default();
        let name = "kube-apiserver-legacy-service-account-token-tracking";
        let map = json!({"metadata": {"name": name}, "data": {"since": since}});
        self.ensure(find("", "v1", "configmaps")?, CONFIG, map).await
    }

    /// Writes down by which certificates this server knows its users, where servers behind it look for it.
    pub async fn publish_authentication(&self, data: Map<String, Value>) -> Result<(), Status> {
        let (name, maps) = ("extension-apiserver-authentication", find("", "v1", "configmaps")?);
        self.ensure(maps, CONFIG, json!({"metadata": {"name": name}, "data": data.clone()})).await?;
        self.keep(maps, CONFIG, name, |map| map["data"] = data.clone().into()).await
    }

    async fn publish_flow(&self) -> Result<(), Status> {
        let recorded: Value = serde_json::from_str(FLOW).unwrap_or_default();
        for (kind, plural) in
            [("PriorityLevelConfiguration", "prioritylevelconfigurations"), ("FlowSchema", "flowschemas")]
        {
            let resource = find(FLOW_GROUP, "v1", plural)?;
            let all = recorded[kind].as_array().into_iter().flatten();
            try_join_all(all.map(|one| self.publish_flow_object(resource, one))).await?;
        }
        Ok(())
    }

    async fn publish_flow_object(&self, resource: &Resource, recorded: &Value) -> Result<(), Status> {
        let (name, spec) = (recorded["name"].as_str().unwrap_or_default(), &recorded["spec"]);
        let meta = json!({"name": name, "annotations": {AUTO_UPDATE: "true"}});
        self.ensure(resource, "", json!({"metadata": meta, "spec": spec})).await?;
        self.keep(resource, "", name, |object| {
            if object["metadata"]["annotations"][AUTO_UPDATE] == "true" {
                object["spec"] = spec.clone();
            }
        })
        .await?;
        let Some(level) = spec["priorityLevelConfiguration"]["name"].as_str() else { return Ok(()) };
        let message = format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"
        );
        let found = json!({"type": "Dangling", "status": "False", "reason": "Found", "message": message});
        self.ensure_condition(Target::new(resource, "", name), found).await
    }

    async fn publish_groups(&self) -> Result<(), Status> {
        let services = find("apiregistration.k8s.io", "v1", "apiservices")?;
        let served = |group: &str, version: &str| {
            resources().group_versions().iter().any(|gv| gv.group == group && gv.version == version)
        };
        let making = RANKS.into_iter().filter(|(group, version, ..)| served(group, version)).map(
            |(group, version, rank, version_rank)| async move {
                let name = format!("{version}.{group}");
                let mut spec = json!({"version": version, "groupPriorityMinimum": rank, "versionPriority": version_rank});
                if !group.is_empty() {
                    spec["group"] = group.into();
                }
                let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
                let service = json!({"metadata": {"name": name, "labels": labels}, "spec": spec});
                self.ensure(services, "", service).await?;
                let local = json!({"type": "Available", "status": "True", "reason": "Local",
                    "message": "Local APIServices are always available"});
                self.ensure_condition(Target::new(services, "", &name), local).await
            },
        );
        try_join_all(making).await?;
        Ok(())
    }

    /// Changes an object, unless that changes nothing.
    async fn keep(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) -> Result<(), Status> {
        let stored = self.stored(Target::new(resource, namespace, name));
        let mut wanted = stored.clone();
        change(&mut wanted);
        if wanted == stored {
            return Ok(());
        }
        let ctx = Context::system("bootstrap");
        let target = Target::new(resource, namespace, name);
        let change = |object: &mut Value| {
            change(object);
            Ok(())
        };
        self.modify(&ctx, target, change).await.map(drop)
    }

    /// Sets the one condition of an object that was just made.
    async fn ensure_condition(&self, target: Target<'_>, mut condition: Value) -> Result<(), Status> {
        let kind = condition["type"].clone();
        let has = |object: &Value| {
            let all = object["status"]["conditions"].as_array();
            all.into_iter().flatten().any(|c| c["type"] == kind)
        };
        if has(&self.stored(target)) {
            return Ok(());
        }
        condition["lastTransitionTime"] = self.now().to_rfc3339_seconds().into();
        let ctx = Context::system("bootstrap");
        let set = |object: &mut Value| {
            object["status"]["conditions"] = json!([condition]);
            Ok(())
        };
        self.modify(&ctx, target.sub("status"), set).await.map(drop)
    }

    fn stored(&self, target: Target<'_>) -> Value {
        let entry = self.store().get(&self.key(target.resource, target.namespace, target.name));
        entry.and_then(|e| serde_json::from_slice(&e.value).ok()).unwrap_or_default()
    }
}
