"""What a user waits for before anything happens: help, completions, loading a provider, the first request."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloud
from disk import raw
from machine import BIN, QUICK, WORK
from measure import median, span

TURNS = 5 if QUICK else 41
WAYS = {
    "`--help`": ["--help"],
    "`--version`": ["--version"],
    "`completions bash`": ["completions", "bash"],
    "`-p qcow2 --help`": ["-p", "qcow2", "--help"],
    "`-p alibaba --help`": ["-p", "alibaba", "--help"],
    "`-p alibaba --help --isolate`": ["-p", "alibaba", "--help", "--isolate"],
}


def milliseconds(words, folder):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "BUILD_IMAGE_PROVIDER_PATH": str(BIN)}
    begun = time.perf_counter()
    done = subprocess.run([BIN / "build-image", *words], cwd=folder, capture_output=True, check=False, env=environment)
    took = 1000 * (time.perf_counter() - begun)
    if done.returncode != 0:
        sys.exit(f"bench: {words}: {done.stderr.decode()}")
    return took


def first_request(folder, disk):
    """Milliseconds from the command to the first request that was answered."""
    with cloud.Cloud() as place:
        place.configure(folder)
        begun = time.perf_counter()
        build = subprocess.Popen([BIN / "build-image", *raw(disk), "-c", "config.yml", "-p", "alibaba", "-q"],
                                 cwd=folder, stdout=subprocess.DEVNULL)
        while place.log.stat().st_size == 0:
            time.sleep(0.0005)
        took = 1000 * (time.perf_counter() - begun)
        if build.wait() != 0:
            sys.exit("bench: a build failed")
        return took


def measure():
    took = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="start.", dir=WORK) as folder:
        for _ in range(TURNS):
            for name, words in WAYS.items():
                took[name].append(milliseconds(words, folder))
        disk = Path(folder, "disk.raw")
        disk.write_bytes(os.urandom(1 << 20))
        took["first request of a build"] = [first_request(folder, disk) for _ in range(min(TURNS, 11))]
    size = (BIN / "libbuild_image_provider_alibaba.so").stat().st_size
    return {"took": took, "provider": size}


def table(found):
    lines = [f"The provider `alibaba` has {found['provider'] / 1e6:.1f} MB; {TURNS} alternating rounds.", "",
             "| what | ms |", "|---|---|"]
    lines += [f"| {name} | {span(took, 1)} |" for name, took in found["took"].items()]
    return "\n".join(lines)


def load(found):
    """Loading the largest provider with all its checks: help with it, less help without."""
    return median(found["took"]["`-p alibaba --help`"]) - median(found["took"]["`--help`"])
