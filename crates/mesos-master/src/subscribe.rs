//! SUBSCRIBE and UPDATE_FRAMEWORK: who may be which framework, and what changes when one comes (back).

use crate::framework::{self, Framework, Record};
use crate::master::Master;
use crate::options::Anonymous;
use crate::stream::{self, EventBody, HEARTBEAT_INTERVAL};
use stoa_mesos::FrameworkInfo;
use stoa_mesos::scheduler::{Event, Subscribe, Subscribed};
use stoa_mesos::{Double, Encoding, Id};
use stoa_store::Txn;
use stoa_units::{FrameworkId, Stamped};

/// Longest framework id that a scheduler may bring along: it is part of keys.
const FRAMEWORK_ID_LEN_MAX: usize = 255;
/// Most bytes of a framework's description.
const FRAMEWORK_INFO_BYTES_MAX: usize = 256 << 10;

/// What becomes of a SUBSCRIBE.
pub(crate) enum Outcome {
    /// The stream, and the id that later calls must name.
    Stream(Box<EventBody>, String),
    /// The scheduler hears on its stream that it must give up.
    Refused(String),
}

impl Master {
    /// Subscribes a framework.
    pub async fn subscribe(&self, call: Subscribe, principal: Option<String>, encoding: Encoding) -> Outcome {
        let info = call.framework_info;
        let constraints = call.offer_constraints;
        if let Err(why) = check_constraints(&info, constraints.as_ref()) {
            return Outcome::Refused(why);
        }
        if let Err(why) = self.check_subscribe(&info, &call.suppressed_roles, principal.as_deref()) {
            return Outcome::Refused(why);
        }
        let record = match self.plan_subscribe(info, call.suppressed_roles, constraints, principal) {
            Ok(record) => record,
            Err(why) => return Outcome::Refused(why),
        };
        // The id must outlive us before anybody hears it.
        let bytes = stoa_mesos::json::to_ascii(&record);
        let txn = Txn::new().put(framework::Record::key(&record.id), Stamped::plain(bytes));
        if let Err(e) = self.store().commit(txn).await {
            tracing::error!(framework = %record.id, error = %e, "cannot write a framework's record");
            return Outcome::Refused("The framework could not be recorded".into());
        }
        self.connect(record, encoding)
    }

