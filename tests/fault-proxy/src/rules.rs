//! Selects the requests that the rules in force match, and decides which of these they strike. A random draw
//! depends only on the seed, the rule, and the number of requests that the rule has selected.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use hyper::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fault::{Fault, Plan};

/// Rules that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The text is not a list of rules.
    #[error("not a JSON list of rules, nor `{{\"seed\": N, \"rules\": […]}}`")]
    Json(#[source] serde_json::Error),
    /// One rule is invalid.
    #[error("rule {index}")]
    Rule {
        /// Its place in the list, from 1.
        index: usize,
        /// Why it is invalid.
        source: serde_json::Error,
    },
    /// A value of a rule is out of its range.
    #[error("rule {index}: {why}")]
    Range {
        /// Its place in the list, from 1.
        index: usize,
        /// The value and its range.
        why: &'static str,
    },
}

/// Which requests are struck, and with which fault.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Method, upper case; any if missing.
    method: Option<String>,
    /// Path without query; `*` matches any text; any path if missing.
    path: Option<String>,
    /// Parameters the query must have, `NAME` or `NAME=VALUE`, as sent.
    #[serde(default)]
    query: Vec<String>,
    /// Headers the request must have; `*` matches any text.
    #[serde(default)]
    header: BTreeMap<String, String>,
    /// First selected request that is struck, from 1.
    nth: Option<u64>,
    /// How many from there; 1 with `nth`, otherwise all.
    count: Option<u64>,
    /// Strikes each of them only with this probability.
    percent: Option<f64>,
    fault: Fault,
}

impl Rule {
    fn wrong(&self) -> Option<&'static str> {
        if self.nth == Some(0) {
            return Some("`nth` counts from 1");
        }
        if self.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            return Some("`percent` is from 0 to 100");
        }
        match &self.fault {
            Fault::Slow(0) => Some("`slow` is at least 1 byte per second"),
            Fault::Status(status) if !(200..600).contains(&status.code) => {
                Some("the `code` of `status` is from 200 to 599")
            }
            _ => None,
        }
    }

    fn selects(&self, request: &Request<'_>) -> bool {
        let parameters = || request.query.split('&');
        let has = |wanted: &String| {
            parameters().any(|found| {
                found == wanted || found.split_once('=').is_some_and(|(name, _)| name == wanted)
            })
        };
        let sent = |(name, pattern): (&String, &String)| {
            let mut values = request.headers.get_all(name.as_str()).iter();
            values.any(|value| value.to_str().is_ok_and(|value| fits(pattern, value)))
        };
        self.method.as_deref().is_none_or(|method| method == request.method)
            && self.path.as_deref().is_none_or(|pattern| fits(pattern, request.path))
            && self.query.iter().all(has)
            && self.header.iter().all(sent)
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// The part of a request that rules examine.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    selected: u64,
    struck: u64,
}

#[derive(Debug, Default)]
struct State {
    seed: u64,
    armed: Vec<Armed>,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<State>);

impl Rules {
    /// Replaces all rules; counters start at zero.
    pub(crate) fn set(&self, text: &str, seed: u64) -> Result<(), RuleError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Seeded {
            seed: u64,
            rules: Vec<Value>,
        }
        let value: Value = serde_json::from_str(text).map_err(RuleError::Json)?;
        let Seeded { seed, rules } = match value {
            Value::Array(rules) => Seeded { seed, rules },
            other => serde_json::from_value(other).map_err(RuleError::Json)?,
        };
        let mut armed = Vec::new();
        for (index, value) in (1..).zip(rules) {
            let rule: Rule = serde_json::from_value(value)
                .map_err(|source| RuleError::Rule { index, source })?;
            if let Some(why) = rule.wrong() {
                return Err(RuleError::Range { index, why });
            }
            armed.push(Armed { rule, selected: 0, struck: 0 });
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { seed, armed };
        Ok(())
    }

    /// The faults for this request, and the rules that strike it, from 1.
    pub(crate) fn plan(&self, request: &Request<'_>) -> (Plan, Vec<usize>) {
        let (mut plan, mut struck) = (Plan::default(), Vec::new());
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = state.seed;
        for (index, armed) in (1_u32..).zip(&mut state.armed) {
            if !armed.rule.selects(request) {
                continue;
            }
            armed.selected += 1;
            let first = armed.rule.nth.unwrap_or(1);
            let only_one = armed.rule.nth.map_or(u64::MAX, |_| 1);
            let count = armed.rule.count.unwrap_or(only_one);
            let within = armed.selected >= first && armed.selected - first < count;
            let drawn = || draw(seed, index, armed.selected) * 100.0;
            if within && armed.rule.percent.is_none_or(|percent| drawn() < percent) {
                armed.struck += 1;
                plan.add(&armed.rule.fault);
                struck.extend(usize::try_from(index));
            }
        }
        (plan, struck)
    }

