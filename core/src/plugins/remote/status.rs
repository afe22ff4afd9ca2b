//! Describes how a provider's process ended.

use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

use build_image_plugin_api::{Error, ErrorKind, conformance::signal_name};

/// The error of a process that ended, or closed its output, before it answered.
pub(super) fn ended(status: Option<ExitStatus>) -> Error {
    let Some(status) = status else {
        return died("its process closed its output and lives on")
            .with_hint("this is a bug of the provider; report it with the log file");
    };
    match status.signal() {
        Some(9) => died("its process was killed by SIGKILL (signal 9)")
            .with_hint("if nobody did that, the kernel did because memory ran out: dmesg shows it"),
        Some(signal) => {
            let name = signal_name(signal).map_or_else(String::new, |name| format!("{name} "));
            died(format!("its process was killed by {name}(signal {signal})"))
                .with_hint("this is a bug of the provider; report it with the log file")
        }
        None => died(format!(
            "its process ended with exit status {} before it answered",
            status.code().unwrap_or_default()
        ))
        .with_hint("the log file has what it wrote to standard error"),
    }
}

fn died(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Panic, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_end_is_described() {
        for (raw, expected) in [
            (11, "killed by SIGSEGV (signal 11)"),
            (9, "killed by SIGKILL (signal 9)"),
            (6 | 0x80, "killed by SIGABRT (signal 6)"),
            (40, "killed by (signal 40)"),
            (3 << 8, "exit status 3"),
            (0, "exit status 0"),
        ] {
            let error = ended(Some(ExitStatus::from_raw(raw)));
            assert!(error.message.contains(expected) && error.hint.is_some(), "{error}");
        }
        assert!(ended(None).message.contains("closed its output"));
    }
}
