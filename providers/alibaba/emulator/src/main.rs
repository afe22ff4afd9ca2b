//! The emulator command.
fn main() {}
