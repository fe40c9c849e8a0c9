//! Watches what is to be signed, and signs.

use crate::request::{self, Plan};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::{Attributes, User};
use stoa_kube::{Resource, Status, resources};
use stoa_pki::Authority;
use stoa_registry::{
    Context, DeleteOptions, ListOptions, Registry, Selection, Target, WatchEvent, WatchKind, WatchOptions,
};
use tokio_util::sync::CancellationToken;

/// How often all requests are looked at for those that have grown old.
const SWEEP_PERIOD: Duration = Duration::from_secs(600);
/// The pause after a watch was lost.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// What the service works with.
#[derive(Clone)]
pub struct Handles {
    /// The objects.
    pub registry: Arc<Registry>,
    /// Signs certificates.
    pub authority: Arc<Authority>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

/// The service.
#[derive(Debug)]
pub struct Service {
    handles: Handles,
    ctx: Context,
}

impl Service {
    /// Not running yet.
    pub fn new(handles: Handles) -> Service {
        Service { handles, ctx: Context::system("signer") }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let kind = resources().find("certificates.k8s.io", "v1", "certificatesigningrequests");
        let Some(kind) = kind else { return };
        loop {
            tokio::select! {
                ended = self.follow(kind) => {
                    if let Err(status) = ended {
                        tracing::debug!(why = status.message, "the signer lists again");
                    }
                }
                () = shutdown.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_PAUSE) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Handles events until the watch ends.
    async fn follow(&self, kind: &'static Resource) -> Result<(), Status> {
        let all = WatchOptions::from_now(Selection::default());
        let mut requests = self.handles.registry.watch(kind, "", all).await?;
        let mut sweep = tokio::time::interval(SWEEP_PERIOD);
        loop {
            tokio::select! {
                event = requests.next() => match event {
                    Some(event) => self.event(kind, &event?).await,
                    None => return Ok(()),
                },
                _ = sweep.tick() => self.sweep(kind).await?,
            }
        }
    }

    async fn event(&self, kind: &'static Resource, event: &WatchEvent) {
        if !matches!(event.kind, WatchKind::Added | WatchKind::Modified) {
            return;
        }
        let Ok(object) = serde_json::from_slice::<Value>(&event.object) else { return };
        // Another writer was faster, or the object went: its next event tells.
        if let Err(status) = self.request(kind, &object).await {
            tracing::debug!(kind = kind.kind, why = status.message, "not signed");
        }
    }

    async fn sweep(&self, kind: &'static Resource) -> Result<(), Status> {
        let list = self.handles.registry.list(kind, "", &ListOptions::all()).await?;
        for entry in list.entries {
            if let Ok(object) = serde_json::from_slice(&entry.value) {
                let _ = self.request(kind, &object).await;
            }
        }
        Ok(())
    }

    async fn request(&self, kind: &'static Resource, object: &Value) -> Result<(), Status> {
        let registry = &self.handles.registry;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let target = Target::new(kind, "", name);
        let now = registry.clock().now();
        match request::plan(object, now) {
            Plan::Leave => Ok(()),
            Plan::Remove => registry.delete(&self.ctx, target, &DeleteOptions::now()).await.map(drop),
            Plan::ApproveIf { subresource, message } => {
                let user = requester(&object["spec"]);
                let asked = Attributes::resource(
                    "create",
                    "certificates.k8s.io",
                    "certificatesigningrequests",
                    "",
                    "",
                );
                let decision = registry.authorizer().authorize(&user, &asked.with_subresource(subresource));
                if !decision.is_allowed() {
                    return Ok(());
                }
                let condition = json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message});
                self.say(target.sub("approval"), &condition).await
            }
            Plan::Fail(why) => {
                let condition = json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why});
                self.say(target.sub("status"), &condition).await
            }
            Plan::Sign { pem, usages, lifetime } => {
                let signed = self.handles.authority.sign_request(now, &pem, &usages, lifetime);
                let certificate = signed.map_err(|e| Status::internal(e.to_string()))?;
                let written = registry.modify(&self.ctx, target.sub("status"), |object| {
                    object["status"]["certificate"] = STANDARD.encode(&certificate).into();
                    Ok(())
                });
                written.await.map(drop)
            }
        }
    }

    /// Adds a condition.
    async fn say(&self, target: Target<'_>, condition: &Value) -> Result<(), Status> {
        let written = self.handles.registry.modify(&self.ctx, target, |object| {
            let conditions = &mut object["status"]["conditions"];
            if !conditions.is_array() {
                *conditions = json!([]);
            }
            if let Some(list) = conditions.as_array_mut()
                && !list.iter().any(|c| c["type"] == condition["type"])
            {
                list.push(condition.clone());
            }
            Ok(())
        });
        written.await.map(drop)
    }
}

fn requester(spec: &Value) -> User {
    let texts = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(String::from)).collect()
    };
    let mut user = User::new(spec["username"].as_str().unwrap_or_default(), texts(&spec["groups"]));
    user.uid = spec["uid"].as_str().unwrap_or_default().to_string();
    for (key, value) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.clone(), texts(value));
    }
    user
}
