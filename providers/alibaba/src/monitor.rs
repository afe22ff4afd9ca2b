//! Waits for an import task, or for an image to become available. Broken connections are tolerated until the
//! deadline; pauses use the host's sleep, so that Ctrl-C ends them.

use std::time::{Duration, Instant};

use build_image_plugin_api::{
    Context, Error, ErrorKind, Progress, Result,
    retry::{Backoff, Failure, Policy, RetryAction},
};

use crate::{
    ecs::Ecs,
    image::{Detection, Image, Task},
    verdict::{TaskEnd, Verdict, judge_task, percent},
};

/// Upper bound of pauses, whatever the settings specify.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Consecutive polls without the image in the list after which it counts as removed.
const MISSING_POLLS: u32 = 10;
/// Consecutive polls without a report of the image check after which none is expected.
const REPORT_POLLS: u32 = 3;
/// A single poll; the loop around it repeats.
const LOOK: Policy = Policy::new(1, Duration::ZERO, Backoff::new(Duration::ZERO, Duration::ZERO));

/// The time at which waiting ends.
pub(crate) struct Deadline {
    /// `None` when it is too far in the future to be represented.
    at: Option<Instant>,
    limit: Duration,
}

impl Deadline {
    /// A deadline after this duration from now.
    pub(crate) fn after(limit: Duration) -> Self {
        Self { at: Instant::now().checked_add(limit), limit }
    }

    fn check(&self, what: &str, last: Option<&Error>) -> Result<()> {
        if self.at.is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        let message = format!("{what} did not end within {} s", self.limit.as_secs());
        let mut error = Error::new(ErrorKind::Timeout, message)
            .with_hint("raise ALIBABA_IMPORT_TIMEOUT, or build again with `--on-failure keep` to be able to resume the run");
        if let Some(last) = last {
            error = error.caused_by(last);
        }
        Err(error)
    }
}

/// Growing pauses.
struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    fn up_to(longest: Duration) -> Self {
        let longest = longest.min(LONGEST_PAUSE);
        Self { next: FIRST_PAUSE.min(longest), longest }
    }

    fn take(&mut self, requested: Option<Duration>) -> Duration {
        let pause = self.next;
        self.next = (self.next * 3 / 2).min(self.longest);
        pause.max(requested.unwrap_or_default())
    }
}

/// Parameters of a wait: its limits, and the progress it reports to.
#[derive(Clone, Copy)]
pub(crate) struct Waiter<'a> {
    pub(crate) context: &'a Context,
    pub(crate) longest_pause: Duration,
    pub(crate) deadline: &'a Deadline,
    /// Number of the progress; several images may be waited for at once.
    pub(crate) progress: u32,
}

