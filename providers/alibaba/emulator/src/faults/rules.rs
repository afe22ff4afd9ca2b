//! Holds the active rules. A rule names an operation (and optionally a part number), selects the matching
//! calls it strikes (`nth` and `count`, or `probability` with a `seed`), and defines the fault. Nothing here
//! is random: the default seed is 0.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::action::{Action, Number, Plan};
use crate::http::Throttle;

/// A rule list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The text is not JSON or a rule lacks a field.
    #[error("the fault rules are not a JSON list of rules")]
    Json(#[source] serde_json::Error),
    /// A rule's action is unknown.
    #[error(
        "rule {index}: the action {action} is none of {{\"status\", \"code\"}}, \"reset_before\", \
         \"reset_after\", \"truncate_answer\", \"corrupt_body\", \"corrupt_answer\", \"throttle\", \
         \"expire_token\", \"unlisted\", \"hide_checksum\", {{\"stall_ms\"}}, {{\"hold_answer_ms\"}}, {{\"skew_seconds\"}}, {{\"keep_creating\"}}, \
         {{\"slow_body\"}}, {{\"bandwidth\"}}, {{\"qps\"}}, {{\"fail_task\"}}, {{\"image_check\"}}"
    )]
    Action {
        /// Position in the list, from 1.
        index: usize,
        /// The action as given.
        action: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    operation: String,
    part_number: Option<u16>,
    nth: Option<u64>,
    count: Option<u64>,
    probability: Option<f64>,
    #[serde(default)]
    seed: u64,
    action: Value,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    action: Action,
    /// Matching calls so far.
    seen: u64,
    /// Calls that the rule struck.
    struck: u64,
    /// Rate of all calls of the rule together.
    shared: Option<Arc<Throttle>>,
    /// Start of the second in which calls are counted, and their number in it.
    window: Option<(Instant, u64)>,
    /// State of the generator behind `probability`.
    random: u64,
}

impl Armed {
    fn matches(&self, operation: &str, part_number: Option<u16>) -> bool {
        (self.rule.operation == "*" || self.rule.operation == operation)
            && (self.rule.part_number.is_none() || self.rule.part_number == part_number)
    }

    fn strikes(&mut self) -> bool {
        self.seen += 1;
        let first = self.rule.nth.unwrap_or(1).max(1);
        let count = match (self.rule.count, self.rule.nth) {
            (Some(count), _) => count,
            (None, Some(_)) => 1,
            (None, None) => u64::MAX,
        };
        let within = self.seen >= first && self.seen - first < count;
        match self.rule.probability {
            Some(probability) => within && self.draw() < probability,
            None => within,
        }
    }

    /// Whether the call is within the rate of calls; other actions have no rate.
    fn is_in_rate(&mut self) -> bool {
        let Action::Number(Number::Qps(most)) = self.action else { return false };
        let now = Instant::now();
        let (begin, calls) = self
            .window
            .filter(|(begin, _)| now.duration_since(*begin) < Duration::from_secs(1))
            .unwrap_or((now, 0));
        self.window = Some((begin, calls + 1));
        calls < most
    }

    /// A number from 0 to 1 (SplitMix64).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        f64::from(u32::try_from(mixed >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

/// The active rules.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
    struck: Condvar,
}

impl Faults {
    /// Replaces all rules with those in a JSON list; counters restart.
    pub(crate) fn set(&self, text: &str) -> Result<(), FaultError> {
        let rules: Vec<Rule> = serde_json::from_str(text).map_err(FaultError::Json)?;
        let arm = |(index, rule): (usize, Rule)| {
            let action = serde_json::from_value(rule.action.clone()).map_err(|_| {
                FaultError::Action { index: index + 1, action: rule.action.to_string() }
            })?;
            let shared = match action {
                Action::Number(Number::Bandwidth(rate)) => Some(Arc::new(Throttle::new(rate))),
                _ => None,
            };
            let random = rule.seed;
            Ok(Armed { rule, action, seen: 0, struck: 0, shared, window: None, random })
        };
        let armed = rules.into_iter().enumerate().map(arm).collect::<Result<Vec<_>, _>>()?;
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = armed;
        Ok(())
    }

