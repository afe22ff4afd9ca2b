//! For tests of providers: a host without a host, a README that must tell the truth.

mod mock_host;
mod readme;
pub mod scripted;

pub use mock_host::MockHost;
#[cfg(feature = "conformance")]
pub(crate) use mock_host::open_resources;
pub use readme::readme_differences;
