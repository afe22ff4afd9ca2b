//! Writes the builds of a matrix for those that run them: shells, GitHub Actions, GitLab CI, Slurm.

use std::fmt::Write as _;

use build_image_plugin_api::ready::scripted::shell_quote;
use serde_json::{Map, Value, json};

use super::{Matrix, MatrixBuild};
use crate::{exit, settings::keys};

/// Times that a job is started again after a failure that may pass.
const RETRIES: u32 = 2;

impl MatrixBuild {
    /// Returns the arguments of the build: it is made once under its id.
    #[must_use]
    pub fn args(&self, matrix: &Matrix) -> Vec<String> {
        let flag = |key: &str| format!("--{}", key.to_lowercase().replace('_', "-"));
        let mut args = vec![flag(keys::ONCE.name()), self.id.clone()];
        if let Some(config) = &matrix.config {
            args.extend(["-c".to_owned(), config.clone()]);
        }
        args.extend(self.settings.iter().map(|given| {
            // With `=`, a value may begin with a dash, and a switch may be off.
            format!("{}={}", flag(&given.key), given.text)
        }));
        if let Some(results) = &matrix.results {
            let file = format!("{}/{}.json", results.trim_end_matches('/'), self.id);
            args.push(format!("{}={file}", flag(keys::OUTPUT_JSON_FILE.name())));
        }
        args
    }
}

/// Returns the command line of a build, for a POSIX shell.
#[must_use]
pub fn command(matrix: &Matrix, build: &MatrixBuild) -> String {
    let args = build.args(matrix);
    let words = std::iter::once("build-image").chain(args.iter().map(String::as_str));
    words.map(shell_quote).collect::<Vec<String>>().join(" ")
}

/// Returns the value of `strategy.matrix` of GitHub Actions, on one line: each job has `id`, `command`, and the axes.
#[must_use]
pub fn github(matrix: &Matrix, builds: &[MatrixBuild]) -> String {
    let jobs = builds.iter().map(|build| {
        let mut job = Map::new();
        job.insert("id".to_owned(), json!(build.id));
        job.insert("command".to_owned(), json!(command(matrix, build)));
        job.extend(build.axes.iter().map(|(axis, id)| (axis.clone(), json!(id))));
        Value::Object(job)
    });
    json!({"include": jobs.collect::<Vec<Value>>()}).to_string()
}

/// Returns a child pipeline of GitLab CI; JSON is YAML. A job whose runner is lost, or that ends with the code for failures
/// that may pass, is started again; two jobs of one build never run at once.
#[must_use]
pub fn gitlab(matrix: &Matrix, builds: &[MatrixBuild]) -> String {
    let mut jobs = Map::new();
    for build in builds {
        let mut job = json!({
            "script": [command(matrix, build)],
            "resource_group": build.id,
            "retry": {
                "max": RETRIES,
                "when": ["runner_system_failure", "stuck_or_timeout_failure"],
                "exit_codes": [exit::UNAVAILABLE],
            },
        });
        if let Some(results) = &matrix.results {
            job["artifacts"] = json!({"when": "always", "paths": [results]});
        }
        jobs.insert(build.id.clone(), job);
    }
    format!("{:#}\n", Value::Object(jobs))
}

/// Returns a job script of Slurm: an array with one task per build, at most `jobs` at once. A task whose node fails is
/// started again by Slurm, and one that ends with the code for failures that may pass starts itself again.
#[must_use]
pub fn slurm(matrix: &Matrix, builds: &[MatrixBuild], jobs: Option<usize>) -> String {
    let last = builds.len().saturating_sub(1);
    let limit = jobs.map(|jobs| format!("%{jobs}")).unwrap_or_default();
    let directory = matrix.directory().display().to_string();
    let mut text = format!(
        "#!/bin/bash\n#SBATCH --job-name={}\n#SBATCH --array=0-{last}{limit}\n#SBATCH --requeue\n\
         #SBATCH --open-mode=append\n#SBATCH --output={}-%a.log\n\n\
         cd {} || exit\ncase $SLURM_ARRAY_TASK_ID in\n",
        matrix.name,
        matrix.name,
        shell_quote(&directory)
    );
    for (at, build) in builds.iter().enumerate() {
        let _ = writeln!(text, "{at}) {} ;;", command(matrix, build));
    }
    let again = "scontrol requeue \"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"";
    let _ = write!(
        text,
        "esac\ncode=$?\n\
         if [ $code = {} ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {RETRIES} ]; then\n    {again}\nfi\nexit $code\n",
        exit::UNAVAILABLE
    );
    text
}
