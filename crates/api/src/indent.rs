//! JSON for people: two spaces a level, as it streams past. Nothing is parsed, so the order of keys and the spelling of numbers stay.

use bytes::Bytes;
use http::HeaderMap;
use http::header::USER_AGENT;
use http_body::{Body, Frame};
use std::io::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Who is taken for a person unless he says otherwise.
const PEOPLES_AGENTS: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// Whether the answer is for a person: the parameter says it, or the kind of client does.
pub(crate) fn is_wanted(pretty: &str, headers: &HeaderMap) -> bool {
    match pretty {
        "" => {
            let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
            PEOPLES_AGENTS.iter().any(|p| agent.starts_with(p))
        }
        said => matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

/// Where in the text the writer is.
#[derive(Default)]
struct Indenter {
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
    /// Something was opened, and nothing has been written into it.
    is_opened: bool,
}

impl Indenter {
    fn write(&mut self, json: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(json.len() * 2);
        for &byte in json {
            if self.is_in_text {
                out.push(byte);
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => self.is_in_text = false,
                    _ => {}
                }
                continue;
            }
            if byte.is_ascii_whitespace() {
                continue;
            }
            let is_closing = matches!(byte, b'}' | b']');
            if is_closing {
                self.depth = self.depth.saturating_sub(1);
            }
            // What is empty is closed where it was opened.
            if std::mem::take(&mut self.is_opened) != is_closing {
                self.new_line(&mut out);
            }
            out.push(byte);
            match byte {
                b'{' | b'[' => (self.depth, self.is_opened) = (self.depth + 1, true),
                b'"' => self.is_in_text = true,
                b',' => self.new_line(&mut out),
                b':' => out.push(b' '),
                _ => {}
            }
        }
        out
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

/// A body of JSON, indented.
pub(crate) struct Indented<B> {
    inner: B,
    indenter: Indenter,
}

impl<B> Indented<B> {
    pub(crate) fn new(inner: B) -> Indented<B> {
        Indented { inner, indenter: Indenter::default() }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Indented<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            end => return Poll::Ready(end),
        };
        Poll::Ready(Some(Ok(frame.map_data(|data| self.indenter.write(&data).into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_indented_is_what_a_whole_writer_writes_wherever_it_is_cut() {
        let value =
            json!({"a": [], "b": {}, "c": [1, {"d": "x,{\"}:"}], "e": "\\", "f": {"g": [[], [true, null]]}});
        let (text, want) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
        for cut in 0..=text.len() {
            let mut indenter = Indenter::default();
            let (head, tail) = text.split_at(cut);
            let written = [indenter.write(head.as_bytes()), indenter.write(tail.as_bytes())].concat();
            assert_eq!(String::from_utf8(written).unwrap(), want);
        }
        assert_eq!(Indenter::default().write(b"{\"a\":1}\n"), b"{\n  \"a\": 1\n}");
    }
}
