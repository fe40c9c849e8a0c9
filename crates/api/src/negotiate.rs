//! Which form the client wants an answer in, and which form its body is in.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use std::borrow::Cow;
use stoa_kube::Status;

/// The media types that objects are served in.
pub(crate) const SERVED: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
/// The media types that watches are served in, as a refusal names them.
pub(crate) const STREAMED: [&str; 2] =
    ["application/json;stream=watch", stoa_kube::protobuf::WATCH_MEDIA_TYPE];
/// What typed clients write and ask for.
const PROTOBUF: &str = stoa_kube::protobuf::MEDIA_TYPE;
/// The media types of patches.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    APPLY,
];
/// The media type of what is applied.
const APPLY: &str = "application/apply-patch+yaml";

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => PROTOBUF,
        }
    }
}

/// What a collection's routes answer in.
const LISTED: [&str; 5] = [
    "application/json",
    "application/yaml",
    PROTOBUF,
    "application/json;stream=watch",
    stoa_kube::protobuf::WATCH_MEDIA_TYPE,
];

/// What a verb on objects is answered in, as its route says before anything is looked at: the names alone count there, and not
/// how much each is wanted.
pub(crate) fn check_routed(headers: &HeaderMap, verb: &str) -> Result<(), Status> {
    if verb == "patch" && !PATCHES.contains(&&*media_type(headers)) {
        return Err(Status::unrouted_media_type());
    }
    match verb {
        "list" | "watch" => check_accepted(headers, &LISTED),
        _ => check_accepted(headers, &SERVED),
    }
}

/// The same for any route.
pub(crate) fn check_accepted(headers: &HeaderMap, served: &[&str]) -> Result<(), Status> {
    let texts = || headers.get_all(ACCEPT).iter().map(|v| v.to_str().unwrap_or("?"));
    // An empty header is none.
    if texts().all(str::is_empty) {
        return Ok(());
    }
    let fits = |text: &str| {
        let name = lower_case(text.split(';').next().unwrap_or_default().trim());
        name == "*/*" || served.contains(&&*name)
    };
    let is_served = texts().flat_map(|text| text.split(',')).any(fits);
    if is_served { Ok(()) } else { Err(Status::unrouted_accept(served)) }
}

/// What of an object a table's row carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

/// As what an object is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// As it is.
    #[default]
    Object,
    /// As a row of a table.
    Table,
    /// Its metadata alone.
    Partial,
    /// The metadata alone of what is in a list.
    PartialList,
    /// Aggregated discovery.
    Discovery,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) encoding: Encoding,
    pub(crate) view: View,
}

/// Picks the first that we serve of what the client accepts, by the client's own order of preference.
pub(crate) fn accept(headers: &HeaderMap) -> Result<Accepted, Status> {
    accept_if(headers, |_| true)
}

/// The same for objects, which are no discovery.
pub(crate) fn accept_object(headers: &HeaderMap) -> Result<Accepted, Status> {
    accept_if(headers, |accepted| accepted.view != View::Discovery)
}

/// The same for the lists of groups, which are shown in the aggregated form or as they are.
pub(crate) fn accept_discovery(headers: &HeaderMap) -> Result<Accepted, Status> {
    accept_if(headers, |accepted| matches!(accepted.view, View::Object | View::Discovery))
}

/// The same for what can be shown as it is only: reviews, which have neither rows nor metadata of interest.
pub(crate) fn accept_plain(headers: &HeaderMap) -> Result<Accepted, Status> {
    accept_if(headers, |accepted| accepted.view == View::Object)
}

