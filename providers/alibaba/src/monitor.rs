//! Waiting: for an import task, for an image to become available. Broken lines are outlived until
//! the deadline; pauses go through the host, so that Ctrl-C ends them.

use std::time::{Duration, Instant};

use build_image_plugin_api::{Context, Error, ErrorKind, Result};
use serde_json::Value;

use crate::{
    ecs::{Ecs, Image, Task},
    error::{Cure, Failure},
    refusal::Refusal,
    retry::Policy,
};

/// Upper bound of pauses, whatever the settings say.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Polls without the image in the list before it counts as gone.
const MISSING_POLLS: u32 = 10;
/// One look; the loop around it is what repeats.
const LOOK: Policy = Policy {
    attempts: 1,
    patience: Duration::ZERO,
    first_pause: Duration::ZERO,
    longest_pause: Duration::ZERO,
};

/// When waiting ends.
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
}

impl Deadline {
    /// That long from now.
    pub(crate) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, limit }
    }

    fn check(&self, what: &str, last: Option<&Error>) -> Result<()> {
        if Instant::now() < self.at {
            return Ok(());
        }
        let message = format!("{what} did not end within {} s", self.limit.as_secs());
        let mut error = Error::new(ErrorKind::Timeout, message)
            .with_hint("resume the run to go on waiting, or raise ALIBABA_IMPORT_TIMEOUT");
        if let Some(last) = last {
            error = error.because(last);
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

    fn take(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.next;
        self.next = (self.next * 3 / 2).min(self.longest);
        pause.max(asked.unwrap_or_default())
    }
}

/// How a task ended.
pub(crate) enum TaskEnd {
    /// With an image.
    Done,
    /// Without one, for the reason told by the service.
    Failed(Box<Error>),
}

/// What a task's answer means.
enum Verdict {
    Running(u64),
    Ended(TaskEnd),
}

/// Looks again and again until `judge` has an answer.
fn poll<T, A>(
    context: &Context,
    what: &str,
    longest_pause: Duration,
    deadline: &Deadline,
    mut look: impl AsyncFnMut() -> Result<T, Failure>,
    mut judge: impl FnMut(T) -> Result<Option<A>>,
) -> Result<A> {
    let mut pauses = Pauses::up_to(longest_pause);
    loop {
        let seen = context.block_on(async { Ok(look().await) })?;
        let (asked, last) = match seen {
            Ok(seen) => match judge(seen)? {
                Some(answer) => return Ok(answer),
                None => (None, None),
            },
            Err(failure) if failure.cure == Cure::None => return Err(*failure.error),
            Err(failure) => {
                tracing::warn!(error = %failure.error, "looking again");
                (failure.pause, Some(*failure.error))
            }
        };
        deadline.check(what, last.as_ref())?;
        context.wait(pauses.take(asked))?;
    }
}

/// Waits until an import task ended, one way or the other.
///
/// # Errors
/// A refusal to tell, a deadline, or Ctrl-C.
pub(crate) fn wait_for_task(
    context: &Context,
    ecs: &Ecs,
    task: &str,
    longest_pause: Duration,
    deadline: &Deadline,
) -> Result<TaskEnd> {
    let what = format!("import task `{task}`");
    // The service forgets old tasks; then the image itself must tell.
    let look = async || match ecs.task(task, &LOOK).await {
        Err(failure) if failure.is(&["InvalidTaskId.NotFound"]) => Ok(None),
        seen => seen.map(Some),
    };
    let judge = |seen: Option<Task>| {
        seen.map_or(Verdict::Ended(TaskEnd::Done), |task| judge_task(&task, &what))
    };
    poll(context, &what, longest_pause, deadline, look, |seen| match judge(seen) {
        Verdict::Running(percent) => {
            context.progress_percent(percent);
            Ok(None)
        }
        Verdict::Ended(end) => {
            if matches!(end, TaskEnd::Done) {
                context.progress_percent(100);
            }
            Ok(Some(end))
        }
    })
}

/// Waits until an image can be used.
///
/// # Errors
/// The image's failure, a deadline, or Ctrl-C.
pub(crate) fn wait_for_image(
    context: &Context,
    ecs: &Ecs,
    id: &str,
    longest_pause: Duration,
    deadline: &Deadline,
) -> Result<Image> {
    let what = format!("image `{id}`");
    let mut missing = 0;
    let look = async || ecs.image(id, &LOOK).await;
    poll(context, &what, longest_pause, deadline, look, |seen| match seen {
        Some(image) if image.status == "Available" => Ok(Some(image)),
        Some(image) if matches!(image.status.as_str(), "Creating" | "Waiting") => {
            context.progress_percent(percent(&image.progress));
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
            .with_hint("somebody may have deleted it; build again")),
    })
}

/// A task that finished has succeeded only if none of its parts failed.
fn judge_task(task: &Task, what: &str) -> Verdict {
    let failed_part = task
        .operations()
        .iter()
        .find(|part| !part.error_code.is_empty() || part.operation_status == "Failed");
    let failed_count = match &task.failed_count {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::String(text) => text.parse().unwrap_or(0),
        _ => 0,
    };
    match task.task_status.as_str() {
        "Waiting" | "Processing" | "Paused" => Verdict::Running(percent(&task.task_process)),
        "Finished" if failed_part.is_none() && failed_count == 0 => Verdict::Ended(TaskEnd::Done),
        status => {
            let (code, message) = failed_part
                .map(|part| (part.error_code.clone(), part.error_msg.clone()))
                .unwrap_or_default();
            let failure = Refusal { code, message, ..Refusal::default() }.into_failure(what);
            let mut error = (*failure.error).with("task_status", status);
            error.retryable = false;
            if error.hint.is_none() {
                let hint = "look at the task: aliyun ecs DescribeTaskAttribute --TaskId TASK";
                error.hint = Some(hint.to_owned());
            }
            Verdict::Ended(TaskEnd::Failed(Box::new(error)))
        }
    }
}

/// `"47%"` → 47.
fn percent(text: &str) -> u64 {
    text.trim().trim_end_matches('%').parse().unwrap_or(0).min(100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(task: Value) -> Verdict {
        judge_task(&serde_json::from_value(task).unwrap(), "import task `t-1`")
    }

    #[test]
    fn a_finished_task_with_failed_parts_has_failed() {
        let parts = json!({"OperationProgress": [{"OperationStatus": "Failed",
            "ErrorCode": "InvalidImageFormat.Malformed", "ErrorMsg": "not a disk"}]});
        for task in [
            json!({"TaskStatus": "Finished", "TaskProcess": "100%", "OperationProgressSet": parts}),
            json!({"TaskStatus": "Failed", "OperationProgressSet": parts}),
        ] {
            let Verdict::Ended(TaskEnd::Failed(error)) = verdict(task) else {
                panic!("not failed")
            };
            assert_eq!(error.kind, ErrorKind::InvalidImage);
            assert_eq!(error.context("code"), Some("InvalidImageFormat.Malformed"));
            assert_eq!(error.causes, ["not a disk"]);
            assert!(error.hint.is_some());
        }
        for count in [json!(1), json!("1")] {
            let task = json!({"TaskStatus": "Finished", "FailedCount": count});
            assert!(matches!(verdict(task), Verdict::Ended(TaskEnd::Failed(_))));
        }
    }

    #[test]
    fn a_task_is_done_when_it_finished_whole_and_else_goes_on() {
        let done = json!({"TaskStatus": "Finished", "FailedCount": 0, "SuccessCount": 1,
            "OperationProgressSet": {"OperationProgress": [{"OperationStatus": "Success", "ErrorCode": ""}]}});
        assert!(matches!(verdict(done), Verdict::Ended(TaskEnd::Done)));
        let running = json!({"TaskStatus": "Processing", "TaskProcess": "47%"});
        assert!(matches!(verdict(running), Verdict::Running(47)));
        assert!(matches!(
            verdict(json!({"TaskStatus": "Deleted"})),
            Verdict::Ended(TaskEnd::Failed(_))
        ));
    }

    #[test]
    fn pauses_start_short_and_stay_below_their_bound() {
        let mut pauses = Pauses::up_to(Duration::from_secs(60));
        assert_eq!(pauses.take(None), FIRST_PAUSE);
        let taken: Vec<Duration> = (0..20).map(|_| pauses.take(None)).collect();
        assert_eq!(taken.last(), Some(&LONGEST_PAUSE));
        assert_eq!(Pauses::up_to(Duration::ZERO).take(None), Duration::ZERO);
    }

    #[test]
    fn a_deadline_says_how_to_go_on() {
        let error = Deadline::after(Duration::ZERO).check("import task `t`", None).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout);
        assert!(error.hint.unwrap().contains("ALIBABA_IMPORT_TIMEOUT"));
    }
}
