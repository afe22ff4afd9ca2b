"""What is sent again after a kill -9 in the middle of an upload."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cloud import Cloud, link
from disk import raw, say, slice_of
from machine import BIN, GIB, MIB, QUICK, WORK

PART = 16 * MIB
# Parts that are there when it is killed.
MOMENTS = [3, 12, 25]


def parts(place):
    return [entry for entry in place.requests() if entry["operation"] == "UploadPart"]


def once(disk, moment, folder):
    # Slow enough to be hit in the middle.
    with Cloud(link(2 * 10**9, 20)) as place:
        place.configure(folder)
        build = subprocess.Popen([BIN / "build-image", *raw(disk), "-c", "config.yml", "-p", "alibaba", "-q"],
                                 cwd=folder, stdout=subprocess.DEVNULL)
        while len(parts(place)) < moment:
            if build.poll() is not None:
                sys.exit("bench: the upload was over before it could be killed")
            time.sleep(0.01)
        build.kill()
        build.wait()
        time.sleep(0.5)  # the emulator notes what broke off
        before = parts(place)
        arrived = sum(entry["bytes_in"] for entry in before if entry["status"] == 200)
        broken = len([entry for entry in before if entry["status"] != 200])
        listed = subprocess.run([BIN / "build-image", "runs", "--json"], cwd=folder, check=True, capture_output=True)
        name = json.loads(listed.stdout)["runs"][0]["id"]
        subprocess.run([BIN / "build-image", "resume", name, "-q"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        again = sum(entry["bytes_in"] for entry in parts(place)[len(before):] if entry["status"] == 200)
        image = arrived + again
        keys = {entry["part_number"] for entry in parts(place) if entry["status"] == 200}
        return {"arrived": arrived, "again": again, "broken": broken,
                "twice": len([entry for entry in parts(place) if entry["status"] == 200]) - len(keys), "image": image}


def measure():
    disk = slice_of(2 * GIB, (448 if QUICK else 1024) * MIB)
    rows = []
    for moment in MOMENTS:
        say(f"kill -9 after {moment} parts")
        folder = Path(tempfile.mkdtemp(prefix="kill.", dir=WORK))
        try:
            rows.append(once(disk, moment, folder))
        finally:
            shutil.rmtree(folder)
    return {"rows": rows}


def table(found):
    lines = ["| parts that had arrived | parts in flight when it was killed | parts sent by `resume` | of them there already |",
             "|---|---|---|---|"]
    for row in found["rows"]:
        lines.append(f"| {row['arrived'] / PART:.0f} | {row['broken']} | {row['again'] / PART:.0f} | {row['twice']} |")
    return "\n".join(lines)
