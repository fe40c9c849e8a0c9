//! Pulls images from registries: resolves a name at the registry or its mirrors, picks this machine's platform, fetches what
//! is missing (each layer once, however many images want it, resumed where it broke off), and verifies every byte by digest
//! before it is unpacked and recorded.

mod challenge;
mod client;
mod credentials;
mod download;
mod error;
mod http;
mod registries;

pub use credentials::{Credentials, Keyring, KeyringError};
pub use error::PullError;
pub use registries::Registries;

use crate::archive::{self, JSON_LEN_MAX};
use crate::config::Document;
use crate::store::NewImage;
use crate::{Digest, Image, Reference, Store};
use client::Session;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Http;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Blobs fetched at once, over all pulls, and for one image.
const DOWNLOADS_MAX: usize = 6;
const DOWNLOADS_OF_ONE_MAX: usize = 3;
/// Layers unpacked at once: each is a processor's work.
const UNPACKS_MAX: usize = 2;
/// Layers of one image: what overlayfs can stack, with room.
const LAYERS_MAX: usize = 256;
/// Nesting of indexes.
const INDEX_DEPTH_MAX: usize = 3;
/// How long one pull may take; what it fetched is kept for the next.
const PULL_TIME_MAX: Duration = Duration::from_secs(3_600);

/// A pulled image.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// It.
    pub image: Image,
    /// Bytes of its blobs, as its manifest has them.
    pub compressed_size: u64,
}

/// Pulls images into a store. Cheap to clone.
#[derive(Clone)]
pub struct Puller(Arc<Inner>);

