//! Tests the proxy between third-party clients (Python's http.client, reqwest) and a server from Python's standard
//! library.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]
#![forbid(unsafe_code)]

mod command;
mod faults;
mod harness;
mod passing;
