"""Where things lie, what machine this is, and how much is measured.

BENCH_ROUNDS: rounds of what alternates (5). BENCH_QUICK: small disks and one round, to see that everything works.
BENCH_STATE: where the emulated cloud keeps its objects; without it memory when there is enough, else the target folder.
"""

import datetime
import os
import platform
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
BIN = TARGET / "release"
WORK = TARGET / "bench"
QUICK = bool(os.environ.get("BENCH_QUICK"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "1" if QUICK else "5"))
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PYTHON = WORK / "python/bin/python"


def rounds(most):
    """For what takes long: no more than so many rounds."""
    return min(ROUNDS, most)


def state_root():
    if named := os.environ.get("BENCH_STATE"):
        return Path(named)
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 12 * GIB and available_memory() > 16 * GIB:
        return memory
    return WORK


def available_memory():
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * KIB
    return 0


def first_line(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def file_system(path):
    return first_line("stat", "-f", "-c", "%T", path)


def description():
    """The machine in lines of a list."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    state = state_root()
    return [
        f"{processor()}, {os.cpu_count()} cores, {total:.0f} GiB of memory",
        f"Linux {platform.release()}, {first_line('rustc', '--version')}, {first_line('qemu-img', '--version')}, "
        f"Python {platform.python_version()}",
        f"disks and what the peers write: {file_system(WORK)}; the cloud's objects: {file_system(state)}",
        f"load when it began: {os.getloadavg()[0]:.2f}; {datetime.date.today().isoformat()}",
    ]
