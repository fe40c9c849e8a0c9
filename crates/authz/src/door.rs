//! Who comes in by a Mesos door: HTTP Basic credentials or nobody in particular, and whether the request was made for this
//! machine at all. Master and agent have such doors; both judge by this.

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, header};
use std::net::IpAddr;
use subtle::ConstantTimeEq as _;

/// Whether requests without credentials are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Only health and version.
    Refuse,
    /// Everything.
    Allow,
}

/// A principal and its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The principal.
    pub principal: String,
    /// The secret.
    pub secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// The credentials that were shown are not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credentials are not right")]
pub struct Wrong;

/// Who asks: a principal, or nobody in particular.
pub fn authenticate(
    headers: &HeaderMap,
    anonymous: Anonymous,
    credentials: &[Credential],
) -> Result<Option<String>, Wrong> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    if credentials.is_empty() && anonymous == Anonymous::Allow {
        // Nobody can prove anything here: what is claimed counts for nothing.
        return Ok(None);
    }
    let value = value.to_str().map_err(|_| Wrong)?;
    let (scheme, encoded) = value.split_once(' ').ok_or(Wrong)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Wrong);
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).map_err(|_| Wrong)?;
    let text = String::from_utf8(decoded).map_err(|_| Wrong)?;
    let (principal, secret) = text.split_once(':').ok_or(Wrong)?;
    // Every credential is compared, so that the time does not tell which principals there are.
    let mut is_right = false;
    for c in credentials {
        let same =
            c.principal.as_bytes().ct_eq(principal.as_bytes()) & c.secret.as_bytes().ct_eq(secret.as_bytes());
        is_right |= bool::from(same);
    }
    if is_right { Ok(Some(principal.into())) } else { Err(Wrong) }
}

/// Where everybody may do everything, no page of elsewhere may make a browser do it: neither by a name of its own that was
/// made to point here, nor by a script or a form of its own. `names` are what this machine is called beside its addresses.
pub fn is_addressed(headers: &HeaderMap, anonymous: Anonymous, bind: IpAddr, names: &[&str]) -> bool {
    if anonymous == Anonymous::Refuse {
        return true;
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|s| s != b"same-origin" && s != b"none") {
        return false;
    }
    let origin =
        headers.get(header::ORIGIN).map(|o| o.to_str().ok().and_then(|o| o.parse::<http::Uri>().ok()));
    let is_foreign = |origin: Option<http::Uri>| {
        let origin = origin.and_then(|o| o.authority().cloned());
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
        origin.is_none_or(|o| Some(o.as_str()) != host)
    };
    if origin.is_some_and(is_foreign) {
        return false;
    }
    if !bind.is_loopback() {
        return true;
    }
    let Some(host) = headers.get(header::HOST) else { return true };
    let Some(authority) = host.to_str().ok().and_then(|h| h.parse::<http::uri::Authority>().ok()) else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|n| name.eq_ignore_ascii_case(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let one = |(name, value): &(&str, &str)| {
            (name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn a_principal_is_who_shows_its_secret() {
        let known = [Credential { principal: "ops".into(), secret: "s".into() }];
        let shown =
            |value: &str| authenticate(&headers(&[("authorization", value)]), Anonymous::Refuse, &known);
        // `ops:s`, `ops:t`, and none of both.
        assert_eq!(shown("Basic b3BzOnM="), Ok(Some("ops".into())));
        for bad in ["Basic b3BzOnQ=", "Bearer b3BzOnM=", "Basic !", "Basic", ""] {
            assert_eq!(shown(bad), Err(Wrong), "{bad}");
        }
        assert_eq!(authenticate(&HeaderMap::new(), Anonymous::Refuse, &known), Ok(None));
        let open = authenticate(&headers(&[("authorization", "Basic b3BzOnM=")]), Anonymous::Allow, &[]);
        assert_eq!(open, Ok(None), "where nothing can be proved, nothing is claimed");
    }

    #[test]
    fn an_open_door_on_loopback_is_not_for_pages_of_elsewhere() {
        let asked = |all: &[(&str, &str)]| {
            is_addressed(&headers(all), Anonymous::Allow, IpAddr::from([127, 0, 0, 1]), &["n1"])
        };
        assert!(asked(&[]) && asked(&[("host", "127.0.0.1:5051")]) && asked(&[("host", "N1:5051")]));
        assert!(asked(&[("host", "localhost"), ("origin", "http://localhost")]));
        assert!(!asked(&[("host", "evil.example:5051")]));
        assert!(!asked(&[("host", "localhost"), ("origin", "http://evil.example")]));
        assert!(!asked(&[("sec-fetch-site", "cross-site")]));
    }
}
