//! Progress for people: a line per step with its time; a bar on a terminal, a heartbeat elsewhere.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use build_image_plugin_api::{Progress, ProgressUnit};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::plain::plain;
use crate::error::Error;

/// Without a terminal, a step that goes on says so at least this often while it makes progress.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Longest text that is shown of what a guest prints, in characters.
const LINE: usize = 60;

/// Tells the user what happens.
pub struct Reporter {
    quiet: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    step: Option<(String, Instant)>,
    bar: Option<ProgressBar>,
    /// Latest news of each of several things that go on at once.
    tasks: BTreeMap<u32, Progress>,
    last_line: Option<Instant>,
}

impl Reporter {
    /// A reporter on standard error.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), state: Mutex::default() }
    }

    /// A step begins.
    pub fn begin(&self, step: &str, text: &str) {
        tracing::info!(step, "{text}");
        let mut state = self.lock();
        state.step = Some((step.to_owned(), Instant::now()));
        self.line(&mut state, &format!("{step:>9}  {text}"));
    }

    /// A part of the step is done.
    pub fn milestone(&self, text: &str) {
        tracing::info!("{text}");
        self.line(&mut self.lock(), &format!("{:>9}  {text}", ""));
    }

    /// Something is odd.
    pub fn warning(&self, text: &str, hint: Option<&str>) {
        tracing::warn!(hint, "{text}");
        let mut state = self.lock();
        self.always(&mut state, &format!("  warning: {text}"));
        if let Some(hint) = hint {
            self.always(&mut state, &format!("     hint: {hint}"));
        }
    }

    /// How far the step is.
    pub fn progress(&self, progress: Progress) {
        if self.quiet {
            return;
        }
        let mut state = self.lock();
        state.tasks.insert(progress.task, progress);
        let progress = together(&state.tasks, progress);
        if self.terminal {
            let bar = state.bar.get_or_insert_with(|| new_bar(progress));
            bar.set_length(progress.total.max(progress.done));
            bar.set_position(progress.done);
        } else if state.last_line.is_none_or(|last| last.elapsed() >= HEARTBEAT) {
            let text = progress_text(progress);
            self.line(&mut state, &format!("{:>9}  … {text}", ""));
        }
    }

    /// The step goes on, though nobody knows how far it is; `text` says what it does.
    pub fn alive(&self, text: &str) {
        if self.quiet {
            return;
        }
        let mut state = self.lock();
        let short = shortened(text);
        if self.terminal {
            let bar = state.bar.get_or_insert_with(new_spinner);
            bar.set_message(short);
            bar.tick();
        } else if state.last_line.is_none_or(|last| last.elapsed() >= HEARTBEAT) {
            self.line(&mut state, &format!("{:>9}  … {short}", ""));
        }
    }

    /// The step is done; `text` says what came of it.
    pub fn end(&self, text: &str) -> Duration {
        let mut state = self.lock();
        clear(&mut state);
        let Some((step, begun)) = state.step.take() else { return Duration::ZERO };
        let took = begun.elapsed();
        tracing::info!(step, seconds = took.as_secs_f64(), "{text}");
        self.line(&mut state, &format!("{:>9}  {text} ({})", "", seconds(took)));
        took
    }

    /// A line in any case but quiet.
    pub fn note(&self, text: &str) {
        tracing::info!("{text}");
        self.line(&mut self.lock(), text);
    }

    /// Removes a bar that is on the screen.
    pub fn clear(&self) {
        clear(&mut self.lock());
    }

    fn line(&self, state: &mut State, text: &str) {
        if !self.quiet {
            self.always(state, text);
        }
    }

    fn always(&self, state: &mut State, text: &str) {
        state.last_line = Some(Instant::now());
        match &state.bar {
            Some(bar) => bar.suspend(|| print_line(text)),
            None => print_line(text),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What fits on the terminal of a line a guest prints.
fn shortened(text: &str) -> String {
    plain(text).replace('\n', " ").trim().chars().take(LINE).collect()
}

/// All tasks as one: sums, or the mean of percentages. Tasks that count other things are left out.
fn together(tasks: &BTreeMap<u32, Progress>, latest: Progress) -> Progress {
    let alike = || tasks.values().filter(|progress| progress.unit == latest.unit);
    let sum = |number: fn(&Progress) -> u64| alike().map(number).fold(0, u64::saturating_add);
    let count = match latest.unit {
        ProgressUnit::Percent => alike().count().max(1) as u64,
        _ => 1,
    };
    let known = alike().all(|progress| progress.total > 0);
    let total = if known { sum(|progress| progress.total) / count } else { 0 };
    Progress { done: sum(|progress| progress.done) / count, total, ..latest }
}

fn clear(state: &mut State) {
    state.tasks.clear();
    if let Some(bar) = state.bar.take() {
        bar.finish_and_clear();
    }
}

fn new_bar(progress: Progress) -> ProgressBar {
    let bytes = "           {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    let others = "           {bar:30} {pos}/{len} {elapsed}";
    let template = if progress.unit == ProgressUnit::Bytes { bytes } else { others };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(progress.total).with_style(style)
}

fn new_spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("           {spinner} {elapsed} {msg}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    // A guest may be silent for minutes; the clock must not look frozen.
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

/// `0.3 s`, `42 s`, `7 min 31 s`.
#[must_use]
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{whole} s"),
        _ => format!("{} min {} s", whole / 60, whole % 60),
    }
}

/// Writes a line to standard error, harmless for a terminal. A closed one is no reason to fail.
pub fn print_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(text));
}

/// Prints an error: what, every problem, because, context, at most one hint.
pub fn print_error(error: &Error) {
    let mut text = format!("error: {}\n", error.message);
    for problem in &error.problems {
        text.push_str(&format!("  - {}\n", problem.message));
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("      hint: {hint}\n"));
        }
    }
    for cause in &error.causes {
        text.push_str(&format!("  because: {cause}\n"));
    }
    for (name, value) in &error.context {
        let indented = value.trim_end().replace('\n', "\n    ");
        text.push_str(&format!("  {name}: {indented}\n"));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    print_line(text.trim_end());
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
            assert_eq!(progress_text(Progress { unit, done, total, ..Progress::default() }), text);
        }
    }

    #[test]
    fn things_that_go_on_at_once_are_shown_together() {
        let of = |unit, pairs: &[(u64, u64)]| {
            let news = pairs
                .iter()
                .zip(0..)
                .map(|(&(done, total), task)| (task, Progress { task, unit, done, total }));
            let tasks: BTreeMap<u32, Progress> = news.collect();
            let shown = together(&tasks, tasks[&0]);
            (shown.done, shown.total)
        };
        assert_eq!(of(ProgressUnit::Percent, &[(40, 100), (20, 100)]), (30, 100));
        assert_eq!(of(ProgressUnit::Bytes, &[(40, 100), (20, 50)]), (60, 150));
        assert_eq!(of(ProgressUnit::Items, &[(4, 10), (2, 0)]), (6, 0));
        assert_eq!(of(ProgressUnit::Items, &[(9, 0)]), (9, 0));
    }

    #[test]
    fn a_guests_line_is_short_and_moves_nothing() {
        let line = format!("\u{1b}[2J\u{1b}]0;x\u{7}  {}\r\n", "é".repeat(100));
        assert_eq!(shortened(&line), "é".repeat(LINE));
    }
}
