//! Checks what a new machine starts with: its network, its agent, and what it shares with every other machine.

use crate::finding::{Finding, Severity};
use crate::model::{Inspection, MachineDataKind, System};
use crate::requirements::Requirements;

pub(super) fn check(found: &Inspection, needs: &Requirements, findings: &mut Vec<Finding>) {
    let Some(system) = &found.system else { return };
    network(system, findings);
    agent(system, needs, findings);
    machine_data(system, findings);
}

fn network(system: &System, findings: &mut Vec<Finding>) {
    let configures = |name: &str| system.agents.iter().any(|agent| agent.name == name);
    if system.networks.is_empty() && !configures("cloud-init") && !configures("ignition") {
        let message = "no network is configured, and no agent configures one".to_owned();
        let remedy = "configure DHCP for the first interface, or install cloud-init";
        let evidence = crate::model::Evidence::of(&system.volume, "/etc");
        findings.push(Finding::warning("no-network", message, remedy).at(&evidence));
    }
    for network in &system.networks {
        let Some(first) = network.macs.first() else { continue };
        let message = format!(
            "the configuration of {} is for the MAC address {}, which other machines do not have",
            network.program, first.name
        );
        let remedy = "match the interface by its name or driver instead";
        let mut finding = Finding::warning("network-mac", message, remedy);
        finding.evidence = network.macs.iter().map(|mac| mac.evidence.clone()).collect();
        findings.push(finding);
    }
}

fn agent(system: &System, needs: &Requirements, findings: &mut Vec<Finding>) {
    let has = |name: &String| system.agents.iter().any(|agent| agent.name == *name);
    if !needs.agents.is_empty() && !needs.agents.iter().any(has) {
        let message = format!(
            "no agent sets the machine up (keys, host name, user data): {}",
            needs.agents.join(" or ")
        );
        let remedy = format!("install {} in the system", needs.agents[0]);
        let evidence = crate::model::Evidence::of(&system.volume, "/usr/bin");
        findings.push(Finding::warning("no-agent", message, &remedy).at(&evidence));
    }
}

/// Identifier, severity, what it is, and what to do, of each kind.
fn describe(kind: MachineDataKind) -> (&'static str, Severity, &'static str, &'static str) {
    use Severity::{Note, Warning};
    match kind {
        MachineDataKind::HostKey => (
            "host-keys",
            Warning,
            "private host keys of SSH are in the image, and every machine would share them",
            "remove /etc/ssh/ssh_host_*, and let cloud-init or a unit create them",
        ),
        MachineDataKind::AuthorizedKeys => (
            "authorized-keys",
            Warning,
            "keys that may log in are in the image",
            "remove the file, and let cloud-init or the agent of the target write it",
        ),
        MachineDataKind::PrivateKey => {
            ("private-keys", Warning, "private keys of users are in the image", "remove them")
        }
        MachineDataKind::MachineId => (
            "machine-id",
            Warning,
            "the identity of a machine is in the image, and every machine would share it",
            "empty the file /etc/machine-id",
        ),
        MachineDataKind::ShellHistory => (
            "shell-history",
            Warning,
            "commands that a user typed are in the image, and may contain secrets",
            "remove the files",
        ),
        MachineDataKind::CloudInitState => (
            "cloud-init-state",
            Warning,
            "cloud-init has run before, and does not configure the first start again on some platforms",
            "run `cloud-init clean --logs` in the system",
        ),
        MachineDataKind::UdevNetRules => (
            "udev-net-rules",
            Warning,
            "names of interfaces are bound to the MAC addresses of another machine",
            "remove the file",
        ),
        MachineDataKind::DhcpLease => {
            ("dhcp-leases", Note, "leases of a DHCP client are in the image", "remove the files")
        }
        MachineDataKind::RandomSeed => (
            "random-seed",
            Note,
            "the seed of the random number generator is in the image",
            "remove the file",
        ),
    }
}

/// Reports each kind once, with all its files.
fn machine_data(system: &System, findings: &mut Vec<Finding>) {
    let mut found: Vec<Finding> = Vec::new();
    for data in &system.machine_data {
        let (id, severity, message, remedy) = describe(data.kind);
        if !found.iter().any(|finding| finding.id == id) {
            found.push(Finding::new(id, severity, message.to_owned(), remedy));
        }
        if let Some(finding) = found.iter_mut().find(|finding| finding.id == id) {
            finding.evidence.push(data.evidence.clone());
        }
    }
    findings.extend(found);
}
