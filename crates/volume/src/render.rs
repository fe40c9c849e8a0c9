//! What a volume shall hold: a tree of files, from the pod and the objects it refers to. Pure.

use crate::{Error, Lookup, Objects, Place, TokenKey, Tokens, downward};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const DEFAULT_MODE: u32 = 0o644;
const PATH_LEN_MAX: usize = 4096;
/// What the stock server gives a projected token that names no lifetime.
const TOKEN_SECONDS: i64 = 3600;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its contents.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner where that is not root.
    pub owner: Option<u32>,
}

/// Files by their path in the volume.
pub type Tree = BTreeMap<String, File>;

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// An empty directory on the node's disk.
    Directory,
    /// An empty directory in memory, of at most so many bytes.
    Memory(Option<u64>),
    /// An empty directory in huge pages of so many bytes each.
    HugePages(u64),
    /// A path of the machine, of a type.
    HostPath {
        /// The path.
        path: String,
        /// `Directory`, `FileOrCreate`, …; empty for no check.
        kind: String,
    },
    /// The files of an image, for reading only: its layers, topmost first.
    Image(Vec<PathBuf>),
    /// Files on disk.
    Files(Tree),
    /// Files that must not reach the disk.
    SecretFiles(Tree),
}

/// The tokens that a pod's volumes need.
pub fn token_keys(pod: &Pod) -> BTreeSet<TokenKey> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| p.sources.iter().flatten())
        .filter_map(|s| s.service_account_token.as_ref())
        .map(|t| token_key(t.audience.as_deref(), t.expiration_seconds))
        .collect()
}

/// The first volume of a pod that holds this token.
pub fn token_volume<'a>(pod: &'a Pod, key: &TokenKey) -> Option<&'a str> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let holds = |v: &&Volume| {
        let sources = v.projected.iter().flat_map(|p| p.sources.iter().flatten());
        let mut tokens = sources.filter_map(|s| s.service_account_token.as_ref());
        tokens.any(|t| token_key(t.audience.as_deref(), t.expiration_seconds) == *key)
    };
    volumes.into_iter().find(holds).map(|v| v.name.as_str())
}

fn token_key(audience: Option<&str>, expiration_seconds: Option<i64>) -> TokenKey {
    TokenKey {
        audience: audience.unwrap_or_default().to_owned(),
        expiration_seconds: expiration_seconds.unwrap_or(TOKEN_SECONDS).max(1) as u64,
    }
}

/// The size that `HugePages-2Mi` names; for `HugePages` the only one that the pod's containers ask for.
fn page_size(pod: &Pod, medium: &str) -> Option<u64> {
    let bytes =
        |text: &str| stoa_units::Quantity::parse(text).ok().map(|q| q.value_ceil()).filter(|n| *n > 0);
    if let Some(size) = medium.strip_prefix("HugePages-") {
        return bytes(size);
    }
    let spec = pod.spec.as_ref().filter(|_| medium == "HugePages")?;
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let limits = all.flat_map(|c| c.resources.iter().flat_map(|r| r.limits.iter().flatten()));
    let sizes: BTreeSet<u64> =
        limits.filter_map(|(name, _)| bytes(name.strip_prefix("hugepages-")?)).collect();
    sizes.first().copied().filter(|_| sizes.len() == 1)
}

