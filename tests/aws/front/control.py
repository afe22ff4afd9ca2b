"""Answers what tests request of the server itself: accounts, rules, requests, mismatches."""

import json
import urllib.parse

from moto.core.utils import unix_time
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends

import ebs
import images
import wire
from state import BLOCK, REGIONS, SETTINGS, Call, Rule, Snapshot

# Mismatches of requests without an account.
STRAY = []
# What a build may do: nothing that it does not need.
BUILDER = ["ebs:StartSnapshot", "ebs:PutSnapshotBlock", "ebs:CompleteSnapshot", "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock",
           "ec2:RegisterImage", "ec2:DeregisterImage", "ec2:CopyImage", "ec2:Describe*", "ec2:ModifyImageAttribute", "ec2:ModifySnapshotAttribute",
           "ec2:DeleteSnapshot", "ec2:CreateTags", "ec2:DeleteTags", "ec2:EnableImageDeprecation", "ec2:DisableImageDeprecation", "ec2:ImportSnapshot",
           "ec2:CancelImportTask", "ec2:GetEbsEncryptionByDefault", "ec2:GetEbsDefaultKmsKeyId", "ec2:GetImageBlockPublicAccessState",
           "ec2:GetSnapshotBlockPublicAccessState", "s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket",
           "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation", "iam:GetRole", "kms:DescribeKey",
           "kms:GenerateDataKeyWithoutPlaintext", "kms:CreateGrant", "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "servicequotas:GetServiceQuota",
           "servicequotas:GetAWSDefaultServiceQuota", "ec2:EnableImage", "ec2:DisableImageDeregistrationProtection"]
USERS = {"builder": BUILDER, "admin": ["*"], "reader": ["ec2:Describe*", "ec2:Get*", "ebs:ListSnapshotBlocks", "ebs:GetSnapshotBlock"]}
TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "vmie.amazonaws.com"}, "Action": "sts:AssumeRole",
                                                 "Condition": {"StringEquals": {"sts:Externalid": "vmimport"}}}]}
PATHS = {}


def path(method, name):
    def keep(function):
        PATHS[method, name] = function
        return function
    return keep


def policy(actions):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]})


def answer(world, method, name, query, body):
    """Status and value of a request."""
    given = dict(urllib.parse.parse_qsl(query))
    given.update(json.loads(body) if body else {})
    function = PATHS.get((method, name))
    if function is None:
        return 404, {"error": f"there is no {method} {name}; there are {sorted(PATHS)}"}
    try:
        return 200, function(world, given)
    except (KeyError, ValueError, TypeError) as error:
        return 400, {"error": repr(error)}


@path("POST", "accounts")
def new_account(world, given):
    """An account with three users, a bucket, a key, and, unless `vmimport` is false, the role of imports."""
    account = world.new_account()
    backend = iam_backends[account.id]["aws"]
    keys = {}
    for user, actions in USERS.items():
        backend.create_user("us-east-1", user)
        actions = given.get("actions", actions) if user == "builder" else actions
        document = json.dumps(given["policy"]) if user == "builder" and "policy" in given else policy(actions)
        backend.put_user_policy(user, "permissions", document)
        key = backend.create_access_key(user)
        keys[user] = {"id": key.access_key_id, "secret": key.secret_access_key}
    if given.get("vmimport", True):
        backend.create_role("vmimport", json.dumps(TRUST), "/", None, "", [], "3600")
        backend.put_role_policy("vmimport", "bucket", policy(["s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket", "ec2:*Snapshot*"]))
    backend.create_role("builder", json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account.id}:root"}, "Action": "sts:AssumeRole"}]}), "/", None, "", [], "3600")
    backend.put_role_policy("builder", "permissions", policy(BUILDER))
    bucket = f"images-{account.id}"
    s3_backends[account.id]["aws"].create_bucket(bucket, REGIONS[0])
    kms_keys = {region: kms_backends[account.id][region].create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "images", None).arn
                for region in REGIONS[:2]}
    account.settings.update({name: value for name, value in given.items() if name in SETTINGS})
    return {"account": account.id, "keys": keys, "bucket": bucket, "kms_keys": kms_keys}


