//! Provider plugins: finds, verifies and loads them, and implements the services of their host.
//!
//! Reading order: `find` (which files exist) → `trust` and `lock` (which may be loaded) → `load` (their
//! descriptions) → `plugin`; `remote` runs providers in separate processes, `host` holds the services for all
//! of them; `trace` records the messages of both, `traced` the calls of a library in this process.

mod disks;
mod ending;
mod examine;
mod find;
mod host;
mod load;
mod lock;
mod plugin;
mod published;
mod rate;
mod redact;
mod remote;
mod rows;
mod shared_images;
mod trace;
mod traced;
mod trust;

pub(crate) use disks::{BaseDisk, ReadyImage};
pub use ending::expect_end;
pub use find::{Candidate, FileKind, SearchPath};
pub(crate) use find::{data_directory, is_provider_name, plugin_of_file_name, user_directory};
pub use host::RunHost;
pub(crate) use host::with_suffix;
pub use load::Loader;
pub use lock::{Lock, Locked};
pub use plugin::Plugin;
pub(crate) use published::ImageHandle;
pub use rate::RateLimiter;
pub use redact::Redactor;
#[doc(hidden)]
pub use remote::is_message;
pub use remote::{CHILD_VERB, run_child};
pub use shared_images::SharedImages;
pub(crate) use trace::{
    STANDARD_ERROR as TRACE_TO_STANDARD_ERROR, VARIABLE as TRACE_VARIABLE, begin as begin_trace,
};
pub use trust::{Trusted, trust};
