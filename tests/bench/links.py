"""Slow lines and late answers: what of the line is used.

The emulator shapes: all parts together pass at the line's rate, and every request waits before it begins. So there
are neither losses nor windows, only rate and latency.
"""

import contenders
from cloud import link
from contenders import ASSEMBLED, DEFAULT_CLIENT, FLOOR, OURS
from disk import say, slice_of, warm
from machine import GIB, MIB, QUICK

# Name, bits per second, MiB sent.
LINES = [("loopback", None, 1024), ("1 Gbit/s", 10**9, 1024), ("100 Mbit/s", 10**8, 128)]
LATENCIES = [0, 50, 200]
NAMES = [OURS, FLOOR, DEFAULT_CLIENT, ASSEMBLED]
contenders.WORDS[DEFAULT_CLIENT] = contenders.program("assembled.py", "6", "3")


def measure():
    rows = []
    for line, bits, size in LINES:
        disk = slice_of(GIB * 2, (size // 8 if QUICK else size) * MIB)
        for latency in LATENCIES:
            row = {"line": line, "bits": bits, "latency": latency, "costs": {}}
            for name in NAMES:
                say(f"{line}, {latency} ms: {name}")
                warm(disk)
                cost = vars(contenders.run(name, disk, link(bits, latency)))
                # What comes before and after the upload is not what the line is tried with.
                cost["sending"] = cost["stages"].get("upload", cost["wall"])
                row["costs"][name] = cost
            rows.append(row)
    return {"rows": rows}


def used(row, name):
    """Bits per second of the upload."""
    cost = row["costs"][name]
    return cost["sent"] * 8 / cost["sending"]


def table(found):
    lines = ["| line | each request waits | " + " | ".join(NAMES) + " |", "|---|---|" + "---|" * len(NAMES)]
    for row in found["rows"]:
        cells = []
        for name in NAMES:
            rate = used(row, name)
            share = f" ({100 * rate / row['bits']:.0f} %)" if row["bits"] else ""
            cells.append(f"{rate / 8 / 1e6:.1f}{share}")
        lines.append(f"| {row['line']} | {row['latency']} ms | {' | '.join(cells)} |")
    return "MB/s while the upload ran (share of the line), one run each.\n\n" + "\n".join(lines)