impl Waiter<'_> {
    fn tell(&self, percent: u64) {
        self.context.host().progress(Progress::percent(percent).task(self.progress));
    }

    /// Polls until `judge` has an answer.
    fn poll<T, A>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<T, Failure>,
        mut judge: impl FnMut(T) -> Result<Option<A>>,
    ) -> Result<A> {
        let mut pauses = Pauses::up_to(self.longest_pause);
        loop {
            let seen = self.context.block_on(async { Ok(look().await) })?;
            let (requested, last) = match seen {
                Ok(seen) => match judge(seen)? {
                    Some(answer) => return Ok(answer),
                    None => (None, None),
                },
                Err(failure) if failure.action == RetryAction::GiveUp => return Err(*failure.error),
                Err(failure) => {
                    tracing::warn!(error = %failure.error, "looking again");
                    (failure.pause, Some(*failure.error))
                }
            };
            self.deadline.check(what, last.as_ref())?;
            self.context.wait(pauses.take(requested))?;
        }
    }

    /// Pauses before a request is repeated that the service refuses for as long as another one lasts.
    ///
    /// # Errors
    /// The deadline, and Ctrl-C.
    pub(crate) fn wait_again(&self, what: &str, refused: &Error) -> Result<()> {
        self.deadline.check(what, Some(refused))?;
        self.context.wait(self.longest_pause.min(LONGEST_PAUSE))
    }

    /// Waits until an import task ended, with success or failure.
    ///
    /// # Errors
    /// A refused poll, a deadline, or Ctrl-C.
    pub(crate) fn task(&self, ecs: &Ecs, task: &str) -> Result<TaskEnd> {
        let what = format!("import task `{task}`");
        // The service forgets old tasks; then the state of the image itself decides.
        let look = async || match ecs.task(task, &LOOK).await {
            Err(failure) if failure.has_code(&["InvalidTaskId.NotFound"]) => Ok(None),
            seen => seen.map(Some),
        };
        let judge = |seen: Option<Task>| {
            seen.map_or(Verdict::Ended(TaskEnd::Done), |details| {
                judge_task(&details, task, &ecs.region)
            })
        };
        self.poll(&what, look, |seen| match judge(seen) {
            Verdict::Running(percent) => {
                self.tell(percent);
                Ok(None)
            }
            Verdict::Ended(end) => {
                if matches!(end, TaskEnd::Done) {
                    self.tell(100);
                }
                Ok(Some(end))
            }
        })
    }

    /// Waits until an image can be used.
    ///
    /// # Errors
    /// The image's failure, a deadline, or Ctrl-C.
    pub(crate) fn image(&self, ecs: &Ecs, id: &str) -> Result<Image> {
        let what = format!("image `{id}` in {}", ecs.region);
        let mut missing = 0;
        let look = async || ecs.image(id, &LOOK).await;
        self.poll(&what, look, |seen| match seen {
            Some(image) if image.status == "Available" => Ok(Some(image)),
            Some(image) if matches!(image.status.as_str(), "Creating" | "Waiting") => {
                missing = 0;
                self.tell(percent(&image.progress));
                Ok(None)
            }
            Some(image) => {
                let message = format!("{what} is in state {}", image.status);
                Err(Error::new(ErrorKind::InvalidImage, message)
                    .with_hint("look at the image in the ECS console, or build again"))
            }
            None if missing < MISSING_POLLS => {
                missing += 1;
                Ok(None)
            }
            None => Err(Error::new(ErrorKind::NotFound, format!("{what} is not listed"))
                .with_hint("another client may have deleted it; build again")),
        })
    }

    /// Waits for the report of the check that ECS performs on an image; `None` when no report appears.
    ///
    /// # Errors
    /// A refused poll, a deadline, or Ctrl-C.
    pub(crate) fn detection(&self, ecs: &Ecs, id: &str) -> Result<Option<Detection>> {
        let what = format!("the check of image `{id}`");
        let mut missing = 0;
        let look = async || ecs.image(id, &LOOK).await;
        self.poll(&what, look, |seen| match seen.and_then(|image| image.detection_options) {
            Some(report) if report.status == "Finished" => Ok(Some(Some(report))),
            Some(report) if !report.status.is_empty() => {
                missing = 0;
                Ok(None)
            }
            _ if missing < REPORT_POLLS => {
                missing += 1;
                Ok(None)
            }
            _ => Ok(Some(None)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_start_short_and_stay_below_their_bound() {
        let mut pauses = Pauses::up_to(Duration::from_secs(60));
        assert_eq!(pauses.take(None), FIRST_PAUSE);
        let taken: Vec<Duration> = (0..20).map(|_| pauses.take(None)).collect();
        assert_eq!(taken.last(), Some(&LONGEST_PAUSE));
        assert_eq!(Pauses::up_to(Duration::ZERO).take(None), Duration::ZERO);
    }

    #[test]
    fn a_deadline_error_explains_how_to_continue() {
        let error = Deadline::after(Duration::ZERO).check("import task `t`", None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        let hint = error.hint.unwrap();
        assert!(hint.contains("ALIBABA_IMPORT_TIMEOUT") && hint.contains("--on-failure keep"));
        assert!(Deadline::after(Duration::MAX).check("import task `t`", None).is_ok());
    }
}
