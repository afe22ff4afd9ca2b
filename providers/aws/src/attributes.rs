//! Decides the attributes of the image: settings precede what was found on the disk, which precedes what the build
//! states.
//!
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html>.

use build_image_plugin_api::{Architecture, BootMode, Error, Result, Settings, document::Build};

/// Bytes of a GiB.
pub(crate) const GIB: u64 = 1 << 30;
/// Longest description, in characters.
const DESCRIPTION: usize = 255;

/// What the user set.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    architecture: Option<String>,
    boot_mode: Option<String>,
    ena: bool,
    sriov: bool,
    imds: Option<String>,
    tpm: Option<String>,
    root_device: String,
    volume_type: String,
    iops: Option<u64>,
    /// Bytes of the root volume.
    volume_size: Option<u64>,
    delete_on_termination: bool,
}

impl Attributes {
    /// Reads the settings.
    ///
    /// # Errors
    /// Config errors for settings that contradict each other.
    pub(crate) fn read(settings: &Settings) -> Result<Self> {
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let yes = |key: &str| !settings.is_set(key) || settings.boolean(key);
        let made = Self {
            architecture: text("AWS_ARCHITECTURE"),
            boot_mode: text("AWS_BOOT_MODE"),
            ena: yes("AWS_ENA_SUPPORT"),
            sriov: settings.text("AWS_SRIOV_NET_SUPPORT") != Some("none"),
            imds: text("AWS_IMDS_SUPPORT"),
            tpm: text("AWS_TPM_SUPPORT"),
            root_device: text("AWS_ROOT_DEVICE_NAME").unwrap_or_else(|| "/dev/xvda".to_owned()),
            volume_type: text("AWS_VOLUME_TYPE").unwrap_or_else(|| "gp2".to_owned()),
            iops: settings.integer("AWS_VOLUME_IOPS"),
            volume_size: settings.integer("AWS_VOLUME_SIZE"),
            delete_on_termination: yes("AWS_DELETE_ON_TERMINATION"),
        };
        let provisioned = ["io1", "io2"].contains(&made.volume_type.as_str());
        if provisioned && made.iops.is_none() {
            return Err(Error::config(format!(
                "AWS_VOLUME_TYPE is `{}`, and AWS_VOLUME_IOPS is not set",
                made.volume_type
            ))
            .with_hint("set AWS_VOLUME_IOPS, or use gp3"));
        }
        Ok(made)
    }

    /// Returns the architecture in the vendor's words.
    pub(crate) fn architecture(&self, build: &Build) -> &str {
        let found = build.guest.as_ref().map(|guest| &guest.architecture);
        let known = found.filter(|found| **found != Architecture::Unknown);
        match (&self.architecture, known.unwrap_or(&build.architecture)) {
            (Some(chosen), _) => chosen,
            (None, Architecture::Aarch64) => "arm64",
            (None, _) => "x86_64",
        }
    }

    /// Returns the boot mode in the vendor's words.
    pub(crate) fn boot_mode(&self, build: &Build) -> &str {
        let firmware = build.guest.as_ref().map_or(&[][..], |guest| &guest.firmware);
        let starts = |mode: &BootMode| firmware.contains(mode);
        match &self.boot_mode {
            Some(chosen) => chosen,
            // Arm instances have no other firmware.
            None if self.architecture(build) == "arm64" => "uefi",
            None if starts(&BootMode::Uefi) && starts(&BootMode::Bios) => "uefi-preferred",
            None if starts(&BootMode::Uefi) => "uefi",
            None if starts(&BootMode::Bios) => "legacy-bios",
            None if build.boot_mode == BootMode::Uefi => "uefi",
            None => "legacy-bios",
        }
    }

