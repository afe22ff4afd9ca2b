//! Stands in for qemu: its guests write to the disk and print the output of an installer.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Sandbox, tool};

/// What it writes, and where: text that is repeated, total length in bytes, offset on the disk in bytes.
pub(crate) const QEMU_WROTE: [(&str, usize, u64); 2] =
    [("installed\n", 1_000_000, 0), ("booted\n", 500_000, 100 << 16)];

/// A guest whose file `hold.<pass>.<moment>` exists waits forever. Arguments and environment of every start are
/// appended to `children`, with those of all other children of the build.
const SCRIPT: &str = r#"#!/bin/sh
cd '@FOLDER@' || exit 1
{
    printf '%s\n' "$@"
    env
    for process in /proc/[0-9]*; do
        if grep -qs "^PPid:.$PPID\$" "$process/status"; then
            cat "$process/cmdline" "$process/environ" 2>/dev/null | tr '\0' '\n'
        fi
    done
} >>children
case "$1" in
-version) echo 'QEMU emulator version 9.9.9 (script)'; exit 0 ;;
-sandbox) exit 1 ;;
esac
hold() { if [ -e "hold.$1" ]; then : >held; exec cat never; fi; }
disk=$(printf '%s\n' "$@" | sed -n 's/^file=\(.*\.raw\),format=raw,if=virtio.*/\1/p')
case "$*" in
*-kernel*) pass=install place=0 length=1000000 text=installed said='MKVM FINAL STATUS = SUCCESS' ;;
*) pass=boot place=100 length=500000 text=booted said='Cloud setup succeeded.
SELinux targeted policy relabel is required.' ;;
esac
hold "$pass.begin"
yes "$text" | head -c "$length" | dd of="$disk" bs=65536 seek="$place" conv=notrunc iflag=fullblock 2>/dev/null
hold "$pass.written"
echo "$said"
hold "$pass.end"
"#;

/// Writes the program into a sandbox, as `qemu`.
#[track_caller]
pub(crate) fn stand_in_qemu(sandbox: &Sandbox) {
    let script = SCRIPT.replace("@FOLDER@", sandbox.path().to_str().unwrap());
    let qemu = sandbox.write("qemu", &script);
    fs::set_permissions(qemu, fs::Permissions::from_mode(0o755)).unwrap();
    tool(sandbox.path(), &["mkfifo", "never"]);
}
