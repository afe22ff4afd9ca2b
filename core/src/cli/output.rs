//! Writes the result of a build: summary, result document, exit code.

use build_image_plugin_api::SettingKind;

use super::overwrite;
use crate::{
    error::{Error, Result},
    exit,
    report::{Failure, GroupOutcome, LogFile, Outcome, OutputMode, Reporter, ResultFile},
    settings::{Environment, Layers, OutputFormat, Resolved, Row, Use, core_rows, keys},
};

/// The destinations of the result; known as early as possible, so that early failures are reported too.
#[derive(Debug, Default)]
pub(super) struct Output {
    format: OutputFormat,
    /// Mode of the progress output.
    pub(super) mode: OutputMode,
    file: Option<ResultFile>,
    /// Why the result is not written to the configured file: something else occupies its path.
    refused: Option<Error>,
    log: Option<LogFile>,
}

impl Output {
    /// Applies the settings of the first look at the layers. An invalid value is left to the code that reports it.
    pub(super) fn learn(&mut self, layers: &Layers) {
        let is_read =
            |row: &Row| row.is_used_by(Use::Report) || row.setting.kind == SettingKind::Path;
        let mine = core_rows().into_iter().filter(is_read);
        let is_valid = |row: &Row| layers.resolve(std::slice::from_ref(row)).is_ok();
        let rows: Vec<Row> = mine.filter(is_valid).collect();
        if let Ok(settings) = layers.resolve(&rows) {
            self.set(&settings, &rows, &layers.environment);
        }
    }

    /// Applies the settings.
    pub(super) fn set(&mut self, settings: &Resolved, rows: &[Row], environment: &Environment) {
        self.mode = OutputMode::of(settings, environment);
        let set = &settings.core().output;
        let of_switch = if set.json { OutputFormat::Json } else { OutputFormat::Text };
        self.format = set.format.unwrap_or(of_switch);
        self.refused = overwrite::check(settings, rows).err();
        let file = settings.core().output.result_file.as_deref();
        self.file = file.filter(|_| self.refused.is_none()).map(ResultFile::named);
    }

    /// Sets the log of the build.
    pub(super) fn set_log(&mut self, log: LogFile) {
        self.log = Some(log);
    }

    /// Checks before anything is downloaded or unpacked whether the result can be written.
    ///
    /// # Errors
    /// When it cannot be written; it is not tried again then.
    pub(super) fn probe(&mut self) -> Result<()> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        let Some(file) = &self.file else { return Ok(()) };
        let probed = file.probe();
        if probed.is_err() {
            self.file = None;
        }
        probed
    }

    /// Reports a build that has ended; returns the exit code.
    pub(super) fn finish(&self, result: &Result<()>, outcome: &mut Outcome) -> u8 {
        let mut code = conclude(result, outcome);
        let built = code == exit::DONE;
        let reporter = Reporter::new(self.mode);
        if let Err(error) = result {
            reporter.error(error, code);
        }
        outcome.leftovers.iter().for_each(|leftover| reporter.left_behind(leftover));
        if let Some(file) = &self.file
            && let Err(error) = file.write(outcome)
        {
            reporter.error(&error, error.exit_code());
            code = if built { error.exit_code() } else { code };
        }
        self.warn_of_log(&reporter);
        reporter.finished(outcome, code);
        match self.format {
            OutputFormat::Json => super::print(&format!("{}\n", outcome.text())),
            OutputFormat::Text if built => super::print(&summary(outcome)),
            OutputFormat::Id if built => super::print(&ids(outcome)),
            _ => {}
        }
        code
    }

    /// Reports a build with several targets that has ended; returns the exit code. `targets` are
    /// those that have images.
    pub(super) fn finish_group(
        &self,
        error: Option<&(Error, u8)>,
        outcome: &mut GroupOutcome,
        targets: &[(String, Outcome)],
    ) -> u8 {
        let reporter = Reporter::new(self.mode);
        if let Some((error, code)) = error {
            reporter.error(error, *code);
        }
        if let Some(file) = &self.file
            && let Err(error) = file.write_text(&outcome.text())
        {
            reporter.error(&error, error.exit_code());
            if outcome.exit_code == exit::DONE {
                outcome.exit_code = error.exit_code();
            }
        }
        self.warn_of_log(&reporter);
        reporter.group_finished(outcome);
        let named = |(name, outcome): &(String, Outcome)| {
            summary(outcome).lines().map(|line| format!("{name}: {line}\n")).collect::<String>()
        };
        super::print(&match self.format {
            OutputFormat::Json => format!("{}\n", outcome.text()),
            OutputFormat::Text => targets.iter().map(named).collect(),
            OutputFormat::Id => targets.iter().map(|(_, outcome)| ids(outcome)).collect(),
        });
        outcome.exit_code
    }

    fn warn_of_log(&self, reporter: &Reporter) {
        if let Some((log, why)) = self.log.as_ref().and_then(|log| Some((log, log.lost()?))) {
            let text = format!("the log `{}` is incomplete: {why}", log.path.display());
            reporter.warning(
                &text,
                Some(&format!("set {} to a file system with free space", keys::LOG_FILE)),
            );
        }
    }
}

