//! Provider plugins: finding files, trusting them, loading them, and the services lent to them.
//!
//! Reading order: `find` (which files there are) → `trust` and `lock` (which may be loaded) → `load` (what
//! they say) → `plugin`; `remote` is for providers in processes of their own, `host` what all are lent.

mod disks;
mod ending;
mod examine;
mod find;
mod host;
mod load;
mod lock;
mod plugin;
mod published;
mod redact;
mod remote;
mod rows;
mod trust;

pub(crate) use disks::BaseDisk;
pub use ending::expect_end;
pub use find::{Candidate, FileKind, SearchPath};
pub use host::RunHost;
pub(crate) use host::with_suffix;
pub use load::Loader;
pub use lock::{Lock, Locked};
pub use plugin::Plugin;
pub(crate) use published::ImageHandle;
pub use redact::Redactor;
pub use remote::{CHILD_VERB, run_child};
pub(crate) use remote::{TRACE_VARIABLE, begin_trace};
pub use trust::{Trusted, trust};