    /// Returns what contradicts the disk.
    pub(crate) fn problems(&self, build: &Build) -> Vec<Error> {
        let mut problems = Vec::new();
        let (architecture, boot_mode) = (self.architecture(build), self.boot_mode(build));
        if architecture == "arm64" && boot_mode != "uefi" {
            problems.push(
                Error::config(format!("AWS_BOOT_MODE is `{boot_mode}`, and arm64 needs `uefi`"))
                    .with_hint("unset AWS_BOOT_MODE"),
            );
        }
        if self.tpm.is_some() && !["uefi", "uefi-preferred"].contains(&boot_mode) {
            problems.push(
                Error::config(format!(
                    "AWS_TPM_SUPPORT is set, and the boot mode is `{boot_mode}`"
                ))
                .with_hint("set AWS_BOOT_MODE=uefi, or unset AWS_TPM_SUPPORT"),
            );
        }
        let disk = build.virtual_size.div_ceil(GIB);
        if let Some(bytes) = self.volume_size
            && bytes.div_ceil(GIB) < disk
        {
            problems.push(
                Error::config(format!(
                    "AWS_VOLUME_SIZE is {} GiB, and the disk needs {disk} GiB",
                    bytes.div_ceil(GIB)
                ))
                .with_hint("unset AWS_VOLUME_SIZE, or set it to the size of the disk or more"),
            );
        }
        problems
    }

