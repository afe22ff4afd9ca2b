"""opendal_writer.py URL DISK PART_MIB THREADS: a parallel conversion, and OpenDAL's writer for OSS, which is Rust inside.

It checks no CRC-64. The import is left out.
"""

import sys

import opendal
from stages import BUCKET, ID, REGION, SECRET, Stages


def main():
    url, disk, part, threads = sys.argv[1:]
    stages = Stages()
    stages.run("convert", ["qemu-img", "convert", "-m", "16", "-W", "-f", "raw", "-O", "qcow2", disk, "disk.qcow2"])
    operator = opendal.Operator("oss", root="/", bucket=BUCKET, endpoint=url, addressing_style="path", region=REGION,
                                access_key_id=ID, access_key_secret=SECRET)
    size = int(part) << 20

    def upload():
        with open("disk.qcow2", "rb") as image, operator.open("disk.qcow2", "wb", chunk=size,
                                                             concurrent=int(threads)) as target:
            while chunk := image.read(size):
                target.write(chunk)

    stages.call("upload", upload)
    stages.tell()


main()
