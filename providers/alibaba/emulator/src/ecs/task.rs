//! Describes import tasks. A task does not run: its state follows from its start, its duration, and the
//! result of inspecting the object, so it needs no thread and survives a restart.

use serde_json::{Value, json};

use super::error::AcsError;
use super::params::Params;
use super::region;
use crate::clock::{self, Millis};
use crate::service::Context;
use crate::state::{Task, Verdict};

/// Below this percentage of its duration a task is still waiting.
const WAITING_PERCENT: i64 = 3;

/// The state of a task at a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    /// `Waiting`, `Processing`, `Finished`, `Failed`, `Deleted`.
    pub(crate) status: &'static str,
    pub(crate) percent: i64,
    pub(crate) finished: Option<Millis>,
    /// The disk was accepted.
    pub(crate) good: bool,
    /// Code and message of a failure.
    pub(crate) failure: Option<(String, String)>,
}

impl View {
    /// Whether the state is final.
    pub(crate) fn is_over(&self) -> bool {
        self.finished.is_some()
    }
}

/// Computes the state of a task.
pub(crate) fn view(task: &Task, now: Millis) -> View {
    let mut view =
        View { status: "Processing", percent: 0, finished: None, good: false, failure: None };
    if let Some(at) = task.cancelled {
        view.status = "Deleted";
        view.finished = Some(at);
        return view;
    }
    let elapsed = (now - task.created).max(0);
    match &task.verdict {
        Some(verdict) if elapsed >= task.lasts => {
            view.percent = 100;
            view.finished = Some(task.created + task.lasts);
            match verdict {
                Verdict::Good { .. } => {
                    view.status = "Finished";
                    view.good = true;
                }
                Verdict::Bad { code, message } => {
                    view.status = if task.finished_though_failed { "Finished" } else { "Failed" };
                    view.failure = Some((code.clone(), message.clone()));
                }
            }
        }
        Some(_) | None => {
            let whole = if task.lasts == 0 { 99 } else { elapsed * 100 / task.lasts };
            view.percent = whole.min(99);
            if view.percent < WAITING_PERCENT {
                view.status = "Waiting";
            }
        }
    }
    view
}

fn fields(task: &Task, view: &View) -> Value {
    let mut value = json!({
        "TaskId": task.id,
        "RegionId": task.region,
        "TaskAction": "ImportImage",
        "TaskStatus": view.status,
        "TaskProcess": format!("{}%", view.percent),
        "SupportCancel": if view.is_over() { "false" } else { "true" },
        "TotalCount": 1,
        "SuccessCount": u32::from(view.good),
        "FailedCount": u32::from(view.failure.is_some()),
        "CreationTime": clock::iso(task.created),
        "FinishedTime": view.finished.map(clock::iso).unwrap_or_default(),
    });
    if let Some((code, message)) = &view.failure {
        value["OperationProgressSet"] = progress(task, "Failed", code, message);
    } else if view.good {
        value["OperationProgressSet"] = progress(task, "Success", "", "");
    } else {
        value["OperationProgressSet"] = progress(task, "Processing", "", "");
    }
    value
}

fn progress(task: &Task, status: &str, code: &str, message: &str) -> Value {
    json!({ "OperationProgress": [{
        "OperationStatus": status,
        "ErrorCode": code,
        "ErrorMsg": message,
        "RelatedItemSet": { "RelatedItem": [{ "Name": "ImageId", "Value": task.image }] },
    }] })
}

fn not_found() -> AcsError {
    AcsError::new(404, "InvalidTaskId.NotFound", "The specified TaskId does not exist.")
}

fn find(context: &Context<'_>, params: &Params) -> Result<Task, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let id = params.need("TaskId")?;
    let world = context.store.world();
    let found = world.tasks.get(id).filter(|task| task.owner == context.account);
    found.filter(|task| task.region == region).cloned().ok_or_else(not_found)
}

/// DescribeTaskAttribute.
pub(crate) fn describe_one(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let task = find(context, params)?;
    Ok(fields(&task, &view(&task, context.now)))
}

