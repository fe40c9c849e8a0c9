//! `continue` tokens: where the next page of a list starts, and at which revision the list was begun.

use crate::options::CONTINUE_LEN_MAX;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use stoa_units::{Revision, Time};

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Continue {
    /// The revision that every page shows; none: whatever is current, because the first revision is gone.
    pub(crate) at: Option<Revision>,
    /// The last key of the page before, below the list's prefix.
    pub(crate) after: String,
    /// When the list was begun; none in a token that is not of this server.
    pub(crate) begun: Option<Time>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
    /// Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<u64>,
}

impl Continue {
    pub(crate) fn encode(&self) -> String {
        let wire = Wire {
            v: "meta.k8s.io/v1".to_string(),
            rv: self.at.map_or(-1, |r| i64::try_from(r.0).unwrap_or(i64::MAX)),
            start: format!("{}\0", self.after),
            t: self.begun.and_then(|t| u64::try_from(t.since(Time::EPOCH).as_millis()).ok()),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Errors have the stock server's wording, less its prefix.
    pub(crate) fn decode(text: &str) -> Result<Continue, String> {
        if text.len() > CONTINUE_LEN_MAX {
            return Err(format!("continue key is not valid: longer than {CONTINUE_LEN_MAX} bytes"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|e| {
            format!("continue key is not valid: illegal base64 data at input byte {}", place(e))
        })?;
        let wire: Wire = serde_json::from_slice(&bytes)
            .map_err(|e| format!("continue key is not valid: {}", wording(&bytes, &e)))?;
        if wire.v != "meta.k8s.io/v1" {
            return Err(
                "continue key is not valid: server does not recognize this encoded version".to_string()
            );
        }
        let start = wire.start.strip_suffix('\0').unwrap_or(&wire.start);
        let start = start.trim_start_matches('/');
        if start.is_empty() || start.split('/').any(|s| matches!(s, "" | "." | "..")) {
            return Err("continue key is not valid: encoded start key is not valid".to_string());
        }
        let at = match wire.rv {
            -1 => None,
            rv if rv > 0 => Some(Revision(rv.unsigned_abs())),
            _ => return Err("continue key is not valid: incorrect encoded start resourceVersion".to_string()),
        };
        let begun = wire.t.map(|t| Time::EPOCH.plus(Duration::from_millis(t)));
        Ok(Continue { at, after: start.to_string(), begun })
    }
}

/// Where Go's decoder gives up.
fn place(error: base64::DecodeError) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
        // What is left over at the end is refused from its beginning.
        base64::DecodeError::InvalidLength(len) => len - len % 4,
        base64::DecodeError::InvalidPadding => 0,
    }
}

/// Go's way to say that bytes are no JSON at their very first character, which is the common case of a made-up token.
fn wording(bytes: &[u8], error: &serde_json::Error) -> String {
    match bytes.first() {
        Some(b'{') | None => error.to_string(),
        Some(c) if c.is_ascii_graphic() => {
            format!("invalid character '{}' looking for beginning of value", *c as char)
        }
        Some(c) => format!("invalid character '\\x{c:02x}' looking for beginning of value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_a_made_up_one_is_refused() {
        let begun = Some(Time::EPOCH.plus(Duration::from_millis(1_795_833_461_007)));
        for begun in [begun, None] {
            let token = Continue { at: Some(Revision(7)), after: "default/a".to_string(), begun };
            assert_eq!(Continue::decode(&token.encode()), Ok(token));
        }
        assert_eq!(
            Continue::decode("abc"),
            Err("continue key is not valid: invalid character 'i' looking for beginning of value".to_string())
        );
        for (text, at) in [("x", 0), ("abcdx", 4), ("ab!d", 2)] {
            let why = format!("continue key is not valid: illegal base64 data at input byte {at}");
            assert_eq!(Continue::decode(text), Err(why));
        }
        for start in ["", "/", "../x", "a//b"] {
            let wire = format!("{{\"v\":\"meta.k8s.io/v1\",\"rv\":1,\"start\":\"{start}\\u0000\"}}");
            assert!(Continue::decode(&URL_SAFE_NO_PAD.encode(wire)).is_err(), "{start}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_token_panics(text in ".{0,40}") {
            let _ = Continue::decode(&text);
        }
    }
}
