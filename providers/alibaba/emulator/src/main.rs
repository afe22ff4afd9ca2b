//! Starts the command line of the emulator: `serve`, and commands that read a state directory.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
