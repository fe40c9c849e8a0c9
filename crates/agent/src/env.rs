//! A container's environment and command line: literals, references to objects, fields and files of volumes, and `$(NAME)`
//! expansion as the API defines it. Pure but for those files.

use crate::env_file;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, FileKeySelector, Pod, Secret};
use std::collections::BTreeMap;
use std::sync::Arc;
use stoa_volume::{Error as VolumeError, Lookup, Made, Objects, Place, downward};

/// Why no environment can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EnvError {
    /// The leader has not pushed an object yet.
    Pending,
    /// A reference leads nowhere; the words go into the container's status.
    Invalid(String),
}

impl From<VolumeError> for EnvError {
    fn from(e: VolumeError) -> EnvError {
        EnvError::Invalid(e.to_string())
    }
}

/// The environment in the order of its making, each name once.
pub(crate) fn make(
    pod: &Pod,
    container: &Container,
    objects: &dyn Objects,
    place: &Place,
    volumes: &Made,
    services: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let reader = Reader { pod, container, namespace, objects, place, volumes };
    let mut env = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(s) = &source.config_map_ref {
            reader.config_map(&s.name, s.optional == Some(true))?.map(|m| config_map_texts(&m))
        } else if let Some(s) = &source.secret_ref {
            reader.secret(&s.name, s.optional == Some(true))?.map(|m| secret_texts(&m))
        } else {
            None
        };
        // Values that are no text, and names that no process could read, are left out.
        let usable = data.into_iter().flatten().filter(|(k, v)| is_name(k) && !v.contains('\0'));
        env.extend(usable.map(|(k, v)| (format!("{prefix}{k}"), v)));
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => {
                Some(expand(text, |name| env.get(name).or_else(|| services.get(name)).map(String::as_str)))
            }
            (_, Some(source)) => reader.value(source)?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.insert(var.name.clone(), value);
        }
    }
    for (name, value) in services {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(env)
}

/// The command line: the container's own words, else the image's, expanded.
pub(crate) fn command_line(
    container: &Container,
    entrypoint: &[String],
    cmd: &[String],
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let known = |name: &str| env.get(name).map(String::as_str);
    let expanded = |words: &[String]| words.iter().map(|w| expand(w, known)).collect::<Vec<_>>();
    let command = container.command.as_deref().filter(|c| !c.is_empty());
    let args = container.args.as_deref().filter(|a| !a.is_empty());
    let mut line = command.map_or_else(|| entrypoint.to_vec(), expanded);
    match (command, args) {
        (_, Some(args)) => line.extend(expanded(args)),
        (None, None) => line.extend(cmd.iter().cloned()),
        (Some(_), None) => {}
    }
    line
}

/// Replaces `$(NAME)` by what `get` knows; `$$` stands for one `$`, anything else stays.
pub(crate) fn expand<'a>(text: &str, get: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[at..rest.len() - after.len()]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

fn config_map_texts(map: &ConfigMap) -> Vec<(String, String)> {
    map.data.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn secret_texts(secret: &Secret) -> Vec<(String, String)> {
    secret
        .data
        .iter()
        .flatten()
        .filter_map(|(k, v)| Some((k.clone(), String::from_utf8(v.0.clone()).ok()?)))
        .collect()
}

struct Reader<'a> {
    pod: &'a Pod,
    container: &'a Container,
    namespace: &'a str,
    objects: &'a dyn Objects,
    place: &'a Place,
    volumes: &'a Made,
}

impl Reader<'_> {
    fn config_map(&self, name: &str, optional: bool) -> Result<Option<Arc<ConfigMap>>, EnvError> {
        found(self.objects.config_map(self.namespace, name), "configmap", name, optional)
    }

    fn secret(&self, name: &str, optional: bool) -> Result<Option<Arc<Secret>>, EnvError> {
        found(self.objects.secret(self.namespace, name), "secret", name, optional)
    }

    fn value(&self, source: &EnvVarSource) -> Result<Option<String>, EnvError> {
        if let Some(f) = &source.field_ref {
            return Ok(Some(downward::render_field(self.pod, &f.field_path, self.place)?));
        }
        if let Some(r) = &source.resource_field_ref {
            return Ok(Some(downward::render_resource(self.pod, r, &self.container.name, self.place)?));
        }
        if let Some(r) = &source.config_map_key_ref {
            let optional = r.optional == Some(true);
            let map = self.config_map(&r.name, optional)?;
            let value = map.and_then(|m| m.data.as_ref().and_then(|d| d.get(&r.key).cloned()));
            return self.keyed(value, &r.key, "ConfigMap", &r.name, optional);
        }
        if let Some(r) = &source.secret_key_ref {
            let optional = r.optional == Some(true);
            let secret = self.secret(&r.name, optional)?;
            let value = secret.and_then(|s| s.data.as_ref().and_then(|d| d.get(&r.key).cloned()));
            let value = value.map(|v| String::from_utf8_lossy(&v.0).into_owned());
            return self.keyed(value, &r.key, "Secret", &r.name, optional);
        }
        if let Some(r) = &source.file_key_ref {
            return self.file_value(r);
        }
        Err(EnvError::Invalid("unsupported source of an environment variable".to_owned()))
    }

    /// A value that an earlier container of the pod left in a file.
    fn file_value(&self, r: &FileKeySelector) -> Result<Option<String>, EnvError> {
        let invalid = |message: String| Err(EnvError::Invalid(message));
        let (key, optional) = (&r.key, r.optional == Some(true));
        let Some(volume) = self.volumes.get(&r.volume_name) else {
            return invalid(format!("cannot find the volume \"{}\" referenced by FileKeyRef", r.volume_name));
        };
        if key.len() > env_file::KEY_LEN_MAX {
            let most = env_file::KEY_LEN_MAX;
            return invalid(format!(
                "environment variable key \"{key}\" exceeds maximum length of {most} characters"
            ));
        }
        let text = match stoa_volume::read_file(&volume.path, &r.path, env_file::FILE_LEN_MAX) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if optional && e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return invalid(format!("couldn't parse env file: failed to open \"{}\": {e}", r.path)),
        };
        let value = env_file::find(&text, key);
        let value = value.map_err(|e| EnvError::Invalid(format!("couldn't parse env file: {e}")))?;
        match value.filter(|v| !v.is_empty()) {
            Some(v) if v.len() > env_file::VALUE_LEN_MAX => {
                invalid(format!("environment variable value for key \"{key}\" exceeds maximum size of 32KB"))
            }
            Some(v) if v.contains('\0') => {
                invalid(format!("environment variable value for key \"{key}\" holds a NUL character"))
            }
            None if !optional => {
                invalid(format!("environment variable key \"{key}\" not found in file \"{}\"", r.path))
            }
            value => Ok(value),
        }
    }

    fn keyed(
        &self,
        value: Option<String>,
        key: &str,
        kind: &str,
        name: &str,
        optional: bool,
    ) -> Result<Option<String>, EnvError> {
        match value {
            None if !optional => {
                Err(EnvError::Invalid(format!("couldn't find key {key} in {kind} {}/{name}", self.namespace)))
            }
            value => Ok(value),
        }
    }
}

fn found<T>(lookup: Lookup<T>, kind: &str, name: &str, optional: bool) -> Result<Option<Arc<T>>, EnvError> {
    match lookup {
        Lookup::Found(object) => Ok(Some(object)),
        Lookup::Absent if optional => Ok(None),
        Lookup::Absent => Err(EnvError::Invalid(format!("{kind} \"{name}\" not found"))),
        Lookup::Pending => Err(EnvError::Pending),
    }
}

#[cfg(test)]
mod tests;
