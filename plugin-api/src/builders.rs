//! Gives every description and document one method per member: `Image::new("m-1", "web").region("cn-hangzhou")`.
//! Documents gain members in minor versions, therefore other crates cannot write literals of them.

use serde_json::Value;

use crate::{
    Architecture, Archive, BootMode, Compression, Description, Disk, DiskFormat, DiskNeeds,
    DiskSpec, DiskVariant, DriverNeed, Error, GuestNeeds, LetterCase, LogLevel, LogRecord,
    MachineNeeds, NameRules, Ovf, OvfConfiguration, OvfNetwork, OvfProduct, OvfProperty, Progress,
    ProgressUnit, Resource, Setting, Status, TagRules,
    document::{
        Action, Audience, Build, CheckReport, CheckRequest, DiscardReason, DiscardRequest,
        Discarded, DiskRequest, Finding, GuestFacts, HostFacts, Image, Inventory, InventoryRequest,
        Item, ItemKind, ItemState, LocateRequest, Located, ManageOutcome, ManageRequest, Managed,
        Purpose, Reference, RegisterRequest, Registered, Remaining, UploadRequest, Uploaded,
    },
};

/// Declares the methods of a document, one line per member: how it is set, its name, and its type where it has one.
macro_rules! builders {
    ($($document:ident { $($kind:ident $member:ident $(: $of:ty)?),+ $(,)? })+) => {
        $(impl $document { $(builders!(@$kind $member $(, $of)?);)+ })+
    };
    (@method $member:ident, ($($argument:tt)+), |$this:ident| $set:expr) => {
        #[doc = concat!("Sets [`", stringify!($member), "`](#structfield.", stringify!($member), ").")]
        #[must_use]
        pub fn $member(mut self, $($argument)+) -> Self {
            let $this = &mut self;
            $set;
            self
        }
    };
    // A text.
    (@text $member:ident) => {
        builders!(@method $member, (text: impl Into<String>), |this| this.$member = text.into());
    };
    // A text that may be absent.
    (@maybe_text $member:ident) => {
        builders!(@method $member, (text: impl Into<String>), |this| this.$member = Some(text.into()));
    };
    // A value.
    (@value $member:ident, $of:ty) => {
        builders!(@method $member, (value: $of), |this| this.$member = value);
    };
    // A value that has a word.
    (@word $member:ident, $of:ty) => {
        builders!(@method $member, (value: impl Into<$of>), |this| this.$member = value.into());
    };
    // A value that may be absent.
    (@maybe $member:ident, $of:ty) => {
        builders!(@method $member, (value: $of), |this| this.$member = Some(value));
    };
    // Several texts.
    (@texts $member:ident) => {
        builders!(@method $member, (texts: impl IntoIterator<Item = impl Into<String>>),
            |this| this.$member = texts.into_iter().map(Into::into).collect());
    };
    // Several values.
    (@list $member:ident, $of:ty) => {
        builders!(@method $member, (values: impl IntoIterator<Item = $of>),
            |this| this.$member = values.into_iter().collect());
    };
    // Names and values.
    (@map $member:ident, $of:ty) => {
        builders!(@method $member, (pairs: impl IntoIterator<Item = (impl Into<String>, impl Into<$of>)>),
            |this| this.$member = pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
    };
}

builders! {
    Description {
        text summary, value status: Status, text homepage, text license, list settings: Setting,
        value disk: DiskNeeds, value guest: GuestNeeds, maybe image_name: NameRules,
        maybe tags: TagRules, value uploads: bool, texts capabilities,
    }
    DiskNeeds { maybe package: DiskSpec }
    GuestNeeds {
        maybe_text hypervisor, map minimum_version: String, texts volumes, value skip_boot_fixup: bool,
        map wishes: Value, maybe machines: MachineNeeds,
    }
    MachineNeeds {
        list architectures: Architecture, list firmware: BootMode, value every_firmware: bool,
        texts schemes, list disks: DriverNeed, list networks: DriverNeed, maybe_text console,
        texts agents, value secure_boot: bool,
    }
    DriverNeed { value optional: bool }
    NameRules {
        value minimum_length: usize, value maximum_length: usize, text pattern, text explanation,
        text replace, value letter_case: LetterCase, texts forbidden_prefixes, texts forbidden_texts,
    }
    TagRules {
        value maximum: usize, value key_length: usize, value value_length: usize,
        texts forbidden_key_prefixes, texts forbidden_value_prefixes, texts forbidden_texts,
        value keys_ignore_case: bool,
    }
    DiskSpec {
        word variant: DiskVariant, value compression: Compression, value archive: Archive,
        text member, text suffix, maybe ovf: Ovf,
    }
    Disk {
        value id: u64, value spec: DiskSpec, value virtual_size: u64, maybe length: u64,
        value length_limit: u64, value deferred_prefix_len: u64, text file_name, text identity,
    }
    Ovf {
        text annotation, maybe product: OvfProduct, maybe_text eula, value hardware_version: u32,
        value uefi: bool, value cpus: u32, value memory_mib: u32, list networks: OvfNetwork,
        list configurations: OvfConfiguration, text manifest_digest,
    }
    OvfProduct { text vendor, text version, text full_version, list properties: OvfProperty }
    OvfProperty { text description, text category, value password: bool }
    OvfConfiguration {
        text description, value cpus: u32, value reserved_mhz: u32, value memory_mib: u32,
    }
    Build {
        text run_id, text image_name, value image_name_chosen: bool, text description,
        map product: String, word architecture: Architecture,
        word boot_mode: BootMode, value virtual_size: u64, map tags: String, maybe_text image_dir, text file_stem, text disk_name,
        maybe guest: GuestFacts,
    }
    GuestFacts {
        maybe_text os, maybe_text os_version, maybe_text os_name, word architecture: Architecture,
        list firmware: BootMode, maybe nvme: bool, texts agents,
    }
    HostFacts { text version, list disks: DiskSpec }
    CheckRequest {
        value host: HostFacts, value online: bool, value dry_run: bool, value purpose: Purpose,
        list same: Reference,
    }
    Finding { maybe_text hint, texts causes }
    CheckReport {
        list findings: Finding, maybe disk: DiskSpec, list creates: Resource, texts permissions,
        maybe bytes_per_second: u64, maybe machines: MachineNeeds, maybe same: Registered,
    }
    RegisterRequest { maybe_text disk_digest }
    DiskRequest { value for_image_dir: bool }
    UploadRequest { value stays: bool }
    Uploaded { maybe_text id, value bytes_sent: u64, map facts: Value }
    Located {
        value length: u64, maybe virtual_size: u64, maybe architecture: Architecture,
        maybe boot_mode: BootMode, maybe guest: GuestFacts,
    }
    Image { maybe_text region }
    Registered { list images: Image, map facts: Value }
    DiscardRequest { text run_id }
    Remaining { maybe_text hint }
    Discarded { list removed: Resource, list remaining: Remaining }
    InventoryRequest {
        maybe_text run_id, list kinds: ItemKind, texts regions, texts names, list items: Reference,
        map tags: String, maybe created_since: u64, maybe created_before: u64, value details: bool,
        value limit: u64, maybe_text after,
    }
    Item {
        text name, maybe_text region, maybe_text run_id, maybe created: u64, value state: ItemState,
        maybe size_bytes: u64, maybe percent: u8, map tags: String, maybe belongs_to: Reference,
        maybe copied_from: Reference, maybe_text disk_digest, maybe leased_until: u64, maybe_text owner,
        value audience: Audience, maybe shared_with: Vec<String>, maybe deprecated_at: u64,
        maybe replacement: Reference, map attributes: String,
    }
    Inventory {
        list items: Item, texts regions, value truncated: bool, maybe_text next, list findings: Finding,
    }
    ManageRequest { text run_id, list images: Reference, value dry_run: bool }
    Managed { text summary, maybe copy: Image }
    ManageOutcome { list results: Managed }
    LogRecord { value fields: Value }
    Progress { value task: u32, value unit: ProgressUnit }
}

impl Description {
    /// Creates the description of a provider: its name and its own version.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), ..Self::default() }
    }

    /// Adds a row of settings.
    #[must_use]
    pub fn setting(mut self, row: Setting) -> Self {
        self.settings.push(row);
        self
    }

    /// Sets the oldest ABI on which the provider works, `major.minor`. Hosts with an older ABI refuse it.
    #[must_use]
    pub fn requires_abi(mut self, version: impl Into<String>) -> Self {
        self.abi.requires = version.into();
        self
    }
}

