//! The log file: everything at LOG_LEVEL and above, also what plugins log.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::error::{Error, Result, Stage};

/// Where the log goes.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
}

impl LogFile {
    /// Opens the log and sends all tracing of this process to it.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(wanted: Option<&str>, default_name: &str, level: &str) -> Result<Self> {
        let path = place(wanted, default_name);
        let failed = |error: std::io::Error| {
            Error::new(Stage::Settings, format!("cannot write the log file `{}`", path.display()))
                .because(&error)
                .hint("set LOG_FILE to a file or folder this user may write to")
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        // A log says who builds what where: it is its owner's.
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        let level = filter(level);
        // Connection libraries are noisy and see raw requests: their debug output stays out.
        let targets = Targets::new()
            .with_default(level)
            .with_target("hyper", LevelFilter::WARN)
            .with_target("hyper_util", LevelFilter::WARN)
            .with_target("reqwest", LevelFilter::WARN)
            .with_target("rustls", LevelFilter::WARN);
        let layer =
            fmt::layer().with_ansi(false).with_writer(Mutex::new(file)).with_filter(targets);
        // A second call in one process (tests) keeps the first log.
        let _ = tracing_subscriber::registry().with(layer).try_init();
        Ok(Self { path })
    }
}

fn place(wanted: Option<&str>, default_name: &str) -> PathBuf {
    match wanted {
        None => Path::new("logs").join(default_name),
        Some(text) if text.ends_with('/') || Path::new(text).is_dir() => {
            Path::new(text).join(default_name)
        }
        Some(text) if text.contains('/') => PathBuf::from(text),
        Some(name) => Path::new("logs").join(name),
    }
}

fn filter(level: &str) -> LevelFilter {
    match level.to_lowercase().as_str() {
        "critical" | "error" => LevelFilter::ERROR,
        "warning" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_goes_where_it_was_asked_to() {
        for (wanted, path) in [
            (None, "logs/image-x"),
            (Some("/var/log/"), "/var/log/image-x"),
            (Some("a/b"), "a/b"),
            (Some("name"), "logs/name"),
        ] {
            assert_eq!(place(wanted, "image-x"), Path::new(path));
        }
    }
}
