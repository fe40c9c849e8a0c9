//! Links in what a proxied program says: one that begins with `/` means the program's own root, so it is led back through the proxy,
//! in a `Location` and in the attributes of HTML that hold addresses. A page is rewritten as it streams by: nothing
//! but an unfinished tag is held back.

use bytes::Bytes;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes of a tag that is still looked at; a longer one passes as it is.
const TAG_LEN_MAX: usize = 64 << 10;
/// How often a tag is looked at in vain, each time from its beginning, before it passes as it is.
const LOOKS_MAX: usize = 32;

/// Where links lead back to.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// What goes before a path of the program's, without a slash at its end.
    pub(super) base: String,
    /// The authorities under which the program may speak of itself.
    pub(super) hosts: Vec<String>,
}

impl Root {
    /// The link through the proxy; none where it leads there already or elsewhere.
    pub(super) fn lead(&self, link: &str) -> Option<String> {
        let path = match link.split_once("//") {
            Some(("" | "http:" | "https:", rest)) => {
                let (host, path) = rest.split_at(rest.find('/')?);
                self.hosts.iter().any(|h| h == host).then_some(path)?
            }
            _ => link,
        };
        // One that has the prefix is whole, whichever host it names.
        if path.starts_with(&self.base) {
            return (path.len() < link.len()).then(|| path.to_string());
        }
        path.starts_with('/').then(|| format!("{}{path}", self.base))
    }
}

/// The attributes of an element that hold a link, by the HTML standard.
fn link_attributes(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["formaction", "src", "usemap"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// What ends the text of an element in which tags are none.
fn end_of_text(element: &str) -> Option<&'static [u8]> {
    Some(match element {
        "script" => b"</script",
        "style" => b"</style",
        "textarea" => b"</textarea",
        "title" => b"</title",
        "xmp" => b"</xmp",
        "iframe" => b"</iframe",
        "noembed" => b"</noembed",
        "noframes" => b"</noframes",
        _ => return None,
    })
}

const COMMENT: &[u8] = b"<!--";
const COMMENT_END: &[u8] = b"-->";

/// A tag's end, its element, and where in it links are.
struct Tag {
    len: usize,
    element: String,
    links: Vec<std::ops::Range<usize>>,
}

/// Reads a tag that begins at the first byte; none if it is not whole yet.
fn read_tag(input: &[u8]) -> Option<Tag> {
    let space = |b: &u8| b.is_ascii_whitespace();
    let find = |from: usize, is: &dyn Fn(&u8) -> bool| Some(from + input.get(from..)?.iter().position(is)?);
    let lower = |from: usize, to: usize| String::from_utf8_lossy(&input[from..to]).to_ascii_lowercase();
    let mut at = find(1, &|b| space(b) || matches!(b, b'/' | b'>'))?;
    let element = lower(1, at);
    let wanted = link_attributes(&element);
    let mut links = Vec::new();
    loop {
        at = find(at, &|b| !space(b) && *b != b'/')?;
        if input[at] == b'>' {
            return Some(Tag { len: at + 1, element, links });
        }
        // A name may begin with the sign of equality.
        let after = find(at + 1, &|b| space(b) || matches!(b, b'/' | b'>' | b'='))?;
        let name = lower(at, after);
        at = find(after, &|b| !space(b))?;
        if input[at] != b'=' {
            continue;
        }
        at = find(at + 1, &|b| !space(b))?;
        let value = match input[at] {
            quote @ (b'"' | b'\'') => at + 1..find(at + 1, &|b| *b == quote)?,
            b'>' => at..at,
            _ => at..find(at, &|b| space(b) || *b == b'>')?,
        };
        at = value.end + usize::from(matches!(input[value.end], b'"' | b'\''));
        if wanted.contains(&name.as_str()) {
            links.push(value);
        }
    }
}

/// A page on its way.
pub(super) struct Page {
    root: Root,
    held: Vec<u8>,
    /// What ends the text in which tags are none.
    until: Option<&'static [u8]>,
    /// How often what is held was looked at and was no whole tag.
    looks: usize,
}

impl Page {
    pub(super) fn new(root: Root) -> Page {
        Page { root, held: Vec::new(), until: None, looks: 0 }
    }

    /// Takes in what came; returns what can go on.
    fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        if self.looks > 0 && !chunk.contains(&b'>') && self.held.len() < TAG_LEN_MAX {
            return Vec::new();
        }
        let input = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(input.len());
        let mut rest = &input[..];
        while !rest.is_empty() {
            let step = self.step(rest, &mut out);
            if step == 0 {
                break;
            }
            rest = &rest[step..];
        }
        self.held = rest.to_vec();
        out
    }

    /// Passes on what can be said of the beginning of `rest`; returns how much of it that was, none if more must come.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        if let Some(end) = self.until {
            let found = rest.windows(end.len()).position(|w| w.eq_ignore_ascii_case(end));
            // An end may be cut in two.
            let len = found.unwrap_or_else(|| rest.len().saturating_sub(end.len() - 1));
            out.extend_from_slice(&rest[..len]);
            if found.is_some() {
                self.until = None;
                // The end of a comment is no tag; nor must an empty step look like a wait.
                let more = if end == COMMENT_END { end.len() } else { 1 };
                out.extend_from_slice(&rest[len..len + more]);
                return len + more;
            }
            return len;
        }
        let text = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
        if text > 0 {
            out.extend_from_slice(&rest[..text]);
            return text;
        }
        if rest.len() < COMMENT.len() && COMMENT.starts_with(rest) {
            return 0;
        }
        if rest.starts_with(COMMENT) {
            self.until = Some(COMMENT_END);
            out.extend_from_slice(COMMENT);
            return COMMENT.len();
        }
        if !rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
            out.push(b'<');
            return 1;
        }
        let Some(tag) = read_tag(rest) else {
            self.looks += 1;
            if rest.len() < TAG_LEN_MAX && self.looks <= LOOKS_MAX {
                return 0;
            }
            self.looks = 0;
            out.extend_from_slice(rest);
            return rest.len();
        };
        self.looks = 0;
        let mut from = 0;
        for link in &tag.links {
            let led = std::str::from_utf8(&rest[link.clone()]).ok().and_then(|l| self.root.lead(l));
            if let Some(led) = led {
                out.extend_from_slice(&rest[from..link.start]);
                out.extend_from_slice(led.as_bytes());
                from = link.end;
            }
        }
        out.extend_from_slice(&rest[from..tag.len]);
        self.until = end_of_text(&tag.element);
        tag.len
    }

    /// What was held back, as it came.
    fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// A body whose links lead through the proxy.
