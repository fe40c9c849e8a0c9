//! Two-level scheduling: who is offered what, and whether what a framework wants to launch fits what it was offered.
//!
//! What: [`Allocator`] keeps one tree of roles in which frameworks and namespaces are leaves and, asked for a plan,
//! hands the whole free remainder of each agent to the framework that is furthest below its dominant share;
//! [`plan_accept`] turns the operations on accepted offers into tasks to start and tasks to refuse. Why pure: the same
//! code runs in the master, in table tests and in simulation. What not: it claims nothing (the `ledger` does), sends
//! nothing, and has no clock: time comes by parameter.
//!
//! Flow: `ledger` changes, filters that expire and frameworks that come or revive make *candidate* agents; a plan looks
//! at those only, so that a cycle costs what has changed and not what there is.

mod accept;
mod allocator;
mod constraint;
mod filter;
mod operation;
mod parking;
mod quota;
mod tree;

pub use accept::{Accept, Group, Launch, Plan, Refusal, Under, plan_accept};
pub use allocator::{Allocator, Grant, Options, Subscription};
pub use constraint::{Constraints, Facts};
pub use filter::refuse_duration;
pub use operation::{Change, Context, Done, Missing, Stock, kind_of, plan_operation};
pub use quota::{Amounts, Quota, consumption, scalar, set_scalar, top};
