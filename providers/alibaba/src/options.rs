//! Parses the settings of the two long steps, upload and import, into types.

use std::time::Duration;

use build_image_plugin_api::Settings;

use crate::guest::OsType;

/// Parameter with whether the guest has NVMe drivers.
pub(crate) const NVME: &str = "Features.NvmeSupport";
/// Parameter with the licence.
pub(crate) const LICENCE: &str = "LicenseType";
/// Parameter with the check after the import.
pub(crate) const DETECTION: &str = "DetectionStrategy";
/// Maximum number of parts in flight; more would use more memory without more throughput.
const MOST_THREADS: u64 = 64;

/// Tuning of the upload.
#[derive(Clone, Debug)]
pub(crate) struct UploadTuning {
    /// Maximum number of parts in flight.
    pub(crate) threads: usize,
    /// Maximum number of bytes per second.
    pub(crate) rate: Option<u64>,
    /// Requested bytes per part.
    pub(crate) part_size: u64,
    /// Attempts per part.
    pub(crate) attempts: u32,
    /// Longest pause between two attempts.
    pub(crate) longest_pause: Duration,
    /// Longest time without a byte sent.
    pub(crate) stall: Duration,
}

/// Parameters of `ImportImage` in addition to name and source.
#[derive(Clone, Debug)]
pub(crate) struct ImportOptions {
    pub(crate) architecture: Option<String>,
    pub(crate) boot_mode: Option<String>,
    /// The operating system; unset: that of the platform, or what was found on the disk.
    pub(crate) os_type: Option<OsType>,
    /// The distribution; unset: what was found on the disk.
    pub(crate) platform: Option<String>,
    /// Parameters that are passed on unchanged: name and value.
    pub(crate) extra: Vec<(&'static str, String)>,
    /// Longest time until the image is available.
    pub(crate) timeout: Duration,
    /// Longest pause between two polls.
    pub(crate) longest_pause: Duration,
}

impl UploadTuning {
    /// Reads the settings.
    pub(crate) fn read(settings: &Settings) -> Self {
        let number = |key: &str, otherwise| settings.integer(key).unwrap_or(otherwise);
        let threads = number("ALIBABA_THREAD_COUNT", 32).clamp(1, MOST_THREADS);
        Self {
            threads: usize::try_from(threads).unwrap_or(1),
            rate: settings.integer("ALIBABA_UPLOAD_RATE_LIMIT").filter(|&rate| rate > 0),
            part_size: number("ALIBABA_UPLOAD_PART_SIZE", 16 << 20),
            attempts: u32::try_from(number("ALIBABA_UPLOAD_FILE_RETRY_COUNT", 9))
                .unwrap_or(u32::MAX)
                .max(1),
            longest_pause: Duration::from_secs(number("ALIBABA_UPLOAD_FILE_RETRY_DELAY", 60)),
            stall: Duration::from_secs(number("ALIBABA_UPLOAD_STALL_TIMEOUT", 60).max(1)),
        }
    }
}

impl ImportOptions {
    /// Whether the guest has NVMe drivers, if the user set it.
    pub(crate) fn nvme(&self) -> Option<&String> {
        self.extra.iter().find(|(name, _)| *name == NVME).map(|(_, value)| value)
    }

    /// Reads the settings.
    pub(crate) fn read(settings: &Settings) -> Self {
        const PASSED_ON: [(&str, &str); 6] = [
            ("ALIBABA_LICENSE_TYPE", LICENCE),
            ("ALIBABA_NVME_SUPPORT", NVME),
            ("ALIBABA_IMDS_SUPPORT", "Features.ImdsSupport"),
            ("ALIBABA_DETECTION_STRATEGY", DETECTION),
            ("ALIBABA_RESOURCE_GROUP_ID", "ResourceGroupId"),
            ("ALIBABA_ROLE_NAME", "RoleName"),
        ];
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        let number = |key: &str| settings.integer(key).unwrap_or(60);
        let pause = number("ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_DELAY");
        let polls = number("ALIBABA_IMAGE_IMPORT_MONITOR_RETRY_COUNT");
        let timeout =
            settings.integer("ALIBABA_IMPORT_TIMEOUT").unwrap_or(polls.saturating_mul(pause));
        Self {
            architecture: text("ALIBABA_ARCHITECTURE"),
            boot_mode: text("ALIBABA_BOOT_MODE"),
            os_type: settings.text("ALIBABA_OS_TYPE").and_then(OsType::parse),
            platform: text("ALIBABA_PLATFORM"),
            extra: PASSED_ON.iter().filter_map(|&(key, name)| Some((name, text(key)?))).collect(),
            timeout: Duration::from_secs(timeout),
            longest_pause: Duration::from_secs(pause),
        }
    }
}