/// Decides what a volume of a pod shall hold.
pub fn render(
    pod: &Pod,
    volume: &Volume,
    objects: &dyn Objects,
    place: &Place,
    tokens: &Tokens,
) -> Result<Wanted, Error> {
    let render = Render {
        pod,
        namespace: pod.metadata.namespace.as_deref().unwrap_or_default(),
        objects,
        place,
        tokens,
    };
    if let Some(source) = &volume.empty_dir {
        let limit = source.size_limit.as_ref().and_then(|q| stoa_units::Quantity::parse(&q.0).ok());
        return Ok(match source.medium.as_deref() {
            Some("Memory") => {
                let own = limit.map(|q| q.value_ceil()).filter(|n| *n > 0);
                Wanted::Memory([own, place.memory_for_files()].into_iter().flatten().min())
            }
            Some(medium) if medium.starts_with("HugePages") => {
                let size = page_size(pod, medium).ok_or_else(|| Error::PageSize(volume.name.clone()))?;
                Wanted::HugePages(size)
            }
            _ => Wanted::Directory,
        });
    }
    if volume.image.is_some() {
        let layers = place.images.get(&volume.name).cloned();
        return layers.map(Wanted::Image).ok_or_else(|| Error::ImagePending(volume.name.clone()));
    }
    if let Some(source) = &volume.host_path {
        return Ok(Wanted::HostPath {
            path: source.path.clone(),
            kind: source.type_.clone().unwrap_or_default(),
        });
    }
    let mut tree = Tree::new();
    if let Some(s) = &volume.config_map {
        let mode = mode(s.default_mode, DEFAULT_MODE);
        render.config_map(&s.name, s.items.as_deref(), s.optional == Some(true), mode, &mut tree)?;
        return Ok(Wanted::Files(tree));
    }
    if let Some(s) = &volume.secret {
        let name = s.secret_name.as_deref().unwrap_or_default();
        let mode = mode(s.default_mode, DEFAULT_MODE);
        render.secret(name, s.items.as_deref(), s.optional == Some(true), mode, &mut tree)?;
        return Ok(Wanted::SecretFiles(tree));
    }
    if let Some(s) = &volume.downward_api {
        let mode = mode(s.default_mode, DEFAULT_MODE);
        render.downward(s.items.as_deref().unwrap_or_default(), mode, &mut tree)?;
        return Ok(Wanted::SecretFiles(tree));
    }
    if let Some(s) = &volume.projected {
        let mode = mode(s.default_mode, DEFAULT_MODE);
        let mut failures = Vec::new();
        for source in s.sources.iter().flatten() {
            match render.projection(volume, source, mode, &mut tree) {
                Ok(()) => {}
                Err(error) if error.is_waiting() => return Err(error),
                Err(error) => failures.push(error),
            }
        }
        // All that is missing is named at once; a second time the same is not.
        return match failures.len() {
            0 => Ok(Wanted::SecretFiles(tree)),
            1 => Err(failures.remove(0)),
            _ => {
                let mut words: Vec<String> = Vec::new();
                let mut said = std::collections::BTreeSet::new();
                words.extend(failures.iter().map(Error::to_string).filter(|w| said.insert(w.clone())));
                match words.len() {
                    1 => Err(failures.remove(0)),
                    _ => Err(Error::Several(words)),
                }
            }
        };
    }
    if let Some(source) = &volume.csi {
        return Err(Error::NoDriver(source.driver.clone()));
    }
    Err(Error::Unsupported(volume.name.clone()))
}

fn mode(given: Option<i32>, default: u32) -> u32 {
    given.map_or(default, |m| m as u32 & 0o777)
}

/// A path below the volume's root, or an error: relative, no `..`, and no first part that the atomic swap uses.
fn check_path(path: &str) -> Result<(), Error> {
    let bad = path.is_empty()
        || path.len() > PATH_LEN_MAX
        || path.starts_with('/')
        || path.starts_with("..")
        || path.contains('\0')
        || path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if bad { Err(Error::Path(path.to_owned())) } else { Ok(()) }
}

struct Render<'a> {
    pod: &'a Pod,
    namespace: &'a str,
    objects: &'a dyn Objects,
    place: &'a Place,
    tokens: &'a Tokens,
}