/// DescribeTasks.
pub(crate) fn describe(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let region = region::need(context, params, "RegionId")?;
    let (number, size) = params.page()?;
    let wanted: Option<Vec<&str>> = params.get("TaskIds").map(|text| text.split(',').collect());
    if wanted.as_ref().is_some_and(|ids| ids.len() > 100) {
        return Err(AcsError::invalid("InvalidTaskIds.Malformed", "TaskIds"));
    }
    let time = |name: &str| match params.get(name) {
        None => Ok(None),
        Some(text) => clock::parse_iso_minutes(text)
            .or_else(|| clock::parse_iso(text))
            .map(Some)
            .ok_or_else(|| AcsError::invalid(&format!("Invalid{name}.Malformed"), name)),
    };
    let (start, end) = (time("StartTime")?, time("EndTime")?);
    let world = context.store.world();
    let mut tasks: Vec<(&Task, View)> = world
        .tasks
        .iter()
        .filter(|task| task.region == region && task.owner == context.account)
        .filter(|task| wanted.as_ref().is_none_or(|ids| ids.contains(&task.id.as_str())))
        .filter(|_| params.get("TaskAction").is_none_or(|action| action == "ImportImage"))
        .filter(|task| start.is_none_or(|at| task.created >= at))
        .filter(|task| end.is_none_or(|at| task.created <= at))
        .map(|task| (task, view(task, context.now)))
        .filter(|(_, view)| params.get("TaskStatus").is_none_or(|status| status == view.status))
        .collect();
    tasks.sort_by_key(|(task, _)| std::cmp::Reverse(task.created));
    let total = tasks.len();
    let page: Vec<Value> = tasks
        .iter()
        .skip((number - 1) * size)
        .take(size)
        .map(|(task, view)| {
            let mut value = fields(task, view);
            if let Value::Object(fields) = &mut value {
                fields.remove("OperationProgressSet");
            }
            value
        })
        .collect();
    Ok(json!({
        "RegionId": region,
        "TotalCount": total,
        "PageNumber": number,
        "PageSize": size,
        "TaskSet": { "Task": page },
    }))
}

/// CancelTask: removes the image and its snapshots.
pub(crate) fn cancel(context: &Context<'_>, params: &Params) -> Result<Value, AcsError> {
    let mut task = find(context, params)?;
    if view(&task, context.now).is_over() {
        return Err(AcsError::new(
            403,
            "IncorrectTaskStatus",
            "The current status of the task does not support this operation.",
        ));
    }
    task.cancelled = Some(context.now);
    let image = task.image.clone();
    let mut world = context.store.world();
    world.tasks.put(task)?;
    world.remove_snapshots_of(&image)?;
    world.remove_image(&image)?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::view;
    use crate::state::{Task, Verdict};

    fn task(lasts: i64, verdict: Option<Verdict>) -> Task {
        Task {
            id: "t".into(),
            region: "r".into(),
            image: "m".into(),
            created: 1000,
            lasts,
            verdict,
            finished_though_failed: false,
            cancelled: None,
            owner: "1".into(),
        }
    }

    #[test]
    fn a_task_advances_with_the_clock_and_ends_with_its_verdict() {
        let good = Verdict::Good { virtual_size: 1, format: "RAW".into() };
        let running = task(100_000, Some(good));
        assert_eq!(view(&running, 2000).status, "Waiting");
        let half = view(&running, 51_000);
        assert_eq!((half.status, half.percent, half.is_over()), ("Processing", 50, false));
        let done = view(&running, 101_000);
        assert_eq!((done.status, done.percent, done.good), ("Finished", 100, true));
        assert_eq!(view(&task(0, None), 9_000_000).percent, 99);
    }

    #[test]
    fn failures_are_reported_as_failed_or_as_finished_with_a_failure() {
        let bad = Verdict::Bad { code: "C".into(), message: "M".into() };
        let mut failed = task(0, Some(bad));
        let seen = view(&failed, 1000);
        assert_eq!((seen.status, seen.good), ("Failed", false));
        assert_eq!(seen.failure, Some(("C".into(), "M".into())));
        failed.finished_though_failed = true;
        assert_eq!(view(&failed, 1000).status, "Finished");
        failed.cancelled = Some(5);
        assert_eq!(view(&failed, 1000).status, "Deleted");
    }
}
