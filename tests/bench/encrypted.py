"""The same upload over TLS: ours beside the floor, which is the bare client over the same TLS. The emulator decrypts on some
of the same processors, as much for one as for the other."""

import contenders
from contenders import FLOOR, OURS
from disk import say, slice_of, warm
from machine import GIB, MIB, QUICK, ROUNDS
from measure import median, span


def measure():
    disk = slice_of(4 * GIB, 128 * MIB if QUICK else 2 * GIB)
    costs = {name: [] for name in (FLOOR, OURS)}
    for number in range(ROUNDS):
        for name, runs in costs.items():
            say(f"TLS, round {number + 1}: {name}")
            warm(disk)
            runs.append(vars(contenders.run(name, disk, tls=True)))
    return {"costs": costs}


def upload_ratio(found):
    """The upload alone: the floor neither checks nor imports."""
    ours, floor = found["costs"][OURS], found["costs"][FLOOR]
    return median(run["stages"]["upload"] for run in ours) / median(run["wall"] for run in floor)


def processor_ratio(found):
    """The whole command."""
    ours, floor = found["costs"][OURS], found["costs"][FLOOR]
    return median(run["processor"] for run in ours) / median(run["processor"] for run in floor)


def table(found):
    lines = ["TLS 1.3 by rustls with ring, AES-256-GCM.", "", "| | wall s | of it the upload s | processor s | peak memory MiB |", "|---|---|---|---|---|"]
    for name, runs in found["costs"].items():
        cells = [span(run["wall"] for run in runs), span(run["stages"].get("upload", run["wall"]) for run in runs),
                 span(run["processor"] for run in runs),
                 f"{max(run['memory'] for run in runs) / MIB:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
