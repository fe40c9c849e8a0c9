//! Stories: a scheduler that speaks raw JSON, a store in memory, and an agent that is played by writing pods' statuses.

mod calls;
mod clients;
mod endpoints;
mod executors;
mod fixture;
mod operators;
mod protobuf;
mod recovery;
mod tasks;
