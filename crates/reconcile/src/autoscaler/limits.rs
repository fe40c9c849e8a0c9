//! How far and how fast an autoscaler may go: its bounds, the pace that its policies set, and what was recommended of late.

use k8s_openapi::api::autoscaling::v2::{
    HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior as Behavior,
};
use std::time::Duration;
use stoa_units::Time;

/// Without rules of its own an autoscaler goes down to what was most recommended within this.
const STABILIZATION: Duration = Duration::from_secs(300);
/// No window and no policy looks back longer than this, so nothing older is remembered.
const LOOKBACK_MAX: Duration = Duration::from_secs(3_600);
/// Without rules of its own an autoscaler goes up by this factor at a time, or to so many.
const UP_FACTOR: i32 = 2;
const UP_LEAST: i32 = 4;

/// What is remembered of one autoscaler. It is lost with the process, as it is with a stock controller.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    recommended: Vec<(i32, Time)>,
    /// By how much it went up, and down.
    ups: Vec<(i32, Time)>,
    downs: Vec<(i32, Time)>,
}

impl Memory {
    /// The size that was found stands for what was recommended before.
    pub(super) fn begin(&mut self, current: i32, now: Time) {
        if self.recommended.is_empty() {
            self.recommended.push((current, now));
        }
    }

    fn recommend(&mut self, replicas: i32, now: Time) {
        forget(&mut self.recommended, now);
        self.recommended.push((replicas, now));
    }

    /// The workload has another size.
    pub(super) fn rescaled(&mut self, behavior: &Behavior, from: i32, to: i32, now: Time) {
        let (rules, kept) = match to > from {
            true => (&behavior.scale_up, &mut self.ups),
            false => (&behavior.scale_down, &mut self.downs),
        };
        forget(kept, now);
        if rules.is_some() {
            kept.push((to.abs_diff(from).try_into().unwrap_or(i32::MAX), now));
        }
    }
}

fn forget(all: &mut Vec<(i32, Time)>, now: Time) {
    all.retain(|(_, at)| now.since(*at) <= LOOKBACK_MAX);
}

/// Those that are younger than so many seconds.
fn within(all: &[(i32, Time)], now: Time, seconds: i32) -> impl Iterator<Item = i32> {
    let window = Duration::from_secs(seconds.unsigned_abs().into());
    all.iter().filter(move |(_, at)| now.since(*at) < window).map(|(n, _)| *n)
}

/// A size within limits.
#[derive(Debug, PartialEq)]
pub(super) struct Limited {
    pub replicas: i32,
    /// What was recommended before has had its say: reason and message.
    pub stabilized: Option<(&'static str, &'static str)>,
    /// A limit was hit.
    pub cut: bool,
    /// Which, or that none was.
    pub reason: (&'static str, &'static str),
}

const FINE: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FAST_UP: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const TOO_FAST_DOWN: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const HELD_UP: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const HELD_DOWN: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);

/// Between what, and from where.
pub(super) struct Bounds {
    pub least: i32,
    pub most: i32,
    pub current: i32,
    pub now: Time,
}

impl Bounds {
    /// For an autoscaler without rules of its own.
    pub fn by_rules(&self, memory: &mut Memory, proposed: i32) -> Limited {
        let recent = memory.recommended.iter().filter(|(_, at)| self.now.since(*at) <= STABILIZATION);
        let stable = recent.map(|(n, _)| *n).fold(proposed, i32::max);
        memory.recommend(proposed, self.now);
        let pace = self.current.saturating_mul(UP_FACTOR).max(UP_LEAST);
        let (most, too_many) = if self.most > pace { (pace, TOO_FAST_UP) } else { (self.most, TOO_MANY) };
        let (replicas, reason) = if stable < self.least {
            (self.least, TOO_FEW)
        } else if stable > most {
            (most, too_many)
        } else {
            (stable, FINE)
        };
        let stabilized = (stable != proposed).then_some(HELD_DOWN);
        Limited { replicas, stabilized, cut: replicas != stable, reason }
    }

    /// For one with rules.
    pub fn by_behavior(&self, memory: &mut Memory, behavior: &Behavior, proposed: i32) -> Limited {
        let (up, down) = (behavior.scale_up.as_ref(), behavior.scale_down.as_ref());
        let window = |rules: Option<&HPAScalingRules>| rules.and_then(|r| r.stabilization_window_seconds);
        let up_window = window(up).unwrap_or(0);
        let down_window = window(down).unwrap_or(i32::try_from(STABILIZATION.as_secs()).unwrap_or(i32::MAX));
        let lowest = within(&memory.recommended, self.now, up_window).fold(proposed, i32::min);
        let highest = within(&memory.recommended, self.now, down_window).fold(proposed, i32::max);
        memory.recommend(proposed, self.now);
        let stable = self.current.max(lowest).min(highest);
        let held = if proposed >= self.current { HELD_UP } else { HELD_DOWN };
        let (replicas, reason) = self.at_pace(memory, up, down, stable);
        let stabilized = (stable != proposed).then_some(held);
        Limited { replicas, stabilized, cut: replicas != stable, reason }
    }

    fn at_pace(
        &self,
        memory: &Memory,
        up: Option<&HPAScalingRules>,
        down: Option<&HPAScalingRules>,
        wanted: i32,
    ) -> (i32, (&'static str, &'static str)) {
        if wanted > self.current {
            let pace = self.farthest(memory, up, Way::Up).max(self.current);
            let (most, reason) = if self.most > pace { (pace, TOO_FAST_UP) } else { (self.most, TOO_MANY) };
            if wanted > most {
                return (most, reason);
            }
        } else if wanted < self.current {
            let pace = self.farthest(memory, down, Way::Down).min(self.current);
            let (least, reason) =
                if self.least < pace { (pace, TOO_FAST_DOWN) } else { (self.least, TOO_FEW) };
            if wanted < least {
                return (least, reason);
            }
        }
        (wanted, FINE)
    }

    /// How far the policies let it go now, given how far it went within the period of each.
    fn farthest(&self, memory: &Memory, rules: Option<&HPAScalingRules>, way: Way) -> i32 {
        let Some(rules) = rules else { return if way == Way::Up { i32::MAX } else { 0 } };
        let policies = rules.policies.iter().flatten();
        let ends = policies.map(|policy| {
            let went = |all: &[(i32, Time)]| within(all, self.now, policy.period_seconds).sum::<i32>();
            way.end(policy, self.current - went(&memory.ups) + went(&memory.downs))
        });
        match (rules.select_policy.as_deref().unwrap_or("Max"), way) {
            ("Disabled", _) => self.current,
            ("Min", Way::Up) => ends.fold(i32::MAX, i32::min),
            ("Min", Way::Down) => ends.fold(i32::MIN, i32::max),
            (_, Way::Up) => ends.fold(i32::MIN, i32::max),
            (_, Way::Down) => ends.fold(i32::MAX, i32::min),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Up,
    Down,
}

impl Way {
    /// Where a policy ends that began with so many.
    fn end(self, policy: &HPAScalingPolicy, begin: i32) -> i32 {
        let share = f64::from(policy.value) / 100.0;
        match (policy.type_.as_str(), self) {
            ("Percent", Way::Up) => (f64::from(begin) * (1.0 + share)).ceil() as i32,
            ("Percent", Way::Down) => (f64::from(begin) * (1.0 - share)) as i32,
            (_, Way::Up) => begin.saturating_add(policy.value),
            (_, Way::Down) => begin.saturating_sub(policy.value),
        }
    }
}