fn accept_if(headers: &HeaderMap, fits: impl Fn(&Accepted) -> bool) -> Result<Accepted, Status> {
    let mut wanted: Vec<(Media<'_>, u16)> = Vec::new();
    for header in headers.get_all(ACCEPT) {
        let text = header.to_str().map_err(|_| Status::not_acceptable(&SERVED))?;
        wanted.extend(text.split(',').filter(|p| !p.trim().is_empty()).map(Media::parse));
    }
    if wanted.is_empty() {
        return Ok(Accepted::default());
    }
    // Of two that are wanted equally, the one that says more comes first.
    wanted.sort_by_key(|(media, q)| (std::cmp::Reverse(*q), media.wildness()));
    let found =
        wanted.iter().filter(|(_, q)| *q > 0).filter_map(|(media, _)| media.accepted()).find(|a| fits(a));
    found.ok_or_else(|| Status::not_acceptable(&SERVED))
}

/// What a page about the server is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// Text of no particular form.
    Text,
    /// An object of `config.k8s.io` in this version.
    Object(Encoding, &'static str),
}

/// Picks a page's form: an object only for whoever names its kind.
pub(crate) fn page(headers: &HeaderMap, kind: &str) -> Result<Page, Status> {
    let text = headers.get(ACCEPT).map_or(Ok(""), |v| v.to_str()).unwrap_or("?");
    if text.trim().is_empty() {
        return Ok(Page::Text);
    }
    let mut wanted: Vec<_> = text.split(',').filter(|p| !p.trim().is_empty()).map(Media::parse).collect();
    wanted.sort_by_key(|(media, q)| (std::cmp::Reverse(*q), media.wildness()));
    let found = wanted.iter().filter(|(_, q)| *q > 0).find_map(|(media, _)| {
        let asked = (media.param("as"), media.param("g"), media.param("v"));
        let encoding = match &*media.name {
            "text/plain" | "text/*" | "*/*" if asked == ("", "", "") => return Some(Page::Text),
            "application/json" | "application/*" | "*/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            _ => return None,
        };
        let version = ["v1alpha1", "v1beta1"].into_iter().find(|v| *v == asked.2)?;
        (asked.0 == kind && asked.1 == "config.k8s.io").then_some(Page::Object(encoding, version))
    });
    found.ok_or_else(|| Status::not_acceptable(&["application/json", "application/yaml", "text/plain"]))
}

/// Which of `served`, in the server's order, a client wants most; by its name alone.
pub(crate) fn pick(headers: &HeaderMap, served: &[&str]) -> Option<usize> {
    let mut wanted: Vec<(Media<'_>, u16)> = Vec::new();
    for header in headers.get_all(ACCEPT) {
        let text = header.to_str().unwrap_or_default();
        wanted.extend(text.split(',').filter(|p| !p.trim().is_empty()).map(Media::parse));
    }
    if wanted.is_empty() {
        return (!served.is_empty()).then_some(0);
    }
    wanted.sort_by_key(|(media, q)| (std::cmp::Reverse(*q), media.wildness()));
    let matches = |media: &Media<'_>, name: &str| match media.name.strip_suffix("/*") {
        Some("*") => true,
        Some(kind) => name.split('/').next() == Some(kind),
        None => media.name == name,
    };
    let mut wanted = wanted.iter().filter(|(_, q)| *q > 0);
    wanted.find_map(|(media, _)| served.iter().position(|name| matches(media, name)))
}

/// A media range. Its name and those of its parameters are written in any case (RFC 9110, 8.3.1), and are in lower case here.
struct Media<'a> {
    name: Cow<'a, str>,
    params: Vec<(Cow<'a, str>, &'a str)>,
}

fn lower_case(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}

