//! Reports the results of the suite: one row per check.

use std::{fmt::Write as _, path::PathBuf};

use serde::Serialize;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verdict {
    /// The provider keeps this part of the contract, as far as was observed.
    Pass,
    /// The provider violates it.
    Fail,
    /// Not checked; the detail states why.
    Skip,
}

/// A check with its result.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// Short word that stays the same.
    pub id: &'static str,
    /// The requirement.
    pub title: &'static str,
    /// The result.
    pub verdict: Verdict,
    /// What was observed, or why nothing was.
    pub detail: String,
    /// What to do when the check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All checks of one provider.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The provider's file.
    pub file: PathBuf,
    /// The provider's name; empty when it does not load.
    pub name: String,
    /// The provider's version.
    pub version: String,
    /// Version of plugin-api that it was built with.
    pub api_version: String,
    /// Whether no check failed.
    pub conforms: bool,
    /// The checks, in the order of the table.
    pub checks: Vec<Row>,
    /// Number of checks that were left out because others were chosen.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_chosen: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Report {
    /// Returns the row of a check.
    #[must_use]
    pub fn check(&self, id: &str) -> Option<&Row> {
        self.checks.iter().find(|row| row.id == id)
    }

    /// Returns the checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Row> {
        self.checks.iter().filter(|row| row.verdict == Verdict::Fail)
    }

    /// Formats the report for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = match self.name.as_str() {
            "" => format!("{}\n", self.file.display()),
            name => format!(
                "{name} {} (plugin API {})  {}\n",
                self.version,
                self.api_version,
                self.file.display()
            ),
        };
        for row in &self.checks {
            let word = match row.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "FAIL",
                Verdict::Skip => "skip",
            };
            let _ = writeln!(text, "  {word}  {:<17} {}", row.id, row.title);
            // How disturbed builds ended, and what a cloud without marks keeps, is worth reading although it is permitted.
            let is_read = row.id.starts_with("fault-") || row.id == "unrecorded";
            if row.verdict != Verdict::Pass || is_read {
                let _ = writeln!(text, "        {:<17} {}", "", row.detail);
            }
            if let Some(remedy) = &row.remedy {
                let _ = writeln!(text, "        {:<17} remedy: {remedy}", "");
            }
        }
        let count = |verdict| self.checks.iter().filter(|row| row.verdict == verdict).count();
        let (passed, failed, skipped) =
            (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Skip));
        let _ = write!(text, "{passed} passed, {failed} failed, {skipped} skipped");
        if self.not_chosen > 0 {
            let _ = write!(text, ", {} not chosen", self.not_chosen);
        }
        text.push('\n');
        text
    }
}
