//! Image references as people write them: `nginx`, `nginx:1.2`, `reg:5000/a/b@sha256:…`; kept in the canonical form with
//! registry, path and tag or digest (distribution's reference grammar).

use crate::Digest;
use std::fmt;

/// Why a text is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name \"{text}\": {why}")]
pub struct ReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// A canonical reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;

fn is_path_component(s: &str) -> bool {
    let b = s.as_bytes();
    let alnum = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    if b.is_empty() || !alnum(&b[0]) || !alnum(&b[b.len() - 1]) {
        return false;
    }
    // Separators: one dot, one or two underscores, any number of dashes.
    b.split(alnum)
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|c| *c == b'-'))
}

fn is_tag(s: &str) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && b.len() <= TAG_LEN_MAX
        && (b[0].is_ascii_alphanumeric() || b[0] == b'_')
        && b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

fn is_registry(s: &str) -> bool {
    let (host, port) = match s.rsplit_once(':') {
        Some((h, p)) if !h.ends_with(':') => (h, Some(p)),
        _ => (s, None),
    };
    let host_ok = host.starts_with('[') && host.ends_with(']')
        || !host.is_empty()
            && host.split('.').all(|l| {
                !l.is_empty()
                    && !l.starts_with('-')
                    && !l.ends_with('-')
                    && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            });
    host_ok && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit()))
}

/// The registry that a name begins with, where it does.
fn split_registry(name: &str) -> Option<(&str, &str)> {
    // No path has capital letters, so what has them is a host.
    let is_host = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|c| c.is_ascii_uppercase())
    };
    name.split_once('/').filter(|(first, _)| is_host(first))
}

impl Reference {
    /// Whether whoever wrote `text` said in which registry the image is.
    pub fn names_registry(text: &str) -> bool {
        split_registry(text).is_some()
    }

    /// Reads a reference and fills in what people leave out.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        let bad = |why: &str| ReferenceError { text: text.to_string(), why: why.to_string() };
        let (rest, digest) = match text.split_once('@') {
            Some((r, d)) => (r, Some(Digest::parse(d).ok_or_else(|| bad("invalid reference format"))?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((n, t)) if !t.contains('/') => (n, Some(t)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(bad("invalid reference format"));
        }
        if name.len() > NAME_LEN_MAX {
            return Err(bad("repository name must not be more than 255 characters"));
        }
        let (registry, path) = match split_registry(name) {
            Some((registry, path)) => (registry, path.to_string()),
            None => (DEFAULT_REGISTRY, name.to_string()),
        };
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let path = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path
        };
        // The first colon ends the name here, whatever follows.
        let name_of = path.split(':').next().unwrap_or_default();
        if name_of.bytes().any(|c| c.is_ascii_uppercase()) {
            let path = name_of;
            return Err(bad(&format!(
                "invalid reference format: repository name ({path}) must be lowercase"
            )));
        }
        if !is_registry(registry) || !path.split('/').all(is_path_component) {
            return Err(bad("invalid reference format"));
        }
        let tag = match (tag, &digest) {
            (Some(t), _) => Some(t.to_string()),
            (None, None) => Some("latest".to_string()),
            (None, Some(_)) => None,
        };
        Ok(Reference { registry: registry.to_string(), path, tag, digest })
    }

    /// The digest, where the reference names one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The registry's host, and port where one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and path without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// The tag, `latest` by default, none where only a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// As people write it: without the default registry and path.
    pub fn familiar(&self) -> String {
        let canonical = self.to_string();
        let short = canonical.strip_prefix("docker.io/").unwrap_or(&canonical);
        short.strip_prefix("library/").unwrap_or(short).to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)?;
        if let Some(t) = &self.tag {
            write!(f, ":{t}")?;
        }
        if let Some(d) = &self.digest {
            write!(f, "@{d}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_leave_out_is_filled_in() {
        let d = format!("sha256:{}", "a".repeat(64));
        for (text, canonical, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1.2", "docker.io/library/nginx:1.2", "nginx:1.2"),
            ("me/app", "docker.io/me/app:latest", "me/app:latest"),
            ("localhost/app:x", "localhost/app:x", "localhost/app:x"),
            ("reg.example:5000/a/b", "reg.example:5000/a/b:latest", "reg.example:5000/a/b:latest"),
            ("stoa.dev/host", "stoa.dev/host:latest", "stoa.dev/host:latest"),
            (&format!("busybox@{d}"), &format!("docker.io/library/busybox@{d}"), &format!("busybox@{d}")),
        ] {
            let r = Reference::parse(text).unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (canonical, familiar));
            assert_eq!(Reference::parse(&r.familiar()).unwrap(), r);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "",
            "Nginx",
            "a//b",
            "a:",
            "a:b:c",
            "-a",
            "a/../b",
            "a@sha256:12",
            "a b",
            "x:/y",
            "../etc",
            "a..b",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        for (text, registry) in
            [("Foo/bar", "Foo"), ("LOCALHOST/x", "LOCALHOST"), ("EXAMPLE.com/x", "EXAMPLE.com")]
        {
            assert_eq!(Reference::parse(text).unwrap().registry(), registry);
        }
        let why = Reference::parse("UPPER:5000/Y").unwrap_err().why;
        assert_eq!(why, "invalid reference format: repository name (Y) must be lowercase");
        let why = Reference::parse("Bad:1").unwrap_err().why;
        assert_eq!(why, "invalid reference format: repository name (library/Bad) must be lowercase");
        let why = Reference::parse("Not Valid::x").unwrap_err().why;
        assert_eq!(why, "invalid reference format: repository name (library/Not Valid) must be lowercase");
    }

    #[test]
    fn a_name_says_where_it_is_from_or_leaves_it_out() {
        for (text, says) in [
            ("busybox", false),
            ("busybox:1.36", false),
            ("me/app", false),
            ("docker.io/library/busybox", true),
            ("localhost/app", true),
            ("127.0.0.1:5000/app", true),
        ] {
            assert_eq!(Reference::names_registry(text), says, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_reference_never_walks_and_reads_back(s in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(r) = Reference::parse(&s) {
                proptest::prop_assert!(!r.to_string().split('/').any(|c| c == ".." || c == "."));
                proptest::prop_assert_eq!(Reference::parse(&r.to_string()), Ok(r));
            }
        }
    }
}
