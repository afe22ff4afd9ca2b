"""Who uploads a disk, and how each is run: ours, the floor under it, and the peers."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cloud
import measure
from disk import raw
from machine import BIN, PYTHON, ROOT, WORK

HERE = ROOT / "tests/bench"
# MiB per part and parts in flight; the fastest of those that were tried on loopback.
BEST, BEST_OPENDAL = ["64", "4"], ["16", "4"]


def prepare():
    """The peers' libraries, in an environment of their own."""
    wanted = (HERE / "requirements.txt").read_text()
    mark = WORK / "python/.installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    shutil.rmtree(WORK / "python", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", WORK / "python"], check=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
                    HERE / "requirements.txt"], check=True)
    extension = subprocess.run([PYTHON, "-c", "import crcmod.crcmod as crc; assert crc._usingExtension"])
    if extension.returncode != 0:
        sys.exit("bench: crcmod was built without its extension, oss2 would be slow for no fault of its own; install "
                 "a C compiler and python3-dev, and remove " + str(WORK / "python"))
    mark.write_text(wanted)


def program(name, *more):
    return lambda url, disk: [PYTHON, "-B", HERE / "peers" / name, url, disk, *more]


def ours(_url, disk):
    return [BIN / "build-image", *raw(disk), "-c", "config.yml", "-p", "alibaba", "-q", "--output-json-file",
            "result.json"]


def floor(url, disk):
    return [BIN / "examples/floor", url, "floor", disk]


OURS, OURS_PACKED, FLOOR = "build-image", "build-image, compressed", "floor"
UPSTREAM, ASSEMBLED, OPENDAL = "upstream's chain", "best assembled chain", "OpenDAL's writer"
DEFAULT_CLIENT = "oss-v2, its defaults"
WORDS = {
    UPSTREAM: program("upstream.py"),
    ASSEMBLED: program("assembled.py", *BEST),
    OPENDAL: program("opendal_writer.py", *BEST_OPENDAL),
    FLOOR: floor,
    OURS: ours,
    OURS_PACKED: ours,
}
SETTINGS = {OURS_PACKED: {"ALIBABA_DISK_COMPRESSION": "zlib"}}


def run(name, disk, rules=(), look=None, processors=None, service_processors=None, settings=None, **kind):
    """One measured run into a fresh cloud of this kind, on these processors. `look` gets the cloud and the folder when it
    is over."""
    folder = Path(tempfile.mkdtemp(prefix="run.", dir=WORK))
    pinned = ["taskset", "--cpu-list", processors] if processors else []
    try:
        with cloud.Cloud(rules, processors=service_processors, **kind) as place:
            place.configure(folder, **SETTINGS.get(name, {}), **(settings or {}))
            words = WORDS[name](place.url, disk)
            if name == FLOOR and place.authority:
                words[1:1] = ["--ca-file", place.authority]
            cost = measure.measure([*pinned, *words], folder, env=place.environment())
            cost.sent = place.sent()
            told = (folder / "output").read_text().splitlines()
            if (result := folder / "result.json").exists():
                cost.stages = json.loads(result.read_text())["durations"]
            elif told and told[-1].startswith("{"):
                cost.stages = json.loads(told[-1])
            if look:
                look(place, folder)
        return cost
    finally:
        shutil.rmtree(folder)
