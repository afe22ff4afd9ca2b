//! The `build-image` command.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    build_image::cli::main(std::env::args_os())
}
