"""Answers the EBS direct API: snapshots that are written and read by blocks.

Basis: the vendor's reference of StartSnapshot, PutSnapshotBlock, CompleteSnapshot, ListSnapshotBlocks, and
GetSnapshotBlock.
"""

import base64
import datetime
import hashlib
import os

from errors import Refused
from keys import kms_key
from state import BLOCK, BLOCKS_PER_GIB, Pending, Snapshot, fresh, now

MAX_GIB = 65536
TOKENS_LAST = datetime.timedelta(days=7)


def invalid(reason, message):
    return Refused("ValidationException", message, 400, Reason=reason)


def missing(message):
    return Refused("ResourceNotFoundException", message, 404, Reason="SNAPSHOT_NOT_FOUND")


def digest(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def start_snapshot(call):
    given, account = call.given, call.account
    token = given.get("ClientToken")
    conflict = Refused("ConflictException", "The request uses the same client token as a previous, but non-identical request.", 409)
    with call.world.lock:
        earlier = account.once("StartSnapshot", token, given, conflict)
        if earlier is not None:
            return started(call, earlier)
        try:
            snapshot = new_snapshot(call)
        except Refused:
            account.forget("StartSnapshot", token)
            raise
        account.snapshots[call.region, snapshot.id] = snapshot
        account.remember("StartSnapshot", token, snapshot)
    return started(call, snapshot)


def new_snapshot(call):
    given = call.given
    gib, parent = given["VolumeSize"], given.get("ParentSnapshotId")
    if not 1 <= gib <= MAX_GIB:
        raise invalid("INVALID_VOLUME_SIZE", f"VolumeSize {gib} is not between 1 and {MAX_GIB}")
    if not 10 <= given.get("Timeout", 60) <= 4320:
        raise invalid("INVALID_PARAMETER_VALUE", "Timeout must be between 10 and 4320 minutes")
    if parent is not None and ("Encrypted" in given or "KmsKeyArn" in given):
        raise invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId and Encrypted or KmsKeyArn are mutually exclusive")
    if "KmsKeyArn" in given and not given.get("Encrypted"):
        raise invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn requires Encrypted")
    if "KmsKeyArn" in given and not given["KmsKeyArn"].startswith("arn:"):
        raise invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn must be an ARN")
    tags = {tag.get("Key", ""): tag.get("Value", "") for tag in given.get("Tags", [])}
    if len(tags) != len(given.get("Tags", [])) or len(tags) > 50 or any(not key or key.startswith("aws:") for key in tags):
        raise invalid("INVALID_TAG", "Tags: up to 50, with different keys that do not begin with `aws:`")
    encrypted = given.get("Encrypted", False) or call.account.settings["encrypted"]
    key = kms_key(call.account, call.region, given.get("KmsKeyArn")) if encrypted else None
    if parent is not None:
        older = call.world.snapshot(call.account, call.region, parent)
        if older is None:
            raise missing(f"The snapshot {parent} does not exist.")
        if older.account != call.account.id:
            raise Refused("AccessDeniedException", f"The snapshot {parent} belongs to another account.", 403, Reason="UNAUTHORIZED_ACCOUNT")
        if older.state != "completed":
            raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot {parent} is not in the completed state.")
        if gib < older.gib:
            raise invalid("INVALID_VOLUME_SIZE", f"VolumeSize {gib} is less than that of the parent, {older.gib}")
        if call.account.settings["encrypted"] and not older.encrypted:
            raise invalid("INVALID_PARAMETER_VALUE", f"{parent} is not encrypted, and the account encrypts snapshots by default")
        encrypted, key = older.encrypted, older.key
    snapshot = Snapshot(call.account.id, call.region, gib, call.account.directory, tags=tags, encrypted=encrypted, key=key, parent=parent,
                        description=given.get("Description", ""), direct=True)
    snapshot.token_key = fresh("token")
    if parent is not None:
        snapshot.inherited = dict(older.blocks)
        with open(older.path, "rb") as source, open(snapshot.path, "r+b") as to:
            for block in older.blocks:
                os.pwrite(to.fileno(), os.pread(source.fileno(), BLOCK, block * BLOCK), block * BLOCK)
    return snapshot


def started(call, snapshot):
    given = {"SnapshotId": snapshot.id, "OwnerId": call.account.id, "Status": snapshot.state, "StartTime": snapshot.started,
             "VolumeSize": snapshot.gib, "BlockSize": BLOCK, "Description": snapshot.description,
             "Tags": [{"Key": key, "Value": value} for key, value in snapshot.tags.items()],
             "SseType": "sse-kms" if snapshot.encrypted else "none"}
    if snapshot.key:
        given["KmsKeyArn"] = snapshot.key
    if snapshot.parent:
        given["ParentSnapshotId"] = snapshot.parent
    return given


def own(call):
    """The snapshot of a request, which must belong to the account and be pending."""
    name = call.given["SnapshotId"]
    if not name.startswith("snap-"):
        raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot ID `{name}` is malformed.")
    snapshot = call.account.snapshots.get((call.region, name))
    if snapshot is None:
        raise missing(f"The snapshot {name} does not exist.")
    if not snapshot.direct or snapshot.state != "pending" or snapshot.waits is not None:
        raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot {name} is not in the pending state.")
    return snapshot


def put_block(call):
    given, data = call.given, call.given["BlockData"]
    snapshot, block = own(call), given["BlockIndex"]
    if not 0 <= block < snapshot.gib * BLOCKS_PER_GIB:
        raise invalid("INVALID_PARAMETER_VALUE", f"BlockIndex {block} is beyond the volume of {snapshot.gib} GiB")
    if given["DataLength"] != BLOCK or len(data) != BLOCK:
        raise invalid("INVALID_BLOCK", f"the block has {len(data)} bytes, x-amz-Data-Length is {given['DataLength']}; both must be {BLOCK}")
    if given["ChecksumAlgorithm"] != "SHA256" or given["Checksum"] != digest(data):
        raise invalid("INVALID_BLOCK", "the SHA-256 of the block is not that of x-amz-Checksum")
    if not 0 <= given.get("Progress", 0) <= 100:
        raise invalid("INVALID_PARAMETER_VALUE", "x-amz-Progress must be between 0 and 100")
    with snapshot.lock:
        if block in snapshot.writing:
            raise invalid("CONFLICTING_BLOCK_UPDATE", f"block {block} is being written")
        snapshot.writing.add(block)
    try:
        with open(snapshot.path, "r+b") as file:
            os.pwrite(file.fileno(), data, block * BLOCK)
    finally:
        with snapshot.lock:
            snapshot.writing.discard(block)
    with snapshot.lock:
        # A request that arrived before the completion may end after it; the service refuses the late one.
        if snapshot.waits is not None:
            raise invalid("INVALID_SNAPSHOT_ID", "The snapshot is not in the pending state.")
        snapshot.blocks[block] = given["Checksum"]
    if "Progress" in given:
        snapshot.progress = f"{given['Progress']}%"
    return {"Checksum": given["Checksum"], "ChecksumAlgorithm": "SHA256"}


def complete(call):
    given = call.given
    snapshot = own(call)
    with snapshot.lock:
        if given["ChangedBlocksCount"] != len(snapshot.blocks):
            raise invalid("INVALID_PARAMETER_VALUE", f"ChangedBlocksCount is {given['ChangedBlocksCount']}; {len(snapshot.blocks)} blocks were written")
        named = [name for name in ("Checksum", "ChecksumAlgorithm", "ChecksumAggregationMethod") if name in given]
        if named and len(named) != 3:
            raise invalid("INVALID_PARAMETER_VALUE", f"{', '.join(named)} without the others")
        linear = digest(b"".join(base64.b64decode(snapshot.blocks[block]) for block in sorted(snapshot.blocks)))
        if named and (given["ChecksumAlgorithm"], given["ChecksumAggregationMethod"], given["Checksum"]) != ("SHA256", "LINEAR", linear):
            raise invalid("INVALID_PARAMETER_VALUE", "the SHA-256 of the checksums of the blocks, ordered by index, is not that of x-amz-Checksum")
        snapshot.blocks = {**getattr(snapshot, "inherited", {}), **snapshot.blocks}
        snapshot.waits = Pending(call.account.settings["polls"])
    return {"Status": "pending"}


def readable(call):
    name = call.given["SnapshotId"]
    snapshot = call.world.snapshot(call.account, call.region, name)
    if snapshot is None:
        raise missing(f"The snapshot {name} does not exist.")
    if snapshot.state != "completed":
        raise invalid("INVALID_SNAPSHOT_ID", f"The snapshot {name} is not in the completed state.")
    return snapshot


def list_blocks(call):
    given, snapshot = call.given, readable(call)
    size = given.get("MaxResults", 10_000)
    if not 100 <= size <= 10_000:
        raise invalid("INVALID_PARAMETER_VALUE", "maxResults must be between 100 and 10000")
    first = given.get("StartingBlockIndex", 0)
    if "NextToken" in given:
        if not given["NextToken"].startswith(snapshot.id + "/"):
            raise invalid("INVALID_PAGE_TOKEN", "the page token is invalid")
        first = int(given["NextToken"].rsplit("/", 1)[1])
    blocks = sorted(block for block in snapshot.blocks if block >= first)
    answer = {"Blocks": [{"BlockIndex": block, "BlockToken": block_token(snapshot, block)} for block in blocks[:size]],
              "ExpiryTime": now() + TOKENS_LAST, "VolumeSize": snapshot.gib, "BlockSize": BLOCK}
    if blocks[size:]:
        answer["NextToken"] = f"{snapshot.id}/{blocks[size]}"
    return answer


def block_token(snapshot, block):
    return digest(f"{snapshot.id}/{block}".encode())


def get_block(call):
    given, snapshot = call.given, readable(call)
    block = given["BlockIndex"]
    if block not in snapshot.blocks or given["BlockToken"] != block_token(snapshot, block):
        raise invalid("INVALID_BLOCK_TOKEN", "the block token is invalid")
    with open(snapshot.path, "rb") as file:
        data = os.pread(file.fileno(), BLOCK, block * BLOCK)
    return {"DataLength": BLOCK, "BlockData": data, "Checksum": digest(data), "ChecksumAlgorithm": "SHA256"}


OPERATIONS = {"StartSnapshot": start_snapshot, "PutSnapshotBlock": put_block, "CompleteSnapshot": complete,
              "ListSnapshotBlocks": list_blocks, "GetSnapshotBlock": get_block}
