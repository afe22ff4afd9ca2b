//! The proxy between other people's clients (Python's http.client, reqwest) and a server of Python's.
#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]
#![forbid(unsafe_code)]

mod command;
mod faults;
mod harness;
mod passing;
