"""upstream.py URL DISK: what the F5 BIG-IP Image Generator 1.19 does with an installed disk, with its programs and options.

raw → qcow2 → tar.gz → copied to where images lie → unpacked again → uploaded by oss2. Its MD5, signature and
records are left out, and so is the import.
"""

import sys
from pathlib import Path

import oss2
from stages import BUCKET, ID, SECRET, Stages


def main():
    url, disk = sys.argv[1:]
    for folder in ("staging", "images", "unpacked"):
        Path(folder).mkdir()
    stages = Stages()
    stages.run("convert", ["qemu-img", "convert", "-O", "qcow2", disk, "staging/disk.qcow2"])
    stages.run("tar czf", ["tar", "-C", "staging", "-czf", "staging/disk.tar.gz", "disk.qcow2"])
    stages.run("copy", ["cp", "staging/disk.tar.gz", "images/disk.tar.gz"])
    stages.run("tar xzf", ["tar", "-C", "unpacked", "-xzf", "images/disk.tar.gz"])
    bucket = oss2.Bucket(oss2.Auth(ID, SECRET), url, BUCKET)
    store = oss2.ResumableStore(root="unpacked")
    stages.call("upload", lambda: oss2.resumable_upload(bucket, "disk.qcow2", "unpacked/disk.qcow2", store=store,
                                                        num_threads=10))
    stages.tell()


main()
