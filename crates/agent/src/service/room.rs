//! Whether this node takes a new pod, and who has to go for it.

use super::Agent;
use crate::events::Kind;
use crate::limits;
use crate::observed::Doom;
use crate::plan;
use crate::pod;
use crate::pressure;
use crate::refuse::{self, Ability, Node, Room};
use crate::worker::Nudge;
use k8s_openapi::api::core::v1::Pod;
use std::sync::atomic::Ordering;

impl Agent {
    /// Why this node does not take a new pod. One that is critical may have others make room.
    pub(super) fn refuse(&self, pod: &Pod) -> Option<Doom> {
        let options = &self.shared.options;
        let ability = Ability {
            unsafe_sysctls: &options.allowed_unsafe_sysctls,
            has_apparmor: stoa_runtime::has_apparmor(),
        };
        let uid = pod::reference(pod).uid;
        let refused = self.refuse_in_want(pod).or_else(|| refuse::check_ability(pod, &ability));
        // A kubelet gives CPUs away before it looks for room, so that is what is heard of first.
        let refused = refused.or_else(|| self.shared.cpus.admit(&uid, pod).err().map(refuse::unexpected));
        let refused = refused.or_else(|| refuse::check_os(pod)).or_else(|| {
            let marks = self.shared.marks.lock().clone();
            let node = Node {
                name: &options.name,
                marks: &marks,
                allocatable: &self.shared.allocatable,
                pods_max: options.pods_max,
            };
            // Not held while others are told to make room.
            let room = refuse::find_room(pod, &node, self.shared.claims.lock().iter());
            match room {
                Room::None { reason, message } => Some(Doom::Rejected { reason, message }),
                Room::After(victims) => {
                    victims.iter().for_each(|uid| self.displace(uid));
                    None
                }
            }
        });
        if let Some(Doom::Rejected { reason, message }) = &refused {
            self.shared.cpus.release(&uid);
            self.shared.recorder.record(
                &pod::reference(pod),
                None,
                Kind::Warning,
                reason.clone(),
                message.as_str(),
            );
        }
        refused
    }

    /// Why a pod that others could do without does not come to a machine that is short of something, or none to one that goes
    /// down.
    fn refuse_in_want(&self, pod: &Pod) -> Option<Doom> {
        let rejected = |reason: &str, message: String| Doom::Rejected { reason: reason.to_owned(), message };
        if self.goes_down.load(Ordering::SeqCst) {
            let message = "Pod was rejected as the node is shutting down.".to_owned();
            return Some(rejected("NodeShutdown", message));
        }
        if refuse::is_critical(pod) {
            return None;
        }
        let shown = self.keeper.conditions();
        let message = pressure::refuse(&shown, limits::qos(pod), refuse::tolerates_memory_pressure(pod));
        message.map(|message| rejected(plan::EVICTED, message))
    }

    /// Ends a pod in favour of a critical one.
    fn displace(&self, uid: &str) {
        let Some(nudge) = self.nudge_of(uid) else { return };
        let (reason, message) = ("Preempting", "Preempted in order to admit critical pod".to_owned());
        let live = self.shared.live.lock().get(uid).map(|l| l.pod.clone());
        if let Some(pod) = live {
            self.shared.recorder.record(&pod, None, Kind::Warning, reason, message.as_str());
        }
        let condition = Some("Pod was preempted by Kubelet to accommodate a critical pod.".to_owned());
        let reason = reason.to_owned();
        if nudge.try_send(Nudge::Disrupt { reason, message, condition, grace: None }).is_err() {
            tracing::warn!(%uid, "a pod that has to make room does not listen");
        }
        self.shared.claims.lock().remove(uid);
    }
}
