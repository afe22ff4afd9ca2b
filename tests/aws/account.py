"""Drives an account of the server with boto3, for `self-test`."""

import base64
import hashlib
import json
import os
import sys
import urllib.request

import boto3
import botocore.config
import botocore.exceptions

URL = sys.argv[1]
BLOCK = 512 << 10
ZEROS, NOISE = bytes(BLOCK), os.urandom(BLOCK)


def control(method, name, **given):
    request = urllib.request.Request(f"{URL}/_front/{name}", method=method, data=json.dumps(given).encode())
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def control_get(name, account):
    with urllib.request.urlopen(f"{URL}/_front/{name}?account={account}") as answer:
        return json.loads(answer.read())


def sha(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


class Account:
    """An account of the server, and what the cases use."""

    def __init__(self, **given):
        self.made = control("POST", "accounts", **given)
        self.id, self.bucket = self.made["account"], self.made["bucket"]
        self.ebs, self.ec2, self.s3, self.sts = map(self.client, ("ebs", "ec2", "s3", "sts"))

    def client(self, service, user="builder", region="us-east-1", **key):
        key = key or self.made["keys"][user]
        config = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False, s3={"addressing_style": "path"})
        return boto3.client(service, endpoint_url=URL, region_name=region, aws_access_key_id=key["id"], aws_secret_access_key=key["secret"],
                            aws_session_token=key.get("token"), config=config)

    def start(self, **more):
        return self.ebs.start_snapshot(**{"VolumeSize": 1, **more})["SnapshotId"]

    def put(self, snapshot, index=0, data=NOISE, **more):
        return self.ebs.put_snapshot_block(**{"SnapshotId": snapshot, "BlockIndex": index, "BlockData": data, "DataLength": len(data),
                                              "Checksum": sha(data), "ChecksumAlgorithm": "SHA256", **more})

    def complete(self, snapshot, count=1, **more):
        return self.ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count, **more)

    def state(self, snapshot):
        return self.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"]

    def snapshot(self, **more):
        """A completed snapshot of one block."""
        snapshot = self.start(**more)
        self.put(snapshot)
        self.complete(snapshot)
        while self.state(snapshot) != "completed":
            pass
        return snapshot

    def register(self, snapshot, name="an image", ebs=(), **more):
        wanted = {"Name": name, "RootDeviceName": "/dev/xvda", "VirtualizationType": "hvm", "Architecture": "x86_64",
                  "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot, **dict(ebs)}}], **more}
        return self.ec2.register_image(**{name: value for name, value in wanted.items() if value is not None})["ImageId"]

    def image(self, name="an image", **more):
        image = self.register(self.snapshot(), name, **more)
        while self.shown(image)["State"] != "available":
            pass
        return image

    def shown(self, image, region="us-east-1"):
        return self.client("ec2", region=region).describe_images(ImageIds=[image])["Images"][0]

    def rules(self, *rules):
        control("POST", "rules", account=self.id, rules=list(rules))

    def mismatches(self):
        return control("GET", "mismatches", account=self.id)


def same(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r}, not {expected!r}")


def refused(code, call, status=None):
    """The call must be refused with a code."""
    try:
        call()
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]["Code"]
        same(found, code)
        if status is not None:
            same(error.response["ResponseMetadata"]["HTTPStatusCode"], status)
        return error.response
    raise AssertionError(f"accepted; expected {code}")
