//! NodeResourcesFit: what a pod asks for must be free; the emptier a node, the better (least allocated).

use crate::plugins::SCORE_MAX;
use crate::{Reason, Room, Shape};
use std::borrow::Cow;

/// What a pod without requests counts as when nodes are compared.
pub(crate) const DEFAULT_MILLI_CPU: u64 = 100;
pub(crate) const DEFAULT_MEMORY_BYTES: u64 = 200 << 20;

/// Whether everything fits.
pub fn fits(shape: &Shape, room: &Room) -> bool {
    let (want, have, used) = (&shape.requests, &room.allocatable, &room.used);
    let fits = |want: u64, have: u64, used: u64| want == 0 || used.saturating_add(want) <= have;
    used.pods < have.pods
        && fits(want.milli_cpu, have.milli_cpu, used.milli_cpu)
        && fits(want.memory_bytes, have.memory_bytes, used.memory_bytes)
        && fits(want.disk_bytes, have.disk_bytes, used.disk_bytes)
        && want.extended.iter().all(|(n, v)| fits(*v, have.extended_milli(n), used.extended_milli(n)))
}

/// Rules out nodes with too little, one reason for each resource that is short.
pub fn filter(shape: &Shape, room: &Room, reasons: &mut Vec<Reason>) {
    let (want, have, used) = (&shape.requests, &room.allocatable, &room.used);
    if used.pods >= have.pods {
        reasons.push(Reason::curable("Too many pods"));
    }
    let mut check = |text: Cow<'static, str>, want: u64, have: u64, used: u64| {
        if want > 0 && used.saturating_add(want) > have {
            // What exceeds the whole node no eviction can make room for.
            reasons.push(Reason { text, resolvable: want <= have });
        }
    };
    check("Insufficient cpu".into(), want.milli_cpu, have.milli_cpu, used.milli_cpu);
    check("Insufficient memory".into(), want.memory_bytes, have.memory_bytes, used.memory_bytes);
    check("Insufficient ephemeral-storage".into(), want.disk_bytes, have.disk_bytes, used.disk_bytes);
    for (name, milli) in &want.extended {
        let text = format!("Insufficient {name}").into();
        check(text, *milli, have.extended_milli(name), used.extended_milli(name));
    }
}

/// What would be in use of CPU and memory, and what there is of them.
pub(crate) fn with_pod(shape: &Shape, room: &Room) -> [(u64, u64); 2] {
    let or = |want: u64, default: u64| if want == 0 { default } else { want };
    let cpu = or(shape.requests.milli_cpu, DEFAULT_MILLI_CPU);
    let memory = or(shape.requests.memory_bytes, DEFAULT_MEMORY_BYTES);
    [
        (room.used.milli_cpu + room.padding.0 + cpu, room.allocatable.milli_cpu),
        (room.used.memory_bytes + room.padding.1 + memory, room.allocatable.memory_bytes),
    ]
}

/// The share that stays free, averaged over CPU and memory.
pub fn score(shape: &Shape, room: &Room) -> i64 {
    let share = |(used, have): (u64, u64)| match have {
        0 => 0,
        _ if used > have => 0,
        _ => ((have - used) as f64 * SCORE_MAX as f64 / have as f64) as i64,
    };
    with_pod(shape, room).map(share).iter().sum::<i64>() / 2
}
