//! Tests that a provider that leaves the upload to a script meets the requirements on such providers.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use super::{MockHost, readme_differences};
use crate::{
    ErrorKind, Provider, Result, Settings, Status,
    document::{
        Build, CheckRequest, DiscardRequest, DiskRequest, Finding, RegisterRequest, Severity,
        UploadRequest,
    },
};

/// A provider of [`crate::ready::scripted`] under test, in a directory of the test.
#[non_exhaustive]
pub struct ScriptedUploadTest<'a> {
    /// IMAGE_DIR of its builds; exists and is empty.
    pub directory: &'a Path,
    /// Text of its README.md.
    pub readme: &'a str,
    /// Settings of the instance, as keys and values.
    pub settings: &'a [(&'a str, Value)],
    /// Texts that the script in its refusals must contain.
    pub commands: &'a [&'a str],
}

/// Returns a build with a directory for its image and one tag, whose value needs quoting.
#[must_use]
pub fn build_into(directory: &Path) -> Build {
    Build {
        image_name: "my-image".to_owned(),
        file_stem: "disk.cloud".to_owned(),
        disk_name: "disk".to_owned(),
        image_dir: Some(directory.display().to_string()),
        tags: [("owner".to_owned(), "it's us".to_owned())].into(),
        ..Build::default()
    }
}

/// Creates an instance with these settings.
///
/// # Errors
/// The provider's.
pub fn instance<P: Provider>(host: &Arc<MockHost>, pairs: &[(&str, Value)]) -> Result<P> {
    let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    P::create(&host.context(), Settings::from_values(values.collect()))
}

/// Returns the errors among the findings of a build's check.
///
/// # Errors
/// The provider's.
pub fn findings<P: Provider>(provider: &P, build: Build, online: bool) -> Result<Vec<Finding>> {
    let request = CheckRequest { build, online, ..CheckRequest::default() };
    let report = provider.check(&Arc::new(MockHost::new()).context(), &request)?;
    Ok(report.findings.into_iter().filter(|found| found.severity == Severity::Error).collect())
}

impl<'a> ScriptedUploadTest<'a> {
    /// Creates a test of a provider without settings: an empty directory, and the text of its README.md.
    #[must_use]
    pub fn new(directory: &'a Path, readme: &'a str) -> Self {
        Self { directory, readme, settings: &[], commands: &[] }
    }

