//! The log file: everything at LOG_LEVEL and above, also what plugins log.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Mutex,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    artifacts::open_unlinked,
    error::{Error, Result, Stage},
};

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
        let (path, named_here) = place(wanted, default_name);
        let failed = |error: io::Error| {
            Error::new(Stage::Settings, format!("cannot write the log file `{}`", path.display()))
                .because(&error)
                .hint("set LOG_FILE to a file or folder this user may write to")
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let file = open(&path, named_here).map_err(failed)?;
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

/// Opens the log. It says who builds what where: it is its owner's. Under a name that others can guess, nothing
/// but a file is written to; what the user named may also be a link, a pipe or a device.
fn open(path: &Path, named_here: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    if !named_here {
        return options.truncate(true).open(path);
    }
    let file = open_unlinked(&mut options, path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    Ok(file)
}

/// The path, and whether its last name is ours.
fn place(wanted: Option<&str>, default_name: &str) -> (PathBuf, bool) {
    match wanted {
        None => (Path::new("logs").join(default_name), true),
        Some(text) if text.ends_with('/') || Path::new(text).is_dir() => {
            (Path::new(text).join(default_name), true)
        }
        Some(text) if text.contains('/') => (PathBuf::from(text), false),
        Some(name) => (Path::new("logs").join(name), true),
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
        for (wanted, path, named_here) in [
            (None, "logs/image-x", true),
            (Some("/var/log/"), "/var/log/image-x", true),
            (Some("a/b"), "a/b", false),
            (Some("name"), "logs/name", true),
        ] {
            assert_eq!(place(wanted, "image-x"), (PathBuf::from(path), named_here));
        }
    }
}
