//! Shows the progress of a step as a bar on a terminal, or as text elsewhere.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use build_image_plugin_api::{Progress, ProgressUnit};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::{group::TargetLine, plain::plain};

/// Longest text of a guest's line that is shown, in characters.
const LINE: usize = 60;
/// Minimum number of columns for a bar of fixed width and for the rate.
const ROOMY: u16 = 80;

/// The running step and its latest progress.
pub(super) struct Step {
    /// Its name in events and results.
    pub(super) name: String,
    /// Its name for people; `None` when they see only a long one.
    label: Option<String>,
    pub(super) begun: Instant,
    /// Its first progress, from which the rate is computed: bytes that are there already count as done.
    first: Option<(Instant, u64)>,
    /// Progress of each of several concurrent tasks.
    tasks: BTreeMap<u32, Progress>,
    latest: Option<Progress>,
    /// Its last message, if its progress is unknown.
    doing: String,
    bar: Option<ProgressBar>,
}

impl Step {
    pub(super) fn new(name: &str, label: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            label: label.map(str::to_owned),
            begun: Instant::now(),
            first: None,
            tasks: BTreeMap::new(),
            latest: None,
            doing: String::new(),
            bar: None,
        }
    }

    /// Updates the progress of a task; returns the sum of all tasks.
    pub(super) fn progress(&mut self, progress: Progress) -> Progress {
        self.tasks.insert(progress.task, progress);
        let all = together(&self.tasks, progress);
        if self.latest.is_none_or(|latest| all.done < latest.done || all.unit != latest.unit) {
            // Another part of the step begins.
            self.first = Some((Instant::now(), all.done));
        }
        self.latest = Some(all);
        all
    }

    pub(super) fn alive(&mut self, text: &str) {
        self.doing = shortened(text);
    }

    /// Draws the bar with the latest progress.
    pub(super) fn draw(&mut self, target: Option<&TargetLine>) {
        let label = self.label.as_ref().unwrap_or(&self.name);
        let name = match target {
            Some(target) => format!("{} {label}", target.name),
            None => label.clone(),
        };
        match self.latest {
            Some(all) => {
                let bar = self.bar.get_or_insert_with(|| new_bar(&name, all, target));
                bar.set_length(all.total.max(all.done));
                bar.set_position(all.done);
            }
            None => {
                let bar = self.bar.get_or_insert_with(|| new_spinner(&name, target));
                bar.set_message(self.doing.clone());
            }
        }
    }

    pub(super) fn is_shown(&self) -> bool {
        self.label.is_some()
    }

    pub(super) fn latest(&self) -> Option<Progress> {
        self.latest
    }

    pub(super) fn bar(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }

    /// The progress as text, without a bar.
    pub(super) fn in_words(&self) -> String {
        let took = seconds(self.begun.elapsed());
        match self.latest {
            Some(all) => format!("{}{}, {took}", progress_text(all), self.rate(all)),
            None if self.doing.is_empty() => format!("{took} so far"),
            None => format!("{} ({took})", self.doing),
        }
    }

    /// The rate of the progress and the time that remains at this rate, as a clause; empty while they are not known.
    fn rate(&self, all: Progress) -> String {
        let Some((begun, first)) = self.first.filter(|_| all.unit == ProgressUnit::Bytes) else {
            return String::new();
        };
        rate_text(
            all.done.saturating_sub(first),
            all.total.saturating_sub(all.done),
            begun.elapsed(),
        )
    }

    /// Discards the progress and removes the bar.
    pub(super) fn clear(&mut self) {
        self.tasks.clear();
        self.first = None;
        self.latest = None;
        self.doing.clear();
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Shortens a guest's line to fit the terminal.
fn shortened(text: &str) -> String {
    plain(text).replace('\n', " ").trim().chars().take(LINE).collect()
}

/// Combines all tasks: sums, or the mean of percentages. Tasks that count other units are left out.
fn together(tasks: &BTreeMap<u32, Progress>, latest: Progress) -> Progress {
    let alike = || tasks.values().filter(|progress| progress.unit == latest.unit);
    let sum = |number: fn(&Progress) -> u64| alike().map(number).fold(0, u64::saturating_add);
    let count = match latest.unit {
        ProgressUnit::Percent => alike().count().max(1) as u64,
        _ => 1,
    };
    let has_totals = alike().all(|progress| progress.total > 0);
    let total = if has_totals { sum(|progress| progress.total) / count } else { 0 };
    Progress::new(sum(|progress| progress.done) / count, total).task(latest.task).unit(latest.unit)
}

/// Returns whether standard error is wide enough for all elements.
fn is_roomy() -> bool {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.is_ok_and(|size| size.ws_col == 0 || size.ws_col >= ROOMY)
}

fn new_bar(name: &str, progress: Progress, target: Option<&TargetLine>) -> ProgressBar {
    let template = match (progress.unit == ProgressUnit::Bytes, is_roomy()) {
        (true, true) => "{prefix:>9}  {bar:24} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        (true, false) => "{prefix:>9}  {wide_bar} {percent}% {eta}",
        (false, true) => "{prefix:>9}  {bar:24} {pos}/{len} {elapsed}",
        (false, false) => "{prefix:>9}  {wide_bar} {pos}/{len}",
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(progress.total);
    let bar = target
        .map_or_else(|| bar.clone(), |target| target.bars.add(bar.clone()))
        .with_style(style.progress_chars("━╸ "))
        .with_prefix(name.to_owned());
    // Existing bytes count as done, but not towards the rate.
    bar.set_position(progress.done);
    bar.reset_eta();
    bar
}

fn new_spinner(name: &str, target: Option<&TargetLine>) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>9}  {spinner} {elapsed} {wide_msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner();
    let bar = target
        .map_or_else(|| bar.clone(), |target| target.bars.add(bar.clone()))
        .with_style(style)
        .with_prefix(name.to_owned());
    // A guest may be silent for minutes; the clock must keep moving.
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

fn progress_text(progress: Progress) -> String {
    match (progress.unit, progress.total) {
        (ProgressUnit::Percent, _) => format!("{} %", progress.done),
        (ProgressUnit::Bytes, 0) => HumanBytes(progress.done).to_string(),
        (ProgressUnit::Bytes, total) => {
            format!("{} of {}", HumanBytes(progress.done), HumanBytes(total))
        }
        (_, 0) => progress.done.to_string(),
        (_, total) => format!("{} of {total}", progress.done),
    }
}

/// Formats the rate at which `done` bytes were done, and the time for the bytes that are `left`.
fn rate_text(done: u64, left: u64, took: Duration) -> String {
    let Some(rate) = u128::from(done).saturating_mul(1000).checked_div(took.as_millis()) else {
        return String::new();
    };
    let rate = u64::try_from(rate).unwrap_or(u64::MAX);
    match left.checked_div(rate) {
        None => String::new(),
        Some(0) => format!(", {}/s", HumanBytes(rate)),
        Some(seconds) => {
            let time = self::seconds(Duration::from_secs(seconds));
            format!(", {}/s, {time} left", HumanBytes(rate))
        }
    }
}

/// Formats a duration: `0.3 s`, `42 s`, `7 min 31 s`.
#[must_use]
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{whole} s"),
        _ => format!("{} min {} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_a_total_only_when_there_is_one() {
        for (unit, done, total, text) in [
            (ProgressUnit::Items, 9, 0, "9"),
            (ProgressUnit::Items, 9, 12, "9 of 12"),
            (ProgressUnit::Bytes, 1024, 0, "1.00 KiB"),
            (ProgressUnit::Bytes, 1024, 2048, "1.00 KiB of 2.00 KiB"),
            (ProgressUnit::Percent, 40, 100, "40 %"),
        ] {
            assert_eq!(progress_text(Progress::new(done, total).unit(unit)), text);
        }
    }

    #[test]
    fn a_rate_is_shown_once_it_is_known() {
        let mib = |count: u64| count << 20;
        for (done, left, took, text) in [
            (mib(40), mib(200), 4, ", 10.00 MiB/s, 20 s left"),
            (mib(40), mib(4), 4, ", 10.00 MiB/s"),
            (mib(40), 0, 4, ", 10.00 MiB/s"),
            (0, mib(4), 4, ""),
            (mib(4), mib(4), 0, ""),
        ] {
            assert_eq!(rate_text(done, left, Duration::from_secs(took)), text);
        }
    }

    #[test]
    fn concurrent_tasks_are_shown_together() {
        let of = |unit, pairs: &[(u64, u64)]| {
            let mut step = Step::new("upload", Some("write"));
            let news = pairs.iter().zip(0..);
            let mut combined = Progress::default();
            for (&(done, total), task) in news {
                combined = step.progress(Progress::new(done, total).task(task).unit(unit));
            }
            (combined.done, combined.total)
        };
        assert_eq!(of(ProgressUnit::Percent, &[(40, 100), (20, 100)]), (30, 100));
        assert_eq!(of(ProgressUnit::Bytes, &[(40, 100), (20, 50)]), (60, 150));
        assert_eq!(of(ProgressUnit::Items, &[(4, 10), (2, 0)]), (6, 0));
        assert_eq!(of(ProgressUnit::Items, &[(9, 0)]), (9, 0));
    }

    #[test]
    fn a_guests_line_is_shortened_and_does_not_control_the_terminal() {
        let line = format!("\u{1b}[2J\u{1b}]0;x\u{7}  {}\r\n", "é".repeat(100));
        assert_eq!(shortened(&line), "é".repeat(LINE));
    }
}
