//! What the user sees: progress and errors on standard error, the result on standard output.

mod human;
mod log_file;
mod result;

pub use human::{Reporter, print_error, print_line};
pub use log_file::LogFile;
pub use result::{Failure, ImageEntry, Leftover, Outcome, PluginEntry};