impl DiskNeeds {
    /// Creates the needs of a cloud that accepts disks of any size in this image format.
    #[must_use]
    pub fn new(spec: DiskSpec) -> Self {
        Self { spec, ..Self::default() }
    }
}

impl DiskSpec {
    /// Creates a request for the default variant of an image format, not compressed and not in an archive.
    #[must_use]
    pub fn new(format: DiskFormat) -> Self {
        Self { format, ..Self::default() }
    }
}

impl Ovf {
    /// Creates the description of the machine `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl OvfNetwork {
    /// Creates a network.
    pub fn new(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), description: description.into(), ..Self::default() }
    }
}

impl OvfProduct {
    /// Creates the section of product `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl OvfProperty {
    /// Creates a value that the user may set.
    pub fn new(key: impl Into<String>, label: impl Into<String>) -> Self {
        Self { key: key.into(), label: label.into(), ..Self::default() }
    }
}

impl OvfConfiguration {
    /// Creates a size that the user may choose.
    pub fn new(id: impl Into<String>, label: impl Into<String>) -> Self {
        Self { id: id.into(), label: label.into(), ..Self::default() }
    }

    /// Sets whether it is used when the user does not choose a size.
    #[must_use]
    pub fn used_by_default(mut self, value: bool) -> Self {
        self.default = value;
        self
    }
}

