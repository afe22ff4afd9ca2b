//! Declares the values of the core's settings: one struct per group, whose fields name the rows of the table.

use std::{path::PathBuf, time::Duration};

use build_image_disk::Format;
use serde_json::Value as Json;

#[cfg(test)]
use super::key::Key;
use super::{
    define::groups,
    resolve::Resolved,
    schema::keys,
    typed::read,
    words::{
        BootDiskBus, BootFirmware, BootNic, ColorMode, GuestCheck, IfExists, IfSame, LogLevel,
        OnFailure, OutputFormat, Package, ProgressMode, SbomFormat,
    },
};

groups! {
    /// What the image is made of.
    source: Source {
        /// Installer ISO: a path or a URL.
        iso: Option<String> = ISO,
        /// Disk image: a path or a URL.
        disk: Option<String> = DISK,
        /// Format of the disk image, instead of the one that its signature shows.
        disk_format: Option<Format> = DISK_FORMAT,
        /// Name of the member of an archive that is the disk.
        disk_member: Option<String> = DISK_MEMBER,
        /// Requested size of the disk image, bytes.
        disk_size: Option<u64> = DISK_SIZE,
        /// Identifier of the uploaded object that is registered.
        object: Option<String> = FROM_OBJECT,
    }

    /// Checksums and keys that the source must match, and the key that signs published images.
    signatures: Signatures {
        /// Expected SHA-256 of the ISO, hexadecimal.
        iso_sha256: Option<String> = ISO_SHA256,
        /// Expected SHA-256 of the disk image's file, hexadecimal.
        disk_sha256: Option<String> = DISK_SHA256,
        /// List of checksums that has the disk's: a path or a URL.
        disk_sums: Option<String> = DISK_SHA256SUMS,
        /// Signature of the disk: a path or a URL.
        disk_signature: Option<String> = DISK_SIG,
        /// PEM file of the key that verifies it.
        disk_key: Option<PathBuf> = DISK_SIG_PUBLIC_KEY,
        /// Digest of that signature, as openssl names it.
        disk_digest: String = DISK_SIG_DIGEST,
        /// Signature of the ISO: a path or a URL.
        iso_signature: Option<String> = ISO_SIG,
        /// PEM file of the key that verifies ISO signatures.
        iso_key: Option<PathBuf> = ISO_SIG_VERIFICATION_PUBLIC_KEY,
        /// Digest of signatures by that key, as openssl names it.
        iso_digest: String = ISO_SIG_VERIFICATION_ENCRYPTION_TYPE,
        /// PEM file of the key that signs published images.
        image_private_key: Option<PathBuf> = IMAGE_SIG_PRIVATE_KEY,
        /// PEM file of its public key, which also verifies ISO signatures.
        image_public_key: Option<PathBuf> = IMAGE_SIG_PUBLIC_KEY,
        /// Digest of signatures by that key, as openssl names it.
        image_digest: Option<String> = IMAGE_SIG_ENCRYPTION_TYPE,
    }

    /// Downloads of the source and of files for the image, and other connections to servers of the user.
    download: Download {
        /// Whether any certificate of a server is accepted.
        any_certificate: bool = IGNORE_DOWNLOAD_URL_TLS,
        /// Consecutive failed attempts before a download is given up.
        retries: u64 = DOWNLOAD_RETRIES,
        /// Longest time without a byte.
        stall: Duration = DOWNLOAD_TIMEOUT,
    }

    /// The virtual machine that runs an installer.
    machine: Machine {
        /// Path of qemu; found on PATH when not set.
        qemu: Option<PathBuf> = QEMU,
        /// Memory, bytes.
        memory: u64 = QEMU_MEMORY,
        /// Number of processors.
        cpus: u64 = QEMU_CPUS,
        /// `auto`, `kvm`, or `tcg`.
        accel: String = ACCEL,
        /// Longest time of one pass.
        total: Duration = INSTALL_TIMEOUT,
        /// Longest time without output of the guest.
        silence: Duration = SILENCE_TIMEOUT,
    }

    /// The boot of the image before it is sent.
    boot: BootTest {
        /// Whether the image is booted.
        enabled: bool = BOOT_TEST,
        /// Text that proves the boot.
        marker: Option<String> = BOOT_MARKER,
        /// Longest time of the boot.
        timeout: Duration = BOOT_TIMEOUT,
        /// Firmware.
        firmware: BootFirmware = BOOT_FIRMWARE,
        /// How the guest accesses its disk.
        bus: BootDiskBus = BOOT_DISK_BUS,
        /// Network card.
        nic: BootNic = BOOT_NIC,
    }

    /// What is built, and what stays of a build.
    run: Run {
        /// Whether the build stops before the upload.
        no_upload: bool = NO_UPLOAD,
        /// Whether the build ends with the upload.
        upload_only: bool = UPLOAD_ONLY,
        /// Whether the artifacts are kept.
        reuse: bool = REUSE,
        /// Name under which the build is made once.
        once: Option<String> = ONCE,
        /// What becomes of a failed build.
        on_failure: OnFailure = ON_FAILURE,
        /// Whether a target that fails stops the others.
        fail_fast: bool = FAIL_FAST,
        /// Whether the others continue, as without either setting.
        keep_going: bool = KEEP_GOING,
        /// Bytes per second that all uploads send at most.
        upload_rate: Option<u64> = UPLOAD_RATE,
        /// Whether the disk is inspected, and what an error leads to.
        guest_check: GuestCheck = GUEST_CHECK,
        /// What a build does whose image the account has already.
        if_same: Option<IfSame> = IF_SAME,
        /// File of the key that signs journals.
        journal_key: Option<PathBuf> = JOURNAL_KEY_FILE,
        /// Whether facts about this host are printed instead.
        info: bool = INFO,
    }

    /// Name and tags of the image.
    image: Image {
        /// Exact name of the image.
        name: Option<String> = CLOUD_IMAGE_NAME,
        /// Tags to add: a list of maps with one key each.
        tags: Option<Json> = IMAGE_TAGS,
        /// Keys of automatic tags that are left out: a list.
        excluded_tags: Option<Json> = IMAGE_TAGS_EXCLUDE,
        /// Number of the newest builds whose images are not deprecated.
        deprecate_older: Option<u64> = IMAGE_DEPRECATE_OLDER,
        /// What the names of images begin with that may be deprecated.
        deprecate_family: Option<String> = IMAGE_DEPRECATE_FAMILY,
    }

    /// Files on this machine.
    publication: Publication {
        /// Directory of published images.
        image_dir: Option<PathBuf> = IMAGE_DIR,
        /// Directory of the files of all running builds.
        artifacts_dir: Option<PathBuf> = ARTIFACTS_DIR,
        /// Whether locks in it are seen by every host.
        shared_locks: bool = SHARED_LOCKS,
        /// Free space that the latter must have, MB (1 000 000 bytes).
        minimum_free_mb: Option<u64> = MIN_FREE_DISK_STORAGE_MB,
        /// Whether the image is published in its provider's archive.
        package: Package = PACKAGE,
        /// What becomes of a file that has the name of a published one.
        if_exists: IfExists = FILE_IF_EXISTS,
        /// File name of a published image, without suffix.
        file_stem: Option<String> = HYPERVISOR_IMAGE_NAME,
        /// File of the provenance statement.
        provenance: Option<PathBuf> = PROVENANCE_FILE,
        /// Format of the bill of materials beside the statement.
        sbom: Option<SbomFormat> = SBOM,
    }

    /// Bundles, which one user builds and another publishes.
    bundle: BundleSettings {
        /// The bundle that is written.
        file: Option<PathBuf> = BUNDLE,
        /// How long it may be published.
        expires: Option<Duration> = BUNDLE_EXPIRES,
        /// The regions in which it may be registered: a list.
        regions: Option<Json> = BUNDLE_REGIONS,
        /// The bundle that is published.
        published: Option<PathBuf> = FROM_BUNDLE,
        /// PEM files of the keys of which one must have signed it: a list.
        keys: Option<Json> = BUNDLE_KEYS,
    }

    /// Progress, log, and result.
    output: Output {
        /// Log: a file, a file name, or a directory.
        log_file: Option<String> = LOG_FILE,
        /// Lowest level of the log's messages.
        log_level: LogLevel = LOG_LEVEL,
        /// File of the result document, or its directory.
        result_file: Option<String> = OUTPUT_JSON_FILE,
        /// Whether the result document is printed on standard output.
        json: bool = JSON,
        /// Whether output is coloured.
        color: ColorMode = COLOR,
        /// What a build prints on standard output.
        format: Option<OutputFormat> = FORMAT,
        /// How progress is reported.
        progress: ProgressMode = PROGRESS,
        /// Whether only warnings and errors are printed.
        quiet: bool = QUIET,
        /// Whether details are printed.
        verbose: bool = VERBOSE,
    }

    /// How the provider's plugin is found and loaded.
    plugins: Plugins {
        /// Name of the provider.
        platform: Option<String> = PLATFORM,
        /// The configuration file.
        config_file: Option<PathBuf> = CONFIG_FILE,
        /// Directory that is searched first.
        directory: Option<PathBuf> = PROVIDER_DIR,
        /// The plugin's file.
        file: Option<PathBuf> = PROVIDER_FILE,
        /// The lock file.
        lock_file: Option<PathBuf> = PROVIDERS_LOCK,
        /// Whether only locked plugins are loaded.
        locked: bool = LOCKED,
        /// Whether the plugin runs in a separate process.
        isolate: bool = ISOLATE,
    }

    /// The registry that is notified of an image.
    registry: Registry {
        /// Its URL.
        url: Option<String> = IMAGE_REGISTRATION_URL,
        /// Attempts when it does not answer.
        attempts: u64 = IMAGE_REGISTRATION_RETRY_COUNT,
        /// Pause between attempts.
        pause: Duration = IMAGE_REGISTRATION_RETRY_DELAY,
    }
}
