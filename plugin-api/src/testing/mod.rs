//! Supports tests of providers: a host in memory, and a comparison of a README with the description.

mod mock_host;
mod readme;
pub mod scripted;

pub use mock_host::MockHost;
#[cfg(feature = "conformance")]
pub(crate) use mock_host::open_resources;
pub use readme::readme_differences;
