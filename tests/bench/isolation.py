"""What a process between host and provider costs: a disk of 1 GiB, no holes, published into memory."""

import os
import shutil
import tempfile
from pathlib import Path

from disk import raw
from machine import BIN, MIB, QUICK, ROOT, ROUNDS
from measure import measure as run
from measure import span

WAYS = {
    "in process": ["-p", "qcow2", "--package", "none"],
    "isolated": ["-p", "qcow2", "--package", "none", "--isolate"],
    "a program in Python": ["-p", "pydir", "--provider-dir", ROOT / "providers/example-python"],
}


def measure():
    work = Path(tempfile.mkdtemp(prefix="bench.", dir="/dev/shm"))
    took = {name: [] for name in WAYS}
    try:
        disk = work / "disk.raw"
        with open(disk, "wb") as file:
            for _ in range(64 if QUICK else 1024):
                file.write(os.urandom(MIB))
            file.seek(510)
            file.write(b"\x55\xaa")  # a boot sector: otherwise it is not recognised as a disk
        for _ in range(ROUNDS):
            for name, words in WAYS.items():
                cost = run([BIN / "build-image", *raw(disk), *words, "--image-dir", work / "images", "-q"], work)
                took[name].append(cost.wall)
                shutil.rmtree(work / "images")
    finally:
        shutil.rmtree(work)
    return {"took": took}


def table(found):
    lines = ["| provider | s |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {span(took)} |" for name, took in found["took"].items()])
