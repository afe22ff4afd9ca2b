//! For tests of providers: a host without a host.

mod mock_host;

pub use mock_host::MockHost;
