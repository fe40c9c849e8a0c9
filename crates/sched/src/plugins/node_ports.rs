//! NodePorts: two pods cannot have the same host port of a node. Offers that are out hold their ports too.

use crate::{Reason, Room, Shape};

/// Why a node where a host port is taken is ruled out.
pub const TAKEN: &str = "node(s) didn't have free ports for the requested pod ports";

/// Whether all host ports are free.
pub fn fits(shape: &Shape, room: &Room) -> bool {
    shape.requests.ports.is_empty() || !shape.requests.ports.intersects(&room.ports)
}

/// Rules out nodes where a host port is taken.
pub fn filter(shape: &Shape, room: &Room, reasons: &mut Vec<Reason>) {
    if !fits(shape, room) {
        reasons.push(Reason::curable(TAKEN));
    }
}
