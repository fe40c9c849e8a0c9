//! Where a webhook is, as a URL: read as Go reads one, in whose words it is refused.

use stoa_kube::Cause;

use super::super::field::{Errors, Path};

const FORM: &str = "; desired format: https://host[/path]";

pub(super) fn check(url: &str, path: Path<'_>, errors: &mut Errors) {
    let (whole, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, rest) = match split(whole) {
        Ok(parts) => parts,
        Err(why) => {
            let shown = serde_json::Value::from(whole);
            let why = format!("url must be a valid URL: parse {shown}: {why}{FORM}");
            return errors.push(Cause::required(path, &why));
        }
    };
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(Cause::invalid(path, scheme, &why));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, host) = authority(rest);
    if host.is_empty() {
        errors.push(Cause::invalid(path, host, &format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(Cause::invalid(path, user, "user information is not permitted in the URL"));
    }
    if !fragment.is_empty() {
        errors.push(Cause::invalid(path, fragment, "fragments are not permitted in the URL"));
    }
    if !query.is_empty() {
        errors.push(Cause::invalid(path, query, "query parameters are not permitted in the URL"));
    }
}

/// The user and the host.
fn authority(rest: &str) -> (Option<&str>, &str) {
    let authority = rest.strip_prefix("//").unwrap_or_default().split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    }
}

/// The scheme, in lower case, and what follows it; or why this is no URL.
fn split(url: &str) -> Result<(String, &str), String> {
    if url.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if url.starts_with(':') {
        return Err("missing protocol scheme".to_owned());
    }
    let is_inner = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let found = url.split_once(':').filter(|(head, _)| {
        head.starts_with(|c: char| c.is_ascii_alphabetic()) && head.chars().all(is_inner)
    });
    let (scheme, rest) = found.map_or(("", url), |(scheme, rest)| (scheme, rest));
    let place = rest.split('?').next().unwrap_or_default();
    if !scheme.is_empty() && !place.starts_with('/') {
        // What has a scheme and no slash is not looked into.
        return Ok((scheme.to_ascii_lowercase(), rest));
    }
    if scheme.is_empty() && place.split('/').next().is_some_and(|first| first.contains(':')) {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    let (_, host) = authority(place);
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|_| !host.ends_with(']'));
    if let Some(port) = port
        && !port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(format!("invalid port \":{port}\" after host"));
    }
    match bad_escape(place) {
        Some(escape) => Err(format!("invalid URL escape \"{escape}\"")),
        None => Ok((scheme.to_ascii_lowercase(), rest)),
    }
}

/// A percent sign that two digits do not follow, with what does.
fn bad_escape(place: &str) -> Option<&str> {
    place.match_indices('%').map(|(i, _)| &place[i..]).find_map(|rest| {
        let digits = rest.bytes().skip(1).take(2).filter(u8::is_ascii_hexdigit).count();
        let end = rest.char_indices().nth(3).map_or(rest.len(), |(i, _)| i);
        (digits < 2).then(|| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_go_reads_it() {
        for (url, why) in [
            ("::1", "missing protocol scheme"),
            ("a\nb", "net/url: invalid control character in URL"),
            ("10.0.0.1:80", "first path segment in URL cannot contain colon"),
            ("100%", "invalid URL escape \"%\""),
            ("https://a/%zz/", "invalid URL escape \"%zz\""),
            ("https://a:b/", "invalid port \":b\" after host"),
        ] {
            assert_eq!(split(url), Err(why.to_owned()), "{url}");
        }
        for (url, scheme, rest) in
            [("HTTPS://a:1/b", "https", "//a:1/b"), ("x:y", "x", "y"), ("/a", "", "/a")]
        {
            assert_eq!(split(url), Ok((scheme.to_owned(), rest)), "{url}");
        }
    }
}
