//! Declares the settings of the core: one table of rows, from which keys, flags, help, and the settings of each command
//! are derived. Providers declare theirs in their descriptions.

use build_image_plugin_api::{Setting, SettingKind as Kind};

use super::{
    define::settings,
    key::Key,
    row::{AppliesTo, Named, OnResume, Row, Use, Written},
    words::{
        BootDiskBus, BootFirmware, BootNic, ColorMode, GuestCheck, IfExists, IfSame, LogLevel,
        OnFailure, OutputFormat, Package, ProgressMode, SbomFormat,
    },
};

/// Help headings.
const BUILD: &str = "Build";
pub(crate) const GROUP_OF_SOURCES: &str = "Source";
const SOURCE: &str = GROUP_OF_SOURCES;
const DISK: &str = "Disk";
const BOOT: &str = "Boot test";
const OUTPUT: &str = "Output";
const PLUGINS: &str = "Provider plugins";

/// Pattern of a SHA-256.
pub(super) const SHA256: &str = "[0-9a-fA-F]{64}";

settings![
    PLATFORM(BUILD, Text, "the provider: where the image goes; several, separated by commas, make one build with several targets")
        .flag('p')
        .pattern("[a-z][a-z0-9_]*")
        .used_by(&[Use::Images, Use::Selection, Use::Help]),
    CONFIG_FILE(BUILD, Path, "YAML file of settings").flag('c').names(Named::YAML).explicit_only().used_by(&[
        Use::Images, Use::Selection,
        Use::Adoption,
        Use::Doctor,
        Use::Help,
        Use::Providers,
        Use::Runs
    ]),
    CLOUD_IMAGE_NAME(BUILD, Text, "exact name of the image; composed when not set")
        .on_resume(OnResume::Fixed),
    UPLOAD_ONLY(BUILD, Switch, "stop after the upload and keep the uploaded object; build-image upload sets it")
        .prefixed_only()
        .on_resume(OnResume::Fixed),
    NO_UPLOAD(BUILD, Switch, "stop when the disk image is published in IMAGE_DIR")
        .on_resume(OnResume::Fixed),
    REUSE(BUILD, Switch, "keep the artifacts when the build is done"),
    ONCE(
        BUILD,
        Text,
        "name of this build: with the same name, a killed build is resumed, and a finished one is reported again instead of being repeated"
    )
    .prefixed_only()
    .pattern("[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
    .example("nightly-42"),
    ON_FAILURE(BUILD, Text, "what becomes of a failed build: removed, or kept for resume")
        .prefixed_only()
        .choices(OnFailure::WORDS)
        .default_value("undo"),
    FAIL_FAST(BUILD, Switch, "of a build with several targets: when one fails, stop and undo those that are not done")
        .prefixed_only(),
    KEEP_GOING(BUILD, Switch, "of a build with several targets: when one fails, finish the others, which is the default")
        .prefixed_only(),
    UPLOAD_RATE(BUILD, Size, "bytes per second that all uploads of a build send together at most")
        .prefixed_only()
        .example("20MiB"),
    IF_SAME(
        BUILD,
        Text,
        "what becomes of a build if the account has an image from the same disk, by the digest in its mark: skip uploads nothing, new makes another image"
    )
    .prefixed_only()
    .choices(IfSame::WORDS),
    IMAGE_DEPRECATE_OLDER(
        BUILD,
        Integer,
        "number of the newest builds of the family, this one included, whose images stay active: older ones are deprecated once the image is released"
    )
    .prefixed_only(),
    IMAGE_DEPRECATE_FAMILY(
        BUILD,
        Text,
        "what the names of the images begin with that IMAGE_DEPRECATE_OLDER counts"
    )
    .prefixed_only(),
    GUEST_CHECK(
        BUILD,
        Text,
        "whether the system on the disk is compared with what the provider's machines need, and what a finding leads to"
    )
    .prefixed_only()
    .choices(GuestCheck::WORDS)
    .default_value("warn"),
    IMAGE_TAGS(BUILD, List, "tags to add: a list of one-key maps")
        .example("[{owner: team}]")
        .on_resume(OnResume::Fixed),
    IMAGE_TAGS_EXCLUDE(BUILD, List, "keys of automatic tags to leave out")
        .example("[build_type]")
        .on_resume(OnResume::Fixed),
    DISABLE_TELEMETRY(BUILD, Switch, "accepted for old scripts; build-image sends no telemetry"),
    IMAGE_REGISTRATION_URL(BUILD, Text, "registry to post the image to").explicit_only(),
    IMAGE_REGISTRATION_RETRY_COUNT(BUILD, Integer, "attempts when the registry does not answer")
        .default_value("5"),
    IMAGE_REGISTRATION_RETRY_DELAY(BUILD, Integer, "seconds between these attempts")
        .default_value("30"),
    DISK(
        SOURCE,
        Path,
        "disk image instead of an ISO, path or URL: raw, qcow2, VMDK, VHD, VHDX or VDI, also compressed, in a tar or zip archive, or in an OVA; `-` reads it from a pipe"
    )
    .names(Named::Disks)
    .prefixed_only()
    .on_resume(OnResume::Fixed),
    FROM_BUNDLE(SOURCE, Path, "bundle to publish, instead of making an image; build-image publish sets it")
        .prefixed_only()
        .on_resume(OnResume::Fixed),
    FROM_OBJECT(SOURCE, Text, "uploaded object to register, instead of making an image; build-image register sets it")
        .prefixed_only()
        .on_resume(OnResume::Fixed),
    BUNDLE_KEYS(
        SOURCE,
        List,
        "PEM files of public keys; once set, a bundle that none of them signed is not published"
    )
    .prefixed_only()
        .explicit_only()
    .example("[team.pub]"),
    DISK_SIZE(
        SOURCE,
        Size,
        "size of the disk: a given one only grows, by zeros behind its end; one that an ISO is installed to has at least what the product needs"
    )
    .prefixed_only()
    .on_resume(OnResume::Fixed),
    DISK_FORMAT(SOURCE, Text, "format of the given disk, which is taken as it is; found by its signature when not set")
        .prefixed_only()
        .choices(&["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"])
        .on_resume(OnResume::Fixed)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out; an installed disk is raw" }),
    DISK_MEMBER(SOURCE, Text, "member of the given archive that is the disk, if there are several")
        .prefixed_only()
        .example("disk.vmdk")
        .on_resume(OnResume::Fixed)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out; an ISO is not an archive" }),
    DISK_SHA256(SOURCE, Text, "SHA-256 the file given with DISK must have")
        .prefixed_only()
        .pattern(SHA256)
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out, or set ISO_SHA256 for an ISO" }),
    DISK_SHA256SUMS(SOURCE, Path, "list of checksums that has the given disk's, path or URL, as sha256sum writes it")
        .prefixed_only()
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out, or set ISO_SHA256 for an ISO" }),
    DISK_SIG(SOURCE, Path, "signature of the given disk, path or URL, as `openssl dgst`, minisign, or `ssh-keygen -Y sign` makes it; found beside it when not set")
        .prefixed_only()
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out, or set ISO_SIG for an ISO" }),
    DISK_SIG_PUBLIC_KEY(SOURCE, Path, "public key that verifies DISK_SIG: a PEM file, or the key of minisign or of OpenSSH; once set, a disk without a good signature is refused")
        .prefixed_only()
        .explicit_only()
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::GivenDisk { hint: "leave it out" }),
    DISK_SIG_DIGEST(SOURCE, Text, "digest of DISK_SIG, as openssl names it, for a PEM key")
        .prefixed_only()
        .default_value("sha256")
        .on_resume(OnResume::UntilRegistered),
    ISO(SOURCE, Path, "installer ISO, path or URL")
        .flag('i')
        .names(Named::Files(&["iso"]))
        .on_resume(OnResume::Fixed),
    ISO_SIG(SOURCE, Path, "signature of the ISO, path or URL; found beside the ISO when not set")
        .flag('s')
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::Installation { expected: false }),
    ISO_SHA256(SOURCE, Text, "SHA-256 the ISO must have")
        .prefixed_only()
        .pattern(SHA256)
        .on_resume(OnResume::UntilRegistered)
        .applies_to(AppliesTo::Installation { expected: false }),
    ISO_SIG_VERIFICATION_PUBLIC_KEY(
        SOURCE,
        Path,
        "public key that verifies ISO signatures: a PEM file, or the key of minisign or of OpenSSH; once set, an ISO without a good one is refused"
    )
    .explicit_only()
    .on_resume(OnResume::UntilRegistered),
    ISO_SIG_VERIFICATION_ENCRYPTION_TYPE(
        SOURCE,
        Text,
        "digest of ISO signatures, as openssl names it"
    )
    .default_value("sha384")
    .on_resume(OnResume::UntilRegistered),
    IGNORE_DOWNLOAD_URL_TLS(SOURCE, Switch, "accept any certificate when downloading").explicit_only(),
    DOWNLOAD_RETRIES(
        SOURCE,
        Integer,
        "failed attempts of a download, one after the other, before it is given up"
    )
    .prefixed_only()
    .default_value("8"),
    DOWNLOAD_TIMEOUT(SOURCE, Duration, "longest time a download may stand still")
        .prefixed_only()
        .default_value("60s"),
    QEMU(DISK, Path, "qemu-system-x86_64 to use; found on PATH when not set")
        .prefixed_only()
        .explicit_only()
        .used_by(&[Use::Adoption, Use::Boot, Use::Doctor]),
    QEMU_MEMORY(DISK, Size, "memory of the machine that installs or boots")
        .prefixed_only()
        .default_value("2GiB")
        .used_by(&[Use::Boot, Use::Doctor]),
    QEMU_CPUS(DISK, Integer, "processors of the machine that installs or boots")
        .prefixed_only()
        .default_value("1")
        .used_by(&[Use::Boot]),
    INSTALL_TIMEOUT(DISK, Duration, "longest time one pass of the installation may take")
        .prefixed_only()
        .default_value("2h"),
    SILENCE_TIMEOUT(DISK, Duration, "longest time the guest may print nothing")
        .prefixed_only()
        .default_value("20m"),
    ACCEL(DISK, Text, "acceleration of the machine that installs or boots")
        .prefixed_only()
        .choices(&["auto", "kvm", "tcg"])
        .default_value("auto")
        .used_by(&[Use::Boot, Use::Doctor]),
    BOOT_TEST(BOOT, Switch, "boot the image in qemu before it is sent; if it does not come up, the build fails")
        .prefixed_only(),
    BOOT_MARKER(BOOT, Text, "text on the console that proves the boot, instead of a login prompt and the like")
        .prefixed_only()
        .used_by(&[Use::Boot]),
    BOOT_TIMEOUT(BOOT, Duration, "longest time the boot may take")
        .prefixed_only()
        .default_value("10m")
        .used_by(&[Use::Boot]),
    BOOT_FIRMWARE(BOOT, Text, "firmware of the boot test; auto is uefi if only that can boot the disk")
        .prefixed_only()
        .choices(BootFirmware::WORDS)
        .default_value("auto")
        .used_by(&[Use::Boot]),
    BOOT_DISK_BUS(BOOT, Text, "how the boot test's machine accesses its disk")
        .prefixed_only()
        .choices(BootDiskBus::WORDS)
        .default_value("virtio")
        .used_by(&[Use::Boot]),
    BOOT_NIC(BOOT, Text, "network card of the boot test's machine; nothing is reachable through it")
        .prefixed_only()
        .choices(BootNic::WORDS)
        .default_value("none")
        .used_by(&[Use::Boot]),
    PACKAGE(OUTPUT, Text, "published image: in its provider's archive, or alone")
        .prefixed_only()
        .choices(Package::WORDS)
        .default_value("archive")
        .on_resume(OnResume::Fixed),
    IMAGE_DIR(OUTPUT, Path, "directory for published images [default: images]")
        .names(Named::Directories)
        .on_resume(OnResume::Fixed)
        .used_by(&[Use::Doctor]),
    FILE_IF_EXISTS(OUTPUT, Text, "what a build does if IMAGE_DIR has a file of the image's name, or of its checksums and signatures: replace it when the new image is complete, or fail")
        .prefixed_only()
        .choices(IfExists::WORDS)
        .default_value("replace"),
    BUNDLE(
        OUTPUT,
        Path,
        "with NO_UPLOAD, write image, registration, and provenance statement into this file, for build-image publish"
    )
    .prefixed_only()
    .writes(Written::Bundle)
    .on_resume(OnResume::Fixed),
    BUNDLE_EXPIRES(OUTPUT, Duration, "time after which the bundle is not published any more")
        .prefixed_only()
        .on_resume(OnResume::Fixed),
    BUNDLE_REGIONS(OUTPUT, List, "the only regions in which the bundle may be registered")
        .prefixed_only()
        .example("[cn-hangzhou]")
        .on_resume(OnResume::Fixed),
    ARTIFACTS_DIR(OUTPUT, Path, "directory for files of running builds [default: artifacts]")
        .names(Named::Directories)
        .used_by(&[Use::Doctor, Use::Runs]),
    MIN_FREE_DISK_STORAGE_MB(
        OUTPUT,
        Integer,
        "free space ARTIFACTS_DIR must have, MB; estimated when not set"
    ),
    LOG_FILE(OUTPUT, Path, "log file or directory [default: logs/RUN.log]").writes(Written::Lines),
    LOG_LEVEL(OUTPUT, Text, "level of the log file")
        .choices_in_both_cases(LogLevel::WORDS)
        .default_value("info"),
    SHARED_LOCKS(
        OUTPUT,
        Switch,
        "every host sees the locks of files in ARTIFACTS_DIR (NFS 4, CephFS, Lustre with flock): a run of another host whose lock is free is dead"
    )
    .prefixed_only()
        .explicit_only()
    .used_by(&[Use::Runs]),
    JOURNAL_KEY_FILE(
        OUTPUT,
        Path,
        "key that signs journals of runs, made when it is missing \
         [default: build-image/journal.key in XDG_STATE_HOME or ~/.local/state]"
    )
    .prefixed_only()
        .explicit_only()
    .used_by(&[Use::Images, Use::Runs]),
    OUTPUT_JSON_FILE(OUTPUT, Path, "write the result document to this file")
        .writes(Written::Json)
        .used_by(&[Use::Report]),
    PROVENANCE_FILE(
        OUTPUT,
        Path,
        "write what the image was made of to this file: an in-toto statement, SLSA provenance; with \
         IMAGE_SIG_PRIVATE_KEY also a signed one, ending in .intoto.jsonl"
    )
    .prefixed_only()
    .writes(Written::Json),
    SBOM(
        OUTPUT,
        Text,
        "write the packages on the disk beside PROVENANCE_FILE, which names them by their digest: CycloneDX 1.5, \
         ending in .cdx.json, or SPDX 2.3, ending in .spdx.json"
    )
    .prefixed_only()
    .choices(SbomFormat::WORDS)
    .on_resume(OnResume::Fixed),
    JSON(OUTPUT, Switch, "print the result document on standard output")
        .prefixed_only()
        .used_by(&[Use::Images, Use::Report, Use::Boot, Use::Doctor, Use::Inspect, Use::Providers, Use::Runs]),
    COLOR(OUTPUT, Text, "whether output is coloured: auto decides by the terminal, NO_COLOR, and CLICOLOR_FORCE")
        .prefixed_only()
        .choices(ColorMode::WORDS)
        .default_value("auto")
        .used_by(&[Use::Report, Use::Boot]),
    FORMAT(
        OUTPUT,
        Text,
        "what a build prints on standard output: lines for people, the result document, or the ids of the images alone; --json is the second"
    )
    .prefixed_only()
    .choices(OutputFormat::WORDS)
    .used_by(&[Use::Report]),
    PROGRESS(
        OUTPUT,
        Text,
        "how progress is reported on standard error: auto chooses by the terminal"
    )
    .prefixed_only()
    .choices(ProgressMode::WORDS)
    .default_value("auto")
    .used_by(&[Use::Report, Use::Boot]),
    QUIET(OUTPUT, Switch, "warnings and errors only, as --progress none")
        .prefixed_only()
        .flag('q')
        .used_by(&[Use::Images, Use::Report, Use::Boot]),
    VERBOSE(OUTPUT, Switch, "also the details: every check of a build, and all settings, tags and permissions of a plan")
        .prefixed_only(),
    HYPERVISOR_IMAGE_NAME(OUTPUT, Text, "file name of a published image, without suffix")
        .on_resume(OnResume::Fixed),
    IMAGE_SIG_PRIVATE_KEY(OUTPUT, Path, "PEM key that signs published images")
        .explicit_only()
        .on_resume(OnResume::UntilReleased),
    IMAGE_SIG_PUBLIC_KEY(OUTPUT, Path, "second PEM key that verifies ISO signatures")
        .explicit_only()
        .on_resume(OnResume::UntilReleased),
    IMAGE_SIG_ENCRYPTION_TYPE(
        OUTPUT,
        Text,
        "digest of signatures by that key, as openssl names it [default: sha3-512]"
    )
    .on_resume(OnResume::UntilReleased),
    PROVIDER_DIR(PLUGINS, Path, "directory to look for provider plugins in first")
        .names(Named::Directories)
        .prefixed_only()
        .explicit_only()
        .used_by(&[
            Use::Images, Use::Selection,
            Use::Adoption,
            Use::Doctor,
            Use::Help,
            Use::Providers,
            Use::Shell
        ]),
    PROVIDER_FILE(PLUGINS, Path, "plugin file to use for the platform").prefixed_only().explicit_only().used_by(&[
        Use::Images, Use::Selection,
        Use::Adoption,
        Use::Doctor,
        Use::Help,
        Use::Providers,
        Use::Shell
    ]),
    PROVIDERS_LOCK(
        PLUGINS,
        Path,
        "lock file of provider plugins [default: build-image.lock beside the configuration file]"
    )
    .prefixed_only()
        .explicit_only()
    .used_by(&[Use::Images, Use::Selection, Use::Adoption, Use::Providers]),
    LOCKED(PLUGINS, Switch, "load only provider plugins that are locked")
        .prefixed_only()
        .explicit_only()
        .used_by(&[Use::Images, Use::Selection, Use::Providers]),
    ISOLATE(PLUGINS, Switch, "run the provider plugin in a separate process")
        .prefixed_only()
        .explicit_only()
        .used_by(&[Use::Images, Use::Selection]),
    INFO(BUILD, Switch, "print JSON about this host and exit").prefixed_only(),
    DOCS(BUILD, Switch, "write tables of settings")
        .prefixed_only()
        .unsupported("settings are listed by --help, with -p NAME also the provider's"),
];
