//! Converts what was found on a disk into the document for a provider.

use build_image_guest::{Attributes, model::Firmware};
use build_image_plugin_api::{Architecture, BootMode, document::GuestFacts};

/// Converts attributes into the document for the provider; `None` if nothing is known.
pub(crate) fn guest_facts(attributes: &Attributes) -> Option<GuestFacts> {
    let Attributes { firmware, architecture, nvme, os, os_version, os_name, agents } =
        attributes.clone();
    let firmware = firmware.iter().map(|firmware| match firmware {
        Firmware::Bios => BootMode::Bios,
        Firmware::Uefi => BootMode::Uefi,
    });
    let mut facts = GuestFacts::default()
        .architecture(architecture.map(Architecture::from).unwrap_or_default())
        .firmware(firmware)
        .agents(agents);
    (facts.nvme, facts.os, facts.os_version, facts.os_name) = (nvme, os, os_version, os_name);
    (facts != GuestFacts::default()).then_some(facts)
}
