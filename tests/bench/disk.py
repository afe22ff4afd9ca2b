"""Disks to measure with: a real file tree in ext4, and slices of it that are as large, full and scattered as wanted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from machine import GIB, MIB, QUICK, TARGET, WORK

ROOTS = ["/usr", "/opt", "/var/lib", "/var/cache", "/srv"]
VIRTUAL = (2 if QUICK else 20) * GIB
CONTENT = GIB // 4 if QUICK else 4 * GIB + 200 * MIB
PIECE = 4 * MIB


def allocated(path):
    return os.stat(path).st_blocks * 512


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def plant(tree):
    """Copies this machine's own files until there are enough; takes them twice when there are too few."""
    missing = CONTENT
    for turn in range(100):
        for root in ROOTS:
            for folder, folders, names in os.walk(root):
                folders[:] = sorted(name for name in folders if Path(folder, name) != TARGET)
                place = Path(f"{tree}/{turn}{folder}")
                place.mkdir(parents=True, exist_ok=True)
                for name in sorted(names):
                    source = Path(folder, name)
                    if source.is_symlink():
                        os.symlink(os.readlink(source), place / name)
                    elif source.is_file() and os.access(source, os.R_OK):
                        shutil.copy(source, place / name)
                        missing -= source.stat().st_size
                    if missing <= 0:
                        return
    sys.exit("bench: this machine has too few files to make a disk of")


def main_disk():
    """The disk of the headline figures, made once."""
    path = WORK / f"disk-{VIRTUAL // GIB}g.raw"
    if path.exists():
        return path
    say(f"making a disk of {CONTENT / GIB:.1f} GiB of files, once")
    tree, making = WORK / "tree", path.with_suffix(".making")
    shutil.rmtree(tree, ignore_errors=True)
    making.unlink(missing_ok=True)
    tree.mkdir(parents=True)
    plant(tree)
    os.truncate(os.open(making, os.O_CREAT | os.O_WRONLY, 0o644), VIRTUAL)
    path_of_tools = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", tree, making], check=True,
                   env=path_of_tools, stderr=subprocess.DEVNULL)
    shutil.rmtree(tree)
    making.rename(path)
    return path


def runs(file):
    """Where data is stored: pieces of at most PIECE bytes, as offset and length."""
    end, at = os.fstat(file).st_size, 0
    while at < end:
        try:
            at = os.lseek(file, at, os.SEEK_DATA)
        except OSError:
            return
        hole = os.lseek(file, at, os.SEEK_HOLE)
        while at < hole:
            length = min(PIECE, hole - at)
            yield at, length
            at += length


def slice_of(virtual, content, name=None):
    """A disk of `content` bytes taken evenly from the main disk, in pieces spread over `virtual` bytes."""
    path = WORK / (name or f"slice-{virtual // MIB}-{content // MIB}.raw")
    if path.exists():
        return path
    making = path.with_suffix(".making")
    source = os.open(main_disk(), os.O_RDONLY)
    pieces = [piece for piece in runs(source) if piece[1] == PIECE]
    count = content // PIECE
    target = os.open(making, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    os.truncate(target, virtual)
    for number in range(count):
        # Evenly over the source as long as it lasts; then once more from its start.
        at, length = pieces[(number * len(pieces) // count if count < len(pieces) else number) % len(pieces)]
        place = number * (virtual // count) // MIB * MIB
        os.pwrite(target, os.pread(source, length, at), place)
    os.close(source)
    os.close(target)
    making.rename(path)
    return path


def raw(disk):
    """The arguments for a disk that is taken as it is: a slice has a file system that was cut."""
    return "--disk", disk, "--disk-format", "raw"


def warm(path):
    """Reads what is stored, so that everybody finds it in memory."""
    file = os.open(path, os.O_RDONLY)
    for at, length in runs(file):
        os.pread(file, length, at)
    os.close(file)
