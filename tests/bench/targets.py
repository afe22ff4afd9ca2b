"""What was aimed at, and what was measured: every aim by name, reached or missed."""

import encrypted
import killing
import packing
import publishing
import regions
import scaling
import startup
import installer
import unpacking
from contenders import OURS, OURS_PACKED
from machine import KIB, MIB
from measure import median

PENDING = "not measured in this run"


def upload_ratio(key):
    return lambda found: median(found["uploads"]["ratios"][key])


def qcow2(found):
    times, _ = packing.ratio(found["packing"]["large"])
    return median(times)


def qcow2_length(found):
    return packing.ratio(found["packing"]["large"])[1]


def memory(name):
    def most(found):
        runs = found["uploads"]["costs"][name]
        return max(scaling.memory(found["scaling"], name), *(run["memory"] for run in runs)) / MIB
    return most


def temporary(found):
    """KiB; records of the build are no temporary bytes, but they are in it."""
    return max(run["written"] for run in found["uploads"]["costs"][OURS]) / KIB


def twice(found):
    return max(row["twice"] for row in found["killing"]["rows"])


# What, parts it needs, figure, most allowed, unit.
TARGETS = [
    ("uncompressed upload and import against upstream's chain", ["uploads"], upload_ratio("upstream"), 0.03, "×"),
    ("against the best assembled chain", ["uploads"], upload_ratio("assembled"), 0.3, "×"),
    ("against the floor", ["uploads"], upload_ratio("floor"), 1.15, "×"),
    ("compressed qcow2 against `qemu-img convert -c -m 16 -W`", ["packing"], qcow2, 0.3, "×"),
    ("length of that image against qemu-img's", ["packing"], qcow2_length, 1.0, "×"),
    ("compressed and sent, against the slower half alone, the emulator on its own processors", ["packing"], lambda found: packing.overlap_ratio(found["packing"]), 1.1, "×"),
    ("upload over TLS, against the floor over TLS", ["encrypted"], lambda found: encrypted.upload_ratio(found["encrypted"]), 1.1, "×"),
    ("processor seconds over TLS, against the floor's", ["encrypted"], lambda found: encrypted.processor_ratio(found["encrypted"]), 1.2, "×"),
    ("published into a directory with its digests, against the slowest digest alone", ["publishing"], lambda found: publishing.plain_ratio(found["publishing"]), 1.2, "×"),
    ("published as tar.gz, against the compression alone", ["publishing"], lambda found: publishing.package_ratio("tar.gz")(found["publishing"]), 1.1, "×"),
    ("published as zip, against the compression alone", ["publishing"], lambda found: publishing.package_ratio("zip")(found["publishing"]), 1.1, "×"),
    ("zstd unpacked, against `zstd -dc`", ["unpacking"], lambda found: unpacking.ratio(found["unpacking"], "plain.zst"), 1.0, "×"),
    ("xz unpacked, against `xz -dc`", ["unpacking"], lambda found: unpacking.ratio(found["unpacking"], "window-8-mib.xz"), 1.0, "×"),
    ("copies to four regions, against one copy", ["regions"], lambda found: regions.ratio(found["regions"]), 1.2, "×"),
    ("bytes written to disk while uploading uncompressed (records of the build; of the image: none)", ["uploads"], temporary, 256, "KiB"),
    ("peak memory, uncompressed, any disk", ["uploads", "scaling"], memory(OURS), 64, "MiB"),
    ("peak memory, compressed, any disk", ["uploads", "scaling"], memory(OURS_PACKED), 128, "MiB"),
    ("parts sent again after kill -9 that were there already", ["killing"], twice, 0, "parts"),
    ("command to running qemu, ISO of 2.5 GB, initrd of 60 MB", ["installer"], lambda found: installer.seconds(found["installer"]), 2, "s"),
    ("`build-image --help`", ["startup"], lambda found: median(found["startup"]["took"]["`--help`"]), 15, "ms"),
    ("load of one provider with all its checks", ["startup"], lambda found: startup.load(found["startup"]), 60, "ms"),
]


def table(found, old=""):
    """`old`: the table of an earlier run, for what needs parts that are not in `found`."""
    before = {line.split(" | ")[0]: line for line in old.splitlines()}
    lines = ["| what | aim | measured | |", "|---|---|---|---|"]
    for what, needs, figure, most, unit in TARGETS:
        if any(part not in found for part in needs):
            pending = f"| {what} | ≤ {most} {unit} | | {PENDING} |"
            lines.append(before.get(f"| {what}", pending))
            continue
        value = figure(found)
        digits = 3 if unit == "×" and most < 0.1 else 2 if unit in ("×", "s") else 1 if unit == "ms" else 0
        judged = "reached" if value <= most else "**missed**"
        lines.append(f"| {what} | ≤ {most} {unit} | {value:.{digits}f} {unit} | {judged} |")
    return "\n".join(lines)
