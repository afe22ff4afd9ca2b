//! Observes the effects of a build independently of the provider's reports: the files in its image directory, the
//! output of an inventory command, and the problems that the provider's own `check` reports.

use std::{collections::BTreeMap, fs, process::Command};

use super::lab::Lab;
use crate::document::Severity;

/// One observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::conformance) struct Sight {
    /// Objects by description, each with its content if it has any.
    things: BTreeMap<String, Vec<u8>>,
    /// Why the inventory command could not list them.
    pub(super) failure: Option<String>,
}

impl Sight {
    /// Observes the image directory of a build and the cloud.
    pub(in crate::conformance) fn of(lab: &Lab<'_>, name: &str) -> Self {
        let mut things = BTreeMap::new();
        let directory = lab.job.directory.join(format!("images-{name}"));
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            things.insert(format!("file `{file}`"), fs::read(entry.path()).unwrap_or_default());
        }
        let (lines, failure) = match inventory(lab) {
            Ok(lines) => (lines, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        things.extend(lines.into_iter().map(|line| (line, Vec::new())));
        Self { things, failure }
    }

    /// Adds the problems that `check` of a run that has created nothing finds with this name: an image of the same
    /// name, where a cloud allows only one.
    pub(super) fn with_problems(mut self, lab: &Lab<'_>, name: &str) -> Self {
        let host = lab.host();
        let Some(steps) = lab.create(&host, lab.settings()).1 else { return self };
        let mut build = lab.build(name);
        build.run_id.push_str("-look");
        let request = lab.check_of(build, lab.job.cloud);
        let report = lab.call(&host, "check", || steps.check(&request)).1.unwrap_or_default();
        lab.end(&host, steps);
        let errors = report.findings.into_iter().filter(|found| found.severity == Severity::Error);
        let problem = |subject: &str| format!("what `check` reports about `{subject}`");
        self.things.extend(errors.map(|found| (problem(&found.subject), Vec::new())));
        self
    }

    pub(super) fn count(&self) -> usize {
        self.things.len()
    }

    /// Returns what exists now and did not exist before.
    pub(in crate::conformance) fn more_than(&self, before: &Self) -> Vec<String> {
        self.things.keys().filter(|thing| !before.things.contains_key(*thing)).cloned().collect()
    }

    /// Returns what existed before and is missing or different now.
    pub(super) fn lost_since(&self, before: &Self) -> Vec<String> {
        let state = |(thing, content): (&String, &Vec<u8>)| match self.things.get(thing) {
            None => Some(format!("{thing} is gone")),
            Some(now) if now != content => Some(format!("{thing} has another content")),
            Some(_) => None,
        };
        before.things.iter().filter_map(state).collect()
    }
}

/// Returns the lines of the inventory command.
#[expect(clippy::disallowed_methods, reason = "the author's command, once per observation")]
fn inventory(lab: &Lab<'_>) -> Result<Vec<String>, String> {
    let Some(command) = &lab.job.inventory else { return Ok(Vec::new()) };
    lab.begin("the inventory command");
    match Command::new("sh").args(["-c", command]).output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(numbered(text.lines().map(str::trim).filter(|line| !line.is_empty())))
        }
        Ok(output) => Err(format!("the inventory command failed: {}", output.status)),
        Err(error) => Err(format!("the inventory command cannot be started: {error}")),
    }
}

/// Numbers repeated lines: a line that is printed more than once stands for as many objects.
fn numbered<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    lines
        .map(|line| {
            let times = seen.entry(line).or_default();
            *times += 1;
            if *times == 1 { format!("`{line}`") } else { format!("`{line}` (number {times})") }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_in_both_directions() {
        let sight = |things: &[(&str, &str)]| Sight {
            things: things.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect(),
            failure: None,
        };
        let before = sight(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = sight(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(after.more_than(&before), ["d"]);
        assert_eq!(after.lost_since(&before), ["b has another content", "c is gone"]);
        assert!(before.more_than(&before).is_empty() && before.lost_since(&before).is_empty());
        let twice = numbered(["x", "y", "x"].into_iter());
        assert_eq!(twice, ["`x`", "`y`", "`x` (number 2)"]);
    }
}