    fn check_subscribe(
        &self,
        info: &FrameworkInfo,
        suppressed: &[String],
        principal: Option<&str>,
    ) -> Result<(), String> {
        info.check()?;
        let roles = info.subscribed_roles();
        if let Some(role) = suppressed.iter().find(|r| !roles.contains(r)) {
            return Err(format!("Suppressed role '{role}' is not contained in the list of roles"));
        }
        if let Some(id) = info.known_id() {
            let id = id.as_str();
            if id.len() > FRAMEWORK_ID_LEN_MAX
                || id.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '/' | ':' | '\\'))
            {
                return Err(format!("'{id}' is not a valid framework id"));
            }
        }
        if stoa_mesos::json::to_ascii(info).len() > FRAMEWORK_INFO_BYTES_MAX {
            return Err(format!("FrameworkInfo is larger than {FRAMEWORK_INFO_BYTES_MAX} bytes"));
        }
        if let Some(role) = roles
            .iter()
            .find(|r| !self.options.acls.may(principal, stoa_authz::Action::RegisterFramework, Some(r)))
        {
            return Err(format!("Not authorized to use role '{role}'"));
        }
        match (principal, info.principal.as_deref().filter(|p| !p.is_empty())) {
            (Some(is), Some(says)) if is != says => Err(format!(
                "Authenticated principal '{is}' does not match principal '{says}' set in `FrameworkInfo`"
            )),
            (None, _) if self.options.anonymous == Anonymous::Refuse => {
                Err("Framework is not authenticated".into())
            }
            _ => Ok(()),
        }
    }

    /// What the framework's record becomes.
    fn plan_subscribe(
        &self,
        mut info: FrameworkInfo,
        suppressed: Vec<String>,
        offer_constraints: Option<serde_json::Value>,
        principal: Option<String>,
    ) -> Result<Record, String> {
        let now = self.now();
        let mut state = self.state.lock();
        let known = info.known_id().cloned();
        let id = match &known {
            Some(id) => id.clone(),
            None => {
                let n = state.next_framework;
                state.next_framework += 1;
                FrameworkId::from(format!("{}-{n:04}", self.id))
            }
        };
        info.id = Some(Id { value: id.clone() });
        // Whoever authenticates need not say again who it is.
        info.principal = info.principal.filter(|p| !p.is_empty()).or_else(|| principal.clone());
        let record = Record {
            id: id.clone(),
            info,
            principal: principal.clone(),
            registered: now,
            reregistered: now,
            suppressed: suppressed.into_iter().collect(),
            offer_constraints,
            removed: None,
        };
        let Some(f) = state.frameworks.get(&id) else {
            if state.frameworks.len() >= self.options.frameworks_max {
                return Err(format!("More than {} frameworks", self.options.frameworks_max));
            }
            return Ok(record);
        };
        if f.is_removed() {
            return Err("Framework has been removed".into());
        }
        if f.record.principal != principal || f.record.info.principal != record.info.principal {
            return Err("Framework principal cannot be changed".into());
        }
        Ok(Record {
            registered: f.record.registered,
            info: keep_fixed(&f.record.info, record.info),
            ..record
        })
    }

    /// Opens the stream. Whoever had it before is told that it failed over.
    fn connect(&self, record: Record, encoding: Encoding) -> Outcome {
        let id = record.id.clone();
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        let arrival = crate::feed::kind_of_arrival(state.frameworks.get(&id));
        let f = state.frameworks.entry(id.clone()).or_insert_with(|| Framework::new(record.clone()));
        // Both were looked at before the record was written; who was faster meanwhile stays what it is, in the store too.
        let lost = match () {
            () if f.is_removed() => Some("Framework has been removed"),
            () if f.record.principal != record.principal => Some("Framework principal cannot be changed"),
            () => None,
        };
        if let Some(why) = lost {
            state.save_framework(&id);
            self.nudge();
            return Outcome::Refused(why.into());
        }
        f.record = record;
        if let Some(old) = f.subscriber.take() {
            old.send(&Event::error("Framework failed over"));
        }
        let (subscriber, body) = stream::open(&self.closings, encoding);
        let stream_id = subscriber.stream_id.clone();
        subscriber.send(&Event::Subscribed {
            subscribed: Subscribed {
                framework_id: Id { value: id.clone() },
                heartbeat_interval_seconds: Some(Double(HEARTBEAT_INTERVAL.as_secs_f64())),
                master_info: Some(self.info().clone()),
            },
        });
        subscriber.send(&Event::Heartbeat);
        f.subscriber = Some(subscriber);
        f.deadline = None;
        let subscription = f.subscription();
        state.drop_offers_of_framework(&mut ledger, &id);
        state.tell_framework(&ledger, &id, arrival);
        drop(ledger);
        state.inverses.asked.retain(|_, i| i.framework != id);
        state.allocator.set_framework(&id, subscription);
        state.allocator.set_connected(&id, true);
        // One that comes back starts with a clean slate of refusals.
        let roles: Vec<String> = state
            .frameworks
            .get(&id)
            .map(|f| f.subscription())
            .map_or(vec![], |s| s.roles.difference(&s.suppressed).cloned().collect());
        if !roles.is_empty() {
            state.allocator.revive(&id, &roles);
        }
        state.push_all(&id);
        state.push_operations(tokio::time::Instant::now(), Some(&id));
        drop(state);
        tracing::info!(framework = %id, "framework subscribed");
        self.nudge();
        Outcome::Stream(Box::new(body), stream_id)
    }

    /// UPDATE_FRAMEWORK: all or nothing.
    pub async fn update_framework(&self, id: &FrameworkId, call: Subscribe) -> Result<(), String> {
        let (mut info, suppressed) = (call.framework_info, call.suppressed_roles);
        info.check()?;
        let roles = info.subscribed_roles();
        if let Some(role) = suppressed.iter().find(|r| !roles.contains(r)) {
            return Err(format!("Suppressed role '{role}' is not contained in the list of roles"));
        }
        check_constraints(&info, call.offer_constraints.as_ref())?;
        let offer_constraints = call.offer_constraints;
        info.id = Some(Id { value: id.clone() });
        let record = {
            let state = self.state.lock();
            let f = state.frameworks.get(id).ok_or("Framework cannot be found")?;
            let old = &f.record.info;
            for (name, is_same) in [
                ("principal", old.principal == info.principal),
                ("user", old.user == info.user),
                ("checkpoint", old.checkpoint.unwrap_or(false) == info.checkpoint.unwrap_or(false)),
            ] {
                if !is_same {
                    return Err(format!("Updating 'FrameworkInfo.{name}' is unsupported"));
                }
            }
            Record {
                info,
                suppressed: suppressed.into_iter().collect(),
                offer_constraints,
                ..f.record.clone()
            }
        };
        let txn =
            Txn::new().put(framework::Record::key(id), Stamped::plain(stoa_mesos::json::to_ascii(&record)));
        self.store().commit(txn).await.map_err(|e| format!("The framework could not be recorded: {e}"))?;
        let mut state = self.state.lock();
        let mut ledger = self.ledger.lock();
        let Some(f) = state.frameworks.get_mut(id) else { return Err("Framework cannot be found".into()) };
        if f.is_removed() {
            // Removed while the record was written: that it is gone is what the store must say.
            state.save_framework(id);
            self.nudge();
            return Err("Framework cannot be found".into());
        }
        f.record = record;
        let (subscription, offers) = (f.subscription(), f.offers.clone());
        for offer in offers {
            let role = state.offers.get(&offer).map(|o| o.role.clone());
            if role.is_some_and(|r| !subscription.roles.contains(&*r)) {
                state.drop_offer(&mut ledger, &offer, crate::state::Tell::Rescind);
            }
        }
        state.allocator.set_framework(id, subscription);
        state.tell_framework(&ledger, id, "FRAMEWORK_UPDATED");
        drop(ledger);
        drop(state);
        self.nudge();
        Ok(())
    }
}

/// Constraints must make sense and be about the framework's own roles.
fn check_constraints(info: &FrameworkInfo, given: Option<&serde_json::Value>) -> Result<(), String> {
    let Some(given) = given else { return Ok(()) };
    let parsed = stoa_offers::Constraints::parse(given)?;
    let roles = info.subscribed_roles();
    let other = parsed.roles().find(|r| !roles.iter().any(|own| own == r)).map(String::from);
    match other {
        Some(role) => Err(format!(
            "Offer constraints specify `role_constraints` for a role '{role}' to which the framework is not subscribed"
        )),
        None => Ok(()),
    }
}

/// Changes of `user` and `checkpoint` are silently ignored on a resubscription.
fn keep_fixed(old: &FrameworkInfo, new: FrameworkInfo) -> FrameworkInfo {
    FrameworkInfo { user: old.user.clone(), checkpoint: old.checkpoint, ..new }
}
