//! Reads from the settings whose keys are used.

use build_image_plugin_api::Settings;

use crate::endpoint::Endpoint;

/// Whose keys are used, as far as the settings specify it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    /// Profile of the vendor's command line.
    pub(crate) profile: Option<String>,
    /// Its configuration file.
    pub(crate) config_file: Option<String>,
    /// The STS endpoint that the user configured.
    pub(crate) sts: Option<String>,
    /// Address of the metadata service; `off` when none is available.
    pub(crate) metadata: Option<String>,
}

impl Identity {
    /// Reads the settings.
    pub(crate) fn read(settings: &Settings) -> Self {
        let text =
            |key: &str| settings.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
        // With the cloud on this machine, this machine is not an instance of the real cloud.
        let at_home = ["ALIBABA_OSS_ENDPOINT", "ALIBABA_STS_ENDPOINT", "ALIBABA_ECS_ENDPOINT"]
            .iter()
            .filter_map(|key| text(key))
            .any(|endpoint| {
                Endpoint::sts(Some(&endpoint)).is_ok_and(|server| server.is_loopback())
            });
        let metadata = text("ALIBABA_METADATA_ENDPOINT");
        Self {
            profile: text("ALIBABA_PROFILE"),
            config_file: text("ALIBABA_CONFIG_FILE"),
            sts: text("ALIBABA_STS_ENDPOINT"),
            metadata: metadata.or_else(|| at_home.then(|| "off".to_owned())),
        }
    }
}
