"""Publishing into IMAGE_DIR, with MD5 and SHA-256 beside the image: against the slowest digest of the same file alone, and
for packages against the compression alone. Without upload; everything lies on the file system of the target directory."""

import shutil
import tempfile
from pathlib import Path

from disk import raw, say, slice_of, warm
from machine import BIN, GIB, MIB, QUICK, ROUNDS, WORK, rounds
from measure import measure as run
from measure import median, span

PACK = BIN / "examples/pack"
DIGESTS = ("md5", "sha256")
STORAGE = "storage"
PLAIN = ["qcow2", "vhd"]
NAMES = {**{digest: f"`openssl dgst -{digest}` of the image" for digest in DIGESTS}, STORAGE: "`dd conv=fdatasync` of the image"}
# Provider: what `pack` makes of the same disk, and arguments.
PACKAGES = {"gce": ("tar.gz", ["--no-upload"]), "qcow2": ("zip", [])}


def build(disk, images, provider, *words):
    return [BIN / "build-image", *raw(disk), "-p", provider, "--image-dir", images, "-q", *words]


def image(images):
    """The largest file: the image, not its digests."""
    return max((file for file in images.iterdir() if file.is_file()), key=lambda file: file.stat().st_size)


def plain(disk, folder, provider):
    costs = {"build-image": [], **{digest: [] for digest in DIGESTS}, STORAGE: []}
    for number in range(ROUNDS):
        say(f"publishing {provider}, round {number + 1}")
        images = folder / "images"
        warm(disk)
        costs["build-image"].append(vars(run(build(disk, images, provider, "--package", "none"), folder)))
        for digest in DIGESTS:
            costs[digest].append(vars(run(["openssl", "dgst", f"-{digest}", image(images)], folder)))
        copied = folder / "copied"
        costs[STORAGE].append(vars(run(["dd", f"if={image(images)}", f"of={copied}", "bs=1M", "conv=fdatasync"], folder)))
        copied.unlink()
        shutil.rmtree(images)
    return costs


def package(disk, folder, provider, kind, arguments):
    costs = {"build-image": [], "compression alone": []}
    for number in range(rounds(3)):
        say(f"publishing {provider} as {kind}, round {number + 1}")
        images, made = folder / "images", folder / "made"
        warm(disk)
        costs["build-image"].append(vars(run(build(disk, images, provider, *arguments), folder)))
        shutil.rmtree(images)
        warm(disk)
        costs["compression alone"].append(vars(run([PACK, kind, "default", disk, made], folder)))
        made.unlink()
    return costs


def measure():
    disk = slice_of(4 * GIB, 128 * MIB if QUICK else 768 * MIB)
    folder = Path(tempfile.mkdtemp(prefix="publish.", dir=WORK))
    try:
        return {"plain": {provider: plain(disk, folder, provider) for provider in PLAIN},
                "packages": {f"{provider}, {kind}": package(disk, folder, provider, kind, arguments)
                             for provider, (kind, arguments) in PACKAGES.items()}}
    finally:
        shutil.rmtree(folder)


def wall(costs, name):
    return median(cost["wall"] for cost in costs[name])


def slowest(costs):
    return max(DIGESTS, key=lambda digest: wall(costs, digest))


def plain_ratio(found):
    """The worst of the formats."""
    return max(wall(costs, "build-image") / wall(costs, slowest(costs)) for costs in found["plain"].values())


def package_ratio(kind):
    def ratio(found):
        costs = next(costs for name, costs in found["packages"].items() if name.endswith(kind))
        return wall(costs, "build-image") / wall(costs, "compression alone")
    return ratio


def table(found):
    lines = ["| what | by | wall s | processor s | peak memory MiB |", "|---|---|---|---|---|"]
    for group, title in (("plain", "{}, no package"), ("packages", "{}")):
        for name, costs in found[group].items():
            for who, runs in costs.items():
                by = NAMES.get(who, who)
                cells = [span(run["wall"] for run in runs), span(run["processor"] for run in runs),
                         f"{max(run['memory'] for run in runs) / MIB:.0f}"]
                lines.append(f"| {title.format(name)} | {by} | {' | '.join(cells)} |")
    lines += ["", "A zip file begins with a header that holds the length and the CRC-32 of what follows, and both digests begin "
              "with this header. So they are computed after the compression, from memory, side by side."]
    return "\n".join(lines)
