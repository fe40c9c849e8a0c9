//! ImageLocality: nodes that already have a pod's large images are better.

use crate::plugins::SCORE_MAX;
use crate::{NodeInfo, Shape};

/// Below this an image is pulled in no time.
const BYTES_MIN: u64 = 23 << 20;
/// Above this, for each container, more makes no difference.
const BYTES_MAX_PER_CONTAINER: u64 = 1000 << 20;

/// Grows with the bytes that need not be pulled.
pub fn score(shape: &Shape, node: &NodeInfo) -> i64 {
    if node.images.is_empty() {
        return 0;
    }
    let size = |image: &String| {
        let tagged = if image.rsplit('/').next().is_some_and(|n| n.contains([':', '@'])) {
            image.clone()
        } else {
            format!("{image}:latest")
        };
        node.images.get(&tagged).copied().unwrap_or(0)
    };
    let sum: u64 = shape.images.iter().map(size).sum();
    let max = BYTES_MAX_PER_CONTAINER * shape.images.len().max(1) as u64;
    let within = sum.clamp(BYTES_MIN, max) - BYTES_MIN;
    (SCORE_MAX as u64 * within / (max - BYTES_MIN)) as i64
}
