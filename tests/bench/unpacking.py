"""How fast packed disks are unpacked and how much memory that takes, beside the packers' own programs.

A disk of 1 GiB, a quarter of it text, a quarter bytes that do not compress, the rest zeros; packed as each
program does by default (for xz a window of 8 MiB), and with the windows of their highest levels. Ours: the example `unpack` of core/disk, which unpacks into a
file as a build does; theirs: unpacking to /dev/null. Memory is the peak of the process.
"""

import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

from machine import BIN, GIB, MIB, QUICK, WORK, rounds
from measure import measure as run
from measure import median

UNPACK = BIN / "examples/unpack"
WAYS = {
    "plain.gz": (["gzip", "-c"], ["gzip", "-dc"]),
    "window-8-mib.xz": (["xz", "-T1", "--lzma2=preset=0,dict=8MiB", "-c"], ["xz", "-dc"]),
    "blocks.xz": (["xz", "-T2", "--block-size=16MiB", "--lzma2=preset=0,dict=8MiB", "-c"], ["xz", "-T0", "-dc"]),
    "window-64-mib.xz": (["xz", "-T1", "--lzma2=preset=0,dict=64MiB", "-c"], ["xz", "-dc"]),
    "plain.zst": (["zstd", "-q", "-c"], ["zstd", "-q", "-dc"]),
    "window-128-mib.zst": (["zstd", "-q", "--long=27", "-c"], ["zstd", "-q", "-dc", "--long=27"]),
}


def make_disk(path):
    noise = random.Random(1)
    words = [noise.randbytes(noise.randrange(2, 9)).hex() for _ in range(5000)]
    with open(path, "wb") as file:
        for _ in range(4 if QUICK else 64):
            text = " ".join(noise.choices(words, k=4 * MIB // 10)).encode()[:4 * MIB]
            file.write(text.ljust(4 * MIB) + noise.randbytes(4 * MIB) + bytes(8 * MIB))


def measure():
    folder = Path(tempfile.mkdtemp(prefix="unpack.", dir=WORK))
    rows = []
    try:
        disk = folder / "plain"
        if maker := os.fork():
            os.waitpid(maker, 0)
        else:
            make_disk(disk)
            os._exit(0)
        for name, (pack, unpack) in WAYS.items():
            packed = folder / name
            with open(packed, "wb") as out:
                subprocess.run([*pack, disk], stdout=out, check=True)
            mine, theirs = [], []
            for _ in range(rounds(3)):
                mine.append(vars(run([UNPACK, packed, folder], folder)))
                theirs.append(vars(run(["sh", "-c", " ".join(map(str, [*unpack, packed])) + " >/dev/null"], folder)))
            rows.append({"name": name, "plain": disk.stat().st_size, "packed": packed.stat().st_size,
                         "mine": mine, "theirs": theirs})
            packed.unlink()
    finally:
        shutil.rmtree(folder)
    return {"rows": rows}


def wall(runs):
    return median(one["wall"] for one in runs)


def ratio(found, name):
    row = next(row for row in found["rows"] if row["name"] == name)
    return wall(row["mine"]) / wall(row["theirs"])


def table(found):
    lines = [f"{found['rows'][0]['plain'] / GIB:.2f} GiB unpacked; MB/s and peak memory.", "",
             "| file | packed | build-image | | its own program | |", "|---|---|---|---|---|---|"]
    for row in found["rows"]:
        cells = []
        for who in (row["mine"], row["theirs"]):
            cells += [f"{row['plain'] / 1e6 / wall(who):.0f} MB/s", f"{max(one['memory'] for one in who) / MIB:.0f} MiB"]
        lines.append(f"| {row['name']} | {row['packed'] / MIB:.0f} MiB | {' | '.join(cells)} |")
    return "\n".join(lines)
