//! The last word of a stream: a `Status` object, or in elder dialects its message alone.

use crate::negotiate::Version;
use bytes::Bytes;
use serde_json::{Value, json};

/// What to put on the error channel for the `Status` that an agent sent; nothing if the dialect keeps silent on success.
pub(crate) fn last_word(version: Version, status: &Bytes) -> Option<Bytes> {
    if version >= Version::V4 {
        return Some(status.clone());
    }
    failure(status).map(Bytes::from)
}

/// The message of a `Status` that is a failure.
pub(crate) fn failure(status: &[u8]) -> Option<String> {
    let Ok(status) = serde_json::from_slice::<Value>(status) else {
        return Some("the agent ended the stream with a malformed status".to_owned());
    };
    if status["status"] == "Success" {
        return None;
    }
    Some(status["message"].as_str().unwrap_or("unknown error").to_owned())
}

/// The `Status` when a tunnel ends without one.
pub(crate) fn broken() -> Bytes {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the connection to the node was lost",
        "reason": "InternalError",
        "code": 500,
    });
    status.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elder_dialects_hear_of_failures_only() {
        let success = Bytes::from_static(br#"{"status":"Success"}"#);
        let failure = Bytes::from_static(br#"{"status":"Failure","message":"exit code 3"}"#);
        assert_eq!(last_word(Version::V5, &success), Some(success.clone()));
        assert_eq!(last_word(Version::V1, &success), None);
        assert_eq!(last_word(Version::V3, &failure), Some("exit code 3".into()));
        assert!(last_word(Version::V1, &broken()).is_some());
        assert!(last_word(Version::V1, &Bytes::from_static(b"{")).is_some());
    }
}