    /// The faults of this call.
    pub(crate) fn plan(&self, operation: &str, part_number: Option<u16>) -> Plan {
        let mut plan = Plan::default();
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in armed.iter_mut().filter(|rule| rule.matches(operation, part_number)) {
            if rule.strikes() && !rule.is_in_rate() {
                rule.struck += 1;
                self.struck.notify_all();
                plan.add(&rule.action, rule.shared.as_ref());
            }
        }
        plan
    }

    /// Waits until a rule has struck, at most for `most`; returns whether one has.
    pub(crate) fn wait(&self, most: Duration) -> bool {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |rules: &mut Vec<Armed>| rules.iter().all(|rule| rule.struck == 0);
        let waited = self.struck.wait_timeout_while(armed, most, none);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The rules with the number of calls they matched and struck.
    pub(crate) fn tell(&self) -> Value {
        let armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |rule: &Armed| {
            json!({
                "operation": rule.rule.operation,
                "part_number": rule.rule.part_number,
                "action": rule.rule.action,
                "seen": rule.seen,
                "struck": rule.struck,
            })
        };
        armed.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultError, Faults};

    #[test]
    fn rules_strike_the_calls_they_name() {
        let faults = Faults::default();
        faults
            .set(
                r#"[{"operation":"UploadPart","part_number":2,"nth":2,"action":{"status":503,"code":"X"}},
                    {"operation":"*","count":1,"action":"throttle"},
                    {"operation":"ImportImage","action":{"fail_task":{"code":"C"}}}]"#,
            )
            .unwrap();
        assert!(faults.plan("UploadPart", Some(2)).throttle);
        assert!(faults.plan("UploadPart", Some(1)).marks.is_empty());
        let struck = faults.plan("UploadPart", Some(2));
        assert_eq!(struck.status.unwrap().status, 503);
        assert!(faults.plan("UploadPart", Some(2)).marks.is_empty());
        assert_eq!(faults.plan("ImportImage", None).fail_task.unwrap().code, "C");
    }

    #[test]
    fn probability_is_the_same_for_the_same_seed() {
        let run = |seed: u64| {
            let faults = Faults::default();
            let rule = format!(
                r#"[{{"operation":"*","probability":0.5,"seed":{seed},"action":"throttle"}}]"#
            );
            faults.set(&rule).unwrap();
            (0..64).map(|_| faults.plan("X", None).throttle).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let struck = run(1).iter().filter(|struck| **struck).count();
        assert!((16..=48).contains(&struck), "{struck}");
    }

    #[test]
    fn calls_beyond_the_rate_are_throttled_and_rules_report_how_often() {
        let faults = Faults::default();
        faults.set(r#"[{"operation":"PutObject","action":{"qps":3}}]"#).unwrap();
        let throttled = (0..5).filter(|_| faults.plan("PutObject", None).throttle).count();
        assert_eq!(throttled, 2);
        let report = faults.tell();
        assert_eq!((&report[0]["seen"], &report[0]["struck"]), (&5.into(), &2.into()));
        faults.set(r#"[{"operation":"*","action":{"bandwidth":1000}}]"#).unwrap();
        let (first, second) = (faults.plan("A", None), faults.plan("B", None));
        assert!(std::sync::Arc::ptr_eq(&first.throttles[0], &second.throttles[0]));
    }

    #[test]
    fn unknown_actions_and_fields_are_refused() {
        let faults = Faults::default();
        let unknown = faults.set(r#"[{"operation":"*","action":"explode"}]"#);
        assert!(matches!(unknown, Err(FaultError::Action { index: 1, .. })));
        let typo = faults.set(r#"[{"operation":"*","nht":1,"action":"throttle"}]"#);
        assert!(matches!(typo, Err(FaultError::Json(_))));
    }
}
