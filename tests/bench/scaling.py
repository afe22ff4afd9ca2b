"""How cost grows with the disk: its size should not matter, only what it holds; and memory should not grow at all."""

import contenders
from contenders import OURS, OURS_PACKED
from disk import allocated, say, slice_of, warm
from machine import GIB, MIB, QUICK

# GiB of the disk; MiB it holds.
CASES = [(1, 100), (4, 100), (16, 100), (64, 100), (1, 1000), (4, 1000), (16, 1000), (64, 1000), (64, 4000), (64, 8000)]
PACKED = [(1, 100), (64, 100), (64, 1000), (64, 4000)]


def measure():
    rows = []
    for virtual, content in CASES[:4] if QUICK else CASES:
        disk = slice_of(virtual * GIB, content * MIB, "scaling.raw")
        warm(disk)
        names = [OURS, OURS_PACKED] if (virtual, content) in PACKED else [OURS]
        for name in names:
            say(f"{virtual} GiB, {content} MiB in it: {name}")
            cost = vars(contenders.run(name, disk))
            rows.append({"name": name, "virtual": virtual, "allocated": allocated(disk), **cost})
        disk.unlink()
    return {"rows": rows}


def table(found):
    lines = ["| | disk GiB | allocated GiB | wall s | wall s per GiB | processor s | peak memory MiB |",
             "|---|---|---|---|---|---|---|"]
    for row in found["rows"]:
        held = row["allocated"] / GIB
        lines.append(f"| {row['name']} | {row['virtual']} | {held:.2f} | {row['wall']:.2f} | {row['wall'] / held:.2f} "
                     f"| {row['processor']:.1f} | {row['memory'] / MIB:.0f} |")
    return "\n".join(lines)


def memory(found, name):
    return max(row["memory"] for row in found["rows"] if row["name"] == name)
