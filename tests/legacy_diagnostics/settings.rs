//! Lists mistakes on the command line and in settings.

use super::{Mistake, check, words};
use crate::harness::Sandbox;

/// A mistake that consists of arguments only.
macro_rules! typed {
    ($old:literal, $words:literal, $code:literal, $says:expr) => {
        Mistake { old: $old, made: |_| words($words), code: $code, says: &$says }
    };
}

/// A mistake in the configuration of a build of a disk for a cloud.
macro_rules! configured {
    ($old:literal, $config:literal, $code:literal, $says:expr) => {
        Mistake {
            old: $old,
            made: |sandbox| configuration(sandbox, $config),
            code: $code,
            says: &$says,
        }
    };
}

fn configuration(sandbox: &Sandbox, text: &str) -> Vec<String> {
    sandbox.disk("d.raw", 4, 1);
    sandbox.write("c.yml", text);
    words("--disk d.raw -p alibaba -c c.yml")
}

const TYPED: [Mistake; 18] = [
    typed!(
        "writes tables of settings",
        "-p qcow2 --docs",
        2,
        ["settings are listed by --help", "leave DOCS out"]
    ),
    typed!(
        "aborts: a required key, PLATFORM, is missing",
        "-i x.iso",
        2,
        [
            "PLATFORM is not set",
            "one of alibaba, aws, azure, gce, oci, openstack, qcow2, vhd, vmware"
        ]
    ),
    typed!(
        "unknown keys are dropped, the next word aborts",
        "--isso x.iso",
        2,
        ["--isso", "`--iso`"]
    ),
    typed!("aborts: no valid key or flag", "x.iso", 2, ["unknown command `x.iso`", "-i"]),
    typed!("takes a flag nobody knows for a bundle", "-z", 2, ["-z"]),
    typed!("aborts: a key without its value", "-p qcow2 --iso", 2, ["--iso", "value"]),
    typed!(
        "aborts: a required key, ISO, is missing",
        "-p qcow2",
        2,
        ["no input is given", "-i", "--disk"]
    ),
    Mistake {
        old: "names one missing key of several, by chance",
        made: |sandbox| {
            sandbox.write("x.iso", "");
            words("-i x.iso -p qcow2")
        },
        code: 2,
        says: &["MODULES is not set", "BOOT_LOCATIONS is not set"],
    },
    typed!(
        "the configuration file does not exist",
        "-c absent.yml",
        2,
        ["`absent.yml`", "No such file"]
    ),
    typed!(
        "prints the value, its key and the expression",
        "-p qcow2 -m asm -b 1 -i x.iso",
        2,
        ["MODULES", "`asm`", "all, ltm"]
    ),
    typed!(
        "prints the value, its key and the expression",
        "-p qcow2 -m ltm -b 3 -i x.iso",
        2,
        ["BOOT_LOCATIONS", "`3` is not one of 1, 2"]
    ),
    typed!(
        "aborts: platform nobody knows",
        "-p proxmox --disk d.raw",
        3,
        ["unknown provider `proxmox`"]
    ),
    typed!(
        "NO_UPLOAD aborts for platforms that are no clouds",
        "-p qcow2 --no-upload --disk d.raw",
        2,
        ["NO_UPLOAD"]
    ),
    typed!(
        "a platform of the old tool that needed a private tree",
        "-p iso -i x.iso",
        3,
        ["unknown provider `iso`"]
    ),
    typed!(
        "takes the value of a switch for a command",
        "-p qcow2 --disk d.raw --json yes",
        2,
        ["--json is followed by `yes`", "write --json=yes"]
    ),
    typed!(
        "the JSON of a list is not a list",
        "-p qcow2 --disk d.raw --image-tags {}",
        2,
        ["IMAGE_TAGS"]
    ),
    typed!(
        "a Python traceback for broken JSON",
        "-p qcow2 -i x.iso -m ltm -b 1 --update-lv-sizes {",
        2,
        ["UPDATE_LV_SIZES"]
    ),
    typed!(
        "a Python traceback for a broken list",
        "-p qcow2 -i x.iso -m ltm -b 1 --console-devices [",
        2,
        ["CONSOLE_DEVICES"]
    ),
];

const CONFIGURED: [Mistake; 11] = [
    configured!("yq's message", "A: 1\nB: [1,\n", 2, ["c.yml, line", "not YAML"]),
    configured!("yq's message", "- a\n", 2, ["c.yml, line 1", "not a map"]),
    configured!(
        "skips keys nobody knows, and says so in passing",
        "ALIBABA_BUCKE: x\n",
        2,
        ["c.yml, line 1", "unknown setting `ALIBABA_BUCKE`", "did you mean `ALIBABA_BUCKET`?"]
    ),
    configured!(
        "prints the value, its key and the expression",
        "BOOT_LOCATIONS: 3\n",
        2,
        ["BOOT_LOCATIONS (c.yml, line 1)", "`3` is not one of 1, 2"]
    ),
    configured!(
        "whatever is not empty is yes",
        "REUSE: maybe\n",
        2,
        ["REUSE (c.yml, line 1)", "`maybe` is neither yes"]
    ),
    configured!(
        "starts and fails without its private tree",
        "UPDATE_ISO_RPMS: x\n",
        2,
        ["UPDATE_ISO_RPMS (c.yml, line 1)", "leave UPDATE_ISO_RPMS out"]
    ),
    configured!(
        "reads the first of two documents",
        "REUSE: no\n---\nREUSE: yes\n",
        2,
        ["c.yml, line 3", "second document"]
    ),
    configured!(
        "prints the value, its key and the expression",
        "LOG_LEVEL: verbose\n",
        2,
        ["`verbose` is not one of", "hint: for example LOG_LEVEL: info"]
    ),
    configured!(
        "refuses every path with a tilde",
        "IMAGE_DIR: ~me/x\n",
        2,
        ["IMAGE_DIR (c.yml, line 1)", "`~me/x`", "hint: write the whole"]
    ),
    configured!(
        "names one missing key of several, by chance",
        "LOG_LEVEL: info\n",
        2,
        ["ALIBABA_BUCKET is not set", "ALIBABA_REGION is not set"]
    ),
    configured!(
        "fails after the import",
        "ALIBABA_BUCKET: demo\nALIBABA_REGION: cn-hangzhou\nIMAGE_TAGS: [{\"aliyun\": x}]\n",
        2,
        ["aliyun"]
    ),
];

#[test]
fn mistakes_on_the_command_line_are_answered() {
    check(&TYPED);
}

#[test]
fn mistakes_in_the_configuration_name_file_and_line() {
    check(&CONFIGURED);
}
