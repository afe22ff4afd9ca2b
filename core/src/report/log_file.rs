//! Writes the log file: all messages at LOG_LEVEL and above, including those of plugins.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use build_image_files::{abandoned::is_temporary, temporary_path};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    artifacts::open_unlinked,
    error::{Error, Result, Stage},
    settings::{LogLevel, Resolved, keys},
    trust::doubt_of_path,
};

/// Default directory of logs.
pub(crate) const LOGS: &str = "logs";
/// Maximum attempts to create a link while other builds create it at the same time.
const ATTEMPTS: usize = 16;

/// The log of this process.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    lost: Arc<OnceLock<String>>,
}

/// Writes to the log until that fails. A log that cannot be written does not end a build.
struct Writer {
    file: File,
    /// Why lines are missing, if so.
    lost: Arc<OnceLock<String>>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.file.write_all(bytes) {
            let _ = self.lost.set(error.to_string());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Names in the directory of logs.
#[derive(Clone, Debug)]
pub struct LogNames {
    /// The log of one run.
    pub file: String,
    /// Links to the last log.
    pub links: Vec<String>,
    /// Directory of logs if the working directory of a resumed run does not exist any more.
    pub fallback: Option<PathBuf>,
}

impl LogFile {
    /// Opens the log and sends all tracing of this process to it. Lines of other processes are kept: a run has
    /// its own file, and a file that the user names is appended to.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn start(settings: &Resolved, names: &LogNames) -> Result<Self> {
        let output = &settings.core().output;
        let (path, named_here) = place(output.log_file.as_deref(), &names.file);
        let is_lost = path.is_relative() && !settings.relative_to_run(PathBuf::new()).exists();
        let path = match &names.fallback {
            Some(directory) if is_lost => directory.join(path.file_name().unwrap_or_default()),
            _ => settings.relative_to_run(path),
        };
        let write_error = |error: io::Error| {
            Error::new(Stage::Settings, format!("cannot write the log file `{}`", path.display()))
                .caused_by(&error)
                .hint(format!(
                    "set {} to a file or directory this user may write to",
                    keys::LOG_FILE
                ))
        };
        if let Some(directory) = path.parent() {
            if named_here {
                refuse_foreign_link(directory).map_err(write_error)?;
            }
            fs::create_dir_all(directory).map_err(write_error)?;
        }
        let file = open(&path, named_here).map_err(write_error)?;
        if path.file_name().is_some_and(|name| name == names.file.as_str()) {
            for link in &names.links {
                // A missing link is ignored.
                if let Err(error) = point(&path.with_file_name(link), &names.file) {
                    tracing::debug!(link, %error, "the link to the last log was not made");
                }
            }
        }
        let level = filter(output.log_level);
        // Connection libraries are noisy and log raw requests: their debug output is not logged.
        let targets = Targets::new()
            .with_default(level)
            .with_target("hyper", LevelFilter::WARN)
            .with_target("hyper_util", LevelFilter::WARN)
            .with_target("reqwest", LevelFilter::WARN)
            .with_target("rustls", LevelFilter::WARN);
        let lost = Arc::new(OnceLock::new());
        let writer = Mutex::new(Writer { file, lost: Arc::clone(&lost) });
        let layer = fmt::layer().with_ansi(false).with_writer(writer).with_filter(targets);
        // A second call in one process (tests) keeps the first log.
        let _ = tracing_subscriber::registry().with(layer).try_init();
        Ok(Self { path, lost })
    }

    /// Returns why lines are missing in the log, if so.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }
}

/// Opens the log, readable by its owner only, since it contains details of the builds. At a path that others
/// can guess, only a regular file is written to; a path that the user named may also be a link, a pipe or a
/// device.
fn open(path: &Path, named_here: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    if !named_here {
        return options.open(path);
    }
    let file = open_unlinked(&mut options, path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Creates a link atomically, replacing an earlier link or a log of an older version; a directory is kept.
fn point(link: &Path, target: &str) -> io::Result<()> {
    remove_abandoned_links(link);
    let mut attempts = 1..=ATTEMPTS;
    loop {
        let temporary = temporary_path(link)?;
        std::os::unix::fs::symlink(target, &temporary)?;
        match fs::rename(&temporary, link) {
            // Another build removed it as abandoned.
            Err(error) if error.kind() == ErrorKind::NotFound && attempts.next().is_some() => {}
            renamed => {
                return renamed.inspect_err(|_| {
                    let _ = fs::remove_file(&temporary);
                });
            }
        }
    }
}

/// Removes temporary links of killed processes. Links have no locks: a link that another build is creating is
/// created again.
fn remove_abandoned_links(link: &Path) {
    let Some((directory, name)) = link.parent().zip(link.file_name()) else { return };
    let start = format!(".{}.", name.to_string_lossy());
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name.to_string_lossy().starts_with(&start) && is_temporary(&name);
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Refuses the directory of logs if it is a link of another user: it may lead anywhere.
fn refuse_foreign_link(directory: &Path) -> io::Result<()> {
    if !directory.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return Ok(());
    }
    match doubt_of_path(directory)? {
        Some(doubt) => Err(io::Error::other(format!("the link {doubt}"))),
        None => Ok(()),
    }
}

/// Returns the path, and whether its file name is chosen by this program.
fn place(setting: Option<&str>, default_name: &str) -> (PathBuf, bool) {
    match setting {
        None => (Path::new(LOGS).join(default_name), true),
        Some(text) if text.ends_with('/') || Path::new(text).is_dir() => {
            (Path::new(text).join(default_name), true)
        }
        Some(text) if text.contains('/') => (PathBuf::from(text), false),
        Some(name) => (Path::new(LOGS).join(name), true),
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Critical | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_reports_why_lines_are_missing() {
        let lost = Arc::new(OnceLock::new());
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = Writer { file, lost: Arc::clone(&lost) };
        writer.write_all(b"a line\n").unwrap();
        assert!(lost.get().unwrap().contains("No space left"), "{lost:?}");
    }

    #[test]
    fn the_log_is_written_to_the_requested_path() {
        for (setting, path, named_here) in [
            (None, "logs/image-x", true),
            (Some("/var/log/"), "/var/log/image-x", true),
            (Some("a/b"), "a/b", false),
            (Some("name"), "logs/name", true),
        ] {
            assert_eq!(place(setting, "image-x"), (PathBuf::from(path), named_here));
        }
    }

    #[test]
    fn the_links_point_at_the_last_log_and_logs_are_never_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("image-x"), "of an older version").unwrap();
        for name in ["1.log", "2.log", "2.log"] {
            writeln!(open(&at(name), true).unwrap(), "line").unwrap();
            point(&at("image-x"), name).unwrap();
            point(&at("latest"), name).unwrap();
        }
        assert_eq!(fs::read_link(at("latest")).unwrap(), Path::new("2.log"));
        assert_eq!(fs::read_to_string(at("image-x")).unwrap(), "line\nline\n");
        assert_eq!(fs::read_to_string(at("1.log")).unwrap(), "line\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
        // The temporary link of a killed build is removed; a directory at an old temporary path is ignored.
        fs::create_dir(at(".latest.part")).unwrap();
        std::os::unix::fs::symlink("1.log", at(".latest.0f.part")).unwrap();
        point(&at("latest"), "1.log").unwrap();
        assert_eq!(fs::read_link(at("latest")).unwrap(), Path::new("1.log"));
        assert!(at(".latest.0f.part").symlink_metadata().is_err());
        fs::remove_dir(at(".latest.part")).unwrap();
        fs::create_dir(at("taken")).unwrap();
        assert!(point(&at("taken"), "1.log").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 5);
    }
}
