"""How long it takes from the command to a running installer, beside the old way in the same run.

The ISO has 2.5 GB and an initrd of 60 MB, most of it data that does not compress. Ours: `build-image -i …` until
qemu is started with kernel and initrd; a script in qemu's place takes the time and the memory of its parent.
The old way: take kernel, initrd and configuration out of the ISO with isoinfo, gunzip the initrd, append files with
cpio -A, gzip --best; everything else the old tool does before qemu is left out. Figures are medians of alternating
rounds; read them as ratios.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import BIN, MIB, ROOT, TARGET, rounds
from measure import median, span

CACHE = TARGET / "stand-in-iso"

# In qemu's place: answers what is asked about qemu, and notes when the machine would start.
SCRIPT = """#!/bin/sh
case "$1" in
-version | -sandbox) exec qemu-system-x86_64 "$@" ;;
esac
date +%s.%N >"{folder}/started"
grep VmHWM /proc/$PPID/status >"{folder}/memory"
exit 1
"""


def make_iso():
    iso = CACHE / "made" / "BIGIP-15.0.0-0.0.39-large.iso"
    iso.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([ROOT / "tests/fixtures/stand-in-iso/build", "--output", iso, "--cache", CACHE, "--pad", "2400",
                    "--initrd-pad", "48"], check=True, stdout=subprocess.DEVNULL)
    return iso


def ours(folder, iso):
    """Seconds to qemu, and the most memory taken until then, in KiB."""
    begun = time.time()
    done = subprocess.run([BIN / "build-image", "-i", iso, "-p", "qcow2", "-m", "ltm", "-b", "1", "--accel", "tcg", "--qemu",
                           folder / "qemu"], cwd=folder, capture_output=True, check=False)
    if done.returncode != 5 or not (folder / "started").exists():
        sys.exit(f"bench: {done.stderr.decode()}")
    took = float((folder / "started").read_text()) - begun
    (folder / "started").unlink()
    return took, int((folder / "memory").read_text().split()[1])


def old_way(folder, iso):
    work = folder / "old"
    (work / "stage/etc/injected_files/file0").mkdir(parents=True)
    (work / "stage/etc/post-install").write_text("#!/bin/bash\n")
    (work / "stage/etc/injected_files/file0/src").write_text("{}\n")
    begun = time.time()
    for name in ("vmlinuz", "isolinux.cfg", "initrd.img"):
        with open(work / name, "wb") as out:
            subprocess.run(["isoinfo", "-R", "-i", iso, "-x", f"/isolinux/{name}"], stdout=out, check=True)
    shell = "mv initrd.img initrd.gz && gunzip initrd.gz && cd stage && find . | cpio --quiet -o -H newc -A -F ../initrd && gzip --best ../initrd"
    subprocess.run(["sh", "-c", shell], cwd=work, check=True)
    took = time.time() - begun
    shutil.rmtree(work)
    return took


def measure():
    iso = make_iso()
    folder = Path(tempfile.mkdtemp(prefix="bench.", dir=TARGET))
    found = {"iso": iso.stat().st_size, "mine": [], "old": [], "memory": []}
    try:
        script = folder / "qemu"
        script.write_text(SCRIPT.format(folder=folder))
        script.chmod(0o755)
        ours(folder, iso)  # once, so that both find the ISO in memory
        for _ in range(rounds(3)):
            took, memory = ours(folder, iso)
            found["mine"].append(took)
            found["memory"].append(memory << 10)
            found["old"].append(old_way(folder, iso))
    finally:
        shutil.rmtree(folder)
    return found


def table(found):
    return f"""ISO of {found["iso"] / 1e9:.1f} GB, initrd of 60 MB.

| from the command to | s |
|---|---|
| qemu, by build-image | {span(found["mine"])} |
| a patched initrd, the old way | {span(found["old"])} |

Peak memory of build-image until then: {max(found["memory"]) / MIB:.0f} MiB."""


def seconds(found):
    return median(found["mine"])
