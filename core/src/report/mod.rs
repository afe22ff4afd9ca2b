//! What the user sees: progress and errors on standard error, the result on standard output.

mod human;
mod log_file;
mod plain;
mod result;
mod result_file;

pub use human::{Reporter, print_error, print_line};
pub use log_file::LogFile;
pub use result::{Failure, ImageEntry, Leftover, Outcome, PluginEntry};
pub use result_file::ResultFile;
