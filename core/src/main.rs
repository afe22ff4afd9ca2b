//! The `build-image` command.
#![forbid(unsafe_code)]

/// Overwrites all memory that is freed: parsers and clients copy secrets into memory that none of our types owns.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    build_image::cli::main(std::env::args_os())
}
