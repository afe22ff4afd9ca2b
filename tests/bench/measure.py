"""What a program costs, all its children with it: time, processor, memory, bytes written to disk."""

import dataclasses
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path


@dataclasses.dataclass
class Cost:
    """One run. Seconds; bytes."""
    wall: float
    processor: float
    # Of the largest process.
    memory: int
    written: int
    sent: int = 0
    stages: dict = dataclasses.field(default_factory=dict)


def written():
    """Bytes sent to storage by this process and the children it has waited for."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["write_bytes"])


class Watch(threading.Thread):
    """Looks at the high-water marks of a process and its children. What `wait4` tells of memory is no less than what
    this program takes itself, which is more than some take that are measured."""

    EVERY = 0.025

    def __init__(self, child):
        super().__init__(daemon=True)
        self.child, self.peak, self.over = child, 0, threading.Event()

    def run(self):
        while not self.over.wait(self.EVERY):
            self.look(self.child.pid)

    def look(self, process):
        try:
            status = Path(f"/proc/{process}/status").read_text()
            mark = status.partition("VmHWM:")[2].split(maxsplit=1)
            self.peak = max(self.peak, int(mark[0]) << 10 if mark else 0)
            for task in os.listdir(f"/proc/{process}/task"):
                for child in Path(f"/proc/{process}/task/{task}/children").read_text().split():
                    self.look(child)
        except OSError:
            pass  # it ended meanwhile

    def end(self):
        self.over.set()
        self.join()
        return self.peak


def measure(words, folder, **options):
    """Runs a program to its end. What earlier ones wrote is on disk before it begins."""
    os.sync()
    output = Path(folder) / "output"
    before = written()
    with open(output, "wb") as out, open(f"{output}.errors", "wb") as errors:
        begun = time.monotonic()
        child = subprocess.Popen([str(word) for word in words], cwd=folder, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=errors, **options)
        watch = Watch(child)
        watch.start()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        memory = watch.end()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        complaint = Path(f"{output}.errors").read_text(errors="replace")[-2000:]
        sys.exit(f"bench: `{' '.join(map(str, words))}` ended with {child.returncode}: {complaint}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, memory or usage.ru_maxrss << 10, written() - before)


def median(values):
    return statistics.median(values)


def span(values, digits=2):
    """Median and, when there are several, least and most."""
    values = list(values)
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"