pub(super) struct Linked<B> {
    body: B,
    page: Option<Page>,
}

impl<B> Linked<B> {
    pub(super) fn new(body: B, page: Page) -> Linked<B> {
        Linked { body, page: Some(page) }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Linked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        loop {
            let Some(page) = &mut this.page else { return Poll::Ready(None) };
            let out = match std::task::ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => page.push(&data),
                    // What comes after the page is about bytes that are no longer these.
                    Err(_) => continue,
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let out = page.finish();
                    this.page = None;
                    out
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(out)))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root { base: "/api/proxy".into(), hosts: vec!["10.0.0.9:80".into(), "here".into()] }
    }

    /// The page rewritten whole, and in every pair of pieces.
    fn rewritten(page: &str) -> String {
        let through = |pieces: &[&[u8]]| {
            let mut page = Page::new(root());
            let mut out: Vec<u8> = pieces.iter().flat_map(|p| page.push(p)).collect();
            out.extend(page.finish());
            String::from_utf8(out).unwrap()
        };
        let whole = through(&[page.as_bytes()]);
        for cut in 0..page.len() {
            let (a, b) = page.as_bytes().split_at(cut);
            assert_eq!(through(&[a, b]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = page.as_bytes().chunks(1).collect();
        assert_eq!(through(&bytes), whole, "byte by byte");
        whole
    }

    #[test]
    fn links_to_the_root_lead_through_the_proxy() {
        for (page, want) in [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/api/proxy/rewriteme">test</a>"#),
            (
                "<IMG alt='/x' SRC = '/i.png' usemap=/m>",
                "<IMG alt='/x' SRC = '/api/proxy/i.png' usemap=/api/proxy/m>",
            ),
            (r#"<a href="rel"><a href="//far/x"><a href="http://far/x"><a href="/api/proxy/done">"#, ""),
            (r#"<a href="http://here/x"/>"#, r#"<a href="/api/proxy/x"/>"#),
            (r#"<a title="<a href='/n'>" href=/y>"#, r#"<a title="<a href='/n'>" href=/api/proxy/y>"#),
            (r#"<p href="/x"> 1 < 2 <3 <!doctype html> </a href="/x">"#, ""),
            (r#"<!-- <a href="/x"> --><a href="/y">"#, r#"<!-- <a href="/x"> --><a href="/api/proxy/y">"#),
            (
                r#"<script src="/s.js">'<a href="/x">'</SCRIPT><a href="/y">"#,
                r#"<script src="/api/proxy/s.js">'<a href="/x">'</SCRIPT><a href="/api/proxy/y">"#,
            ),
            (r#"<a href="/cut"#, ""),
            (r#"<a =href="/x" href= >"#, ""),
        ] {
            let want = if want.is_empty() { page } else { want };
            assert_eq!(rewritten(page), want);
        }
    }

    #[test]
    fn a_tag_without_an_end_is_not_held_for_ever() {
        let mut page = Page::new(root());
        let long = format!("<a title=\"{}", "x".repeat(TAG_LEN_MAX));
        assert_eq!(page.push(long.as_bytes()).len(), long.len());
        page.push(b"\"><a title=\"");
        let looked_at = (0..10 * LOOKS_MAX).map(|_| page.push(b">").len()).position(|passed| passed > 0);
        assert!(looked_at.is_some_and(|n| n <= LOOKS_MAX), "{looked_at:?}");
    }

    #[test]
    fn a_place_that_a_program_names_is_led_through_the_proxy() {
        for (link, want) in [
            ("/there?x=1", Some("/api/proxy/there?x=1")),
            ("http://10.0.0.9:80/there", Some("/api/proxy/there")),
            ("https://here/api/proxy/there", Some("/api/proxy/there")),
            ("/api/proxy/there", None),
            ("//far/x", None),
            ("http://far/x", None),
            ("there", None),
            ("there//x", None),
            ("", None),
        ] {
            assert_eq!(root().lead(link).as_deref(), want, "{link}");
        }
    }
}
