//! Defines the exit codes, which are part of the public interface.

/// Success.
pub const DONE: u8 = 0;
/// A bug of this program or of a provider.
pub const BUG: u8 = 1;
/// `doctor` found something that keeps builds from working.
pub const NOT_READY: u8 = 1;
/// The command line or a setting is invalid.
pub const USAGE: u8 = 2;
/// A provider plugin is missing or does not load.
pub const PLUGIN: u8 = 3;
/// The ISO or disk image that was given is not accepted.
pub const SOURCE: u8 = 4;
/// Making the disk failed: qemu, the guest, disk space.
pub const DISK: u8 = 5;
/// The cloud refused a request.
pub const REFUSED: u8 = 6;
/// The cloud, or a server to download from, could not be reached or requested a later retry, or another process is at work
/// on the same build; the same command may succeed.
pub const UNAVAILABLE: u8 = 7;
/// The build failed, and something it created could not be removed; or `gc` could not remove everything.
pub const LEFTOVERS: u8 = 8;
/// The image exists and stays, but a later step failed: its provenance statement, the removal of intermediates or of
/// the replaced image, the deprecation of older images, or the notification of the registry; `build-image resume` completes it. Or the result could
/// not be written or printed.
pub const FOLLOW_UP: u8 = 9;
/// Some of several targets have their images, or some builds of a matrix are done, and others not; `build-image resume`, or
/// the same command, does what is missing.
pub const PARTIAL: u8 = 10;
/// Interrupted by Ctrl-C or a termination signal.
pub const INTERRUPTED: u8 = 130;