impl<'a> Media<'a> {
    /// With its quality in thousandths.
    fn parse(text: &'a str) -> (Media<'a>, u16) {
        let mut parts = text.split(';').map(str::trim);
        let name = lower_case(parts.next().unwrap_or_default());
        let mut quality = 1000;
        let mut params = Vec::new();
        for part in parts {
            let (k, v) = part.split_once('=').unwrap_or((part, ""));
            match lower_case(k) {
                k if k == "q" => {
                    quality = v.parse::<f32>().map_or(0, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
                }
                k => params.push((k, v)),
            }
        }
        (Media { name, params }, quality)
    }

    fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(k, _)| *k == name).map_or("", |(_, v)| v)
    }

    /// How little the name says.
    fn wildness(&self) -> u8 {
        match &*self.name {
            "*/*" => 2,
            name if name.ends_with("/*") => 1,
            _ => 0,
        }
    }

    fn accepted(&self) -> Option<Accepted> {
        let encoding = match &*self.name {
            "application/json" | "application/*" | "*/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            PROTOBUF => Encoding::Protobuf,
            _ => return None,
        };
        let view = match (self.param("as"), self.param("g"), self.param("v")) {
            ("", ..) => View::Object,
            // Tables have no protobuf form.
            ("Table", "meta.k8s.io", "v1") if encoding != Encoding::Protobuf => View::Table,
            ("PartialObjectMetadata", "meta.k8s.io", "v1") => View::Partial,
            ("PartialObjectMetadataList", "meta.k8s.io", "v1") => View::PartialList,
            ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => View::Discovery,
            _ => return None,
        };
        Some(Accepted { encoding, view })
    }
}

/// What of an object a table's rows are to carry.
pub(crate) fn include(text: &str) -> Result<Include, Status> {
    match text {
        "" | "Metadata" => Ok(Include::Metadata),
        "None" => Ok(Include::None),
        "Object" => Ok(Include::Object),
        other => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
    }
}

/// The form of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Json,
    Yaml,
    Protobuf,
}

/// The form of a request's body.
pub(crate) fn content(headers: &HeaderMap) -> Result<Content, Status> {
    let text = headers.get(CONTENT_TYPE).map_or(Ok(""), |v| v.to_str()).unwrap_or("?");
    // A parameter without a value makes the whole unreadable.
    if text.split(';').skip(1).any(|p| !p.trim().is_empty() && !p.contains('=')) {
        return Err(Status::unsupported_media_type(&SERVED));
    }
    match &*media_type(headers) {
        "" | "application/json" => Ok(Content::Json),
        "application/yaml" => Ok(Content::Yaml),
        PROTOBUF => Ok(Content::Protobuf),
        _ => Err(Status::unsupported_media_type(&SERVED)),
    }
}

/// A body's media type without its parameters, in lower case.
fn media_type(headers: &HeaderMap) -> Cow<'_, str> {
    let text = headers.get(CONTENT_TYPE).map_or(Ok(""), |v| v.to_str()).unwrap_or("?");
    lower_case(text.split(';').next().unwrap_or_default().trim())
}

/// Whether the body is what somebody applies.
pub(crate) fn is_apply(headers: &HeaderMap) -> bool {
    media_type(headers) == APPLY
}

/// The kind of a patch by its media type.
pub(crate) fn patch_kind(headers: &HeaderMap) -> Result<stoa_registry::PatchKind, Status> {
    use stoa_registry::PatchKind;
    match &*media_type(headers) {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
        APPLY => Ok(PatchKind::Apply),
        _ => Err(Status::unsupported_media_type(&PATCHES)),
    }
}

