//! The Kubernetes vocabulary, as plain data: which resources there are ([`resources()`]), what their objects look like
//! ([`schema`]), how a body is checked against that ([`decode`]), an object and its metadata ([`Object`], [`Meta`]), the error
//! every refusal is ([`Status`], [`Cause`]), what `kubectl get` prints ([`table`]), the OpenAPI documents ([`openapi`]) and objects in protobuf ([`protobuf`]).
//!
//! Everything is driven by the facts in `data/`, read off a stock v1.36 server, so that no kind has code of its own where a row
//! of a table will do. A user's object stays a JSON value from end to end; the typed views in [`typed`] are for logic that
//! only reads. Nothing here knows HTTP, a store or a clock.

mod cause;
mod convert;
pub mod decode;
mod go;
mod meta;
mod object;
pub mod openapi;
pub mod protobuf;
mod resource;
pub mod schema;
mod status;
pub mod table;
pub mod typed;

pub use cause::{CAUSES_MAX, Cause};
pub use convert::{ConvertError, convert};
pub use meta::{Meta, OwnerRef};
pub use object::Object;
pub use resource::{GroupVersion, Resource, Resources, Subresource, resources};
pub use status::{ListMeta, Outcome, Status, StatusDetails, reason};
