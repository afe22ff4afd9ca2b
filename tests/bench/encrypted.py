"""The same upload over TLS: ours beside the floor, which is the bare client over the same TLS. The emulator decrypts on some
of the same processors, as much for one as for the other."""

import contenders
from contenders import FLOOR, OURS
from disk import say, slice_of, warm
from machine import GIB, MIB, QUICK, ROUNDS
from measure import median, span


def measure():
    disk = slice_of(4 * GIB, 128 * MIB if QUICK else GIB)
    costs = {name: [] for name in (FLOOR, OURS)}
    for number in range(ROUNDS):
        for name, runs in costs.items():
            say(f"TLS, round {number + 1}: {name}")
            warm(disk)
            runs.append(vars(contenders.run(name, disk, tls=True)))
    return {"costs": costs}


def ratio(key):
    def of(found):
        ours, floor = ([run[key] for run in found["costs"][name]] for name in (OURS, FLOOR))
        return median(ours) / median(floor)
    return of


def table(found):
    lines = ["TLS 1.3 by rustls with ring, AES-256-GCM.", "", "| | wall s | processor s | peak memory MiB |", "|---|---|---|---|"]
    for name, runs in found["costs"].items():
        cells = [span(run["wall"] for run in runs), span(run["processor"] for run in runs),
                 f"{max(run['memory'] for run in runs) / MIB:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
