//! The `build-image` command.
#![forbid(unsafe_code)]

/// Overwrites all memory that is given back: parsers and clients copy secrets where none of our own types holds
/// them.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    build_image::cli::main(std::env::args_os())
}
