//! Implements a provider that makes the disk for its cloud and leaves the upload to a script: builds end with
//! `--no-upload`, and the script, beside the package in IMAGE_DIR, uploads and registers the image.

use std::path::PathBuf;

use super::directory;
use crate::{
    Context, Description, Disk, DiskSpec, Error, Provider, Result, Settings,
    document::{
        Build, CheckReport, CheckRequest, DiscardRequest, Discarded, DiskRequest, Finding,
        RegisterRequest, Registered, UploadRequest, Uploaded,
    },
};

/// Suffix of the script's name.
const SUFFIX: &str = "upload.sh";

/// The cloud-specific part of a provider of this kind. A type that implements it is a [`Provider`].
pub trait ScriptedUpload: Sized + Send + Sync + 'static {
    /// Name of the cloud in messages.
    const CLOUD: &'static str;

    /// See [`Provider::describe`]. `disk.package` is written into IMAGE_DIR.
    fn describe() -> Description;

    /// See [`Provider::create`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for settings that contradict each other.
    fn create(context: &Context, settings: Settings) -> Result<Self>;

    /// Returns the findings of the preflight check of a build.
    fn findings(&self, build: &Build) -> Vec<Finding>;

    /// Returns the script for a file with this format.
    fn script(&self, build: &Build, spec: &DiskSpec, file: &str) -> String;

    /// Returns the disk that the host must make, when it depends on more of the build than the description can
    /// express.
    ///
    /// # Errors
    /// Any failure that prevents the decision.
    fn spec(&self, build: &Build, spec: &DiskSpec) -> Result<DiskSpec> {
        let _ = build;
        Ok(spec.clone())
    }
}

/// The provider that a [`ScriptedUpload`] is: what [`export_provider!`](crate::export_provider) takes.
#[derive(Debug)]
pub struct Scripted<T>(T);

impl<T: ScriptedUpload> Provider for Scripted<T> {
    fn describe() -> Description {
        T::describe()
    }

    fn create(context: &Context, settings: Settings) -> Result<Self> {
        T::create(context, settings).map(Self)
    }

    fn check(&self, _: &Context, request: &CheckRequest) -> Result<CheckReport> {
        let mut findings = vec![check(request, T::CLOUD)];
        findings.extend(self.0.findings(&request.build));
        Ok(CheckReport { findings, ..CheckReport::default() })
    }

    fn create_disk(&self, context: &Context, request: &DiskRequest) -> Result<Disk> {
        let build = &request.build;
        let disk = context.make_disk(&self.0.spec(build, &request.spec)?)?;
        if request.for_image_dir {
            write(context, build, &self.0.script(build, &request.spec, &disk.file_name))?;
        }
        Ok(disk)
    }

    fn upload(&self, _: &Context, request: &UploadRequest) -> Result<Uploaded> {
        Err(refused_step(&self.0, "upload", &request.build))
    }

    fn register(&self, _: &Context, request: &RegisterRequest) -> Result<Registered> {
        Err(refused_step(&self.0, "register", &request.build))
    }

    fn discard(&self, context: &Context, request: &DiscardRequest) -> Result<Discarded> {
        directory::remove(context, request)
    }
}

/// Returns the error of a step that the script replaces, for the file that the build would have made.
fn refused_step<T: ScriptedUpload>(provider: &T, step: &str, build: &Build) -> Error {
    let spec = T::describe().disk.package.unwrap_or_default();
    let file = format!("{}.{}", build.file_stem, spec.file_suffix());
    stub_error(step, build, &provider.script(build, &spec, &file))
}

/// Refuses a build that would upload; otherwise checks that IMAGE_DIR is writable.
fn check(request: &CheckRequest, cloud: &str) -> Finding {
    if !request.online {
        return directory::check(request);
    }
    let script = script_path(&request.build).map_or_else(|_| SUFFIX.to_owned(), display_path);
    let error = Error::unsupported(
        format!("this provider is a stub: it makes the disk for {cloud} but does not upload it"),
        format!("build with --no-upload, then run `{script}`"),
    );
    Finding::error("upload", &error)
}