impl HostFacts {
    /// Creates the facts of a host with this version of build-image.
    pub fn new(version: impl Into<String>) -> Self {
        Self { version: version.into(), ..Self::default() }
    }
}

impl CheckRequest {
    /// Creates the request for a build that ends before the upload.
    #[must_use]
    pub fn new(build: Build) -> Self {
        Self { build, ..Self::default() }
    }
}

impl CheckReport {
    /// Adds a finding.
    #[must_use]
    pub fn finding(mut self, finding: Finding) -> Self {
        self.findings.push(finding);
        self
    }
}

impl Item {
    /// Creates an item: its kind, its identifier in the cloud, and what `discard` takes to remove it.
    pub fn new(kind: ItemKind, id: impl Into<String>, resource: Resource) -> Self {
        Self { kind, id: id.into(), resource, ..Self::default() }
    }
}

impl Inventory {
    /// Adds an object.
    #[must_use]
    pub fn item(mut self, item: Item) -> Self {
        self.items.push(item);
        self
    }
}

impl ManageRequest {
    /// Creates a request: the change, and the images by their identity.
    pub fn new(action: Action, images: impl IntoIterator<Item = Reference>) -> Self {
        Self { action, images: images.into_iter().collect(), ..Self::default() }
    }
}

impl DiskRequest {
    /// Creates a request.
    #[must_use]
    pub fn new(build: Build, spec: DiskSpec) -> Self {
        Self { build, spec, ..Self::default() }
    }
}

impl UploadRequest {
    /// Creates a request.
    #[must_use]
    pub fn new(build: Build, disk: Disk) -> Self {
        Self { build, disk, ..Self::default() }
    }
}

