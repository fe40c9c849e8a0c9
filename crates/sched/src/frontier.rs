//! What is known about all nodes for one shape of pod: which fit and how well, in a tournament tree. Kept between
//! placements and brought up to date by looking only at the nodes that changed.

use crate::plugins::{Normalize, SCORE_MAX, TABLE};
use crate::tree::{NONE, Tree};
use crate::{NodeInfo, Reason, Room, Shape, Snapshot};
use std::collections::HashMap;
use std::sync::Arc;

/// Shapes that are remembered; the one longest unused is dropped for a new one.
const SHAPES_LEN_MAX: usize = 64;

/// The memory of placements: one frontier a shape. Worth nothing but speed: dropping it changes no decision.
#[derive(Clone, Debug, Default)]
pub struct Frontiers {
    by_shape: HashMap<u64, Frontier>,
    clock: u64,
}

impl Frontiers {
    /// Nothing remembered.
    pub fn new() -> Frontiers {
        Frontiers::default()
    }

    pub(crate) fn of(&mut self, snapshot: &Snapshot, hash: u64, shape: &Arc<Shape>) -> &Frontier {
        self.clock += 1;
        let known = self.by_shape.get(&hash).is_some_and(|f| f.shape == *shape);
        if !known {
            if self.by_shape.len() >= SHAPES_LEN_MAX {
                let oldest = self.by_shape.iter().min_by_key(|(_, f)| f.used).map(|(h, _)| *h);
                oldest.map(|h| self.by_shape.remove(&h));
            }
            self.by_shape.insert(hash, Frontier::new(snapshot, shape.clone()));
        }
        let clock = self.clock;
        let frontier = self.by_shape.entry(hash).or_insert_with(|| Frontier::new(snapshot, shape.clone()));
        frontier.used = clock;
        frontier.update(snapshot);
        frontier
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Frontier {
    shape: Arc<Shape>,
    layout: u64,
    seen: u64,
    used: u64,
    /// The score by what the node is; `NONE` where a node plugin rules it out.
    fixed: Vec<i32>,
    tree: Tree,
}

impl Frontier {
    fn new(snapshot: &Snapshot, shape: Arc<Shape>) -> Frontier {
        let fixed = fixed_scores(snapshot, &shape);
        let scores: Vec<i32> = fixed.iter().zip(&snapshot.rooms).map(|(f, r)| total(&shape, *f, r)).collect();
        let tree = Tree::new(&scores);
        Frontier { layout: snapshot.layout, seen: snapshot.changes_to(), used: 0, fixed, tree, shape }
    }

    fn update(&mut self, snapshot: &Snapshot) {
        let changes = snapshot.changes_since(self.seen);
        let Some(changes) = changes.filter(|c| self.layout == snapshot.layout && c.len() <= self.fixed.len())
        else {
            let used = self.used;
            *self = Frontier::new(snapshot, self.shape.clone());
            self.used = used;
            return;
        };
        for slot in changes.iter().map(|s| *s as usize) {
            self.tree.set(slot, total(&self.shape, self.fixed[slot], &snapshot.rooms[slot]));
        }
        self.seen = snapshot.changes_to();
    }

    pub fn best(&self) -> Option<(usize, i32)> {
        self.tree.best()
    }

    pub fn score(&self, slot: usize) -> Option<i32> {
        Some(self.tree.get(slot)).filter(|s| *s != NONE)
    }
}

fn fixed_scores(snapshot: &Snapshot, shape: &Shape) -> Vec<i32> {
    let fits: Vec<bool> = snapshot
        .nodes
        .iter()
        .map(|n| {
            n.as_ref()
                .is_some_and(|n| TABLE.node.iter().all(|p| p.filter.is_none_or(|f| f(shape, n).is_none())))
        })
        .collect();
    let mut sums: Vec<i64> = vec![0; fits.len()];
    for (weight, normalize, score) in TABLE.node.iter().filter_map(|p| p.score) {
        let raw: Vec<i64> = snapshot
            .nodes
            .iter()
            .zip(&fits)
            .map(|(n, fits)| n.as_ref().filter(|_| *fits).map_or(0, |n| score(shape, n)))
            .collect();
        let max = raw.iter().copied().max().unwrap_or(0);
        for (sum, raw) in sums.iter_mut().zip(raw) {
            *sum += weight * normalized(normalize, raw, max);
        }
    }
    fits.iter().zip(sums).map(|(fits, sum)| if *fits { sum as i32 } else { NONE }).collect()
}

pub(crate) fn normalized(how: Normalize, raw: i64, max: i64) -> i64 {
    match how {
        Normalize::No => raw,
        Normalize::Up if max == 0 => 0,
        Normalize::Up => raw * SCORE_MAX / max,
        Normalize::Down if max == 0 => SCORE_MAX,
        Normalize::Down => SCORE_MAX - raw * SCORE_MAX / max,
    }
}

fn total(shape: &Shape, fixed: i32, room: &Room) -> i32 {
    if fixed == NONE || !fits(shape, room) {
        return NONE;
    }
    let scores = TABLE.room.iter().filter_map(|p| p.score);
    fixed + scores.map(|(weight, score)| weight * score(shape, room)).sum::<i64>() as i32
}

/// Whether there is room for the shape.
pub(crate) fn fits(shape: &Shape, room: &Room) -> bool {
    TABLE.room.iter().all(|p| p.fits.is_none_or(|fits| fits(shape, room)))
}

/// Why a node, other pods aside, does not take the shape: the first plugin's reasons. None means that it does.
pub(crate) fn reasons(shape: &Shape, node: &NodeInfo, room: &Room) -> Vec<Reason> {
    if let Some(reason) = TABLE.node.iter().find_map(|p| p.filter?(shape, node)) {
        return vec![reason];
    }
    let mut out = Vec::new();
    for filter in TABLE.room.iter().filter_map(|p| p.filter) {
        filter(shape, room, &mut out);
        if !out.is_empty() {
            break;
        }
    }
    out
}
