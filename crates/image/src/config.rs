//! What an image says of itself: how to run it. Read from OCI and Docker configurations, which agree on these names.

use crate::Error;
use crate::error::file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// How a container of the image runs unless the pod says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The program and its first arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The arguments after the entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Environment as `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory; `/` if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; root if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports such as `8080/tcp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed_ports: Vec<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to stop; SIGTERM if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Paths that the image wants as volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
}

/// What `stoa image build` is told beside the directory.
pub type BuildConfig = Config;

impl Config {
    /// Reads a build configuration from a JSON file.
    pub fn load(path: &Path) -> Result<Config, Error> {
        let text = std::fs::read(path).map_err(file("read", path))?;
        serde_json::from_slice(&text).map_err(|cause| Error::Json { what: path.display().to_string(), cause })
    }
}

/// The document in an archive: Go's names, null where empty.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Document {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) config: Option<GoConfig>,
    pub(crate) rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) diff_ids: Vec<crate::Digest>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct GoConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Vec<String>>,
    working_dir: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    stop_signal: String,
}

impl From<GoConfig> for Config {
    fn from(c: GoConfig) -> Config {
        Config {
            entrypoint: c.entrypoint.unwrap_or_default(),
            cmd: c.cmd.unwrap_or_default(),
            env: c.env.unwrap_or_default(),
            working_dir: c.working_dir,
            user: c.user,
            exposed_ports: c.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: c.labels.unwrap_or_default(),
            stop_signal: c.stop_signal,
            volumes: c.volumes.unwrap_or_default().into_keys().collect(),
        }
    }
}

impl From<Config> for GoConfig {
    fn from(c: Config) -> GoConfig {
        let set = |v: Vec<String>| {
            (!v.is_empty())
                .then(|| v.into_iter().map(|k| (k, serde_json::json!({}))).collect::<BTreeMap<_, _>>())
        };
        GoConfig {
            entrypoint: (!c.entrypoint.is_empty()).then_some(c.entrypoint),
            cmd: (!c.cmd.is_empty()).then_some(c.cmd),
            env: (!c.env.is_empty()).then_some(c.env),
            working_dir: c.working_dir,
            user: c.user,
            exposed_ports: set(c.exposed_ports),
            volumes: set(c.volumes),
            labels: (!c.labels.is_empty()).then_some(c.labels),
            stop_signal: c.stop_signal,
        }
    }
}