/// Whether the client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok()).any(|text| {
        text.split(',').any(|part| {
            let (media, quality) = Media::parse(part);
            matches!(&*media.name, "gzip" | "*") && quality > 0
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &'static str) -> Option<(Encoding, View)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        accept(&headers).ok().map(|a| (a.encoding, a.view))
    }

    #[test]
    fn a_body_says_what_it_is_in_any_case() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, text.parse().unwrap());
            headers
        };
        assert_eq!(content(&of("Application/JSON; Charset=UTF-8")).unwrap(), Content::Json);
        assert_eq!(content(&of("application/Vnd.Kubernetes.Protobuf")).unwrap(), Content::Protobuf);
        assert!(content(&of("text/JSON")).is_err());
        assert!(content(&of("application/json;")).is_ok());
        assert!(content(&of("application/json; charset")).is_err());
        let kind = patch_kind(&of("application/Merge-Patch+JSON")).unwrap();
        assert_eq!(kind, stoa_registry::PatchKind::Merge);
        assert!(is_apply(&of("Application/apply-patch+YAML")));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, "GZip".parse().unwrap());
        assert!(takes_gzip(&headers));
        headers.insert(ACCEPT, "A/C, A/B".parse().unwrap());
        assert_eq!(pick(&headers, &["a/b", "a/c"]), Some(1));
    }

    #[test]
    fn a_route_refuses_what_it_never_serves_before_anything_is_looked_at() {
        let refused = |verb: &str, name: http::HeaderName, text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, text.parse().unwrap());
            check_routed(&headers, verb).err().map(|status| (status.code(), status.message))
        };
        let served = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf";
        for text in ["*/*", "", "application/json;as=Foo", "text/html, application/yaml;q=0"] {
            assert_eq!(refused("get", ACCEPT, text), None, "{text}");
        }
        for text in ["text/html", "application/*", "foo"] {
            assert_eq!(refused("get", ACCEPT, text), Some((406, served.to_string())), "{text}");
        }
        let more = format!(
            "{served}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        );
        assert_eq!(refused("list", ACCEPT, "text/html"), Some((406, more)));
        let no_patch = Some((415, "415: Unsupported Media Type".to_string()));
        assert_eq!(refused("patch", CONTENT_TYPE, "application/json"), no_patch);
        assert_eq!(refused("patch", ACCEPT, "*/*"), no_patch);
        assert_eq!(refused("patch", CONTENT_TYPE, "application/merge-patch+json; charset=utf-8"), None);
    }

    #[test]
    fn a_review_has_no_table() {
        let plain = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, text.parse().unwrap());
            accept_plain(&headers).map(|a| a.encoding).map_err(|status| status.code())
        };
        assert_eq!(plain("application/json;as=Table;v=v1;g=meta.k8s.io"), Err(406));
        assert_eq!(
            plain("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            Ok(Encoding::Json)
        );
    }

    #[test]
    fn the_first_served_form_by_the_clients_order_wins() {
        use Encoding::*;
        for (text, want) in [
            ("*/*", Some((Json, View::Object))),
            ("application/vnd.kubernetes.protobuf, application/json", Some((Protobuf, View::Object))),
            (
                "application/vnd.kubernetes.protobuf,application/json;q=0.9,*/*;q=0.1",
                Some((Protobuf, View::Object)),
            ),
            ("*/*,application/vnd.kubernetes.protobuf", Some((Protobuf, View::Object))),
            ("application/vnd.kubernetes.protobuf;q=0.8,*/*", Some((Json, View::Object))),
            ("application/vnd.kubernetes.protobuf;stream=watch", Some((Protobuf, View::Object))),
            ("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1", None),
            (
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json",
                Some((Json, View::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                Some((Protobuf, View::Partial)),
            ),
            ("application/yaml", Some((Yaml, View::Object))),
            ("application/json;q=0.5, application/yaml", Some((Yaml, View::Object))),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Some((Json, View::Table)),
            ),
            ("application/json;as=Table;v=v9;g=meta.k8s.io", None),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Json, View::PartialList)),
            ),
            ("application/json;stream=watch", Some((Json, View::Object))),
            ("Application/YAML, application/json;Q=0.5", Some((Yaml, View::Object))),
            ("Application/*", Some((Json, View::Object))),
            (
                "APPLICATION/JSON;AS=Table;V=v1;G=meta.k8s.io,application/yaml;q=0.9",
                Some((Json, View::Table)),
            ),
            // Of what a parameter says the case counts.
            ("application/json;as=table;v=v1;g=meta.k8s.io", None),
            ("application/cbor", None),
            ("application/json;q=0", None),
        ] {
            assert_eq!(accepted(text), want, "{text}");
        }
    }
}
