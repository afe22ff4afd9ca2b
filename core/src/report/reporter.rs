//! Reports progress and errors to the user, in the selected output mode.

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use build_image_plugin_api::Progress;

use super::{
    Failure, GroupOutcome, Leftover, Outcome, OutputMode,
    bar::{Step, seconds},
    event::Event,
    group::TargetLine,
    human::{error_text, write_labelled, write_lines},
};
use crate::error::Error;

/// Longest silence of a running step, without a bar.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Reports progress and errors to the user.
pub struct Reporter {
    shared: Arc<Shared>,
    /// The heartbeat thread.
    heart: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    /// The target whose progress this is, if the build has several.
    target: Option<TargetLine>,
    mode: OutputMode,
    heartbeat: Duration,
    print: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
    over: Condvar,
}

struct State {
    step: Option<Step>,
    /// Time of the last output.
    last: Instant,
    over: bool,
    /// Warnings that are not repeated.
    warned: BTreeSet<String>,
}

impl Reporter {
    /// Creates a reporter on standard error.
    #[must_use]
    pub fn new(mode: OutputMode) -> Self {
        let color = mode.has_color();
        let fits = matches!(mode, OutputMode::Terminal { .. });
        Self::to(mode, HEARTBEAT, Box::new(move |text| write_lines(text, color, fits)))
    }

    /// Creates the reporter of a target: its lines begin with its name, and its bar is one of several.
    #[must_use]
    pub fn of_target(mode: OutputMode, target: TargetLine) -> Self {
        let color = mode.has_color();
        let print: Box<dyn Fn(&str) + Send + Sync> = match mode {
            OutputMode::Json => Box::new(|text| write_lines(text, false, false)),
            _ => {
                let name = target.name.clone();
                Box::new(move |text| write_labelled(&name, text, color))
            }
        };
        Self::with_target(mode, HEARTBEAT, print, Some(target))
    }

    fn to(mode: OutputMode, heartbeat: Duration, print: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        Self::with_target(mode, heartbeat, print, None)
    }

    fn with_target(
        mode: OutputMode,
        heartbeat: Duration,
        print: Box<dyn Fn(&str) + Send + Sync>,
        target: Option<TargetLine>,
    ) -> Self {
        let warned = BTreeSet::new();
        let state = Mutex::new(State { step: None, last: Instant::now(), over: false, warned });
        let shared = Shared { target, mode, heartbeat, print, state, over: Condvar::new() };
        Self { shared: Arc::new(shared), heart: Mutex::default() }
    }

    /// Reports the start of a step.
    pub fn begin(&self, step: &str, text: &str) {
        self.begin_as(step, Some(step), text);
    }

    /// Reports the start of a step that people know by another name than programs. Without a name they see its
    /// heartbeat only.
    pub fn begin_as(&self, step: &str, label: Option<&str>, text: &str) {
        tracing::info!(step, "{text}");
        let mut state = self.shared.lock();
        clear(&mut state);
        state.step = Some(Step::new(step, label));
        // The heartbeat of a step without a line counts from here.
        state.last = Instant::now();
        let lines = || format!("{:>9}  {text}", label.unwrap_or_default());
        if label.is_some() || self.shared.mode == OutputMode::Json {
            self.shared.report(&mut state, &Event::StepBegun { step, text }, lines);
        }
        drop(state);
        self.beat();
    }

    /// Reports that a part of the step is done.
    pub fn milestone(&self, text: &str) {
        self.note(&format!("{:>9}  {text}", ""));
    }

    /// Prints a line unless output is disabled.
    pub fn note(&self, text: &str) {
        tracing::info!("{}", text.trim());
        let event = Event::Note { text: text.trim() };
        self.shared.report(&mut self.shared.lock(), &event, || text.to_owned());
    }

    /// Reports a warning.
    pub fn warning(&self, text: &str, hint: Option<&str>) {
        tracing::warn!(hint, "{text}");
        let hinted = hint.map(|hint| format!("\n     hint: {hint}")).unwrap_or_default();
        let lines = format!("  warning: {text}{hinted}");
        self.shared.always(&mut self.shared.lock(), &Event::Warning { text, hint }, &lines);
    }

