//! Names, ids, quantities, resources, labels, selectors, revisions and the clock: plain data that every other
//! crate speaks. No I/O, no async; the only clock here is the trait through which time is handed in.

mod clock;
mod labels;
mod names;
mod ports;
mod quantity;
mod quote;
mod resources;
mod revision;

pub use clock::{Clock, ManualClock, SystemClock, Time};
pub use labels::{FieldSelector, FieldTerm, LabelSelector, Operator, Requirement, SelectorError};
pub use names::{
    AgentId, FrameworkId, NameError, NamespacedName, OfferId, TaskId, check_dns_label, check_dns_subdomain,
    check_label_key, check_label_value, check_path_segment,
};
pub use ports::{HostPort, PortRange, PortSet, Transport};
pub use quantity::{Quantity, QuantityError};
pub use quote::{dial_words, quote};
pub use resources::Resources;
pub use revision::{Revision, Stamped};