    /// Returns the parameters of `RegisterImage` for an image whose root volume is made from a snapshot.
    pub(crate) fn parameters(
        &self,
        build: &Build,
        snapshot: &str,
        snapshot_gib: u64,
    ) -> Vec<(String, String)> {
        let size = self.volume_size.map_or(snapshot_gib, |bytes| bytes.div_ceil(GIB));
        let mut all = vec![
            ("Name", build.image_name.clone()),
            ("Description", description(build)),
            ("Architecture", self.architecture(build).to_owned()),
            ("BootMode", self.boot_mode(build).to_owned()),
            ("VirtualizationType", "hvm".to_owned()),
            ("EnaSupport", self.ena.to_string()),
            ("RootDeviceName", self.root_device.clone()),
            ("BlockDeviceMapping.1.DeviceName", self.root_device.clone()),
            ("BlockDeviceMapping.1.Ebs.SnapshotId", snapshot.to_owned()),
            ("BlockDeviceMapping.1.Ebs.VolumeSize", size.to_string()),
            ("BlockDeviceMapping.1.Ebs.VolumeType", self.volume_type.clone()),
            (
                "BlockDeviceMapping.1.Ebs.DeleteOnTermination",
                self.delete_on_termination.to_string(),
            ),
        ];
        // Volumes of the other types have no such setting.
        let settable = ["gp3", "io1", "io2"].contains(&self.volume_type.as_str());
        let iops = self.iops.filter(|_| settable);
        let optional = [
            ("SriovNetSupport", self.sriov.then(|| "simple".to_owned())),
            ("ImdsSupport", self.imds.clone()),
            ("TpmSupport", self.tpm.clone()),
            ("BlockDeviceMapping.1.Ebs.Iops", iops.map(|iops| iops.to_string())),
        ];
        all.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Returns the description; the vendor's limit is in characters.
pub(crate) fn description(build: &Build) -> String {
    let text = if build.description.is_empty() { &build.image_name } else { &build.description };
    // EC2 refuses what is not ASCII.
    let plain = |letter: char| if letter.is_ascii() { letter } else { '?' };
    text.chars().filter(|letter| !letter.is_control()).map(plain).take(DESCRIPTION).collect()
}

#[cfg(test)]
mod tests {
    use build_image_plugin_api::document::GuestFacts;
    use serde_json::{Value, json};

    use super::*;

    fn read(values: &[(&str, Value)]) -> Result<Attributes> {
        let all = values.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Attributes::read(&Settings::from_values(all.collect()))
    }

    #[test]
    fn settings_precede_the_disk_which_precedes_the_build() {
        use BootMode::{Bios, Uefi};
        let plain = Build::default().architecture(Architecture::X86_64).boot_mode(Bios);
        let found = |firmware: &[BootMode], architecture: Architecture| {
            let guest = GuestFacts::default().firmware(firmware.to_vec());
            plain.clone().guest(guest.architecture(architecture))
        };
        for (values, build, architecture, boot_mode) in [
            (&[][..], plain.clone(), "x86_64", "legacy-bios"),
            (&[], plain.clone().boot_mode(Uefi), "x86_64", "uefi"),
            (&[], plain.clone().architecture(Architecture::Aarch64), "arm64", "uefi"),
            (&[], found(&[Bios, Uefi], Architecture::X86_64), "x86_64", "uefi-preferred"),
            (&[], found(&[Uefi], Architecture::Unknown), "x86_64", "uefi"),
            (&[], found(&[Bios], Architecture::Aarch64), "arm64", "uefi"),
            (&[("AWS_BOOT_MODE", json!("uefi"))], plain.clone(), "x86_64", "uefi"),
            (&[("AWS_ARCHITECTURE", json!("arm64"))], plain.clone(), "arm64", "uefi"),
        ] {
            let attributes = read(values).unwrap();
            let found = (attributes.architecture(&build), attributes.boot_mode(&build));
            assert_eq!(found, (architecture, boot_mode), "{build:?}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(read(&[("AWS_VOLUME_TYPE", json!("io2"))]).unwrap_err().hint.is_some());
        let build = Build::default().virtual_size(3 * GIB + 1);
        for (values, count) in [
            (&[][..], 0),
            (&[("AWS_TPM_SUPPORT", json!("v2.0"))][..], 1),
            (&[("AWS_TPM_SUPPORT", json!("v2.0")), ("AWS_BOOT_MODE", json!("uefi"))], 0),
            (&[("AWS_ARCHITECTURE", json!("arm64")), ("AWS_BOOT_MODE", json!("legacy-bios"))], 1),
            (&[("AWS_VOLUME_SIZE", json!(3 * GIB))], 1),
            (&[("AWS_VOLUME_SIZE", json!(3 * GIB + 1))], 0),
        ] {
            let problems = read(values).unwrap().problems(&build);
            assert_eq!(problems.len(), count, "{values:?} {problems:?}");
            assert!(problems.iter().all(|problem| problem.hint.is_some()));
        }
    }

    #[test]
    fn every_attribute_is_a_parameter() {
        let attributes = read(&[
            ("AWS_SRIOV_NET_SUPPORT", json!("none")),
            ("AWS_ENA_SUPPORT", json!(false)),
            ("AWS_IMDS_SUPPORT", json!("v2.0")),
            ("AWS_VOLUME_TYPE", json!("gp3")),
            ("AWS_VOLUME_IOPS", json!(4000)),
            ("AWS_VOLUME_SIZE", json!(9 * GIB - 1)),
            ("AWS_DELETE_ON_TERMINATION", json!(false)),
            ("AWS_ROOT_DEVICE_NAME", json!("/dev/sda1")),
        ])
        .unwrap();
        let build = Build::default().image_name("web").description("a\nb".repeat(200));
        let all: std::collections::BTreeMap<_, _> =
            attributes.parameters(&build, "snap-1", 4).into_iter().collect();
        for (name, value) in [
            ("Name", "web"),
            ("EnaSupport", "false"),
            ("ImdsSupport", "v2.0"),
            ("RootDeviceName", "/dev/sda1"),
            ("BlockDeviceMapping.1.DeviceName", "/dev/sda1"),
            ("BlockDeviceMapping.1.Ebs.SnapshotId", "snap-1"),
            ("BlockDeviceMapping.1.Ebs.VolumeSize", "9"),
            ("BlockDeviceMapping.1.Ebs.VolumeType", "gp3"),
            ("BlockDeviceMapping.1.Ebs.Iops", "4000"),
            ("BlockDeviceMapping.1.Ebs.DeleteOnTermination", "false"),
        ] {
            assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!all.contains_key("SriovNetSupport") && !all.contains_key("TpmSupport"));
        assert_eq!(all["Description"].len(), DESCRIPTION);
    }
}