impl Render<'_> {
    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: u32,
        tree: &mut Tree,
    ) -> Result<(), Error> {
        let map = match self.objects.config_map(self.namespace, name) {
            Lookup::Found(map) => map,
            Lookup::Absent if optional => return Ok(()),
            Lookup::Absent => return Err(Error::ObjectNotFound { kind: "configmap", name: name.to_owned() }),
            Lookup::Pending => return Err(Error::ObjectPending { kind: "configmap", name: name.to_owned() }),
        };
        put(&config_map_data(&map), "config", items, optional, mode, tree)
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: u32,
        tree: &mut Tree,
    ) -> Result<(), Error> {
        let secret = match self.objects.secret(self.namespace, name) {
            Lookup::Found(secret) => secret,
            Lookup::Absent if optional => return Ok(()),
            Lookup::Absent => return Err(Error::ObjectNotFound { kind: "secret", name: name.to_owned() }),
            Lookup::Pending => return Err(Error::ObjectPending { kind: "secret", name: name.to_owned() }),
        };
        put(&secret_data(&secret), "secret", items, optional, mode, tree)
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile], mode: u32, tree: &mut Tree) -> Result<(), Error> {
        for item in items {
            check_path(&item.path)?;
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(f), _) => downward::render_field(self.pod, &f.field_path, self.place)?,
                (None, Some(r)) => downward::render_resource(self.pod, r, "", self.place)?,
                (None, None) => return Err(Error::Downward(item.path.clone())),
            };
            let mode = item.mode.map_or(mode, |m| m as u32 & 0o777);
            tree.insert(item.path.clone(), File { bytes: text.into_bytes(), mode, owner: None });
        }
        Ok(())
    }

    fn projection(
        &self,
        volume: &Volume,
        source: &VolumeProjection,
        mode: u32,
        tree: &mut Tree,
    ) -> Result<(), Error> {
        if let Some(s) = &source.config_map {
            self.config_map(&s.name, s.items.as_deref(), s.optional == Some(true), mode, tree)
        } else if let Some(s) = &source.secret {
            self.secret(&s.name, s.items.as_deref(), s.optional == Some(true), mode, tree)
        } else if let Some(s) = &source.downward_api {
            self.downward(s.items.as_deref().unwrap_or_default(), mode, tree)
        } else if let Some(s) = &source.service_account_token {
            check_path(&s.path)?;
            let key = token_key(s.audience.as_deref(), s.expiration_seconds);
            let Some(token) = self.tokens.get(&key) else { return Err(Error::TokenPending(key.audience)) };
            let (mode, owner) = self.token_access(mode);
            tree.insert(s.path.clone(), File { bytes: token.clone().into_bytes(), mode, owner });
            Ok(())
        } else if *source == VolumeProjection::default() {
            // Whoever took a source out left its place.
            Ok(())
        } else {
            Err(Error::Unsupported(volume.name.clone()))
        }
    }

    /// A token is readable only by the one user that all containers run as, and by the pod's file-system group.
    fn token_access(&self, mode: u32) -> (u32, Option<u32>) {
        let Some(spec) = &self.pod.spec else { return (mode, None) };
        let pod_context = spec.security_context.as_ref();
        let has_group = pod_context.is_some_and(|c| c.fs_group.is_some());
        let pod_user = pod_context.and_then(|c| c.run_as_user);
        let mut users = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(pod_user));
        let first = users.next().flatten();
        match first {
            Some(user) if users.all(|u| u == Some(user)) => (0o600, u32::try_from(user).ok()),
            _ if has_group => (0o600, None),
            _ => (mode, None),
        }
    }
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let text = map.data.iter().flatten().map(|(k, v)| (k.as_str(), v.as_bytes()));
    text.chain(map.binary_data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()))).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    secret.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice())).collect()
}

fn put(
    data: &BTreeMap<&str, &[u8]>,
    kind: &'static str,
    items: Option<&[KeyToPath]>,
    optional: bool,
    mode: u32,
    tree: &mut Tree,
) -> Result<(), Error> {
    let Some(items) = items.filter(|i| !i.is_empty()) else {
        for (key, bytes) in data {
            check_path(key)?;
            tree.insert((*key).to_owned(), File { bytes: bytes.to_vec(), mode, owner: None });
        }
        return Ok(());
    };
    for item in items {
        check_path(&item.path)?;
        let Some(bytes) = data.get(item.key.as_str()) else {
            if optional {
                continue;
            }
            return Err(Error::KeyNotFound { kind, key: item.key.clone() });
        };
        let mode = item.mode.map_or(mode, |m| m as u32 & 0o777);
        tree.insert(item.path.clone(), File { bytes: bytes.to_vec(), mode, owner: None });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
