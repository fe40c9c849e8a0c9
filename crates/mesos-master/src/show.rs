//! The read-outs that are as large as the cluster, written element by element: an agent or a task is made when its turn comes and
//! is gone when it is written. Made whole first, the state of 400,000 tasks took gigabytes.

use crate::framework::Framework;
use crate::master::Master;
use crate::report::{Viewer, executors_of};
use crate::state::State;
use crate::task::{Part, Task};
use crate::view::{PodTask, view_executor, view_offer, view_pod_task};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};
use stoa_ledger::Ledger;
use stoa_mesos::resource::Flat;

/// A list whose elements are made as they are written.
pub(crate) struct Each<F>(pub F);

impl<F: Fn() -> I, I: IntoIterator> Serialize for Each<F>
where
    I::Item: Serialize,
{
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq((self.0)())
    }
}

fn write_all<M: SerializeMap>(out: &mut M, head: &Value) -> Result<(), M::Error> {
    head.as_object().into_iter().flatten().try_for_each(|(key, value)| out.serialize_entry(key, value))
}

/// `/state`, at one moment.
pub(crate) struct Whole<'a> {
    pub master: &'a Master,
    pub viewer: Viewer<'a>,
    pub state: &'a State,
    pub ledger: &'a Ledger,
    pub pods: &'a [PodTask],
    pub head: Map<String, Value>,
}

impl<'a> Whole<'a> {
    fn frameworks(&self, is_wanted: fn(&Framework) -> bool) -> impl Iterator<Item = Shown<'a>> {
        let (state, viewer) = (self.state, self.viewer);
        let seen = state.frameworks.values().filter(move |f| is_wanted(f) && viewer.may_view_framework(f));
        seen.map(move |framework| Shown::Framework(WithTasks { state, framework, viewer }))
    }

    fn kubernetes(&self) -> Option<Shown<'a>> {
        self.viewer.may_view_pods().then_some(Shown::Kubernetes { master: self.master, pods: self.pods })
    }
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_map(None)?;
        self.head.iter().try_for_each(|(key, value)| out.serialize_entry(key, value))?;
        let agents = || crate::view::view_agents(self.state, self.ledger, self.pods);
        out.serialize_entry("slaves", &Each(agents))?;
        let live = || self.frameworks(|f| !f.is_removed()).chain(self.kubernetes());
        out.serialize_entry("frameworks", &Each(live))?;
        out.serialize_entry("completed_frameworks", &Each(|| self.frameworks(Framework::is_removed)))?;
        for none in ["recovered_slaves", "orphan_tasks", "unregistered_frameworks"] {
            out.serialize_entry(none, &json!([]))?;
        }
        out.end()
    }
}

/// A framework with its tasks.
pub(crate) enum Shown<'a> {
    Framework(WithTasks<'a>),
    /// The built-in one.
    Kubernetes {
        master: &'a Master,
        pods: &'a [PodTask],
    },
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Shown::Kubernetes { master, pods } = self else {
            let Shown::Framework(framework) = self else { return s.serialize_unit() };
            return framework.serialize(s);
        };
        let mut out = s.serialize_map(None)?;
        write_all(&mut out, &master.view_kubernetes(pods))?;
        let of = |is_over: bool| pods.iter().filter(move |p| p.state.is_terminal() == is_over);
        out.serialize_entry("tasks", &Each(|| of(false).map(view_pod_task)))?;
        out.serialize_entry("completed_tasks", &Each(|| of(true).map(view_pod_task)))?;
        out.end()
    }
}

pub(crate) struct WithTasks<'a> {
    pub state: &'a State,
    pub framework: &'a Framework,
    pub viewer: Viewer<'a>,
}