    /// Reports a warning, unless it was reported this way before.
    pub fn warning_once(&self, text: &str, hint: Option<&str>) {
        if self.shared.lock().warned.insert(text.to_owned()) {
            self.warning(text, hint);
        }
    }

    /// Reports the progress of the step.
    pub fn progress(&self, progress: Progress) {
        self.news(|step| {
            step.progress(progress);
        });
    }

    /// Reports that the step is running, though its progress is unknown; `text` describes its activity.
    pub fn alive(&self, text: &str) {
        self.news(|step| step.alive(text));
    }

    /// Reports the end of the step; `text` is its result.
    pub fn end(&self, text: &str) -> Duration {
        let mut state = self.shared.lock();
        clear(&mut state);
        let Some(done) = state.step.take() else { return Duration::ZERO };
        let is_shown = done.is_shown() || self.shared.mode == OutputMode::Json;
        let (step, took) = (done.name, done.begun.elapsed());
        tracing::info!(step, seconds = took.as_secs_f64(), "{text}");
        let event = Event::StepDone { step: &step, seconds: took.as_secs_f64(), text };
        if is_shown {
            let lines = || format!("{:>9}  {text} ({})", "", seconds(took));
            self.shared.report(&mut state, &event, lines);
        }
        took
    }

    /// Reports an error that ends the build.
    pub fn error(&self, error: &Error, exit_code: u8) {
        tracing::error!(exit_code, "{}", error_text(error));
        self.error_at_exit(error, exit_code);
    }

    /// Like `error`, while the process exits: the log needs thread-local storage, which does not exist any more.
    pub fn error_at_exit(&self, error: &Error, exit_code: u8) {
        let failure = Failure::of(error, exit_code);
        let event = Event::Error { failure: &failure };
        self.shared.always(&mut self.shared.lock(), &event, &error_text(error));
    }

    /// Reports a resource that could not be removed.
    pub fn left_behind(&self, leftover: &Leftover) {
        let label = leftover.resource.label();
        let hint = leftover.hint.as_ref().map(|hint| format!("\n    hint: {hint}"));
        let lines =
            format!("  left behind: {label}: {}{}", leftover.reason, hint.unwrap_or_default());
        tracing::error!("{}", lines.trim());
        self.shared.always(&mut self.shared.lock(), &Event::LeftBehind { leftover }, &lines);
    }

    /// Reports the result of a build.
    pub fn finished(&self, outcome: &Outcome, exit_code: u8) {
        let image_ids: Vec<String> = outcome.images.iter().map(|image| image.id.clone()).collect();
        let event = Event::Finished { result: &outcome.result, exit_code, image_ids: &image_ids };
        let mut state = self.shared.lock();
        if self.shared.mode == OutputMode::Json {
            self.shared.always(&mut state, &event, "");
            return;
        }
        // The log of several targets is named once, for all of them.
        let log = outcome.log_file.as_ref().filter(|_| self.shared.target.is_none());
        if outcome.error.is_none() {
            self.shared.report(&mut state, &event, || closing(outcome, log));
        } else if let Some(log) = log {
            self.shared.always(&mut state, &event, &format!("  log: {log}"));
        }
    }

    /// Reports the result of a build with several targets.
    pub fn group_finished(&self, outcome: &GroupOutcome) {
        let (result, exit_code) = (outcome.result.as_str(), outcome.exit_code);
        let event = Event::Finished { result, exit_code, image_ids: &outcome.image_ids() };
        let mut state = self.shared.lock();
        if self.shared.mode == OutputMode::Json {
            self.shared.always(&mut state, &event, "");
        } else if let Some(log) = &outcome.log_file {
            self.shared.report(&mut state, &event, || format!("  log: {log}"));
        }
    }

    /// Removes a visible bar; the step continues.
    pub fn clear(&self) {
        clear(&mut self.shared.lock());
    }

    /// Ends the step without output: its further progress is not shown.
    pub fn abandon(&self) {
        let mut state = self.shared.lock();
        clear(&mut state);
        state.step = None;
    }

    fn news(&self, update: impl FnOnce(&mut Step)) {
        let mut state = self.shared.lock();
        let Some(step) = &mut state.step else { return };
        update(step);
        if matches!(self.shared.mode, OutputMode::Terminal { .. }) {
            step.draw(self.shared.target.as_ref());
        }
    }

