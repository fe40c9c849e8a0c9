//! What a zone is asked and what it answers, in plain data.

use std::net::Ipv4Addr;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// Where a service's port is.
    Srv,
    /// The name of an address.
    Ptr,
    /// Text.
    Txt,
    /// Anything else: only whether the name exists matters.
    Other,
}

/// One record's content. Names are whole, without the final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// A port at a name.
    Srv {
        /// The port.
        port: u16,
        /// The name.
        target: String,
    },
    /// A name of an address.
    Ptr(String),
    /// A text.
    Txt(String),
}

/// What a zone says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These records; none means that the name exists and has no record of the kind.
    Records(Vec<Data>),
    /// It is another name for this one, which may lie anywhere.
    Alias(String),
    /// There is no such name.
    NoName,
    /// It is not the zone's to say.
    Elsewhere,
}

/// The names that a server answers for.
pub trait Zone: Send + Sync + 'static {
    /// What there is under `name`: in lower case, without the final dot.
    fn look_up(&self, name: &str, kind: Kind) -> Answer;
}
