//! Runs end-to-end tests: the real binary loads real plugins and talks to the emulator over HTTPS.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests start programs, print what they skip, and stop at the first unexpected result"
)]

mod harness;
mod images;
mod images_alibaba;
mod images_drift;
mod images_same;

mod abi_versions;
mod account_alibaba;
mod account_oci;
mod account_openstack;
mod bad_plugins;
mod bad_settings;
mod boot_ends;
mod boot_test;
mod build_alibaba;
mod build_debian;
mod build_oci;
mod build_openstack;
mod build_order;
mod build_qcow2;
mod bundle_kills;
mod bundle_tampering;
mod bundles;
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
mod gc_cloud;
mod guest_attributes;
mod guest_check;
mod guest_faults;
mod guest_sbom;
mod hostile_plugins;
mod inputs_archive;
mod inputs_disk;
mod inputs_download;
mod inputs_hotfix;
mod inputs_packages;
mod inputs_pipe;
mod inputs_signature;
mod inputs_signers;
mod inspect;
mod install_failures;
mod install_generic;
mod install_iso;
mod install_matrix;
mod journal_trust;
mod kill_effects;
mod kill_points;
mod legacy_diagnostics;
mod memory;
mod multi_user;
mod oci_faults;
mod oci_kills;
mod old_plugins;
mod openstack_checks;
mod openstack_faults;
mod openstack_kills;
mod optional_steps;
mod packages;
mod path_traversal;
mod platforms;
mod plugins_isolated;
mod plugins_program;
mod plugins_trust;
mod private_cloud;
mod provenance;
mod provider_check;
mod provider_new;
mod proxies;
mod registry;
mod replace_interrupted;
mod reproductions;
mod resources;
mod resume;
mod resume_settings;
mod reuse;
mod seams;
mod secret_leaks;
mod signals;
mod snapshots;
mod tidy;
mod tls;
mod unprivileged;
mod windows_disks;