    /// Starts the heartbeat thread, if one is needed and none is running.
    fn beat(&self) {
        if !matches!(self.shared.mode, OutputMode::Plain { .. } | OutputMode::Json) {
            return;
        }
        let mut heart = self.heart.lock().unwrap_or_else(PoisonError::into_inner);
        if heart.is_none() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("heartbeat".to_owned());
            *heart = thread.spawn(move || shared.run_heartbeat()).ok();
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.over.notify_all();
        let heart = self.heart.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(heart) = heart {
            let _ = heart.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an event in any mode except `None`.
    fn report(&self, state: &mut State, event: &Event<'_>, lines: impl FnOnce() -> String) {
        if self.mode != OutputMode::None {
            self.always(state, event, &lines());
        }
    }

    fn always(&self, state: &mut State, event: &Event<'_>, lines: &str) {
        state.last = Instant::now();
        if self.mode == OutputMode::Json {
            return (self.print)(
                &event.line(self.target.as_ref().map(|target| target.name.as_str())),
            );
        }
        match (&self.target, state.step.as_ref().and_then(Step::bar)) {
            // Bars of other targets may be visible.
            (Some(target), _) => target.bars.suspend(|| (self.print)(lines)),
            (None, Some(bar)) => bar.suspend(|| (self.print)(lines)),
            (None, None) => (self.print)(lines),
        }
    }

    /// Reports the progress of the step if nothing was written for too long.
    fn run_heartbeat(&self) {
        let mut state = self.lock();
        while !state.over {
            let silent = state.last.elapsed();
            if silent >= self.heartbeat {
                self.heartbeat(&mut state);
                state.last = Instant::now();
                continue;
            }
            let waited = self.over.wait_timeout(state, self.heartbeat - silent);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn heartbeat(&self, state: &mut State) {
        let Some(step) = &state.step else { return };
        let (name, activity) = (step.name.clone(), step.in_words());
        let event = match step.latest() {
            Some(all) => Event::progress(&name, all),
            None => Event::Alive { step: &name, text: &activity },
        };
        self.report(state, &event, || format!("{:>9}  … {activity}", ""));
    }
}

fn clear(state: &mut State) {
    if let Some(step) = &mut state.step {
        step.clear();
    }
}

/// The summary of a successful build, besides the images themselves.
fn closing(outcome: &Outcome, log: Option<&String>) -> String {
    use indicatif::HumanBytes;
    let next = outcome.next.as_ref().map(|command| format!("\n{:>9}  {command}", "next"));
    let next = next.unwrap_or_default();
    if outcome.repeated {
        let (run, time) = (&outcome.run_id, &outcome.end_time);
        return format!("{:>9}  before, by run {run}, at {time}{next}", "done");
    }
    let took = Duration::from_secs_f64(outcome.durations.values().sum::<f64>().max(0.0));
    let sent = match (outcome.bytes_sent, &outcome.location) {
        (0, _) | (_, Some(_)) => String::new(),
        (sent, None) => format!(", {} sent", HumanBytes(sent)),
    };
    let log = log.map(|log| format!(", log {log}")).unwrap_or_default();
    let size = HumanBytes(outcome.virtual_size);
    format!("{:>9}  {size} disk{sent}, {}{log}{next}", "done", seconds(took))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use build_image_plugin_api::{ProgressUnit, Resource};
    use serde_json::Value;

    use super::*;

    fn listened(mode: OutputMode, heartbeat: Duration) -> (Reporter, Receiver<String>) {
        let (sender, lines) = channel();
        let sender = Mutex::new(sender);
        let print = move |text: &str| {
            let _ = sender.lock().unwrap().send(text.to_owned());
        };
        (Reporter::to(mode, heartbeat, Box::new(print)), lines)
    }

    fn never() -> Duration {
        Duration::from_secs(86400)
    }

    /// Reports every kind of event once.
    fn report_all(reporter: &Reporter) {
        let error = Error::usage("no").hint("yes");
        reporter.begin("upload", "sending");
        reporter.progress(Progress::new(1, 2));
        reporter.milestone("half");
        reporter.warning("odd", Some("mend it"));
        reporter.end("sent");
        reporter.note("kept");
        reporter.error(&error, 2);
        reporter.left_behind(&Leftover {
            resource: Resource::new("object", "").with_id("o"),
            reason: "gone".into(),
            hint: None,
        });
        let failure = Some(Failure::of(&error, 2));
        let log_file = Some("l".to_owned());
        let outcome =
            Outcome { result: "FAILURE".into(), error: failure, log_file, ..Outcome::default() };
        reporter.finished(&outcome, 2);
    }

    #[test]
    fn every_output_mode_reports_what_it_must() {
        let output_of = |mode| {
            let (reporter, lines) = listened(mode, never());
            report_all(&reporter);
            drop(reporter);
            lines.iter().collect::<Vec<String>>()
        };
        let plain = output_of(OutputMode::PLAIN);
        assert_eq!(plain[0], "   upload  sending");
        assert_eq!(plain[1], "           half");
        assert_eq!(plain[2], "  warning: odd\n     hint: mend it");
        assert!(plain[3].starts_with("           sent (0."), "{plain:?}");
        assert_eq!(plain[4..6], ["kept", "error: no\n  hint: yes"]);
        assert!(plain[6].starts_with("  left behind: "), "{plain:?}");
        assert_eq!(plain[7..], ["  log: l"]);
        let quiet = output_of(OutputMode::None);
        assert_eq!(quiet, [&plain[2], &plain[5], &plain[6], &plain[7]].map(String::clone));
        let events: Vec<Value> = output_of(OutputMode::Json)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
        let expected = "step_begun note warning step_done note error left_behind finished";
        assert_eq!(names.join(" "), expected);
        assert_eq!(events[5]["exit_code"], 2);
        assert_eq!(events[7]["result"], "FAILURE");
    }

    #[test]
    fn a_plan_and_its_build_warn_once() {
        let (reporter, lines) = listened(OutputMode::PLAIN, never());
        for text in ["cut", "cut", "old", "cut"] {
            reporter.warning_once(text, None);
        }
        drop(reporter);
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["  warning: cut", "  warning: old"]);
    }

    #[test]
    fn a_step_is_never_silent_for_long() {
        let (reporter, lines) = listened(OutputMode::PLAIN, Duration::from_millis(1));
        reporter.begin("install", "a guest");
        assert_eq!(lines.recv().unwrap(), "  install  a guest");
        assert!(lines.recv().unwrap().ends_with(" so far"));
        reporter.alive("unpacking\u{1b}[2J");
        let unpacking = lines.iter().find(|line| line.contains("… unpacking ("));
        assert!(unpacking.is_some());
        reporter.progress(Progress::new(40, 100).unit(ProgressUnit::Percent));
        assert!(lines.iter().any(|line| line.contains("… 40 %, ")));
        // No heartbeat between two steps; the thread ends with its reporter.
        reporter.end("done");
        drop(reporter);
        assert!(lines.iter().last().unwrap().contains("done ("));
    }

    #[test]
    fn progress_of_an_abandoned_step_is_not_shown() {
        let (reporter, lines) = listened(OutputMode::Terminal { color: false }, never());
        let is_drawn = |reporter: &Reporter| {
            reporter.shared.lock().step.as_ref().is_some_and(|step| step.bar().is_some())
        };
        reporter.begin("upload", "x");
        reporter.progress(Progress::new(1, 2));
        assert!(is_drawn(&reporter));
        reporter.abandon();
        reporter.progress(Progress::new(2, 2));
        reporter.alive("late");
        assert!(!is_drawn(&reporter));
        assert_eq!(reporter.end("late too"), Duration::ZERO);
        drop(reporter);
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["   upload  x"]);
    }

    #[test]
    fn programs_get_the_heartbeat_too() {
        let (reporter, lines) = listened(OutputMode::Json, Duration::from_millis(1));
        reporter.begin("upload", "x");
        reporter.progress(Progress::new(5, 9));
        let far = lines.iter().find(|line| line.contains("\"progress\"")).unwrap();
        let far: Value = serde_json::from_str(&far).unwrap();
        assert_eq!(
            (&far["done"], &far["total"], &far["unit"]),
            (&5.into(), &9.into(), &"bytes".into())
        );
    }
}
