"""From a disk to a registered image: ours beside the floor and the peers, in alternation."""

import subprocess

import contenders
from contenders import ASSEMBLED, FLOOR, OPENDAL, OURS, OURS_PACKED, UPSTREAM
from disk import allocated, main_disk, say, warm
from machine import GIB, MIB, ROUNDS
from measure import median, span


def verify(disk):
    """A look at what arrived: the image must be the disk."""
    def look(place, folder):
        target = folder / "exported.raw"
        place.export(target)
        subprocess.run(["qemu-img", "compare", "-f", "raw", "-F", "raw", disk, target], check=True,
                       stdout=subprocess.DEVNULL)
    return look


def measure():
    disk = main_disk()
    costs = {name: [] for name in (UPSTREAM, ASSEMBLED, OPENDAL, FLOOR, OURS, OURS_PACKED)}
    for number in range(ROUNDS):
        for name, runs in costs.items():
            if name == UPSTREAM and number > 0:
                continue
            say(f"upload, round {number + 1}: {name}")
            warm(disk)
            look = verify(disk) if number == 0 and name in (OURS, OURS_PACKED) else None
            runs.append(contenders.run(name, disk, look=look))
    # One run of upstream's stands against the median of the others; they are paired by round.
    ratios = {}
    for key, one, other in (("upstream", OURS, UPSTREAM), ("assembled", OURS, ASSEMBLED), ("floor", OURS, FLOOR),
                            ("opendal", OURS, OPENDAL)):
        theirs = costs[other] * (ROUNDS if other == UPSTREAM else 1)
        ratios[key] = [mine.wall / their.wall for mine, their in zip(costs[one], theirs)]
    return {
        "disk": {"virtual": disk.stat().st_size, "allocated": allocated(disk)},
        "rounds": ROUNDS,
        "costs": {name: [vars(cost) for cost in runs] for name, runs in costs.items()},
        "ratios": ratios,
    }


def table(found):
    lines = [
        f"Disk: {found['disk']['virtual'] / GIB:.0f} GiB virtual, {found['disk']['allocated'] / GIB:.2f} GiB allocated; "
        f"{found['rounds']} alternating rounds, median (least–most); {UPSTREAM} once.",
        "",
        "| | wall s | processor s | peak memory MiB | written to disk GiB | sent GiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in found["costs"].items():
        cells = [span(run["wall"] for run in runs), span((run["processor"] for run in runs), 1),
                 f"{max(run['memory'] for run in runs) / MIB:.0f}", f"{median(run['written'] for run in runs) / GIB:.3f}",
                 f"{median(run['sent'] for run in runs) / GIB:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    stages = found["costs"][UPSTREAM][0]["stages"]
    lines += ["", f"Stages of {UPSTREAM}: " + ", ".join(f"{name} {took:.1f} s" for name, took in stages.items()) + "."]
    stages = [run["stages"] for run in found["costs"][ASSEMBLED]]
    parts = ", ".join(f"{name} {median(run[name] for run in stages):.1f} s" for name in stages[0])
    lines.append(f"Stages of the {ASSEMBLED}: {parts}.")
    return "\n".join(lines)
