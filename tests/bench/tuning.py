"""What was turned to see whether it helps: parts, lanes and chunks of an upload, levels of compression."""

import contenders
import packing
from contenders import FLOOR, OURS
from disk import main_disk, say, slice_of, warm
from machine import GIB, MIB, QUICK, rounds
from measure import span

# MiB per part, parts in flight; None: as build-image has them by itself.
UPLOADS = [(None, None), (8, None), (32, None), (64, None), (None, 4), (None, 8)]
# MiB per part, parts in flight, KiB per chunk of the floor.
FLOORS = [("16", "4", "256"), ("16", "8", "256"), ("64", "4", "256"), ("16", "4", "64"), ("16", "4", "1024")]
LEVELS = ["1", "2", "3", "4", "6"]


def measure():
    disk = main_disk()
    found = {"ours": [], "floor": [], "levels": []}
    ways = []
    for size, lanes in UPLOADS:
        settings = {}
        if size:
            settings["ALIBABA_UPLOAD_PART_SIZE"] = size * MIB
        if lanes:
            settings["ALIBABA_THREAD_COUNT"] = lanes
        name = f"parts of {size or 16} MiB, {lanes or '4 to 32'} at once"
        contenders.WORDS[name], contenders.SETTINGS[name] = contenders.WORDS[OURS], settings
        ways.append(("ours", name))
    for more in FLOORS:
        name = "parts of {} MiB, {} at once, chunks of {} KiB".format(*more)
        contenders.WORDS[name] = lambda url, disk, more=more: [*contenders.floor(url, disk), *more]
        ways.append(("floor", name))
    walls = {way: [] for way in ways}
    for number in range(rounds(2)):
        for kind, name in ways:
            say(f"tuning, round {number + 1}: {name}")
            warm(disk)
            walls[kind, name].append(contenders.run(name, disk).wall)
    for (kind, name), runs in walls.items():
        found[kind].append((name, runs))
    found["levels"] = packing.levels(slice_of(4 * GIB, 128 * MIB if QUICK else GIB), LEVELS)
    return found


def table(found):
    lines = ["| build-image, uncompressed | s |", "|---|---|"]
    lines += [f"| {name} | {span(runs)} |" for name, runs in found["ours"]]
    lines += ["", f"| {FLOOR} | s |", "|---|---|"]
    lines += [f"| {name} | {span(runs)} |" for name, runs in found["floor"]]
    lines += ["", "| compressed qcow2, small disk | s | MiB |", "|---|---|---|"]
    lines += [f"| level {level} | {wall:.2f} | {length / MIB:.1f} |" for level, wall, length in found["levels"]]
    return "\n".join(lines)
