//! The boundary between host and plugin.
//!
//! ```text
//!  host ──dlopen──▶ LibHeader (one symbol) ──▶ ProviderModule { describe, create }
//!       ◀── Description (JSON) ── describe()
//!       ── HostObject, settings (JSON) ──▶ create() ──▶ ProviderObject
//!       ── request (JSON) ──▶ check · create_disk · upload · register · discard ──▶ answer (JSON) | FfiError
//!       ◀── log · progress · is_cancelled · wait · event · secret · checkpoints · make_disk · disk_read_at
//! ```
//!
//! `abi` is frozen and holds the only unsafe code of providers' side; `export` is the plugin's half,
//! `import` (feature `host`) the host's half, `elf` looks at a file before it is opened, `ending` at
//! who ended the process.

pub use crate::error::Details;

pub mod abi;
mod convert;
pub mod export;
mod forward;
