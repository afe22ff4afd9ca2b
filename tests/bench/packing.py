"""Compressed images and archives alone, beside the programs that make them elsewhere; compressing and sending together."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import contenders
from contenders import OURS_PACKED
from disk import main_disk, say, slice_of, warm
from machine import BIN, GIB, MIB, QUICK, WORK, rounds
from measure import measure as run
from measure import median, span

PACK = BIN / "examples/pack"
TIGHT = ["-f", "raw"]


def ways(disk, folder):
    """What is made → who makes it → the words, and the file it becomes."""
    qcow2, vmdk, tar = folder / "x.qcow2", folder / "x.vmdk", folder / "x.tar.gz"
    inside = ["-C", disk.parent]
    found = {
        "compressed qcow2": {
            "build-image": ([PACK, "qcow2", "default", disk, qcow2], qcow2),
            "qemu-img convert -c -m 16 -W": (["qemu-img", "convert", "-c", "-m", "16", "-W", *TIGHT, "-O", "qcow2", disk, qcow2], qcow2),
        },
        "streamOptimized VMDK": {
            "build-image": ([PACK, "vmdk", "default", disk, vmdk], vmdk),
            "qemu-img convert": (["qemu-img", "convert", *TIGHT, "-O", "vmdk", "-o", "subformat=streamOptimized", disk, vmdk], vmdk),
        },
        "tar.gz": {
            "build-image": ([PACK, "tar.gz", "default", disk, tar], tar),
            "tar czf": (["tar", *inside, "-czf", tar, disk.name], tar),
        },
    }
    if shutil.which("pigz"):
        found["tar.gz"]["tar, pigz"] = (["tar", *inside, "-I", "pigz", "-cf", tar, disk.name], tar)
    return found


def compare(disk, wanted, turns):
    """Runs those who make `wanted` in alternation; costs with the length of what they made."""
    folder = Path(tempfile.mkdtemp(prefix="pack.", dir=WORK))
    costs = {}
    try:
        for number in range(turns):
            for name, (words, made) in ways(disk, folder)[wanted].items():
                say(f"{wanted}, round {number + 1}: {name}")
                warm(disk)
                cost = vars(run(words, folder))
                cost["length"] = made.stat().st_size
                costs.setdefault(name, []).append(cost)
                if made.suffix == ".qcow2" and number == 0:
                    subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, made], check=True,
                                   stdout=subprocess.DEVNULL)
                made.unlink()
    finally:
        shutil.rmtree(folder)
    return costs


def levels(disk, wanted):
    """One run per level: the level, seconds, bytes."""
    folder = Path(tempfile.mkdtemp(prefix="levels.", dir=WORK))
    rows = []
    try:
        for level in wanted:
            say(f"level {level}")
            warm(disk)
            cost = run([PACK, "qcow2", level, disk, folder / "x.qcow2"], folder)
            rows.append((level, cost.wall, (folder / "x.qcow2").stat().st_size))
            (folder / "x.qcow2").unlink()
    finally:
        shutil.rmtree(folder)
    return rows


def shares():
    """Processors of the clients, and of the emulator: half of them each."""
    processors = sorted(os.sched_getaffinity(0))
    middle = max(len(processors) // 2, 1)
    return ",".join(map(str, processors[:middle])), ",".join(map(str, processors[middle:] or processors))


def overlap(disk, turns):
    """Compressed, converted and uploaded, and its two halves alone. The emulator has its own processors, as a service has:
    otherwise its work, receiving and summing, is done instead of the compression."""
    mine, theirs = shares()
    folder = Path(tempfile.mkdtemp(prefix="halves.", dir=WORK))
    costs = {"packing alone": [], "sending alone": [], "both": []}
    try:
        for number in range(turns):
            say(f"halves, round {number + 1}")
            warm(disk)
            packed = folder / "packed.qcow2"
            costs["packing alone"].append(vars(run(["taskset", "--cpu-list", mine, PACK, "qcow2", "default", disk, packed], folder)))
            places = {"processors": mine, "service_processors": theirs}
            costs["sending alone"].append(vars(contenders.run(contenders.FLOOR, packed, **places)))
            packed.unlink()
            costs["both"].append(vars(contenders.run(OURS_PACKED, disk, **places)))
    finally:
        shutil.rmtree(folder)
    return costs


def measure():
    small = slice_of(4 * GIB, 128 * MIB if QUICK else GIB)
    found = {"small": {"virtual": small.stat().st_size}, "made": {}}
    for wanted in ways(small, WORK):
        # Of the others one run takes minutes.
        found["made"][wanted] = compare(small, wanted, rounds(3 if wanted == "compressed qcow2" else 1))
    large = main_disk()
    found["large"] = compare(large, "compressed qcow2", rounds(2))
    found["overlap"] = overlap(large, rounds(2))
    return found


def ratio(costs):
    """Ours against the peer that `qemu-img` is, by round; seconds and bytes."""
    mine, theirs = list(costs.values())[:2]
    times = [one["wall"] / other["wall"] for one, other in zip(mine, theirs)]
    return times, mine[0]["length"] / theirs[0]["length"]


def table(found):
    lines = ["| made | by | wall s | processor s | peak memory MiB | length MiB |", "|---|---|---|---|---|---|"]
    kinds = [(f"{kind}, small disk", costs) for kind, costs in found["made"].items()]
    for kind, costs in [*kinds, ("compressed qcow2, main disk", found["large"])]:
        for name, runs in costs.items():
            cells = [span(run["wall"] for run in runs), span((run["processor"] for run in runs), 1),
                     f"{max(run['memory'] for run in runs) / MIB:.0f}", f"{runs[0]['length'] / MIB:.0f}"]
            lines.append(f"| {kind} | {name} | {' | '.join(cells)} |")
    parts = [f"{name} {span(run['wall'] for run in runs)} s" for name, runs in found["overlap"].items()]
    both = found["overlap"]["both"]
    parts.append(f"of this converting and uploading {span(run['stages']['disk'] + run['stages']['upload'] for run in both)} s")
    lines += ["", "Main disk, compressed and sent, the emulator on the second half of the processors: " + ", ".join(parts) + "."]
    return "\n".join(lines)


def overlap_ratio(found):
    """Converting and uploading: the halves neither check nor import."""
    costs = found["overlap"]
    slower = max(median(run["wall"] for run in costs[half]) for half in ("packing alone", "sending alone"))
    return median(run["stages"]["disk"] + run["stages"]["upload"] for run in costs["both"]) / slower
