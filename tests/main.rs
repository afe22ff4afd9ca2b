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
mod build_order;
mod build_qcow2;
mod canary;
mod clock;
mod concurrent_builds;
mod contract;
mod disk_formats;
mod docs;
mod doctor;
mod doctor_install;
mod download_trust;
mod fault_proxy;
mod full_disk;
mod hostile_plugins;
mod inputs_disk;
mod inputs_download;
mod inputs_hotfix;
mod inputs_signature;
mod install_failures;
mod install_iso;
mod install_matrix;
mod journal_trust;
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
mod replace_interrupted;
mod reproductions;
mod resources;
mod resume;
mod resume_settings;
mod reuse;
mod seams;
mod signals;
mod snapshots;
mod tidy;
mod tls;
mod unprivileged;
