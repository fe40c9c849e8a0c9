//! Work on its way for keys. What ends badly is not lost: it is known for which key it was.

use std::collections::HashMap;
use stoa_reconcile::Key;
use tokio::task::{Id, JoinSet};

/// See the module.
pub(crate) struct Flights<T> {
    tasks: JoinSet<T>,
    keys: HashMap<Id, Key>,
}

/// Work for this key panicked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Crashed(pub Key);

impl<T> Default for Flights<T> {
    fn default() -> Flights<T> {
        Flights { tasks: JoinSet::new(), keys: HashMap::new() }
    }
}

impl<T: Send + 'static> Flights<T> {
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Begins work for a key.
    pub fn start(&mut self, key: Key, work: impl Future<Output = T> + Send + 'static) {
        let id = self.tasks.spawn(work).id();
        self.keys.insert(id, key);
    }

    /// The next that has come to its end; none while nothing is on its way.
    pub async fn next(&mut self) -> Option<Result<T, Crashed>> {
        loop {
            match self.tasks.join_next_with_id().await? {
                Ok((id, done)) => {
                    self.keys.remove(&id);
                    return Some(Ok(done));
                }
                Err(error) => {
                    tracing::error!(%error, "work for a key ended badly; it is tried again");
                    if let Some(key) = self.keys.remove(&error.id()) {
                        return Some(Err(Crashed(key)));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stoa_reconcile::Controller;

    #[tokio::test]
    async fn it_is_known_for_whom_work_ended_badly() {
        let key = |n: &str| Key::new(Controller::ReplicaSet, "d", n);
        let mut flights = Flights::default();
        flights.start(key("good"), async { 1 });
        flights.start(key("bad"), async { panic!("of the test") });
        let mut ends = Vec::new();
        while let Some(end) = flights.next().await {
            ends.push(end);
        }
        ends.sort_by_key(Result::is_err);
        assert_eq!(ends, [Ok(1), Err(Crashed(key("bad")))]);
        assert_eq!((flights.len(), flights.keys.len()), (0, 0));
    }
}
