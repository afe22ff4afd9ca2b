"""Answers ImportSnapshot and its tasks: reads a disk from a bucket that moto holds.

Basis: the vendor's reference of ImportSnapshot, and the page on the role that imports need.
"""

import json
import os
import re
import subprocess
import tempfile

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends

import ebs
from ec2 import filtered, invalid, listed, paged, specified_tags
from errors import Refused
from keys import kms_key
from state import BLOCK, Pending, Snapshot, fresh

# Formats of the request, and their names at qemu-img.
FORMATS = {"vmdk": "vmdk", "raw": "raw", "vhd": "vpc"}


class Task:
    """An import; it changes with each look at it."""

    def __init__(self, call, given, detail, tags):
        self.id, self.tags, self.description = fresh("import-snap"), tags, given.get("Description", "")
        self.detail, self.waits, self.given = detail, Pending(call.account.settings["polls"]), given

    def shown(self):
        return {"ImportTaskId": self.id, "Description": self.description, "SnapshotTaskDetail": dict(self.detail), "Tags": listed(self.tags)}

    def poll(self, call):
        if self.detail["Status"] != "active":
            return
        self.detail["Progress"] = str(min(90, int(self.detail["Progress"]) + 19))
        self.detail["StatusMessage"] = "converting"
        if self.waits.poll():
            try:
                self.detail.update(Status="completed", SnapshotId=converted(call, self).id)
                self.detail.pop("Progress")
                self.detail.pop("StatusMessage")
            except Refused as error:
                # A task that failed is shown as deleted, with the cause.
                self.detail.update(Status="deleted", StatusMessage=error.message)
                self.detail.pop("Progress")


def role_of(call):
    """The role must exist, trust the import service, and have a policy for the bucket."""
    name = call.given.get("RoleName", "vmimport")
    refused = invalid(f"The service role {name} provided does not exist or does not have sufficient permissions", "InvalidParameter")
    backend = iam_backends[call.account.id]["aws"]
    role = next((role for role in backend.roles.values() if role.name == name), None)
    if role is None:
        raise refused
    trust = json.dumps(json.loads(role.assume_role_policy_document))
    if "vmie.amazonaws.com" not in trust or not role.policies:
        raise refused


def stored(call, where):
    """The bytes of an object; moto holds the bucket."""
    backend = s3_backends[call.account.id]["aws"]
    bucket = backend.buckets.get(where["S3Bucket"])
    found = bucket.keys.get(where["S3Key"]) if bucket is not None else None
    if found is None:
        raise invalid(f"The S3 object s3://{where['S3Bucket']}/{where['S3Key']} does not exist or cannot be read", "InvalidParameter")
    if bucket.region_name != call.region:
        raise invalid(f"The bucket {where['S3Bucket']} is not in the region {call.region}", "InvalidParameter")
    return found.value


def place(container):
    """Bucket and key of a disk container."""
    if ("Url" in container) == ("UserBucket" in container):
        raise invalid("The disk container needs either Url or UserBucket", "MissingParameter")
    if "UserBucket" in container:
        where = container["UserBucket"]
        if set(where) != {"S3Bucket", "S3Key"}:
            raise invalid("UserBucket needs S3Bucket and S3Key", "MissingParameter")
        return where
    found = re.fullmatch(r"s3://([^/]+)/(.+)", container["Url"])
    if not found:
        raise invalid(f"The URL {container['Url']} is not an s3:// URL", "InvalidParameter")
    return {"S3Bucket": found[1], "S3Key": found[2]}


