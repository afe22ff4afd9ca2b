"""Copies of an image to several regions: a service that needs seconds for each makes them side by side."""

import contenders
from contenders import OURS
from disk import say, slice_of, warm
from machine import GIB, MIB, rounds
from measure import median, span

SECONDS = 6
OTHERS = ["cn-beijing", "cn-shanghai", "cn-shenzhen", "eu-central-1"]


def measure():
    disk = slice_of(GIB, 100 * MIB)
    costs = {count: [] for count in (0, 1, len(OTHERS))}
    for number in range(rounds(3)):
        for count, runs in costs.items():
            say(f"copies to {count} regions, round {number + 1}")
            warm(disk)
            settings = {"ALIBABA_IMAGE_COPY_REGIONS": f"[{', '.join(OTHERS[:count])}]"} if count else {}
            runs.append(vars(contenders.run(OURS, disk, settings=settings, import_seconds=SECONDS)))
    return {"costs": {str(count): runs for count, runs in costs.items()}}


def ratio(found):
    """Seconds of all copies by those of one."""
    took = {count: median(run["wall"] for run in runs) for count, runs in found["costs"].items()}
    return (took[str(len(OTHERS))] - took["0"]) / (took["1"] - took["0"])


def table(found):
    lines = [f"The service needs {SECONDS} s for an import, and as long for a copy.", "", "| copies | wall s |", "|---|---|"]
    return "\n".join(lines + [f"| {count} | {span(run['wall'] for run in runs)} |" for count, runs in found["costs"].items()])
