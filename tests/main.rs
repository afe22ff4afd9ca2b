//! End-to-end tests: the real binary loads real plugins and talks to the emulator over HTTPS.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start programs, say aloud what they skip, and stop at the first surprise"
)]

mod harness;

mod abi_versions;
mod bad_plugins;
mod bad_settings;
mod build_alibaba;
mod build_debian;
mod build_qcow2;
mod canary;
mod clock;
mod contract;
mod disk_formats;
mod docs;
mod doctor;
mod doctor_install;
mod fault_proxy;
mod full_disk;
mod hostile_plugins;
mod inputs_download;
mod inputs_hotfix;
mod inputs_signature;
mod install_failures;
mod install_matrix;
mod kill_effects;
mod kill_points;
mod memory;
mod old_mistakes;
mod old_plugins;
mod others;
mod outside;
mod packages;
mod platforms;
mod plugins_isolated;
mod plugins_program;
mod plugins_trust;
mod provenance;
mod provider_check;
mod provider_new;
mod registry;
mod resources;
mod resume;
mod reuse;
mod signals;
mod snapshots;
mod tidy;
mod tls;
mod unprivileged;
