//! The command line of the emulator: `serve`, and looking into a state directory.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