def start(call):
    given, account = call.given, call.account
    container = given.get("DiskContainer")
    if not container:
        raise invalid("The request must contain the parameter DiskContainer", "MissingParameter")
    if container.get("Format", "").lower() not in FORMATS:
        raise invalid(f"Unsupported disk format {container.get('Format')}", "InvalidParameter")
    tags = specified_tags(given.get("TagSpecifications", []), ("import-snapshot-task",)).get("import-snapshot-task", {})
    if "KmsKeyId" in given and not given.get("Encrypted"):
        raise invalid("KmsKeyId requires Encrypted", "InvalidParameterDependency")
    where = place(container)
    role_of(call)
    call.dry_run()
    data = stored(call, where)
    conflict = invalid("Arguments on this idempotent request are inconsistent with arguments used in previous request(s).", "IdempotentParameterMismatch")
    wrong_key = invalid(f"The KMS key {given.get('KmsKeyId')} does not exist or is not enabled", "InvalidParameter")
    key = kms_key(account, call.region, given.get("KmsKeyId"), wrong_key) if given.get("Encrypted") or account.settings["encrypted"] else None
    with call.world.lock:
        earlier = account.once("ImportSnapshot" + call.region, given.get("ClientToken"), given, conflict)
        if earlier is None:
            detail = {"Description": container.get("Description", ""), "DiskImageSize": float(len(data)), "Encrypted": key is not None,
                      "Format": container["Format"].upper(), "Progress": "3", "Status": "active", "StatusMessage": "pending", "UserBucket": where}
            if key:
                detail["KmsKeyId"] = key
            earlier = Task(call, given, detail, tags)
            account.tasks[call.region, earlier.id] = earlier
            account.remember("ImportSnapshot" + call.region, given.get("ClientToken"), earlier)
    return earlier.shown()


def converted(call, task):
    """The snapshot of a task."""
    data = stored(call, task.detail["UserBucket"])
    with tempfile.TemporaryDirectory(dir=call.account.directory) as directory:
        source, raw = os.path.join(directory, "source"), os.path.join(directory, "raw")
        with open(source, "wb") as file:
            file.write(data)
        words = ["qemu-img", "convert", "-f", FORMATS[task.detail["Format"].lower()], "-O", "raw", source, raw]
        ran = subprocess.run(words, capture_output=True, text=True)
        if ran.returncode != 0:
            raise invalid(f"ClientError: Disk validation failed [{ran.stderr.strip()[-200:]}]", "ClientError")
        size = os.path.getsize(raw)
        gib = -(-size // (1 << 30))
        snapshot = Snapshot(call.account.id, call.region, gib, call.account.directory, state="completed", progress="100%",
                            description=f"Created by AWS-VMImport service for {task.id}", encrypted=task.detail["Encrypted"],
                            key=task.detail.get("KmsKeyId"))
        with open(raw, "rb") as file, open(snapshot.path, "r+b") as to:
            for block in range(-(-size // BLOCK)):
                part = os.pread(file.fileno(), BLOCK, block * BLOCK)
                if part.strip(b"\0"):
                    part = part.ljust(BLOCK, b"\0")
                    os.pwrite(to.fileno(), part, block * BLOCK)
                    snapshot.blocks[block] = ebs.digest(part)
    call.account.snapshots[call.region, snapshot.id] = snapshot
    return snapshot


def describe(call):
    call.dry_run()
    ids = call.given.get("ImportTaskIds", [])
    with call.world.lock:
        for name in ids:
            if (call.region, name) not in call.account.tasks:
                raise invalid(f"The import task ID '{name}' does not exist", "InvalidConversionTaskId")
        found = [task for (region, name), task in call.account.tasks.items() if region == call.region and (not ids or name in ids)]
        found = filtered(found, call.given.get("Filters", []), {"task-state": lambda task: [task.detail["Status"]]}, tags=False)
        page, token = paged(call, found, (1, 1000), ids)
        shown = [task.shown() for task in page]
        for task in page:
            task.poll(call)
    return {"ImportSnapshotTasks": shown, "NextToken": token}


def cancel(call):
    name = call.given.get("ImportTaskId", "")
    with call.world.lock:
        task = call.account.tasks.get((call.region, name))
        if task is None:
            raise invalid(f"The import task ID '{name}' does not exist", "InvalidConversionTaskId")
        call.dry_run()
        before = task.detail["Status"]
        if before != "active":
            raise invalid(f"The import task {name} is {before}", "IncorrectState")
        task.detail.update(Status="deleted", StatusMessage="User Initiated Cancellation")
    return {"ImportTaskId": name, "PreviousState": before, "State": "deleted"}


OPERATIONS = {"ImportSnapshot": start, "DescribeImportSnapshotTasks": describe, "CancelImportTask": cancel}