@path("POST", "sessions")
def session(world, given):
    """Temporary credentials of the role `builder`."""
    account = world.accounts[given["account"]]
    role = sts_backends[account.id]["aws"].assume_role("us-east-1", given.get("name", "session"), f"arn:aws:iam::{account.id}:role/builder",
                                                       None, given.get("seconds", 3600), None)
    return {"id": role.access_key_id, "secret": role.secret_access_key, "token": role.session_token, "expires": unix_time(role.expiration)}


@path("POST", "expire")
def expire(world, given):
    world.accounts[given["account"]].expired.add(given["key"])
    return {}


@path("POST", "settings")
def settings(world, given):
    account = world.accounts[given.pop("account")]
    unknown = set(given) - set(SETTINGS)
    if unknown:
        raise ValueError(f"unknown settings {sorted(unknown)}")
    account.settings.update(given)
    return account.settings


@path("POST", "rules")
def set_rules(world, given):
    """Replaces the rules of an account."""
    rules = [Rule(members) for members in given["rules"]]
    with world.lock:
        world.accounts[given["account"]].rules = rules
    return {}


@path("GET", "rules")
def get_rules(world, given):
    return [{**rule.members, "selected": rule.selected, "struck": rule.struck} for rule in world.accounts[given["account"]].rules]


@path("POST", "images")
def image(world, given):
    """An available image of one block in the home region, as another program registered it."""
    account, operation = world.accounts[given["account"]], wire.model_of("ec2").operation_model("RegisterImage")
    snapshot = Snapshot(account.id, REGIONS[0], 1, account.directory, state="completed", progress="100%", tags=given.get("tags", {}))
    data = b"another image..." * (BLOCK // 16)
    with open(snapshot.path, "wb") as file:
        file.write(data)
    snapshot.blocks[0] = ebs.digest(data)
    device = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot.id, "VolumeType": "gp3"}}
    wanted = {"Name": given["name"], "RootDeviceName": "/dev/xvda", "VirtualizationType": "hvm", "Architecture": "x86_64",
              "BlockDeviceMappings": [device], **given.get("more", {})}
    with world.lock:
        account.snapshots[REGIONS[0], snapshot.id] = snapshot
        made = images.register(Call(world, account, REGIONS[0], operation, wanted))
        registered = account.images[REGIONS[0], made["ImageId"]]
        registered.waits, registered.state, registered.tags = None, "available", given.get("tags", {})
        registered.permissions = {("UserId", user) for user in given.get("users", [])}
    return made


@path("GET", "objects")
def objects(world, given):
    """All that an account owns, in all regions; looking does not change a state."""
    account = world.accounts[given["account"]]
    with world.lock:
        images = [{"region": image.region, "id": image.id, "name": image.name, "state": image.state, "tags": image.tags,
                   "description": image.description, "permissions": sorted(map(list, image.permissions)), "created": image.created.timestamp(),
                   "deprecated": image.deprecated and image.deprecated.isoformat(), "uefi_data": image.uefi_data,
                   "protection": image.protection, **image.members} for image in account.images.values()]
        snapshots = [{"region": each.region, "id": each.id, "state": each.state, "completing": each.waits is not None, "tags": each.tags,
                      "description": each.description, "gib": each.gib, "blocks": sorted(each.blocks), "file": each.path,
                      "encrypted": each.encrypted, "key": each.key, "users": sorted(each.users), "public": each.is_public}
                     for each in account.snapshots.values()]
        tasks = [{"region": region, "id": task.id, **task.detail} for (region, _), task in account.tasks.items()]
        buckets = s3_backends[account.id]["aws"].buckets.values()
        return {"images": images, "snapshots": snapshots, "tasks": tasks, "objects": [key for bucket in buckets for key in bucket.keys],
                "uploads": [upload for bucket in buckets for upload in bucket.multiparts]}


@path("GET", "requests")
def requests(world, given):
    return world.accounts[given["account"]].requests


@path("DELETE", "requests")
def forget_requests(world, given):
    world.accounts[given["account"]].requests.clear()
    return {}


@path("GET", "mismatches")
def mismatches(world, given):
    """Requests and answers that are not as the models say; all must be empty at the end of a test."""
    return STRAY + (world.accounts[given["account"]].mismatches if "account" in given else [each for account in world.accounts.values()
                                                                                             for each in account.mismatches])


@path("DELETE", "mismatches")
def forget_mismatches(world, given):
    STRAY.clear()
    for account in [world.accounts[given["account"]]] if "account" in given else world.accounts.values():
        account.mismatches.clear()
    return {}
