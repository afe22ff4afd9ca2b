//! Observes the effects of a build independently of the provider's reports: the files in its image directory, the
//! output of an inventory command, the problems that the provider's own `check` finds, and its inventory.

use std::{collections::BTreeMap, fs, process::Command};

use super::lab::Lab;
use crate::{
    Step,
    document::{Build, Inventory, InventoryRequest, Severity},
};

/// Where an object was seen. One object of a cloud may be seen in several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Directory,
    Command,
    Problem,
    Inventory,
}

/// One observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::conformance) struct Sight {
    /// Objects by description, each with its content if it has any.
    things: BTreeMap<(Source, String), Vec<u8>>,
}

impl Sight {
    /// Observes the image directory of a build and the cloud.
    pub(in crate::conformance) fn of(lab: &Lab<'_>, name: &str) -> Self {
        let mut things = BTreeMap::new();
        let directory = lab.job.directory.join(format!("images-{name}"));
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let content = fs::read(entry.path()).unwrap_or_default();
            things.insert((Source::Directory, format!("file `{file}`")), content);
        }
        let mut sight = Self { things };
        match inventory(lab) {
            Ok(lines) => sight.add(Source::Command, lines.into_iter()),
            Err(failure) => lab.is_unlisted(failure),
        }
        sight
    }

    fn add(&mut self, source: Source, things: impl Iterator<Item = String>) {
        self.things.extend(things.map(|thing| ((source, thing), Vec::new())));
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
        self.add(Source::Problem, errors.map(|found| problem(&found.subject)));
        self
    }

    /// Adds what the provider's inventory has of a build, if it has one.
    pub(in crate::conformance) fn with_inventory(mut self, lab: &Lab<'_>, build: &Build) -> Self {
        if !Step::Inventory.is_declared_by(lab.description()) {
            return self;
        }
        let host = lab.host();
        let Some(steps) = lab.create(&host, lab.settings()).1 else { return self };
        let run_id = Some(build.run_id.clone());
        let request = InventoryRequest { run_id, ..InventoryRequest::default() };
        let found: Option<Inventory> =
            lab.call(&host, Step::Inventory.name(), || steps.inventory(&request)).1;
        lab.end(&host, steps);
        let items = found.unwrap_or_default().items.into_iter();
        let thing =
            |item: crate::document::Item| format!("{:?} `{}` of the inventory", item.kind, item.id);
        self.add(Source::Inventory, items.map(thing));
        self
    }

    pub(super) fn count(&self) -> usize {
        self.things.len()
    }

    /// Returns what exists now and did not exist before.
    pub(in crate::conformance) fn more_than(&self, before: &Self) -> Vec<String> {
        let more = self.things.keys().filter(|thing| !before.things.contains_key(*thing));
        more.map(|(_, thing)| thing.clone()).collect()
    }

    /// Returns the number of objects that exist now and did not exist before, each counted once.
    pub(in crate::conformance) fn count_more_than(&self, before: &Self) -> usize {
        let of = |source: Source| {
            let more = self.things.keys().filter(|thing| !before.things.contains_key(*thing));
            more.filter(|(one, _)| *one == source).count()
        };
        let in_cloud = [Source::Command, Source::Problem, Source::Inventory].map(of);
        of(Source::Directory) + in_cloud.into_iter().max().unwrap_or_default()
    }

    /// Returns what existed before and is missing or different now.
    pub(super) fn lost_since(&self, before: &Self) -> Vec<String> {
        type Thing<'a> = (&'a (Source, String), &'a Vec<u8>);
        let state = |(key, content): Thing<'_>| match self.things.get(key) {
            None => Some(format!("{} is gone", key.1)),
            Some(now) if now != content => Some(format!("{} has another content", key.1)),
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
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rev().map(str::trim).find(|line| !line.is_empty());
            let last = last.map(|line| format!(": {line}")).unwrap_or_default();
            Err(format!("the inventory command failed ({}){last}", output.status))
        }
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
            things: things
                .iter()
                .map(|(k, v)| ((Source::Directory, (*k).to_owned()), v.as_bytes().to_vec()))
                .collect(),
        };
        let before = sight(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let after = sight(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(after.more_than(&before), ["d"]);
        assert_eq!(after.lost_since(&before), ["b has another content", "c is gone"]);
        assert!(before.more_than(&before).is_empty() && before.lost_since(&before).is_empty());
        let mut seen_in_two_ways = before.clone();
        seen_in_two_ways.add(Source::Command, ["x".to_owned(), "y".to_owned()].into_iter());
        seen_in_two_ways.add(Source::Problem, ["z".to_owned()].into_iter());
        assert_eq!(seen_in_two_ways.more_than(&before), ["x", "y", "z"]);
        assert_eq!(seen_in_two_ways.count_more_than(&before), 2);
        assert_eq!(after.count_more_than(&before), 1);
        let twice = numbered(["x", "y", "x"].into_iter());
        assert_eq!(twice, ["`x`", "`y`", "`x` (number 2)"]);
    }
}
