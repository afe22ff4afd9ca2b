//! The `build-image` command.
fn main() {}