    /// Sets the settings of the instance, as keys and values.
    #[must_use]
    pub fn settings(mut self, settings: &'a [(&'a str, Value)]) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the texts that the script in its refusals must contain.
    #[must_use]
    pub fn commands(mut self, commands: &'a [&'a str]) -> Self {
        self.commands = commands;
        self
    }

    /// Returns every requirement that the provider does not meet; empty when it meets all.
    ///
    /// # Errors
    /// The provider's, where it must succeed.
    pub fn differences<P: Provider>(&self) -> Result<Vec<String>> {
        let mut differences = readme_differences(self.readme, &P::describe());
        self.description::<P>(&mut differences);
        self.check::<P>(&mut differences)?;
        self.script::<P>(&mut differences)?;
        self.refusals::<P>(&mut differences)?;
        Ok(differences)
    }

    fn instance<P: Provider>(&self, host: &Arc<MockHost>) -> Result<P> {
        instance(host, self.settings)
    }

    fn script_path(&self) -> PathBuf {
        self.directory.join("disk.cloud.upload.sh")
    }

    fn description<P: Provider>(&self, differences: &mut Vec<String>) {
        let description = P::describe();
        claim(differences, description.status == Status::DiskOnly, "its status is not `stub`");
        claim(differences, description.uploads, "its images do not go to a cloud");
        claim(differences, description.disk.package.is_some(), "it names no package for IMAGE_DIR");
        for row in description.settings.iter().filter(|row| row.required) {
            differences.push(format!("{} is required, though nothing is uploaded", row.key));
        }
    }

    fn check<P: Provider>(&self, differences: &mut Vec<String>) -> Result<()> {
        let provider: P = self.instance(&Arc::new(MockHost::new()))?;
        let online = findings(&provider, build_into(self.directory), true)?;
        let refusal =
            online.iter().find(|found| found.kind.map(ErrorKind::code) == Some("unsupported"));
        let hint = refusal.and_then(|found| found.hint.clone()).unwrap_or_default();
        let explained = hint.contains("--no-upload") && hint.contains("disk.cloud.upload.sh");
        claim(
            differences,
            explained,
            "a build that would upload is not refused with what to do instead",
        );
        let offline = findings(&provider, build_into(self.directory), false)?;
        claim(differences, offline.is_empty(), "a build with --no-upload is refused");
        let image_dir = Some("/nonexistent/images".to_owned());
        let absent = Build { image_dir, ..build_into(self.directory) };
        let subjects = findings(&provider, absent, false)?;
        let is_reported = subjects.iter().any(|found| found.subject == "IMAGE_DIR");
        claim(differences, is_reported, "a directory that cannot be written to is not reported");
        Ok(())
    }

    fn script<P: Provider>(&self, differences: &mut Vec<String>) -> Result<()> {
        let host = Arc::new(MockHost::new().with_disk(vec![1; 10]));
        let provider: P = self.instance(&host)?;
        let (disk, script) = (P::describe().disk, self.script_path());
        for (published, spec) in [(false, disk.spec), (true, disk.package.unwrap_or_default())] {
            let build = build_into(self.directory);
            let request = DiskRequest::new(build, spec).for_image_dir(published);
            provider.create_disk(&host.context(), &request)?;
            claim(
                differences,
                script.exists() == published,
                "the script goes with the package only",
            );
        }
        let text = fs::read_to_string(&script).unwrap_or_default();
        claim(differences, text.contains("my-image"), "the script does not know the image's name");
        let mode = fs::metadata(&script).map_or(0, |found| found.permissions().mode());
        claim(differences, mode & 0o100 != 0, "the script cannot be run");
        let entries = fs::read_dir(self.directory).map_or(0, Iterator::count);
        claim(differences, entries == 1, "there is more beside the package than the script");
        let resources = host.resources();
        let recorded =
            resources.len() == 1 && resources.iter().all(|resource| resource.deliverable);
        claim(differences, recorded, "the script is not written down as a product");
        let request = DiscardRequest { resources, ..DiscardRequest::default() };
        let answer = provider.discard(&host.context(), &request)?;
        let gone = answer.remaining.is_empty() && !script.exists();
        claim(differences, gone, "the script outlives a failed build");
        Ok(())
    }

    fn refusals<P: Provider>(&self, differences: &mut Vec<String>) -> Result<()> {
        let host = Arc::new(MockHost::new());
        let provider: P = self.instance(&host)?;
        let build = build_into(self.directory);
        let upload = UploadRequest { build: build.clone(), ..UploadRequest::default() };
        let register = RegisterRequest { build, ..RegisterRequest::default() };
        let errors = [
            provider.upload(&host.context(), &upload).err(),
            provider.register(&host.context(), &register).err(),
        ];
        for error in errors {
            let unsupported =
                error.as_ref().map(|error| error.kind) == Some(ErrorKind::Unsupported);
            claim(differences, unsupported, "a step that is done by hand is not `unsupported`");
            let hint = error.and_then(|error| error.hint).unwrap_or_default();
            for command in self.commands.iter().filter(|command| !hint.contains(**command)) {
                differences.push(format!("a refusal does not show `{command}`"));
            }
        }
        Ok(())
    }
}

fn claim(differences: &mut Vec<String>, holds: bool, otherwise: &str) {
    if !holds {
        differences.push(otherwise.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Description};

    /// Violates every requirement.
    struct Careless;

    impl Provider for Careless {
        fn describe() -> Description {
            Description::default()
        }

        fn create(_: &Context, _: Settings) -> Result<Self> {
            Ok(Self)
        }
    }

    #[test]
    fn every_violated_requirement_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let test = ScriptedUploadTest {
            directory: directory.path(),
            readme: "",
            settings: &[],
            commands: &["cp", "register"],
        };
        let differences = test.differences::<Careless>().unwrap();
        assert_eq!(differences.len(), 14, "{differences:#?}");
    }
}
