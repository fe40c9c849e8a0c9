//! What the operations on reservations and volumes make of offered resources. Each may use what the one before made; one that
//! cannot be carried out changes nothing.

use std::sync::Arc;
use stoa_ledger::{PoolKind, Split};
use stoa_mesos::framework::check_role;
use stoa_mesos::mark::{self, Format, Mark, Sorted};
use stoa_mesos::offer::{Operation, OperationKind};
use stoa_mesos::resource::{self, Resource};
use stoa_units::{PortSet, Resources};

/// Most layers of one reservation.
const RESERVATIONS_MAX: usize = 8;
/// Longest id of a volume: it is the name of a directory.
const VOLUME_ID_LEN_MAX: usize = 128;

/// Resources by their marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stock {
    /// Without a mark.
    pub plain: Resources,
    /// By mark; each mark once.
    pub marked: Vec<(Mark, Resources)>,
}

/// What is asked for is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// How much a pool gained and lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub mark: Mark,
    /// What it has more.
    pub gained: Resources,
    /// What it has less.
    pub lost: Resources,
}

impl Change {
    /// What the pool is after the change.
    pub fn apply(&self, total: &Resources) -> Resources {
        total.plus(&self.gained).minus(&self.lost)
    }
}

/// What an operation made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// What the resources of the operation are now.
    pub converted: Vec<Resource>,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The role of the offers; an operator has none.
    pub role: Option<&'a str>,
    /// Whom the asker authenticated as.
    pub principal: Option<&'a str>,
}

/// What is drawn from a pool, how.
pub fn kind_of(mark: &Mark) -> PoolKind {
    match (mark.volume(), mark.shared) {
        _ if mark.revocable.is_some() => PoolKind::Spare,
        (None, _) => PoolKind::Divisible,
        (Some(_), None) => PoolKind::Whole,
        (Some(_), Some(_)) => PoolKind::Shared,
    }
}

impl Stock {
    fn find(&mut self, name: &str) -> Option<usize> {
        self.marked.iter().position(|(m, _)| *m.name() == *name)
    }

    /// Adds an amount.
    pub fn put(&mut self, mark: &Mark, amount: &Resources) {
        if amount.is_empty() {
            return;
        }
        if mark.is_plain() {
            self.plain = self.plain.plus(amount);
            return;
        }
        match self.find(&mark.name()) {
            Some(i) => self.marked[i].1 = self.marked[i].1.plus(amount),
            None => self.marked.push((mark.clone(), amount.clone())),
        }
    }

    /// Takes an amount out, if it is there.
    pub fn take(&mut self, mark: &Mark, amount: &Resources) -> Result<(), Missing> {
        let have = if mark.is_plain() {
            &mut self.plain
        } else {
            let i = self.find(&mark.name()).ok_or(Missing)?;
            &mut self.marked[i].1
        };
        if !have.contains(amount) {
            return Err(Missing);
        }
        *have = have.minus(amount);
        self.marked.retain(|(_, r)| !r.is_empty());
        Ok(())
    }

    /// Takes a whole list out, or nothing of it. A shared volume stays, for the next one who asks.
    pub fn take_all(&mut self, want: &Sorted) -> Result<(), Missing> {
        let before = self.clone();
        let all = want.marked.iter().map(|(m, r)| (m.clone(), r.clone()));
        for (mark, amount) in all.chain([(Mark::default(), want.plain.clone())]) {
            let whole = self.find(&mark.name()).map(|i| self.marked[i].1.clone());
            let fits = match kind_of(&mark) {
                PoolKind::Divisible | PoolKind::Spare => self.take(&mark, &amount),
                // A volume cannot be used in parts.
                PoolKind::Whole if whole.as_ref() == Some(&amount) => self.take(&mark, &amount),
                PoolKind::Shared if whole.as_ref() == Some(&amount) => Ok(()),
                PoolKind::Whole | PoolKind::Shared => Err(Missing),
            };
            if fits.is_err() {
                *self = before;
                return Err(Missing);
            }
        }
        Ok(())
    }

    /// All of it, volumes too.
    pub fn total(&self) -> Resources {
        self.marked.iter().fold(self.plain.clone(), |sum, (_, r)| sum.plus(r))
    }

    /// As a claim.
    pub fn split(&self) -> Split {
        split_of(&self.plain, &self.marked)
    }

    /// In Mesos' text form.
    pub fn text(&self) -> String {
        text_of(&self.plain, &self.marked)
    }
}

