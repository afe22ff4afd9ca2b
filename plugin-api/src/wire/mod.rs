//! Implements the boundary between host and plugin.
//!
//! ```text
//!  host ──dlopen──▶ LibHeader (one symbol) ──▶ ProviderModule { describe, create }
//!       ◀── Description (JSON) ── describe()
//!       ── HostObject, settings (JSON) ──▶ create() ──▶ ProviderObject
//!       ── request (JSON) ──▶ check · create_disk · upload · register · discard ──▶ answer (JSON) | FfiError
//!       ◀── log · progress · is_cancelled · wait · event · secret · checkpoints · make_disk · disk_read_at
//! ```
//!
//! `abi` is frozen; `export` is the plugin's half, `import` (feature `host`) the host's half; `elf` inspects a file
//! before it is opened; `ending` detects a plugin that ends the process.
//!
//! Unsafe code is in four places. In a plugin: the expansion of the derives in `abi`, and of
//! [`export_provider!`](crate::export_provider), which exports one symbol and one section. In a host: `import`, which
//! opens the file and reads that symbol, and the two functions of the C library that `ending` calls.

pub(crate) use self::convert::print;
pub use crate::error::Details;

pub mod abi;
mod convert;
#[cfg(feature = "host")]
pub mod elf;
#[cfg(feature = "host")]
pub mod ending;
pub mod export;
mod forward;
#[cfg(feature = "host")]
pub mod import;
#[cfg(feature = "host")]
mod lend;
#[cfg(feature = "host")]
pub mod linkage;