impl Uploaded {
    /// Creates the answer: where the uploaded image is, a URL or a path.
    pub fn new(location: impl Into<String>) -> Self {
        Self { location: location.into(), ..Self::default() }
    }

    /// Adds a fact for `register`. No secrets.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }
}

impl LocateRequest {
    /// Creates a request.
    pub fn new(build: Build, id: impl Into<String>) -> Self {
        Self { build, id: id.into() }
    }
}

impl Located {
    /// Creates the answer: what `upload` would have returned.
    #[must_use]
    pub fn new(uploaded: Uploaded) -> Self {
        Self { uploaded, ..Self::default() }
    }
}

impl RegisterRequest {
    /// Creates a request.
    #[must_use]
    pub fn new(build: Build, uploaded: Uploaded) -> Self {
        Self { build, uploaded, ..Self::default() }
    }
}

impl Image {
    /// Creates an image: its identifier in the cloud, or the path of its file, and its name.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), ..Self::default() }
    }
}

impl Registered {
    /// Adds an image; the first is the image in the build's own region.
    #[must_use]
    pub fn image(mut self, image: Image) -> Self {
        self.images.push(image);
        self
    }

    /// Adds a member of the result document, `<provider>_<name>`. No secrets.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.facts.insert(name.into(), value.into());
        self
    }
}

impl DiscardRequest {
    /// Creates a request to remove these resources, in this order.
    pub fn new(reason: DiscardReason, resources: impl IntoIterator<Item = Resource>) -> Self {
        Self { reason, resources: resources.into_iter().collect(), ..Self::default() }
    }
}

impl Remaining {
    /// Creates the report of a resource that still exists, and why.
    pub fn new(resource: Resource, reason: impl Into<String>) -> Self {
        Self { resource, reason: reason.into(), ..Self::default() }
    }

    /// Creates the report of a resource that could not be removed.
    #[must_use]
    pub fn because_of(resource: Resource, error: &Error) -> Self {
        let causes: String = error.causes.iter().map(|cause| format!(": {cause}")).collect();
        Self { hint: error.hint.clone(), ..Self::new(resource, error.to_string() + &causes) }
    }
}

impl LogRecord {
    /// Creates a record of the module `target`.
    pub fn new(level: LogLevel, target: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level, target: target.into(), message: message.into(), ..Self::default() }
    }
}

impl Progress {
    /// Creates a progress in bytes; a `total` of 0 is unknown.
    #[must_use]
    pub fn new(done: u64, total: u64) -> Self {
        Self { done, total, ..Self::default() }
    }

    /// Creates a progress in percent.
    #[must_use]
    pub fn percent(done: u64) -> Self {
        Self::new(done, 100).unit(ProgressUnit::Percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_reads_as_it_is_written() {
        let spec = DiskSpec::new(DiskFormat::Vhd).variant(DiskVariant::Fixed);
        let made = Description::new("acme", "1.0")
            .summary("images for Acme")
            .disk(DiskNeeds::new(spec.clone()).multiple_of_bytes(1 << 20))
            .guest(GuestNeeds::default().minimum_version([("BIG-IP", "14.1")]))
            .tags(TagRules::default().forbidden_texts(["acs:"]))
            .requires_abi("1.0");
        let document = serde_json::to_value(&made).unwrap();
        for (path, value) in [
            ("/name", Value::from("acme")),
            ("/version", "1.0".into()),
            ("/disk/spec/variant", "fixed".into()),
            ("/disk/multiple_of_bytes", (1 << 20).into()),
            ("/guest/minimum_version/BIG-IP", "14.1".into()),
            ("/tags/forbidden_texts/0", "acs:".into()),
            ("/abi/requires", "1.0".into()),
        ] {
            assert_eq!(document.pointer(path), Some(&value), "{path}");
        }
        assert_eq!(made.disk.spec, spec);
    }
}
