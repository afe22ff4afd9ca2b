//! Faults on order: rules that make chosen calls go wrong. A rule names an operation (and perhaps
//! a part number), says which of the matching calls it strikes (`nth` and `count`, or
//! `probability` with a `seed`), and what happens. Nothing here is random without a seed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Millis;

/// A rule list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The text is not JSON or a rule lacks a field.
    #[error("the fault rules are not a JSON list of rules")]
    Json(#[source] serde_json::Error),
    /// A rule's action is unknown.
    #[error(
        "rule {index}: the action {action} is none of {{\"status\", \"code\"}}, \"reset_before\", \
         \"reset_after\", {{\"stall_ms\"}}, \"truncate_answer\", \"corrupt_body\", \"throttle\", \
         {{\"skew_seconds\"}}, {{\"fail_task\"}}, {{\"keep_creating\"}}"
    )]
    Action {
        /// Place in the list, from 1.
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

/// What a failed import is told as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailTask {
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
    /// Task status `Finished` with a failed operation, instead of `Failed`.
    #[serde(default)]
    pub(crate) finished: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Action {
    Word(Word),
    Status(Status),
    Stall(Stall),
    Skew(Skew),
    Fail(Fail),
    Keep(Keep),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    ResetBefore,
    ResetAfter,
    TruncateAnswer,
    CorruptBody,
    Throttle,
}

/// An answer instead of the real one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Status {
    pub(crate) status: u16,
    pub(crate) code: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stall {
    stall_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skew {
    skew_seconds: i64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    fail_task: FailTask,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keep {
    keep_creating: u32,
}

/// Everything that is to go wrong with one call.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) status: Option<Status>,
    pub(crate) reset_before: bool,
    pub(crate) reset_after: bool,
    pub(crate) stall: Option<Duration>,
    pub(crate) truncate: bool,
    pub(crate) corrupt: bool,
    pub(crate) throttle: bool,
    /// How much later the server's clock is, in milliseconds.
    pub(crate) skew: Millis,
    pub(crate) fail_task: Option<FailTask>,
    /// How long an image stays `Creating` after its task is finished, in milliseconds.
    pub(crate) keep_creating: Option<Millis>,
}

impl Plan {
    fn add(&mut self, action: &Action) {
        match action {
            Action::Word(Word::ResetBefore) => self.reset_before = true,
            Action::Word(Word::ResetAfter) => self.reset_after = true,
            Action::Word(Word::TruncateAnswer) => self.truncate = true,
            Action::Word(Word::CorruptBody) => self.corrupt = true,
            Action::Word(Word::Throttle) => self.throttle = true,
            Action::Status(status) => self.status = Some(status.clone()),
            Action::Stall(stall) => self.stall = Some(Duration::from_millis(stall.stall_ms)),
            Action::Skew(skew) => self.skew = skew.skew_seconds.saturating_mul(1000),
            Action::Fail(fail) => self.fail_task = Some(fail.fail_task.clone()),
            Action::Keep(keep) => {
                self.keep_creating = Some(Millis::from(keep.keep_creating) * 1000);
            }
        }
    }
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    action: Action,
    /// Matching calls so far.
    seen: u64,
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

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Armed>>,
}

impl Faults {
    /// Replaces all rules by those in a JSON list; counters start anew.
    pub(crate) fn set(&self, text: &str) -> Result<(), FaultError> {
        let rules: Vec<Rule> = serde_json::from_str(text).map_err(FaultError::Json)?;
        let arm = |(index, rule): (usize, Rule)| {
            let action = serde_json::from_value(rule.action.clone()).map_err(|_| {
                FaultError::Action { index: index + 1, action: rule.action.to_string() }
            })?;
            Ok(Armed { action, seen: 0, random: rule.seed, rule })
        };
        let armed = rules.into_iter().enumerate().map(arm).collect::<Result<Vec<_>, _>>()?;
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = armed;
        Ok(())
    }

    /// What is to go wrong with this call.
    pub(crate) fn plan(&self, operation: &str, part_number: Option<u16>) -> Plan {
        let mut plan = Plan::default();
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in armed.iter_mut().filter(|rule| rule.matches(operation, part_number)) {
            if rule.strikes() {
                plan.add(&rule.action);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::{FaultError, Faults, Plan};

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
        assert_eq!(faults.plan("UploadPart", Some(1)), Plan::default());
        let struck = faults.plan("UploadPart", Some(2));
        assert_eq!(struck.status.unwrap().status, 503);
        assert_eq!(faults.plan("UploadPart", Some(2)), Plan::default());
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
    fn unknown_actions_and_fields_are_refused() {
        let faults = Faults::default();
        let unknown = faults.set(r#"[{"operation":"*","action":"explode"}]"#);
        assert!(matches!(unknown, Err(FaultError::Action { index: 1, .. })));
        let typo = faults.set(r#"[{"operation":"*","nht":1,"action":"throttle"}]"#);
        assert!(matches!(typo, Err(FaultError::Json(_))));
    }
}