impl Serialize for WithTasks<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let f = self.framework;
        let mut out = s.serialize_map(None)?;
        write_all(&mut out, &crate::view::view_framework(self.state, f))?;
        let (mut live, mut away, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for task in f.tasks.values().filter(|t| self.viewer.may_view_task(f, t)) {
            let list = match task.state.is_terminal() {
                true => &mut done,
                false if task.is_unreachable => &mut away,
                false => &mut live,
            };
            list.push(Shape { task, framework: f });
        }
        out.serialize_entry("tasks", &live)?;
        out.serialize_entry("unreachable_tasks", &away)?;
        out.serialize_entry("completed_tasks", &done)?;
        let offers = || f.offers.iter().filter_map(|id| view_offer(self.state, id));
        out.serialize_entry("offers", &Each(offers))?;
        let (over, live): (Vec<_>, Vec<_>) =
            executors_of(self.state, f, self.viewer).into_iter().partition(|e| e.is_over);
        out.serialize_entry("executors", &Each(|| live.iter().map(view_executor)))?;
        out.serialize_entry("completed_executors", &Each(|| over.iter().map(view_executor)))?;
        out.end()
    }
}

/// A task in the flat form.
pub(crate) struct Shape<'a> {
    pub task: &'a Task,
    pub framework: &'a Framework,
}

impl Serialize for Shape<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let r = &self.task.record;
        let mut out = s.serialize_map(None)?;
        out.serialize_entry("id", r.id().as_str())?;
        out.serialize_entry("name", &r.task.name)?;
        out.serialize_entry("framework_id", r.framework.as_str())?;
        match r.part {
            Part::Whole => out.serialize_entry("executor_id", "")?,
            Part::Member { .. } | Part::Entry { .. } => {
                out.serialize_entry("executor_id", &r.executor_id().to_string())?;
            }
        }
        out.serialize_entry("slave_id", r.agent.as_str())?;
        out.serialize_entry("state", self.task.state.as_str())?;
        out.serialize_entry("resources", &Flat(&r.resources))?;
        let limits: std::collections::BTreeMap<_, _> =
            r.task.limits.iter().map(|(name, limit)| (name, &limit.value)).collect();
        out.serialize_entry("limits", &limits)?;
        out.serialize_entry("role", &r.role)?;
        out.serialize_entry("user", crate::report::task_user(self.framework, self.task))?;
        out.serialize_entry("statuses", &Each(|| self.task.statuses().iter().map(Told)))?;
        // Where its output is, in the other face's words.
        out.serialize_entry(
            "pod",
            &std::collections::BTreeMap::from([("namespace", &r.namespace), ("name", &r.pod)]),
        )?;
        if let Some(labels) = &r.task.labels {
            out.serialize_entry("labels", &labels.labels)?;
        }
        if let Some(discovery) = &r.task.discovery {
            out.serialize_entry("discovery", discovery)?;
        }
        if let Some(container) = &r.task.container {
            out.serialize_entry("container", container)?;
        }
        if let Some(check) = &r.task.health_check {
            out.serialize_entry("health_check", check)?;
        }
        if let Some(check) = &r.task.check {
            out.serialize_entry("check", check)?;
        }
        out.end()
    }
}

/// What was told of a task.
struct Told<'a>(&'a stoa_mesos::TaskStatus);

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let status = self.0;
        let mut out = s.serialize_map(None)?;
        out.serialize_entry("state", status.state.as_str())?;
        out.serialize_entry("timestamp", &status.timestamp.map_or(0.0, |t| t.0))?;
        if let Some(container) = &status.container_status {
            out.serialize_entry("container_status", container)?;
        }
        if let Some(check) = &status.check_status {
            out.serialize_entry("check_status", check)?;
        }
        if let Some(healthy) = status.healthy {
            out.serialize_entry("healthy", &healthy)?;
        }
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// An element that counts how many of its kind there are.
    struct Counted<'c>(&'c Cell<usize>);

    impl Serialize for Counted<'_> {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            s.serialize_u8(7)
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[test]
    fn of_a_long_list_one_element_is_there_at_a_time() {
        let (there, most) = (Cell::new(0), Cell::new(0));
        let made = || {
            (0..1_000).map(|_| {
                there.set(there.get() + 1);
                most.set(most.get().max(there.get()));
                Counted(&there)
            })
        };
        let text = stoa_mesos::json::to_ascii(&Each(made));
        assert_eq!(text.iter().filter(|b| **b == b'7').count(), 1_000);
        assert_eq!((there.get(), most.get()), (0, 1));
    }
}