    /// The rules, each with the number of requests that it selected and struck.
    pub(crate) fn show(&self) -> Value {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = state.armed.iter().map(
            |armed| json!({"rule": armed.rule, "selected": armed.selected, "struck": armed.struck}),
        );
        json!({"seed": state.seed, "rules": rows.collect::<Vec<_>>()})
    }
}

/// A number in [0, 1) derived from these three (the finalizer of SplitMix64).
fn draw(seed: u64, rule: u32, request: u64) -> f64 {
    let mut mixed = seed;
    for part in [u64::from(rule), request] {
        mixed = mixed.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
    }
    f64::from(u32::try_from(mixed >> 32).unwrap_or_default()) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::{Request, RuleError, Rules, fits};

    fn struck(rules: &Rules, method: &str, target: &str) -> Vec<usize> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        headers.insert("x-action", "ImportImage".parse().unwrap());
        rules.plan(&Request { method, path, query, headers: &headers }).1
    }

    #[test]
    fn rules_select_by_method_path_query_and_header() {
        let rules = Rules::default();
        let text = r#"[{"method":"PUT","path":"/b/*/x","fault":"reset_before"},
            {"query":["partNumber","uploadId=7"],"fault":"stall"},
            {"header":{"X-Action":"Import*"},"nth":2,"fault":{"slow":9}},
            {"path":"/","header":{"x-action":"Delete*"},"fault":{"slow":9}}]"#;
        rules.set(text, 0).unwrap();
        assert_eq!(struck(&rules, "PUT", "/b/1/x"), [1]);
        assert_eq!(struck(&rules, "GET", "/b/1/x"), [3]);
        assert_eq!(struck(&rules, "GET", "/?uploadId=7&partNumber=1"), [2]);
        assert!(struck(&rules, "GET", "/?uploadId=8&partNumber=1").is_empty());
    }

    #[test]
    fn patterns_fit_the_whole_text() {
        for (pattern, text, expected) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("*", "", true),
            ("/a*", "/ab", true),
            ("*b*b", "/ab", false),
            ("*b*b", "/abb", true),
            ("/*/c", "/a/b/c", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_seed_and_a_sequence_decide_what_is_struck() {
        let run = |seed: u64| {
            let rules = Rules::default();
            let text = r#"[{"percent":20,"fault":"reset_after"},{"percent":20,"fault":"stall"}]"#;
            rules.set(text, seed).unwrap();
            (0..1000).map(|_| struck(&rules, "GET", "/")).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        for rule in [1, 2] {
            let hits = run(3).iter().filter(|struck| struck.contains(&rule)).count();
            assert!((150..250).contains(&hits), "{hits}");
        }
        let both = run(3).iter().filter(|struck| struck.len() == 2).count();
        assert!((10..80).contains(&both), "{both}: the rules draw independently");
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named() {
        let rules = Rules::default();
        rules.set(r#"{"seed":3,"rules":[{"fault":"stall"}]}"#, 0).unwrap();
        for (text, part) in [
            ("{", "EOF"),
            ("7", "invalid type"),
            (r#"[{"fault":"explode"}]"#, "unknown variant `explode`"),
            (r#"[{"fault":"stall"},{"nht":1,"fault":"stall"}]"#, "rule 2: unknown field `nht`"),
            (r#"[{"fault":{"status":{"code":99}}}]"#, "from 200 to 599"),
            (r#"[{"nth":0,"fault":"stall"}]"#, "counts from 1"),
            (r#"[{"percent":101,"fault":"stall"}]"#, "from 0 to 100"),
            (r#"[{"fault":{"slow":0}}]"#, "at least 1"),
            (r#"{"seeds":1,"rules":[]}"#, "`seeds`"),
        ] {
            let error = rules.set(text, 0).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let message = format!("{error}: {}", source.unwrap_or_default());
            assert!(message.contains(part), "{text}: {message}");
        }
        assert!(matches!(rules.set("", 0), Err(RuleError::Json(_))));
        assert_eq!(struck(&rules, "GET", "/"), [1], "the rules in force stay");
        assert_eq!(rules.show()["seed"], 3);
    }
}
