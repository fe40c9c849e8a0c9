//! The two encodings of the API and their media types.

use crate::{json, proto};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Compact JSON in ASCII.
    #[default]
    Json,
    /// Protobuf.
    Protobuf,
}

impl Encoding {
    /// By a media type without parameters.
    pub fn of(media_type: &str) -> Option<Encoding> {
        [Encoding::Json, Encoding::Protobuf].into_iter().find(|e| e.media_type() == media_type)
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/x-protobuf",
        }
    }

    /// Writes a message of the table (`scheduler.Event`).
    pub fn encode<T: Serialize + ?Sized>(self, message: &str, value: &T) -> Bytes {
        match self {
            Encoding::Json => json::to_ascii(value).into(),
            Encoding::Protobuf => {
                // As with JSON: every type here can be a value.
                let value = serde_json::to_value(value).unwrap_or_default();
                proto::encode(message, &value).into()
            }
        }
    }

    /// The same of a message that is in its JSON form already, which is not copied first: it may be all of a cluster.
    pub fn encode_value(self, message: &str, value: &Value) -> Bytes {
        match self {
            Encoding::Json => json::to_ascii(value).into(),
            Encoding::Protobuf => proto::encode(message, value).into(),
        }
    }

    /// Reads a message of the table (`scheduler.Call`) into its JSON form. The texts are Mesos'.
    pub fn decode(self, message: &str, bytes: &[u8]) -> Result<Value, String> {
        match self {
            Encoding::Json => {
                let value: Value = serde_json::from_slice(bytes)
                    .map_err(|e| format!("Failed to parse body into JSON: {e}"))?;
                if value.is_object() {
                    Ok(value)
                } else {
                    Err("Failed to parse body into JSON: not an object".into())
                }
            }
            Encoding::Protobuf => proto::decode(message, bytes)
                .map_err(|e| format!("Failed to parse body into Call protobuf: {e}")),
        }
    }
}
