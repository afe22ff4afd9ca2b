//! Writes what the user sees: progress and errors on standard error, the result on standard output.

mod bar;
mod event;
mod group;
mod group_result;
mod human;
mod layout;
mod log_file;
mod output_mode;
mod plain;
mod reporter;
mod result;
mod result_file;

pub(crate) use bar::seconds as seconds_text;
pub use group::{GroupDisplay, TargetLine};
pub use group_result::{GroupOutcome, has_image};
pub(crate) use human::colored;
pub use human::print_line;
pub(crate) use layout::{columns, folded, hung};
pub(crate) use log_file::LOGS;
pub use log_file::{LogFile, LogNames};
pub use output_mode::OutputMode;
pub(crate) use plain::harmless;
pub use reporter::Reporter;
pub(crate) use result::free_name;
pub use result::{Failure, GuestEntry, ImageEntry, Leftover, Outcome, PluginEntry, UploadedEntry};
pub use result_file::ResultFile;
