//! Finds agents of clouds and hypervisors by a file that each installs.

use crate::model::Agent;
use crate::tree::Tree;

/// Name and files; each file alone is enough.
const AGENTS: [(&str, &[&str]); 9] = [
    ("cloud-init", &["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"]),
    ("ignition", &["/usr/lib/dracut/modules.d/30ignition/ignition", "/usr/bin/ignition"]),
    ("waagent", &["/usr/sbin/waagent", "/usr/bin/waagent"]),
    (
        "aliyun-assist",
        &["/usr/bin/aliyun-service", "/usr/sbin/aliyun-service", "/usr/local/share/aliyun-assist"],
    ),
    ("qemu-guest-agent", &["/usr/sbin/qemu-ga", "/usr/bin/qemu-ga"]),
    ("open-vm-tools", &["/usr/bin/vmtoolsd", "/usr/sbin/vmtoolsd"]),
    ("google-guest-agent", &["/usr/bin/google_guest_agent"]),
    ("amazon-ssm-agent", &["/usr/bin/amazon-ssm-agent"]),
    ("hyperv-daemons", &["/usr/sbin/hv_kvp_daemon", "/usr/sbin/hypervkvpd"]),
];

/// Returns the agents that are installed.
pub(super) fn read(tree: &Tree) -> Vec<Agent> {
    let mut found = Vec::new();
    for (name, files) in AGENTS {
        if let Some(file) = files.iter().find(|file| tree.has(file)) {
            found.push(Agent { name: name.to_owned(), evidence: tree.evidence(file) });
        }
    }
    found
}