struct Inner {
    store: Store,
    registries: PathBuf,
    http: Http,
    downloads: Semaphore,
    unpacks: Semaphore,
    /// One lock a blob: a second pull that wants it waits and finds it there.
    busy: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Descriptor {
    digest: Digest,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyManifest {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    digest: Digest,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

struct Resolved {
    /// Digest of what the name stands for: the index, where there is one.
    top: Digest,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl Puller {
    /// Pulls into `store`; `registries` is the file of mirrors and authorities, which need not exist.
    pub fn new(store: Store, registries: impl Into<PathBuf>) -> Puller {
        Puller(Arc::new(Inner {
            store,
            registries: registries.into(),
            http: Http::default(),
            downloads: Semaphore::new(DOWNLOADS_MAX),
            unpacks: Semaphore::new(UNPACKS_MAX),
            busy: Mutex::default(),
        }))
    }

    /// Brings the image that `reference` names now, with the credentials of `ring` that count for it.
    pub async fn pull(&self, reference: &str, ring: &Keyring) -> Result<Pulled, PullError> {
        let reference = Reference::parse(reference).map_err(crate::Error::from)?;
        match tokio::time::timeout(PULL_TIME_MAX, Box::pin(self.try_pull(&reference, ring))).await {
            Ok(done) => done,
            Err(_) => Err(PullError::TooSlow(PULL_TIME_MAX.as_secs())),
        }
    }

    async fn try_pull(&self, reference: &Reference, ring: &Keyring) -> Result<Pulled, PullError> {
        let registries = Registries::load(&self.0.registries)?;
        let mut last = None;
        let mut not_tls = None;
        for endpoint in registries.endpoints(reference.registry()) {
            // A registry that speaks TLS is never asked in plain text, least of all because its certificate is no good.
            if endpoint.is_fallback && not_tls.as_ref() != Some(&endpoint.authority) {
                continue;
            }
            let found = registries.candidates(&endpoint, reference.registry(), reference.path(), ring);
            let mut candidates: Vec<Option<Credentials>> = found.into_iter().map(Some).collect();
            if candidates.is_empty() {
                candidates.push(None);
            }
            for credentials in candidates {
                let session =
                    Session::new(&self.0.http, &registries, endpoint.clone(), reference, credentials);
                match resolve(&session).await {
                    Ok(resolved) => return self.fetch_all(&session, resolved).await,
                    Err(error) => {
                        tracing::debug!(%reference, endpoint = %endpoint.authority, %error, "not to be had here");
                        if matches!(error, PullError::NotTls { .. }) {
                            not_tls = Some(endpoint.authority.clone());
                        }
                        let is_denied = matches!(error, PullError::Denied(_));
                        // What a registry says is worth more than that another one cannot be reached.
                        if last.is_none() || !matches!(error, PullError::Request { .. }) {
                            last = Some(error);
                        }
                        if !is_denied {
                            break;
                        }
                    }
                }
            }
        }
        let cause = last.unwrap_or_else(|| PullError::NotFound(reference.to_string()));
        Err(PullError::Resolve { reference: reference.to_string(), cause: Box::new(cause) })
    }

    async fn fetch_all(&self, session: &Session<'_>, resolved: Resolved) -> Result<Pulled, PullError> {
        let Resolved { top, config, layers } = resolved;
        if config.size > JSON_LEN_MAX {
            return Err(PullError::Hostile("its configuration is too long".into()));
        }
        let text = session.blob(&config.digest, "config", config.size).await?;
        let document: Document = serde_json::from_slice(&text)
            .map_err(|cause| crate::Error::Json { what: "an image configuration".into(), cause })?;
        if document.os != "linux" || document.architecture != archive::architecture() {
            return Err(PullError::NoPlatform(top.to_string()));
        }
        let wanted = document.rootfs.diff_ids.clone();
        if wanted.len() != layers.len() {
            return Err(PullError::Hostile("configuration and manifest disagree on the layers".into()));
        }
        let store = self.0.store.clone();
        let (leased, names) = (store.clone(), wanted.clone());
        let lease = blocking(move || Ok(leased.lease(&names)?)).await?;
        let missing: u64 =
            wanted.iter().zip(&layers).filter(|(d, _)| !store.has_layer(d)).map(|(_, l)| l.size).sum();
        let room = store.room()?;
        if missing > room {
            return Err(PullError::NoSpace { wanted: missing, free: room });
        }
        let mut fetches = Vec::with_capacity(layers.len());
        for (diff_id, layer) in wanted.iter().zip(&layers) {
            fetches.push(self.layer(session, diff_id, layer, room));
        }
        // As many at once as are good for one image; the first failure ends the others.
        let size: u64 = stream::iter(fetches)
            .buffer_unordered(DOWNLOADS_OF_ONE_MAX)
            .try_fold(0_u64, |sum, n| async move { Ok(sum.saturating_add(n)) })
            .await?;
        let compressed_size = layers.iter().fold(config.size, |sum, l| sum.saturating_add(l.size));
        let guard = session.credentials.as_ref().map(|c| c.fingerprint(&session.reference.repository()));
        let new = NewImage { id: config.digest, document, top, size, guard };
        let reference = session.reference.clone();
        let image = blocking(move || Ok(store.record(new, &reference)?)).await?;
        drop(lease);
        Ok(Pulled { image, compressed_size })
    }

    /// Brings one layer, unless it is here; returns the bytes of its files.
    async fn layer(
        &self,
        session: &Session<'_>,
        diff_id: &Digest,
        layer: &Descriptor,
        room: u64,
    ) -> Result<u64, PullError> {
        let store = &self.0.store;
        let busy = self.busy(&layer.digest);
        let _alone = busy.lock().await;
        if let Some(size) = store.layer_size(diff_id) {
            return Ok(size);
        }
        let path = store.download_path(&layer.digest);
        {
            let _permit = self.0.downloads.acquire().await;
            download::fetch(session, &layer.digest, layer.size, &path).await?;
        }
        let _permit = self.0.unpacks.acquire().await;
        let (store, diff_id) = (store.clone(), diff_id.clone());
        blocking(move || {
            let done = store.install_layer(&diff_id, &path, room);
            // A layer whose bytes are right and whose contents are refused would be refused again.
            let _ = std::fs::remove_file(&path);
            Ok(done?)
        })
        .await
    }

    fn busy(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.0.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = busy.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        busy.insert(digest.clone(), Arc::downgrade(&lock));
        lock
    }

    /// The file of mirrors and authorities.
    pub fn registries_file(&self) -> &Path {
        &self.0.registries
    }
}

/// From a name to the manifest for this machine.
async fn resolve(session: &Session<'_>) -> Result<Resolved, PullError> {
    let reference = session.reference;
    let name = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_string(),
    };
    let mut manifest = session.manifest(&name).await?;
    let top = manifest.digest.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        let parsed: AnyManifest = serde_json::from_slice(&manifest.bytes)
            .map_err(|cause| crate::Error::Json { what: "an image manifest".into(), cause })?;
        if parsed.schema_version == 1 {
            return Err(PullError::Hostile(
                "schema 1 manifests, which nothing verifies, are not read".into(),
            ));
        }
        if let Some(config) = parsed.config {
            let total = parsed.layers.iter().try_fold(0_u64, |sum, l| sum.checked_add(l.size));
            if parsed.layers.len() > LAYERS_MAX || total.is_none_or(|t| t > archive::ARCHIVE_LEN_MAX) {
                return Err(PullError::Hostile("its layers are too many or too large".into()));
            }
            return Ok(Resolved { top, config, layers: parsed.layers });
        }
        let fits = |p: &Platform| p.os == "linux" && p.architecture == archive::architecture();
        let fitting = parsed.manifests.iter().find(|m| m.platform.as_ref().is_some_and(fits));
        let untold = || parsed.manifests.iter().find(|m| m.platform.is_none());
        let Some(choice) = fitting.or_else(untold) else {
            return Err(PullError::NoPlatform(top.to_string()));
        };
        manifest = session.manifest(choice.digest.as_str()).await?;
    }
    Err(PullError::Hostile("its indexes nest too deeply".into()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PullError> + Send + 'static,
) -> Result<T, PullError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(PullError::Hostile(format!("a layer could not be unpacked: {e}"))))
}

#[cfg(test)]
mod tests;
