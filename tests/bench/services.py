"""Uploads one disk to servers that others wrote, beside the servers' usual clients: Glance and docker-registry.

The disk is raw and has no holes; every run sends it under a new name. The clients get the same file. Figures are
medians of alternating rounds; read them as ratios. Needs what `tests/install-tools` and `tests/install-tools openstack`
install.
"""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from disk import raw
from machine import BIN, MIB, PYTHON, QUICK, ROOT, ROUNDS, TARGET
from measure import measure as run
from measure import median, span

SIZE = (64 if QUICK else 1024) * MIB


class Server:
    """A program that serves until its input ends, and describes itself in its first line."""

    def __init__(self, *words):
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"bench: `{words[0]}` did not start")
        self.described = json.loads(line)

    def __enter__(self):
        return self.described

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def ours(disk, provider, settings):
    """build-image with settings in a file."""
    config = disk.parent / f"{provider}.yml"
    config.write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    return [BIN / "build-image", *raw(disk), "-c", config, "-p", provider, "-q"]


def to_glance(disk, cloud):
    """Name → the words of a run, which gets a number, and the variables of its environment."""
    user, project = "builder", "builders"
    access = {"OS_AUTH_URL": cloud["auth_url"], "OS_USERNAME": user, "OS_PASSWORD": cloud["passwords"][user],
              "OS_PROJECT_NAME": project, "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default",
              "OS_IDENTITY_API_VERSION": "3"}
    environment = {**os.environ, **access}
    settings = {"OPENSTACK_AUTH_URL": cloud["auth_url"], "OPENSTACK_USERNAME": user,
                "OPENSTACK_PASSWORD": cloud["passwords"][user], "OPENSTACK_PROJECT_NAME": project,
                "OPENSTACK_DISK_FORMAT": "raw"}
    openstack = Path(cloud["programs"]) / "openstack"
    glance = PYTHON.parent / "glance"
    common = ["--disk-format", "raw", "--container-format", "bare"]

    def mine(method):
        return lambda number: ours(disk, "openstack", {**settings, "OPENSTACK_UPLOAD_METHOD": method,
                                                      "CLOUD_IMAGE_NAME": f"ours-{method}-{number}"})

    return {
        "build-image, one stream": (mine("put"), None),
        "build-image, staged import": (mine("import"), None),
        "openstack image create": (lambda number: [openstack, "image", "create", *common, "--file", disk, f"osc-{number}"],
                                   environment),
        "glance image-create": (lambda number: [glance, "image-create", *common, "--file", disk, "--name",
                                                f"glance-{number}"], environment),
        "glance image-upload, into a record": (lambda number: [glance, "image-upload", "--file", disk,
                                                               new_record(glance, common, environment)], environment),
    }


def new_record(glance, common, environment):
    """The id of an image without data, whose creation is not measured."""
    # With an input that is not a terminal, the client would upload that input.
    ours, theirs = pty.openpty()
    try:
        created = subprocess.run([glance, "image-create", *common, "--name", "record"], env=environment, stdin=theirs,
                                 stdout=subprocess.PIPE, text=True, check=True)
    finally:
        os.close(ours)
        os.close(theirs)
    return re.search(r"\| id +\| ([0-9a-f-]{36}) ", created.stdout)[1]


def make_layout(disk):
    """The finished image as a directory of skopeo's, which build-image makes by way of a registry."""
    layout = disk.parent / "layout"
    with Server(ROOT / "tests/oci/serve", "plain") as registry:
        reference = f"{registry['address']}/first/disk:1"
        run(ours(disk, "oci", {"OCI_REFERENCE": reference}), disk.parent)
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}",
                        f"dir:{layout}"], check=True)
    return layout


def to_registry(disk, layout, registry):
    """The same for a registry. skopeo gets the finished image."""
    address = registry["address"]
    return {
        "build-image": (lambda number: ours(disk, "oci", {"OCI_REFERENCE": f"{address}/ours/disk:{number}"}), None),
        "skopeo copy, of a finished image": (lambda number: ["skopeo", "--insecure-policy", "copy", "-q",
                                                             "--dest-tls-verify=false", f"dir:{layout}",
                                                             f"docker://{address}/skopeo/disk:{number}"], None),
    }


def alternate(ways, folder, costs, number):
    """One round."""
    for name, (words, environment) in ways.items():
        costs.setdefault(name, []).append(vars(run(words(number), folder, env=environment)))


def measure():
    folder = Path(tempfile.mkdtemp(prefix="services.", dir=TARGET / "bench"))
    found = {"size": SIZE}
    try:
        disk = folder / "disk.raw"
        with open(disk, "wb") as file:
            for _ in range(SIZE // MIB):
                file.write(os.urandom(MIB))
        glance, registries = found.setdefault("Glance", {}), found.setdefault("docker-registry", {})
        with Server(ROOT / "tests/openstack/serve", "--cache", TARGET / "openstack") as cloud:
            for number in range(ROUNDS):
                alternate(to_glance(disk, cloud), folder, glance, number)
        layout = make_layout(disk)
        for number in range(ROUNDS):
            # skopeo remembers what a registry has, and would send nothing to the same one.
            with Server(ROOT / "tests/oci/serve", "plain") as registry:
                alternate(to_registry(disk, layout, registry), folder, registries, number)
    finally:
        shutil.rmtree(folder)
    return found


def table(found):
    lines = [f"A raw disk of {found['size'] / MIB:.0f} MiB without holes.", "",
             "| server | client | s | processor, s | peak memory |", "|---|---|---|---|---|"]
    for server in ("Glance", "docker-registry"):
        for name, runs in found[server].items():
            processor = median(one["processor"] for one in runs)
            memory = median(one["memory"] for one in runs) / MIB
            lines.append(f"| {server} | {name} | {span(one['wall'] for one in runs)} | {processor:.2f} | {memory:.0f} MiB |")
    return "\n".join(lines)
