//! DynamicResources: devices that a pod claims are allocated by nobody here, and a pod must not run without what it claims.

use crate::{NodeInfo, Reason, Shape};

/// Rules out every node for a pod that claims devices.
pub fn filter(shape: &Shape, _: &NodeInfo) -> Option<Reason> {
    shape.claims_devices.then_some(Reason::fixed("cannot allocate all claims"))
}
