"""Writes a disk into an EBS snapshot, beside coldsnap: against a server that keeps and checks nothing, so that the clients
are what is measured. A figure counts where the server alone is at least twice as fast as both.

coldsnap is built once, which takes a quarter of an hour.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from disk import allocated, main_disk, raw, say, warm
from machine import BIN, GIB, KIB, MIB, ROUNDS, TARGET, WORK
from measure import measure as run
from measure import median, span
from services import Server

COLDSNAP = "0.12.0"
LANES = 8
SINK, OURS, PEER, PEER_ALL = "the server alone", "build-image", "coldsnap, without zeros", "coldsnap, its defaults"


def coldsnap():
    """The peer's program, built on first use."""
    program = WORK / f"coldsnap-{COLDSNAP}/bin/coldsnap"
    if not program.exists():
        say(f"building coldsnap {COLDSNAP}, once")
        subprocess.run(["cargo", "install", "--quiet", "--locked", "--root", program.parents[1], "--target-dir",
                        WORK / "coldsnap-target", f"coldsnap@{COLDSNAP}"], check=True)
        shutil.rmtree(WORK / "coldsnap-target")
    return program


def access(address):
    """Variables of the environment that both clients read."""
    given = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "eu-central-1",
             "AWS_ENDPOINT_URL": f"http://{address}", "AWS_EC2_METADATA_DISABLED": "true"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, **given}


def contenders(address, disk, folder):
    """Name → words."""
    (folder / "config.yml").write_text(f"AWS_ACCESS_KEY_ID: bench\nAWS_SECRET_ACCESS_KEY: bench\n"
                                       f"AWS_REGION: eu-central-1\nAWS_ENDPOINT_URL: http://{address}\n")
    peer = coldsnap()
    return {
        SINK: [BIN / "examples/ebs_sink", "push", address, allocated(disk) // (512 * KIB), LANES],
        OURS: [BIN / "build-image", *raw(disk), "-c", "config.yml", "-p", "aws", "-q", "--cloud-image-name", "bench"],
        PEER: [peer, "upload", "--no-progress", "--omit-zero-blocks", disk],
        PEER_ALL: [peer, "upload", "--no-progress", disk],
    }


def measure():
    disk = main_disk()
    folder = Path(tempfile.mkdtemp(prefix="snapshots.", dir=TARGET / "bench"))
    costs = {}
    try:
        for number in range(ROUNDS):
            with Server(BIN / "examples/ebs_sink", "serve") as server:
                for name, words in contenders(server["address"], disk, folder).items():
                    if name == PEER_ALL and number > 0:
                        continue
                    say(f"snapshot, round {number + 1}: {name}")
                    warm(disk)
                    cost = run(words, folder, env=access(server["address"]))
                    costs.setdefault(name, []).append(vars(cost))
    finally:
        shutil.rmtree(folder)
    return {"virtual": disk.stat().st_size, "allocated": allocated(disk), "rounds": ROUNDS, "costs": costs}


def table(found):
    lines = [f"A raw disk of {found['virtual'] / GIB:.0f} GiB, {found['allocated'] / GIB:.2f} GiB allocated; "
             f"{found['rounds']} alternating rounds, median (least–most); {PEER_ALL}, once. coldsnap {COLDSNAP}.", "",
             "| client | s | processor, s | peak memory |", "|---|---|---|---|"]
    for name, runs in found["costs"].items():
        processor = span((one["processor"] for one in runs), 1)
        memory = max(one["memory"] for one in runs) / MIB
        lines.append(f"| {name} | {span(one['wall'] for one in runs)} | {processor} | {memory:.0f} MiB |")
    fastest = min(median(one["wall"] for one in found["costs"][name]) for name in (OURS, PEER))
    ratio = fastest / median(one["wall"] for one in found["costs"][SINK])
    verdict = "so the figures count" if ratio >= 2 else "so the figures do not count"
    lines += ["", f"The faster client took {ratio:.1f} times as long as the server alone, {verdict}."]
    return "\n".join(lines)
