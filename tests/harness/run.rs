//! Runs the program once and checks the outcome.

use std::process::Output;

use serde_json::Value;

/// The output of a run and how it ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The result document, if it was requested.
    pub(crate) result: Option<Value>,
}

impl Run {
    pub(crate) fn of(output: &Output, result: Option<Value>) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            result,
        }
    }

    /// The run must have succeeded.
    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        assert_eq!(self.code, 0, "\n{}\n{}", self.stdout, self.stderr);
        self
    }

    /// The run must have failed with this code, with all of these texts, and with exactly one error.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, texts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "\n{}\n{}", self.stdout, self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "`{text}` is missing in\n{}", self.stderr);
        }
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "one clear error is wanted:\n{}", self.stderr);
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        self
    }

    /// A member of the result document.
    #[track_caller]
    pub(crate) fn member(&self, name: &str) -> &Value {
        let result = self.result.as_ref().expect("the run wrote no result document");
        result.get(name).unwrap_or_else(|| panic!("no `{name}` in {result:#}"))
    }
}
