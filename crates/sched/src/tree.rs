//! A tournament tree: the best score of all, and where it is, with one leaf changed in O(log n).

/// The score of a node that does not fit.
pub(crate) const NONE: i32 = -1;

#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// `nodes[1]` is the best of all; leaf `i` is `nodes[width + i]`.
    nodes: Vec<i32>,
    width: usize,
}

impl Tree {
    pub fn new(scores: &[i32]) -> Tree {
        let width = scores.len().next_power_of_two().max(1);
        let mut nodes = vec![NONE; 2 * width];
        nodes[width..width + scores.len()].copy_from_slice(scores);
        for i in (1..width).rev() {
            nodes[i] = nodes[2 * i].max(nodes[2 * i + 1]);
        }
        Tree { nodes, width }
    }

    pub fn set(&mut self, leaf: usize, score: i32) {
        let mut i = self.width + leaf;
        if self.nodes[i] == score {
            return;
        }
        self.nodes[i] = score;
        while i > 1 {
            i /= 2;
            let best = self.nodes[2 * i].max(self.nodes[2 * i + 1]);
            if self.nodes[i] == best {
                return;
            }
            self.nodes[i] = best;
        }
    }

    pub fn get(&self, leaf: usize) -> i32 {
        self.nodes[self.width + leaf]
    }

    /// The best leaf; among equals the first.
    pub fn best(&self) -> Option<(usize, i32)> {
        let best = *self.nodes.get(1)?;
        if best == NONE {
            return None;
        }
        let mut i = 1;
        while i < self.width {
            i = if self.nodes[2 * i] == best { 2 * i } else { 2 * i + 1 };
        }
        Some((i - self.width, best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_leaf_is_that_of_a_scan(
            start in prop::collection::vec(-1i32..5, 0..20),
            changes in prop::collection::vec((0usize..20, -1i32..5), 0..40),
        ) {
            let mut scores = start.clone();
            let mut tree = Tree::new(&start);
            for (leaf, score) in changes {
                if leaf < scores.len() {
                    scores[leaf] = score;
                    tree.set(leaf, score);
                }
                let best = scores.iter().copied().max().filter(|s| *s != NONE);
                let want = best.and_then(|b| Some((scores.iter().position(|s| *s == b)?, b)));
                prop_assert_eq!(tree.best(), want);
            }
        }
    }
}
