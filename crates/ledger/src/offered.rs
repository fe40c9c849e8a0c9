//! Which ports agents give to frameworks, counted: asked for each port that a service might get, of however many agents.

use stoa_units::PortSet;

/// How many agents give each port. Empty while none gives any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered(Vec<u32>);

impl Offered {
    /// An agent gives these ports.
    pub(crate) fn add(&mut self, ports: &PortSet) {
        if self.0.is_empty() && !ports.ranges().is_empty() {
            self.0 = vec![0; usize::from(u16::MAX) + 1];
        }
        self.change(ports, |n| *n += 1);
    }

    /// An agent that gave these ports gives them no more.
    pub(crate) fn remove(&mut self, ports: &PortSet) {
        self.change(ports, |n| *n -= 1);
    }

    fn change(&mut self, ports: &PortSet, change: impl Fn(&mut u32)) {
        for range in ports.ranges() {
            let range = usize::from(range.begin)..=usize::from(range.end);
            self.0.get_mut(range).into_iter().flatten().for_each(&change);
        }
    }

    /// Whether some agent gives the port.
    pub(crate) fn has(&self, port: u16) -> bool {
        self.0.get(usize::from(port)).is_some_and(|n| *n > 0)
    }
}
