"""Answers calls of EC2 about snapshots, tags, regions, and what an account has set for all its images."""

from ec2 import check_id, check_tags, filtered, invalid, listed, paged, permissions, shorthand
from errors import Refused
from keys import DEFAULT_KEY
from state import BLOCK, OPT_IN, REGIONS


def find(call, name, own=True):
    check_id("snap", "InvalidSnapshotID", name)
    snapshot = call.world.snapshot(call.account, call.region, name)
    if snapshot is None:
        raise invalid(f"The snapshot '{name}' does not exist.", "InvalidSnapshot.NotFound")
    if own and snapshot.account != call.account.id:
        raise Refused("AuthFailure", f"Not authorized for snapshot:{name}", 403)
    return snapshot


FILTERS = {"snapshot-id": lambda each: [each.id], "status": lambda each: [each.state], "owner-id": lambda each: [each.account],
           "description": lambda each: [each.description], "volume-size": lambda each: [str(each.gib)], "progress": lambda each: [each.progress],
           "encrypted": lambda each: ["true" if each.encrypted else "false"], "volume-id": lambda _: ["vol-ffffffff"]}


def shown(call, each):
    members = {"SnapshotId": each.id, "VolumeId": "vol-ffffffff", "State": each.state, "StartTime": each.started, "Progress": each.progress,
               "OwnerId": each.account, "Description": each.description, "VolumeSize": each.gib, "Encrypted": each.encrypted,
               "StorageTier": "standard", "FullSnapshotSizeInBytes": len(each.blocks) * BLOCK}
    if each.key:
        members["KmsKeyId"] = each.key
    if each.tags and each.account == call.account.id:
        members["Tags"] = listed(each.tags)
    return members


def describe(call):
    call.dry_run()
    given, ids = call.given, call.given.get("SnapshotIds", [])
    with call.world.lock:
        if ids:
            found = [find(call, name, own=False) for name in ids]
        else:
            found = [each for account in call.world.accounts.values() for (region, _), each in account.snapshots.items()
                     if region == call.region and each.visible_to(call.account.id)]
        if "OwnerIds" in given:
            owners = {call.account.id if owner == "self" else owner for owner in given["OwnerIds"]}
            found = [each for each in found if each.account in owners]
        found = filtered(found, given.get("Filters", []), FILTERS)
        page, token = paged(call, sorted(found, key=lambda each: each.id), (5, 1000), ids)
        answer = [shown(call, each) for each in page]
        for each in page:
            each.poll()
    return {"Snapshots": answer, "NextToken": token}


def delete(call):
    with call.world.lock:
        snapshot = find(call, call.given["SnapshotId"])
        users = [image.id for account in call.world.accounts.values() for image in account.images.values() if snapshot.id in image.snapshots]
        if users:
            raise invalid(f"The snapshot {snapshot.id} is currently in use by {', '.join(users)}", "InvalidSnapshot.InUse")
        call.dry_run()
        del call.account.snapshots[call.region, snapshot.id]
        snapshot.discard()
    return {}


def modify(call):
    given = call.given
    with call.world.lock:
        snapshot = find(call, given["SnapshotId"])
        call.dry_run()
        add, remove = shorthand(given, "GroupNames", "UserIds")
        wanted = given.get("CreateVolumePermission", {})
        before = {("UserId", user) for user in snapshot.users} | ({("Group", "all")} if snapshot.is_public else set())
        after = permissions(before, add + wanted.get("Add", []), remove + wanted.get("Remove", []), ("UserId", "Group"))
        if after - before and snapshot.encrypted and (("Group", "all") in after or snapshot.key == call.account.keys.get(call.region)):
            raise invalid("Encrypted snapshots with EBS default key cannot be shared", "OperationNotPermitted")
        snapshot.users, snapshot.is_public = {value for kind, value in after if kind == "UserId"}, ("Group", "all") in after
    return {}


def attribute(call):
    with call.world.lock:
        snapshot = find(call, call.given["SnapshotId"])
        call.dry_run()
        if call.given["Attribute"] == "productCodes":
            return {"SnapshotId": snapshot.id, "ProductCodes": []}
        granted = [{"UserId": user} for user in sorted(snapshot.users)] + ([{"Group": "all"}] if snapshot.is_public else [])
    return {"SnapshotId": snapshot.id, "CreateVolumePermissions": granted}


def tagged(call):
    """The resources of a request about tags, which must all belong to the account."""
    found = []
    for name in call.given["Resources"]:
        kind = name.split("-")[0]
        code, held = {"ami": ("InvalidAMIID", call.account.images), "snap": ("InvalidSnapshot", call.account.snapshots),
                      "import": ("InvalidID", call.account.tasks)}.get(kind, ("InvalidID", {}))
        if (call.region, name) not in held:
            raise invalid(f"The ID '{name}' does not exist", f"{code}.NotFound")
        found.append(held[call.region, name])
    return found


def create_tags(call):
    tags = check_tags(call.given["Tags"])
    with call.world.lock:
        resources = tagged(call)
        call.dry_run()
        if any(len({**each.tags, **tags}) > 50 for each in resources):
            raise invalid("More than 50 tags.", "TagLimitExceeded")
        for each in resources:
            each.tags.update(tags)
    return {}


def delete_tags(call):
    with call.world.lock:
        resources = tagged(call)
        call.dry_run()
        for each in resources:
            if "Tags" not in call.given:
                each.tags.clear()
            for tag in call.given.get("Tags", []):
                if tag.get("Value", each.tags.get(tag["Key"])) == each.tags.get(tag["Key"]):
                    each.tags.pop(tag["Key"], None)
    return {}


def regions(call):
    call.dry_run()
    names = call.given.get("RegionNames")
    known = REGIONS + OPT_IN
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise invalid(f"Invalid region name {', '.join(unknown)}")
    shown = [name for name in known if (names is None and (name in REGIONS or call.given.get("AllRegions"))) or name in (names or [])]
    rows = [{"RegionName": name, "Endpoint": f"ec2.{name}.amazonaws.com", "OptInStatus": "not-opted-in" if name in OPT_IN else "opt-in-not-required"}
            for name in shown]
    for wanted in call.given.get("Filters", []):
        member = {"region-name": "RegionName", "opt-in-status": "OptInStatus", "endpoint": "Endpoint"}.get(wanted["Name"])
        if member is None:
            raise invalid(f"The filter '{wanted['Name']}' is invalid")
        rows = [row for row in rows if row[member] in wanted["Values"]]
    return {"Regions": rows}


def setting(make):
    def answer(call):
        call.dry_run()
        return make(call)
    return answer


OPERATIONS = {
    "DescribeSnapshots": describe, "DeleteSnapshot": delete, "ModifySnapshotAttribute": modify, "DescribeSnapshotAttribute": attribute,
    "CreateTags": create_tags, "DeleteTags": delete_tags, "DescribeRegions": regions,
    "GetEbsEncryptionByDefault": setting(lambda call: {"EbsEncryptionByDefault": call.account.settings["encrypted"]}),
    "GetEbsDefaultKmsKeyId": setting(lambda call: {"KmsKeyId": DEFAULT_KEY}),
    "GetImageBlockPublicAccessState": setting(lambda call: {
        "ImageBlockPublicAccessState": "block-new-sharing" if call.account.settings["block_public"] else "unblocked", "ManagedBy": "account"}),
    "GetSnapshotBlockPublicAccessState": setting(lambda call: {"State": "unblocked", "ManagedBy": "account"}),
}
