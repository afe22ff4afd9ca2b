//! Decides which results of a resumed run count after settings of the provider were changed: the steps that the
//! settings may affect run again. After the release nothing runs again, and the user is warned.

use serde_json::Value;

use super::state::{Entrance, State, TABLE};
use crate::{journal::Entry, report::Reporter};

/// The results of earlier processes of the run that still count.
pub(super) struct Earlier {
    /// Its journal entries, without the results that no longer count.
    entries: Vec<Entry>,
    /// Keys of the provider's settings that were changed too late: the image has been released.
    too_late: Vec<String>,
}

impl Earlier {
    /// Compares the provider's settings with those of the last process of the run.
    pub(super) fn new(mut entries: Vec<Entry>, settings: &Value) -> Self {
        let changed = changed(&entries, settings);
        if State::Released.is_reached(&entries) {
            return Self { entries, too_late: changed };
        }
        if !changed.is_empty() {
            let is_repeated = |step: &str| {
                TABLE.iter().any(|row| row.entrance == Entrance::Keep && row.step == step)
            };
            entries.retain(
                |entry| !matches!(entry, Entry::StepDone { step, .. } if is_repeated(step)),
            );
        }
        Self { entries, too_late: Vec::new() }
    }

    /// Warns of settings that were changed too late; returns the entries that count.
    pub(super) fn warned(self, reporter: &Reporter) -> Vec<Entry> {
        if !self.too_late.is_empty() {
            let text = format!(
                "the image is released already; these settings do not change it any more: {}",
                self.too_late.join(", ")
            );
            reporter.warning(&text, Some("build again, or change the image where it is"));
        }
        self.entries
    }
}

/// Returns the keys whose values differ from those of the last process.
fn changed(entries: &[Entry], settings: &Value) -> Vec<String> {
    let before = entries.iter().rev().find_map(|entry| match entry {
        Entry::RunStarted { settings, .. } | Entry::RunResumed { settings, .. } => {
            settings.as_object()
        }
        _ => None,
    });
    let (Some(before), Some(now)) = (before, settings.as_object()) else { return Vec::new() };
    let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
    keys.filter(|key| before.get(*key) != now.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resumed(settings: Value) -> Entry {
        Entry::RunResumed { tool: String::new(), sha256: String::new(), settings, host: None }
    }

    fn done(step: &str) -> Entry {
        Entry::StepDone { step: step.to_owned(), facts: Value::Null }
    }

    #[test]
    fn a_changed_setting_repeats_the_last_steps_unless_the_image_is_released() {
        let released = Entry::ProductsReleased { files: Vec::new() };
        let all = ["check", "disk", "upload", "register", "attest"].map(done);
        for (before, now, is_released, expected, too_late) in [
            (json!({"A": 1}), json!({"A": 1}), false, State::Attested, ""),
            (json!({"A": 1}), json!({"A": 2}), false, State::Uploaded, ""),
            (json!({"A": 1}), json!({}), false, State::Uploaded, ""),
            (json!({}), json!({"A": 1}), false, State::Uploaded, ""),
            (
                json!({"A": 1, "B": 1}),
                json!({"A": 2, "B": 1, "C": 3}),
                true,
                State::Released,
                "A C",
            ),
            (json!({"A": 1}), json!({"A": 1}), true, State::Released, ""),
            // Journals of earlier versions do not contain the settings of a resumed run.
            (Value::Null, json!({"A": 1}), false, State::Attested, ""),
        ] {
            let mut entries = vec![resumed(json!({"A": 0})), resumed(before.clone())];
            entries.extend(all.clone());
            entries.extend(is_released.then(|| released.clone()));
            let before_null = before.is_null();
            let earlier = Earlier::new(entries[usize::from(before_null)..].to_vec(), &now);
            assert_eq!(State::of(&earlier.entries), expected, "{before} {now}");
            assert_eq!(earlier.too_late.join(" "), too_late, "{before} {now}");
        }
    }
}