/// Completes the result of a run that has ended; returns its exit code.
pub(super) fn conclude(result: &Result<()>, outcome: &mut Outcome) -> u8 {
    if !outcome.repeated {
        outcome.end_time = crate::clock::now();
    }
    let mut code = match result {
        Ok(()) => exit::DONE,
        Err(error) => error.exit_code(),
    };
    if ![exit::DONE, exit::FOLLOW_UP].contains(&code) && !outcome.leftovers.is_empty() {
        code = exit::LEFTOVERS;
    }
    outcome.result = if code == exit::DONE { "SUCCESS" } else { "FAILURE" }.to_owned();
    if let Err(error) = result {
        outcome.error = Some(Failure::of(error, code));
    }
    code
}

/// Returns the identifiers of what a build made, one per line: its images, otherwise the uploaded object, otherwise the
/// published file.
fn ids(outcome: &Outcome) -> String {
    let images = outcome.images.iter().map(|image| &image.id);
    let uploaded = outcome.uploaded.iter().map(|uploaded| &uploaded.id);
    let files = outcome.file.iter().chain(&outcome.location).take(1);
    let made = [images.collect::<Vec<_>>(), uploaded.collect(), files.collect()];
    let first = made.into_iter().find(|ids| !ids.is_empty()).unwrap_or_default();
    first.iter().map(|id| format!("{id}\n")).collect()
}

/// Summarises a build, one line per image and published file.
pub(super) fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for image in &outcome.images {
        let region =
            image.region.as_ref().map(|region| format!(" in {region}")).unwrap_or_default();
        text.push_str(&format!("image {} ({}){region}\n", image.id, image.name));
    }
    if let Some(uploaded) = &outcome.uploaded {
        text.push_str(&format!("uploaded {}\n", uploaded.id));
    }
    // A provider that makes local files lists them as images.
    let is_not_image = |file: &&String| outcome.images.iter().all(|image| image.id != **file);
    match (outcome.file.as_ref().filter(is_not_image), &outcome.location) {
        (Some(file), _) => text.push_str(&format!("published {file}\n")),
        (None, Some(directory)) if outcome.images.is_empty() => {
            text.push_str(&format!("published in {directory}\n"));
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        report::ImageEntry,
        settings::{Environment, FileLayer},
    };

    #[test]
    fn every_way_to_request_output_is_accepted() {
        let layers = |typed: &[(&str, &str)], file: &str, environment| Layers {
            command_line: typed
                .iter()
                .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
                .collect(),
            file: FileLayer::parse(Path::new("c.yml"), file).ok(),
            environment,
            ..Layers::default()
        };
        let none = Environment::default;
        use OutputFormat::{Id, Json, Text};
        for (layers, format, quiet) in [
            (layers(&[("JSON", "yes")], "", none()), Json, false),
            (layers(&[], "JSON: yes\nQUIET: on", none()), Json, true),
            (layers(&[("JSON", "no")], "JSON: yes", none()), Text, false),
            (layers(&[], "", Environment::of([("F5_JSON", "1"), ("QUIET", "1")])), Json, false),
            (layers(&[("FORMAT", "id")], "JSON: yes", none()), Id, false),
            (layers(&[("FORMAT", "json")], "", none()), Json, false),
            // The invalid value is reported elsewhere and does not hide the others.
            (layers(&[("JSON", "maybe"), ("QUIET", "true")], "", none()), Text, true),
        ] {
            let mut output = Output::default();
            output.learn(&layers);
            let mode = if quiet { OutputMode::None } else { OutputMode::PLAIN };
            let found = (output.format, output.mode, &output.file);
            assert_eq!(found, (format, mode, &None), "{layers:?}");
        }
        let mut output = Output::default();
        let home = Environment::of([("HOME", "/h"), ("OUTPUT_JSON_FILE", "~/r.json")]);
        output.learn(&layers(&[], "", home));
        assert_eq!(output.file, Some(ResultFile::named("/h/r.json")));
    }

    #[test]
    fn the_summary_names_images_and_files_that_exist() {
        let image = ImageEntry { id: "m-1".into(), name: "n".into(), region: Some("r".into()) };
        let text = |value: &str| Some(value.to_owned());
        let plain = "image m-1 (n) in r\n";
        let with_file = "image m-1 (n) in r\npublished /d/f\n";
        for (images, file, location, expected, id) in [
            (vec![image.clone()], None, None, plain, "m-1\n"),
            (vec![image.clone()], None, text("/d"), plain, "m-1\n"),
            (vec![image.clone()], text("/d/f"), None, with_file, "m-1\n"),
            (vec![image], text("m-1"), text("/d"), plain, "m-1\n"),
            (vec![], text("/d/f"), text("/d"), "published /d/f\n", "/d/f\n"),
            (vec![], None, text("/d"), "published in /d\n", "/d\n"),
        ] {
            let outcome = Outcome { images, file, location, ..Outcome::default() };
            assert_eq!((summary(&outcome).as_str(), ids(&outcome).as_str()), (expected, id));
        }
    }

    #[test]
    fn a_result_that_cannot_be_written_fails_but_keeps_the_build() {
        let directory = tempfile::tempdir().unwrap();
        let taken = directory.path().join("r.json");
        std::fs::create_dir(&taken).unwrap();
        let file = Some(ResultFile::named(taken.to_str().unwrap()));
        let mut output = Output { file, mode: OutputMode::None, ..Output::default() };
        let mut outcome = Outcome::default();
        assert_eq!(output.finish(&Ok(()), &mut outcome), exit::FOLLOW_UP);
        assert_eq!(outcome.result, "SUCCESS");
        let error = output.probe().unwrap_err();
        assert_eq!(output.finish(&Err(error), &mut outcome), exit::USAGE);
    }
}
