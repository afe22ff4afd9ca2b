//! Progress for people: a line per step with its time; a bar on a terminal, a heartbeat elsewhere.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use build_image_plugin_api::{Progress, ProgressUnit};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

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
        let short: String = text.trim().chars().take(LINE).collect();
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

fn clear(state: &mut State) {
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
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

fn progress_text(progress: Progress) -> String {
    match (progress.unit, progress.total) {
        (ProgressUnit::Percent, _) => format!("{} %", progress.done),
        (ProgressUnit::Bytes, 0) => HumanBytes(progress.done).to_string(),
        (ProgressUnit::Bytes, total) => {
            format!("{} of {}", HumanBytes(progress.done), HumanBytes(total))
        }
        (ProgressUnit::Items, total) => format!("{} of {total}", progress.done),
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

/// Writes a line to standard error. A closed terminal is no reason to fail.
pub fn print_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
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
