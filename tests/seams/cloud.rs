//! Defines what the bench needs from a cloud, and counts and refuses requests to a real service.

use std::path::Path;

use build_image_fault_proxy::{Options, Running, start};
use serde_json::{Value, json};

use crate::harness::Sandbox;

/// Provider and further arguments of a build.
pub(super) type Words = &'static [&'static str];
/// The directory of a build with its disk, and the cloud that it publishes to: none for a local provider.
pub(super) type Place<'a> = (Sandbox, Option<Box<dyn Cloud + 'a>>);

/// A cloud that has an image of the same name already, if the build is about that.
pub(super) trait Cloud {
    /// Arguments that name what the build makes.
    fn arguments(&self) -> Vec<String>;

    /// A setting that `resume` must refuse, since it would make another image.
    fn other(&self) -> Vec<String> {
        ["--cloud-image-name", "another-name"].map(str::to_owned).to_vec()
    }

    /// Refuses the request of this number from here, or none.
    fn refuse(&self, sandbox: &Sandbox, number: Option<u64>);

    /// Number of requests of the build.
    fn requests(&self) -> u64;

    /// Identifiers and comparable properties of the images of a build that succeeded. Checks that an earlier image is
    /// what the build makes of it, and that nothing else is left. `what` disturbed the build.
    fn made(&self, sandbox: &Sandbox, what: &str) -> Result<Vec<(String, Value)>, String>;

    /// Checks that an earlier image is unchanged, and that nothing else is left. `what` disturbed the build.
    fn is_untouched(&self, sandbox: &Sandbox, what: &str) -> Result<(), String>;

    /// Checks that an image holds the same disk as a raw file.
    fn holds(&self, image: &str, raw: &Path) -> Result<(), String>;

    /// Texts that differ between two builds of one disk, and what replaces them.
    fn texts(&self, sandbox: &Sandbox) -> Vec<(String, &'static str)>;
}

/// A proxy before a service.
pub(super) struct Front(Running);

impl Front {
    pub(super) fn of(service: &str) -> Self {
        let mut options = Options::new(service);
        options.plain = true;
        let front = Self(start(&options).unwrap());
        front.refuse(None);
        front
    }

    pub(super) fn url(&self) -> String {
        self.0.url()
    }

    /// Host and port.
    pub(super) fn address(&self) -> String {
        self.0.address().to_string()
    }

    /// Refuses the request of this number from here, or none.
    pub(super) fn refuse(&self, number: Option<u64>) {
        // A rule counts requests, also those that it does not strike.
        let rule = json!({"nth": number.unwrap_or(u64::MAX), "fault": {"status": {"code": 403}}});
        self.0.set_rules(&json!([rule]).to_string()).unwrap();
    }

    /// Number of requests since the last call of [`Self::refuse`].
    pub(super) fn requests(&self) -> u64 {
        self.0.rules()["rules"][0]["selected"].as_u64().unwrap()
    }
}

/// Whether a tag's value is drawn or counted for each build: a time, or hexadecimal digits. The id of a run, which may
/// look like both, is not.
pub(super) fn is_drawn(value: &str) -> bool {
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    lengths != [8, 6, 6]
        && value.len() >= 8
        && value.chars().all(|letter| letter.is_ascii_hexdigit() || "-:TZ".contains(letter))
}