/// Marked and plain amounts as a claim.
pub(crate) fn split_of(plain: &Resources, marked: &[(Mark, Resources)]) -> Split {
    let mut out = Split::plain(plain.clone());
    for (mark, amount) in marked {
        if kind_of(mark) == PoolKind::Divisible {
            out.amount = out.amount.plus(amount);
        }
        out.draws.push((mark.name(), amount.clone()));
    }
    out
}

pub(crate) fn text_of(plain: &Resources, marked: &[(Mark, Resources)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !plain.is_empty() || marked.is_empty() {
        parts.push(resource::text(plain));
    }
    for (mark, amount) in marked {
        if mark.revocable.is_some() {
            parts.push(format!("{} (revocable)", resource::text(amount)));
            continue;
        }
        let volume = mark.volume().map(|v| format!("[{v}]")).unwrap_or_default();
        parts.push(format!("{} (reserved for {}){volume}", resource::text(amount), mark.role()));
    }
    parts.join("; ")
}

/// Carries out one operation on `stock`, and says which pools change. The texts are Mesos'.
pub fn plan_operation(
    stock: &mut Stock,
    changes: &mut Vec<Change>,
    operation: &Operation,
    context: Context<'_>,
) -> Result<Done, String> {
    let mut work = Work { stock: stock.clone(), changes: changes.clone() };
    let done = match operation.kind {
        OperationKind::Reserve => {
            let part = operation.reserve.as_ref().ok_or("Expecting 'reserve' to be present")?;
            work.reserve(&part.resources, &part.source, context)
        }
        OperationKind::Unreserve => {
            let part = operation.unreserve.as_ref().ok_or("Expecting 'unreserve' to be present")?;
            work.unreserve(&part.resources)
        }
        OperationKind::Create => {
            let part = operation.create.as_ref().ok_or("Expecting 'create' to be present")?;
            work.create(&part.volumes, context)
        }
        OperationKind::Destroy => {
            let part = operation.destroy.as_ref().ok_or("Expecting 'destroy' to be present")?;
            work.destroy(&part.volumes)
        }
        OperationKind::GrowVolume => {
            let part = operation.grow_volume.as_ref().ok_or("Expecting 'grow_volume' to be present")?;
            work.grow(&part.volume, &part.addition)
        }
        OperationKind::ShrinkVolume => {
            let part = operation.shrink_volume.as_ref().ok_or("Expecting 'shrink_volume' to be present")?;
            work.shrink(&part.volume, &part.subtract)
        }
        kind => Err(format!("Operation {kind} is not supported: the agent has no resource provider")),
    }?;
    *stock = work.stock;
    *changes = work.changes;
    Ok(done)
}

struct Work {
    stock: Stock,
    changes: Vec<Change>,
}

fn sorted(list: &[Resource]) -> Result<Sorted, String> {
    if list.is_empty() {
        return Err("Invalid resources: none given".into());
    }
    mark::sort(list).map_err(|e| format!("Invalid resources: {e}"))
}

impl Work {
    fn change(&mut self, mark: &Mark) -> Option<&mut Change> {
        if mark.is_plain() {
            return None;
        }
        let name: Arc<str> = mark.name();
        let i = match self.changes.iter().position(|c| c.mark.name() == name) {
            Some(i) => i,
            None => {
                let none = Resources::default();
                self.changes.push(Change { mark: mark.clone(), gained: none.clone(), lost: none });
                self.changes.len() - 1
            }
        };
        self.changes.get_mut(i)
    }

    /// Turns an amount under one mark into the same under another.
    fn turn(&mut self, from: &Mark, to: &Mark, amount: &Resources) -> Result<(), String> {
        self.stock.take(from, amount).map_err(|_| {
            let want = text_of(&Resources::default(), &[(from.clone(), amount.clone())]);
            let want = if from.is_plain() { resource::text(amount) } else { want };
            format!("Invalid operation: {} does not contain {want}", self.stock.text())
        })?;
        self.stock.put(to, amount);
        if let Some(c) = self.change(from) {
            shift(&mut c.gained, &mut c.lost, amount);
        }
        if let Some(c) = self.change(to) {
            shift(&mut c.lost, &mut c.gained, amount);
        }
        Ok(())
    }

    fn reserve(
        &mut self,
        resources: &[Resource],
        source: &[Resource],
        context: Context<'_>,
    ) -> Result<Done, String> {
        let want = sorted(resources)?;
        if !want.plain.is_empty() {
            return Err("Invalid reservation: a resource of it is not reserved".into());
        }
        for (mark, _) in &want.marked {
            check_reservation(mark, context)?;
        }
        if source.is_empty() {
            for (mark, amount) in &want.marked {
                self.turn(&mark.without_reservation(), mark, amount)?;
            }
        } else {
            // One reservation becomes another: down to what both have in common, and up again.
            let from = sorted(source)?;
            if from.marked.iter().any(|(m, _)| m.volume().is_some()) {
                return Err("Invalid source: a persistent volume cannot be reserved anew".into());
            }
            if from.marked.iter().any(|(m, _)| m.revocable.is_some()) {
                return Err("A revocable resource cannot be reserved".into());
            }
            let ([(to, amount)], true) = (want.marked.as_slice(), from.total() == want.total()) else {
                return Err("Invalid source: it is not the same amount, or the reservation is not one".into());
            };
            for (mark, part) in &from.marked {
                self.turn(mark, to, part)?;
            }
            if !from.plain.is_empty() {
                self.turn(&Mark::default(), to, &from.plain)?;
            }
            debug_assert_eq!(*amount, from.total());
        }
        Ok(Done { converted: resources.to_vec() })
    }

    fn unreserve(&mut self, resources: &[Resource]) -> Result<Done, String> {
        let want = sorted(resources)?;
        if !want.plain.is_empty() {
            return Err("Invalid unreserve: a resource of it is not reserved".into());
        }
        let mut converted = Vec::new();
        for (mark, amount) in &want.marked {
            if mark.dynamic().is_none() {
                return Err("Invalid unreserve: a static reservation cannot be undone".into());
            }
            if mark.volume().is_some() {
                return Err("A dynamically reserved persistent volume cannot be unreserved directly. Please destroy the persistent volume first then unreserve the resource".into());
            }
            let to = mark.without_reservation();
            self.turn(mark, &to, amount)?;
            converted.extend(to.list(amount, None, Format::Both));
        }
        Ok(Done { converted })
    }

    fn create(&mut self, volumes: &[Resource], context: Context<'_>) -> Result<Done, String> {
        if volumes.is_empty() {
            return Err("Invalid volumes: none given".into());
        }
        for volume in volumes {
            let (mark, amount) = one_volume(volume)?;
            let id = mark.volume().unwrap_or_default();
            check_volume_id(id)?;
            if mark.reservations.is_empty() {
                return Err("Persistent volumes cannot be created from unreserved resources".into());
            }
            if mark.container_path().is_none() {
                return Err("Expecting 'volume' to be set for persistent volume".into());
            }
            if mark.disk.as_ref().is_some_and(|d| d["volume"]["host_path"].is_string()) {
                return Err("Expecting 'host_path' to be unset for persistent volume".into());
            }
            let author =
                mark.disk.as_ref().and_then(|d| d["persistence"]["principal"].as_str().map(String::from));
            if let Some(is) = context.principal
                && author.as_deref() != Some(is)
            {
                return Err(format!(
                    "A create volume operation was attempted by authenticated principal '{is}', which does not match a volume's principal '{}'",
                    author.unwrap_or_default()
                ));
            }
            self.turn(&mark.without_volume(), &mark, &amount)?;
        }
        Ok(Done { converted: volumes.to_vec() })
    }

    fn destroy(&mut self, volumes: &[Resource]) -> Result<Done, String> {
        if volumes.is_empty() {
            return Err("Invalid volumes: none given".into());
        }
        let mut converted = Vec::new();
        for volume in volumes {
            let (mark, amount) = one_volume(volume)?;
            let to = mark.without_volume();
            self.turn(&mark, &to, &amount)?;
            converted.extend(to.list(&amount, None, Format::Both));
        }
        Ok(Done { converted })
    }

    fn grow(&mut self, volume: &Resource, addition: &Resource) -> Result<Done, String> {
        let (mark, amount) = one_volume(volume)?;
        if mark.shared.is_some() {
            return Err("Growing a shared persistent volume is not supported".into());
        }
        let more = sorted(std::slice::from_ref(addition))?;
        let more = match more.marked.as_slice() {
            [(from, more)] if from.name() == mark.without_volume().name() => more.clone(),
            _ => return Err("Invalid 'addition': it is not reserved as the volume is".into()),
        };
        self.check_whole(&mark, &amount)?;
        self.turn(&mark.without_volume(), &mark, &more)?;
        Ok(Done { converted: mark.list(&amount.plus(&more), None, Format::Both) })
    }

    fn shrink(&mut self, volume: &Resource, subtract: &resource::Scalar) -> Result<Done, String> {
        let (mark, amount) = one_volume(volume)?;
        if mark.shared.is_some() {
            return Err("Shrinking a shared persistent volume is not supported".into());
        }
        let less = mark::disk_of(subtract).map_err(|e| format!("Invalid 'subtract': {e}"))?;
        if less.is_empty() || less.disk_bytes >= amount.disk_bytes {
            return Err("Invalid 'subtract': it must be greater than zero and smaller than the volume".into());
        }
        self.check_whole(&mark, &amount)?;
        let to = mark.without_volume();
        self.turn(&mark, &to, &less)?;
        let mut converted = mark.list(&amount.minus(&less), None, Format::Both);
        converted.extend(to.list(&less, None, Format::Both));
        Ok(Done { converted })
    }

    fn check_whole(&mut self, mark: &Mark, amount: &Resources) -> Result<(), String> {
        match self.stock.find(&mark.name()) {
            Some(i) if self.stock.marked[i].1 == *amount => Ok(()),
            _ => Err(format!("Invalid operation: {} does not contain the volume", self.stock.text())),
        }
    }
}

/// Moves an amount from one account's debt to the other's credit.
fn shift(first: &mut Resources, second: &mut Resources, amount: &Resources) {
    // What was gained by an earlier operation and is lost again counts for neither.
    let common = intersection(first, amount);
    *first = first.minus(&common);
    *second = second.plus(&amount.minus(&common));
}

fn intersection(a: &Resources, b: &Resources) -> Resources {
    let mut out = Resources {
        milli_cpu: a.milli_cpu.min(b.milli_cpu),
        memory_bytes: a.memory_bytes.min(b.memory_bytes),
        disk_bytes: a.disk_bytes.min(b.disk_bytes),
        pods: a.pods.min(b.pods),
        ports: PortSet::intersection(&a.ports, &b.ports),
        extended: vec![],
    };
    for (name, have) in &a.extended {
        out.set_extended(name.clone(), (*have).min(b.extended_milli(name)));
    }
    out
}

fn one_volume(volume: &Resource) -> Result<(Mark, Resources), String> {
    let mut found = sorted(std::slice::from_ref(volume))?;
    match found.marked.pop() {
        Some((mark, amount)) if mark.volume().is_some() && found.plain.is_empty() => Ok((mark, amount)),
        _ => Err(format!("Resource '{}' is not a persistent volume", volume.name)),
    }
}

fn check_volume_id(id: &str) -> Result<(), String> {
    let is_bad = id.is_empty()
        || id.len() > VOLUME_ID_LEN_MAX
        || id == "."
        || id == ".."
        || id.chars().any(|c| c.is_control() || matches!(c, '/' | '\\' | ' '));
    if is_bad { Err(format!("Persistence ID '{id}' contains invalid characters")) } else { Ok(()) }
}

fn check_reservation(mark: &Mark, context: Context<'_>) -> Result<(), String> {
    if mark.volume().is_some() {
        return Err("A persistent volume cannot be reserved".into());
    }
    if mark.revocable.is_some() {
        return Err("A revocable resource cannot be reserved".into());
    }
    let Some(top) = mark.dynamic() else {
        return Err("Invalid reservation: it must be of type DYNAMIC".into());
    };
    if mark.reservations.len() > RESERVATIONS_MAX {
        return Err(format!("Invalid reservation: more than {RESERVATIONS_MAX} layers"));
    }
    let mut above: Option<&str> = None;
    for r in &mark.reservations {
        let role = r.role.as_deref().unwrap_or_default();
        check_role(role)?;
        if let Some(above) = above
            && !role.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
        {
            return Err(format!(
                "Invalid refined reservation: role '{role}' is not a refinement of '{above}'"
            ));
        }
        above = Some(role);
    }
    if let Some(offered) = context.role {
        let role = mark.role();
        let is_ours = role == offered || offered.strip_prefix(role).is_some_and(|rest| rest.starts_with('/'));
        if !is_ours {
            return Err(format!(
                "A reserve operation was attempted for a resource allocated to role '{offered}', but reserved to role '{role}'"
            ));
        }
    }
    match (context.principal, top.principal.as_deref()) {
        (Some(is), says) if says != Some(is) => Err(format!(
            "A reserve operation was attempted by authenticated principal '{is}', which does not match a reserved resource in the request with principal '{}'",
            says.unwrap_or_default()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