/// Returns the error of a step that the script replaces. The hint contains the script.
fn stub_error(step: &str, build: &Build, script: &str) -> Error {
    let path = script_path(build).map_or_else(|_| SUFFIX.to_owned(), display_path);
    Error::unsupported(
        format!("this provider is a stub and does not {step}"),
        format!("build with --no-upload, which writes `{path}`:\n{script}"),
    )
}

/// Writes the script beside the package; the host names it when the build is done.
fn write(context: &Context, build: &Build, script: &str) -> Result<()> {
    directory::write_script(context, &script_path(build)?, script)
}

fn script_path(build: &Build) -> Result<PathBuf> {
    Ok(directory::path(build)?.join(format!("{}.{SUFFIX}", build.file_stem)))
}

#[expect(clippy::needless_pass_by_value, reason = "used as a mapping")]
fn display_path(path: PathBuf) -> String {
    path.display().to_string()
}

/// Replaces each `@NAME@` of a script with its value, quoted for the shell. Other at-signs are kept.
#[must_use]
pub fn render(template: &str, values: &[(&str, &str)]) -> String {
    let mut script = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('@') {
        script.push_str(before);
        let placeholder = after.split_once('@').and_then(|(name, behind)| {
            let (_, value) = values.iter().find(|(key, _)| *key == name)?;
            Some((value, behind))
        });
        match placeholder {
            Some((value, behind)) => {
                script.push_str(&shell_quote(value));
                rest = behind;
            }
            None => {
                script.push('@');
                rest = after;
            }
        }
    }
    script + rest
}

/// Quotes a text as one shell word.
#[must_use]
pub fn shell_quote(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Limits on the length of image names that the user set: `<PREFIX>_IMAGE_NAME_LENGTH_MIN` and `_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLength {
    least: u64,
    most: u64,
}

impl NameLength {
    /// Reads both settings.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when no name can satisfy both limits.
    pub fn of(settings: &Settings, prefix: &str) -> Result<Self> {
        let key = |end: &str| format!("{prefix}_IMAGE_NAME_LENGTH_{end}");
        let least = settings.integer(&key("MIN")).unwrap_or(0);
        let most = settings.integer(&key("MAX")).unwrap_or(u64::MAX);
        if least > most || most == 0 {
            return Err(Error::config(format!(
                "no name has at least {least} ({}) and at most {most} characters ({})",
                key("MIN"),
                key("MAX")
            ))
            .with_hint("leave both settings out"));
        }
        Ok(Self { least, most })
    }

    /// Checks the length of the image name of a build, in characters.
    #[must_use]
    pub fn check(&self, build: &Build) -> Finding {
        let (name, length) = (&build.image_name, build.image_name.chars().count() as u64);
        if (self.least..=self.most).contains(&length) {
            return Finding::ok("image name", format!("`{name}` is allowed"));
        }
        let text = format!(
            "image name `{name}` has {length} characters, not {} to {}",
            self.least, self.most
        );
        Finding::error("image name", &Error::config(text).with_hint("set CLOUD_IMAGE_NAME"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a shell verifies the quoting")]
    fn values_reach_a_script_as_they_are() {
        let values = ["it's", "$(id) \"x\"", "a@B@c", "", "plain-1.0/x", "line\nfeed"];
        for value in values {
            let script = render("printf %s @A@; : me@here @B@", &[("A", value)]);
            assert!(script.ends_with("; : me@here @B@"), "{script}");
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value, "{script}");
        }
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let settings = |least: u64, most: u64| {
            let pairs = [("MIN", least), ("MAX", most)];
            Settings::from_values(
                pairs.map(|(end, n)| (format!("X_IMAGE_NAME_LENGTH_{end}"), n.into())).into(),
            )
        };
        let build = Build { image_name: "abcde".into(), ..Build::default() };
        for (least, most, fine) in [(1, 5, true), (6, 9, false), (0, 4, false)] {
            let found = NameLength::of(&settings(least, most), "X").unwrap().check(&build);
            assert_eq!(found.kind.is_none(), fine, "{least} {most}");
        }
        assert!(NameLength::of(&settings(5, 4), "X").is_err());
        assert!(NameLength::of(&settings(0, 0), "X").is_err());
    }
}
