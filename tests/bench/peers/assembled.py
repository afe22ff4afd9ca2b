"""assembled.py URL DISK PART_MIB THREADS: the best chain of programs there are: a parallel conversion, the vendor's newest client.

The import is left out.
"""

import sys

import alibabacloud_oss_v2 as oss
from stages import BUCKET, ID, REGION, SECRET, Stages


def main():
    url, disk, part, threads = sys.argv[1:]
    stages = Stages()
    stages.run("convert", ["qemu-img", "convert", "-m", "16", "-W", "-f", "raw", "-O", "qcow2", disk, "disk.qcow2"])
    keys = oss.credentials.StaticCredentialsProvider(ID, SECRET)
    client = oss.Client(oss.Config(region=REGION, endpoint=url, credentials_provider=keys))
    uploader = client.uploader(part_size=int(part) << 20, parallel_num=int(threads))
    request = oss.PutObjectRequest(bucket=BUCKET, key="disk.qcow2")
    stages.call("upload", lambda: uploader.upload_file(request, "disk.qcow2"))
    stages.tell()


main()
