//! NodeResourcesBalancedAllocation: nodes whose CPU and memory fill up alike waste less.

use crate::plugins::SCORE_MAX;
use crate::plugins::node_resources_fit::with_pod;
use crate::{Room, Shape};

/// Falls with the difference between the used shares of CPU and memory.
pub fn score(shape: &Shape, room: &Room) -> i64 {
    // A pod that asks for nothing leaves the balance as it is.
    if shape.requests.milli_cpu == 0 && shape.requests.memory_bytes == 0 {
        return 0;
    }
    let share = |(used, have): (u64, u64)| if have == 0 { 1.0 } else { (used as f64 / have as f64).min(1.0) };
    let [cpu, memory] = with_pod(shape, room).map(share);
    ((1.0 - (cpu - memory).abs() / 2.0) * SCORE_MAX as f64) as i64
}
