//! Interprets the answer about a task: it runs, it succeeded, or it failed and why.
//!
//! Source: ECS API documentation, `DescribeTaskAttribute`; a finished task has not always succeeded.

use build_image_plugin_api::Error;
use serde_json::Value;

use crate::{image::Task, refusal::Refusal};

/// How a task ended.
pub(crate) enum TaskEnd {
    /// With an image.
    Done,
    /// Without an image, for the reason that the service reports.
    Failed(Box<Error>),
}

/// Meaning of a task's answer.
pub(crate) enum Verdict {
    Running(u64),
    Ended(TaskEnd),
}

/// A task that finished has succeeded only if none of its parts failed.
pub(crate) fn judge_task(task: &Task, id: &str, region: &str) -> Verdict {
    let what = format!("import task `{id}`");
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
            let failure = Refusal { code, message, ..Refusal::default() }.into_failure(&what);
            let mut error = (*failure.error).with_context("task_status", status);
            error.retryable = false;
            if error.hint.is_none() {
                error.hint = Some(format!(
                    "look at the task: aliyun ecs DescribeTaskAttribute --RegionId {region} --TaskId {id}"
                ));
            }
            Verdict::Ended(TaskEnd::Failed(Box::new(error)))
        }
    }
}

/// `"47%"` → 47.
pub(crate) fn percent(text: &str) -> u64 {
    text.trim().trim_end_matches('%').parse().unwrap_or(0).min(100)
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::ErrorKind;
    use serde_json::json;

    use super::*;

    fn verdict(task: Value) -> Verdict {
        judge_task(&serde_json::from_value(task).unwrap(), "t-1", "cn-hangzhou")
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
    fn a_task_is_done_when_all_parts_succeeded_and_otherwise_continues() {
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
}
