//! A proxy in front of us that has identified the user: it shows a certificate of its own authority and says in headers whom it
//! speaks for. Without such a certificate the headers mean nothing.

use crate::query::{Plus, decode};
use http::HeaderMap;
use stoa_authz::User;

/// Values of such headers that are looked at.
const VALUES_LEN_MAX: usize = 1000;

/// Which proxies are believed, and in which headers.
#[derive(Clone, Debug, Default)]
pub struct RequestHeader {
    /// Who issues the proxies' certificates (PEM).
    pub ca_pem: String,
    /// Common names that are believed; all of the authority's if empty.
    pub allowed_names: Vec<String>,
    /// Headers that hold the user's name; the first that is there counts.
    pub username_headers: Vec<String>,
    /// Headers that hold the user's uid.
    pub uid_headers: Vec<String>,
    /// Headers that hold groups.
    pub group_headers: Vec<String>,
    /// What headers begin with that hold anything else.
    pub extra_header_prefixes: Vec<String>,
}

impl RequestHeader {
    /// Whether a proxy of that common name is believed.
    pub(crate) fn believes(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|n| n == common_name)
    }

    /// Whom a believed proxy speaks for, if it says so.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<User> {
        let name = first(headers, &self.username_headers)?;
        let mut user =
            User { name, uid: first(headers, &self.uid_headers).unwrap_or_default(), ..User::default() };
        for header in &self.group_headers {
            let values = headers.get_all(header.as_str()).iter().take(VALUES_LEN_MAX);
            user.groups.extend(values.filter_map(|v| v.to_str().ok().map(String::from)));
        }
        for (header, value) in headers.iter().take(VALUES_LEN_MAX) {
            let key = self.extra_header_prefixes.iter().find_map(|p| {
                let (head, rest) = header.as_str().split_at_checked(p.len())?;
                head.eq_ignore_ascii_case(p).then_some(rest)
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                let key = decode(key, Plus::IsPlus).unwrap_or_else(|| key.to_string());
                user.extra.entry(key).or_default().push(value.to_string());
            }
        }
        Some(user)
    }
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let mut found = names.iter().filter_map(|n| headers.get(n.as_str())?.to_str().ok());
    found.find(|v| !v.is_empty()).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_read_as_configured() {
        let config = RequestHeader {
            allowed_names: vec!["front".into()],
            username_headers: vec!["X-Remote-User".into()],
            group_headers: vec!["X-Remote-Group".into()],
            extra_header_prefixes: vec!["X-Remote-Extra-".into()],
            ..RequestHeader::default()
        };
        let mut headers = HeaderMap::new();
        assert!(config.user(&headers).is_none());
        headers.insert("x-remote-user", "jane".parse().unwrap());
        headers.append("x-remote-group", "a".parse().unwrap());
        headers.append("x-remote-group", "b".parse().unwrap());
        headers.insert("x-remote-extra-acme%2fscope", "s".parse().unwrap());
        let user = config.user(&headers).unwrap();
        assert_eq!((user.name.as_str(), user.groups.len()), ("jane", 2));
        assert_eq!(user.extra["acme/scope"], ["s"]);
        assert!(config.believes("front") && !config.believes("back"));
    }
}
