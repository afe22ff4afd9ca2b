//! The `build-image` command.
#![forbid(unsafe_code)]

use build_image::installers::Entry;

/// Overwrites all memory that is freed: parsers and clients copy secrets into memory that none of our types owns.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

/// The installers, in the order in which they examine an ISO. No other file of this crate names one.
static INSTALLERS: [Entry; 2] = [
    Entry { installer: &build_image_bigip::BigIp, rows: build_image_bigip::rows },
    Entry { installer: &build_image_generic::Generic, rows: build_image_generic::rows },
];

fn main() -> std::process::ExitCode {
    build_image::installers::register(&INSTALLERS);
    build_image::cli::main(std::env::args_os())
}
