"""Answers calls about images: registered, described, copied, shared, deprecated, deregistered.

Basis: the vendor's reference of RegisterImage, CopyImage, DescribeImages, ModifyImageAttribute, and their pages on
copying an image.
"""

import base64
import datetime
import re

from ec2 import check_id, filtered, invalid, listed, paged, permissions, shorthand, specified_tags
from errors import Refused
from keys import kms_key
from state import Pending, Snapshot, fresh, now

NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
DEVICE = re.compile(r"/dev/(sd[a-z]\d{0,2}|xvd[a-z]{1,2}|nvme\d+n\d+)|xvd[a-z]{1,2}|sd[a-z]\d{0,2}")
# Least and most GiB of a type of volume.
VOLUMES = {"standard": (1, 1024), "gp2": (1, 16384), "gp3": (1, 65536), "io1": (4, 16384), "io2": (4, 65536), "st1": (125, 16384), "sc1": (125, 16384)}
PERMISSIONS = ("UserId", "Group", "OrganizationArn", "OrganizationalUnitArn")
BAD_STATE = "IncorrectState"


class Image:
    """An image; `members` are those of the answer of DescribeImages that never change."""

    def __init__(self, call, name, members, tags, polls):
        self.id, self.account, self.region, self.name = fresh("ami"), call.account.id, call.region, name
        self.members, self.tags, self.created = members, tags, now()
        self.state, self.waits = "pending", Pending(polls)
        self.permissions, self.deprecated, self.description = set(), None, members.pop("Description", None)
        # Base64 of the variables of UEFI, which no list shows, and whether the image may be deregistered.
        self.uefi_data, self.protection = members.pop("UefiData", None), "disabled"
        # Snapshots of a copy, which are completed with it.
        self.copies = []

    def poll(self):
        if self.waits is not None and self.waits.poll():
            self.waits, self.state = None, "available"
            for snapshot in self.copies:
                snapshot.waits, snapshot.state, snapshot.progress = None, "completed", "100%"

    @property
    def snapshots(self):
        return [each["Ebs"]["SnapshotId"] for each in self.members["BlockDeviceMappings"] if "Ebs" in each]

    def visible_to(self, account):
        return self.account == account or bool({("Group", "all"), ("UserId", account)} & self.permissions)

    def shown(self, call):
        shown = {"ImageId": self.id, "Name": self.name, "OwnerId": self.account, "State": self.state,
                 "ImageLocation": f"{self.account}/{self.name}", "CreationDate": self.created.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                 "Public": ("Group", "all") in self.permissions, "ImageType": "machine", "Hypervisor": "xen", "PlatformDetails": "Linux/UNIX",
                 "UsageOperation": "RunInstances", "DeregistrationProtection": self.protection, **self.members}
        if self.description:
            shown["Description"] = self.description
        # Tags belong to an account: others do not see them.
        if self.account == call.account.id and self.tags:
            shown["Tags"] = listed(self.tags)
        if self.deprecated:
            shown["DeprecationTime"] = self.deprecated.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return shown


def check_name(call, name):
    if not NAME.fullmatch(name):
        raise invalid("AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'",
                      "InvalidAMIName.Malformed")
    same = [each.id for (region, _), each in call.account.images.items() if region == call.region and each.name == name]
    if same:
        raise invalid(f"AMI name {name} is already in use by AMI {same[0]}", "InvalidAMIName.Duplicate")
    if sum(region == call.region for region, _ in call.account.images) >= call.account.settings["images"]:
        raise invalid("Your quota for the number of AMIs is exceeded.", "ResourceLimitExceeded")


def device(call, mapping):
    """A block device of a new image, with what the service adds."""
    name, ebs = mapping.get("DeviceName", ""), dict(mapping.get("Ebs", {}))
    if not DEVICE.fullmatch(name):
        raise invalid(f"Invalid device name {name}", "InvalidBlockDeviceMapping")
    if "Ebs" not in mapping:
        return mapping
    least, most = VOLUMES[ebs.setdefault("VolumeType", "standard")]
    if "Iops" in ebs and ebs["VolumeType"] not in ("gp3", "io1", "io2"):
        raise invalid(f"The parameter iops is not supported for {ebs['VolumeType']} volumes.", "InvalidParameterCombination")
    if ebs["VolumeType"] in ("io1", "io2") and "Iops" not in ebs:
        raise invalid("The request must contain the parameter iops", "MissingParameter")
    if "Throughput" in ebs and ebs["VolumeType"] != "gp3":
        raise invalid(f"The parameter throughput is not supported for {ebs['VolumeType']} volumes.", "InvalidParameterCombination")
    if "SnapshotId" in ebs:
        check_id("snap", "InvalidSnapshotID", ebs["SnapshotId"])
        snapshot = call.world.snapshot(call.account, call.region, ebs["SnapshotId"])
        if snapshot is None:
            raise invalid(f"The snapshot '{ebs['SnapshotId']}' does not exist.", "InvalidSnapshot.NotFound")
        if snapshot.state != "completed":
            raise invalid(f"Snapshot {snapshot.id} is in invalid state - {snapshot.state}", BAD_STATE)
        if "Encrypted" in ebs or "KmsKeyId" in ebs:
            raise invalid(f"the encrypted flag cannot be specified since device {name} has a snapshot specified.", "InvalidBlockDeviceMapping")
        if ebs.setdefault("VolumeSize", snapshot.gib) < snapshot.gib:
            raise invalid(f"Volume of size {ebs['VolumeSize']}GB is smaller than snapshot '{snapshot.id}', expect size >= {snapshot.gib}GB",
                          "InvalidBlockDeviceMapping")
        ebs["Encrypted"] = snapshot.encrypted
    if not least <= ebs.get("VolumeSize", least) <= most:
        raise invalid(f"Volume of {ebs['VolumeSize']}GiB is invalid; expected {least}-{most}")
    ebs.setdefault("DeleteOnTermination", True)
    if ebs["VolumeType"] == "gp3":
        ebs.setdefault("Iops", 3000)
        ebs.setdefault("Throughput", 125)
    if ebs["VolumeType"] == "gp2":
        ebs.setdefault("Iops", min(max(100, 3 * ebs["VolumeSize"]), 16000))
    return {"DeviceName": name, "Ebs": ebs}


def is_base64(text):
    try:
        return 0 < len(base64.b64decode(text, validate=True)) <= 64_000
    except ValueError:
        return False


def register(call):
    given = call.given
    tags = specified_tags(given.get("TagSpecifications", []), ("image", "snapshot"))
    mappings, root = given.get("BlockDeviceMappings", []), given.get("RootDeviceName")
    if len(given.get("Description", "")) > 255:
        raise invalid("Character sets beyond ASCII are not supported, and descriptions have at most 255 characters.")
    if not given.get("Description", "").isascii():
        raise invalid("Character sets beyond ASCII are not supported.")
    if not mappings or root is None:
        raise invalid("The request must contain the parameter rootDeviceName and blockDeviceMapping, or a manifest", "MissingParameter")
    kind = given.get("VirtualizationType", "paravirtual")
    if kind not in ("hvm", "paravirtual"):
        raise invalid(f"Value ({kind}) for parameter virtualizationType is invalid.")
    architecture, boot = given.get("Architecture", "i386"), given.get("BootMode")
    if kind == "paravirtual" and (given.get("EnaSupport") or boot or "SriovNetSupport" in given or architecture == "arm64"):
        raise invalid("ENA, SR-IOV, a boot mode, and arm64 need the virtualization type hvm", "InvalidParameterCombination")
    if architecture == "arm64" and boot not in (None, "uefi"):
        raise invalid(f"The boot mode {boot} is not supported by arm64", "InvalidParameterCombination")
    if architecture == "i386" and boot not in (None, "legacy-bios"):
        raise invalid(f"The boot mode {boot} is not supported by i386", "InvalidParameterCombination")
    if "TpmSupport" in given and boot != "uefi":
        raise invalid("TPM support requires the boot mode uefi", "InvalidParameterCombination")
    if "UefiData" in given and (boot not in ("uefi", "uefi-preferred") or not is_base64(given["UefiData"])):
        raise invalid("UefiData is not base64, or the boot mode is not uefi", "InvalidParameterValue")
    if given.get("SriovNetSupport", "simple") != "simple":
        raise invalid(f"Value ({given['SriovNetSupport']}) for parameter sriovNetSupport is invalid.")
    devices = [device(call, each) for each in mappings]
    names = [each["DeviceName"] for each in devices]
    if len(set(names)) != len(names):
        raise invalid("A device name occurs twice", "InvalidBlockDeviceMapping")
    if not any(each["DeviceName"] == root and "SnapshotId" in each.get("Ebs", {}) for each in devices):
        raise invalid(f"Root device name {root} has no snapshot in the block device mapping", "InvalidBlockDeviceMapping")
    call.dry_run()
    with call.world.lock:
        check_name(call, given["Name"])
        members = {"Architecture": architecture, "VirtualizationType": kind, "RootDeviceName": root, "RootDeviceType": "ebs",
                   "BlockDeviceMappings": devices, "EnaSupport": given.get("EnaSupport", False)}
        for name in ("BootMode", "TpmSupport", "ImdsSupport", "SriovNetSupport", "Description", "KernelId", "RamdiskId", "UefiData"):
            if name in given:
                members[name] = given[name]
        image = Image(call, given["Name"], members, tags.get("image", {}), call.account.settings["polls"])
        for name in image.snapshots:
            call.world.snapshot(call.account, call.region, name).tags.update(tags.get("snapshot", {}))
        call.account.images[call.region, image.id] = image
    return {"ImageId": image.id}


def find(call, name, own=True):
    """An image by its id; with `own` one of the account."""
    check_id("ami", "InvalidAMIID", name)
    if (call.region, name) in call.account.gone:
        raise invalid(f"The image ID '{name}' is no longer available", "InvalidAMIID.Unavailable")
    image = call.world.image(call.account, call.region, name)
    if image is None:
        raise invalid(f"The image id '[{name}]' does not exist", "InvalidAMIID.NotFound")
    if own and image.account != call.account.id:
        raise Refused("AuthFailure", f"Not authorized for image:{name}", 403)
    return image


FILTERS = {"name": lambda image: [image.name], "image-id": lambda image: [image.id], "state": lambda image: [image.state],
           "owner-id": lambda image: [image.account], "architecture": lambda image: [image.members["Architecture"]],
           "description": lambda image: [image.description or ""], "root-device-type": lambda _: ["ebs"], "image-type": lambda _: ["machine"],
           "root-device-name": lambda image: [image.members["RootDeviceName"]],
           "virtualization-type": lambda image: [image.members["VirtualizationType"]],
           "is-public": lambda image: ["true" if ("Group", "all") in image.permissions else "false"],
           "block-device-mapping.snapshot-id": lambda image: image.snapshots,
           "source-image-region": lambda image: [image.members.get("SourceImageRegion", "")],
           "source-image-id": lambda image: [image.members.get("SourceImageId", "")],
           "creation-date": lambda image: [image.created.strftime("%Y-%m-%dT%H:%M:%S.000Z")]}


def describe(call):
    call.dry_run()
    given, ids = call.given, call.given.get("ImageIds", [])
    with call.world.lock:
        if ids:
            found = [find(call, name, own=False) for name in ids]
        else:
            found = [image for account in call.world.accounts.values() for (region, _), image in account.images.items()
                     if region == call.region and image.visible_to(call.account.id)]
        if "Owners" in given:
            owners = {call.account.id if owner == "self" else owner for owner in given["Owners"]}
            found = [image for image in found if image.account in owners]
        if "ExecutableUsers" in given:
            users = {("Group", "all") if user == "all" else ("UserId", call.account.id if user == "self" else user) for user in given["ExecutableUsers"]}
            found = [image for image in found if image.permissions & users]
        if not given.get("IncludeDeprecated"):
            found = [image for image in found if image.account == call.account.id or not image.deprecated or image.deprecated > now()]
        if not given.get("IncludeDisabled") and not ids:
            found = [image for image in found if image.state != "disabled"]
        found = filtered(found, given.get("Filters", []), FILTERS)
        page, token = paged(call, sorted(found, key=lambda image: image.id), (1, 1000), ids)
        shown = [image.shown(call) for image in page]
        for image in page:
            image.poll()
    return {"Images": shown, "NextToken": token}


def deregister(call):
    with call.world.lock:
        image = find(call, call.given["ImageId"])
        if image.protection != "disabled":
            raise Refused("OperationNotPermitted", f"The image {image.id} is protected from deregistration ({image.protection}).", 400)
        call.dry_run()
        del call.account.images[image.region, image.id]
        call.account.gone.add((image.region, image.id))
        answer = {"Return": True}
        if call.given.get("DeleteAssociatedSnapshots"):
            answer["DeleteSnapshotResults"] = [delete_snapshot_of(call, name) for name in image.snapshots]
    return answer


def delete_snapshot_of(call, name):
    used = any(name in image.snapshots for image in call.account.images.values())
    if used or call.account.snapshots.pop((call.region, name), None) is None:
        return {"SnapshotId": name, "ReturnCode": "skipped"}
    return {"SnapshotId": name, "ReturnCode": "success"}


def copy(call):
    """Keeps block devices, boot mode, and supports; tags only by request; permissions and deprecation never."""
    given, account = call.given, call.account
    tags = specified_tags(given.get("TagSpecifications", []), ("image", "snapshot"))
    conflict = invalid("Arguments on this idempotent request are inconsistent with arguments used in previous request(s).", "IdempotentParameterMismatch")
    with call.world.lock:
        source = call.world.image(account, given["SourceRegion"], given["SourceImageId"])
        if source is None:
            raise invalid(f"The image id '[{given['SourceImageId']}]' does not exist", "InvalidAMIID.NotFound")
        if source.state != "available":
            raise invalid(f"The image {source.id} is not available to copy", BAD_STATE)
        if "KmsKeyId" in given and not given.get("Encrypted"):
            raise invalid("KmsKeyId requires Encrypted", "InvalidParameterDependency")
        encrypt = given.get("Encrypted", False)
        wrong_key = invalid(f"The KMS key {given.get('KmsKeyId')} does not exist or is not enabled", "InvalidKMSKey.NotFound")
        key = kms_key(account, call.region, given.get("KmsKeyId"), wrong_key) if encrypt else None
        call.dry_run()
        earlier = account.once("CopyImage" + call.region, given.get("ClientToken"), given, conflict)
        if earlier is not None:
            return {"ImageId": earlier}
        try:
            check_name(call, given["Name"])
        except Refused:
            account.forget("CopyImage" + call.region, given.get("ClientToken"))
            raise
        members = {**source.members, "BlockDeviceMappings": [], "SourceImageId": source.id, "SourceImageRegion": source.region}
        if source.uefi_data:
            members["UefiData"] = source.uefi_data
        if "Description" in given:
            members["Description"] = given["Description"]
        kept = dict(source.tags) if given.get("CopyImageTags") else {}
        image = Image(call, given["Name"], members, {**kept, **tags.get("image", {})}, account.settings["polls"])
        for each in source.members["BlockDeviceMappings"]:
            each = {**each, "Ebs": dict(each["Ebs"])} if "Ebs" in each else each
            if "Ebs" in each:
                copied = copy_snapshot(call, source, image, each["Ebs"], key, tags.get("snapshot", {}), given.get("CopyImageTags"))
                each["Ebs"].update(SnapshotId=copied.id, Encrypted=copied.encrypted)
            image.members["BlockDeviceMappings"].append(each)
        account.images[call.region, image.id] = image
        account.remember("CopyImage" + call.region, given.get("ClientToken"), image.id)
    return {"ImageId": image.id}


def copy_snapshot(call, source, image, ebs, key, tags, keeps_tags):
    older = next(account.snapshots[source.region, ebs["SnapshotId"]] for account in call.world.accounts.values()
                 if (source.region, ebs["SnapshotId"]) in account.snapshots)
    if older.encrypted and key is None:
        key = kms_key(call.account, call.region)
    text = f"Copied for DestinationAmi {image.id} from SourceAmi {source.id} for SourceSnapshot {older.id}. Task created on {int(now().timestamp() * 1000)}."
    kept = dict(older.tags) if keeps_tags and older.account == call.account.id else {}
    copied = Snapshot(call.account.id, call.region, older.gib, call.account.directory, description=text, encrypted=key is not None,
                      key=key, tags={**kept, **tags}, blocks=dict(older.blocks))
    copied.read_from(older)
    image.copies.append(copied)
    call.account.snapshots[call.region, copied.id] = copied
    return copied


def attribute(call):
    name = call.given["Attribute"]
    with call.world.lock:
        image = find(call, call.given["ImageId"])
        call.dry_run()
        answer = {"ImageId": image.id}
        if name == "launchPermission":
            answer["LaunchPermissions"] = [{kind: value} for kind, value in sorted(image.permissions)]
        elif name == "blockDeviceMapping":
            answer["BlockDeviceMappings"] = image.members["BlockDeviceMappings"]
        elif name == "uefiData":
            answer["UefiData"] = {"Value": image.uefi_data} if image.uefi_data else {}
        elif name == "deregistrationProtection":
            answer["DeregistrationProtection"] = {"Value": image.protection}
        elif name == "description":
            answer["Description"] = {"Value": image.description} if image.description else {}
        else:
            member = name[0].upper() + name[1:]
            answer[member] = {"Value": image.members[member]} if member in image.members else {}
    return answer


def modify(call):
    given = call.given
    with call.world.lock:
        image = find(call, given["ImageId"])
        call.dry_run()
        if "Description" in given or given.get("Attribute") == "description":
            image.description = given.get("Description", {}).get("Value", given.get("Value"))
            return {}
        if "ImdsSupport" in given:
            if given["ImdsSupport"].get("Value") != "v2.0":
                raise invalid("Value for parameter imdsSupport is invalid.")
            image.members["ImdsSupport"] = "v2.0"
            return {}
        add, remove = shorthand(given, "UserGroups", "UserIds", (("OrganizationArns", "OrganizationArn"), ("OrganizationalUnitArns", "OrganizationalUnitArn")))
        wanted = given.get("LaunchPermission", {})
        changed = permissions(image.permissions, add + wanted.get("Add", []), remove + wanted.get("Remove", []), PERMISSIONS)
        if ("Group", "all") in changed - image.permissions:
            if call.account.settings["block_public"]:
                raise Refused("OperationNotPermitted", "Block public access is enabled for AMIs of this account.", 400)
            public = sum(("Group", "all") in each.permissions for (region, _), each in call.account.images.items() if region == call.region)
            if public >= call.account.settings["public_images"]:
                raise invalid("Your quota for the number of public AMIs is exceeded.", "ResourceLimitExceeded")
            if any(each.encrypted for each in own_snapshots(call, image)):
                raise invalid("Images with encrypted snapshots cannot be public.")
        default = call.account.keys.get(call.region)
        if changed - image.permissions and any(each.key and each.key == default for each in own_snapshots(call, image)):
            raise invalid("Snapshots encrypted with the AWS Managed CMK can't be shared.")
        if len(changed - {("Group", "all")}) > call.account.settings["shares"]:
            raise invalid("Your quota for the number of entities that an AMI is shared with is exceeded.", "ResourceLimitExceeded")
        image.permissions = changed
    return {}


def own_snapshots(call, image):
    return [call.account.snapshots[call.region, name] for name in image.snapshots if (call.region, name) in call.account.snapshots]


def deprecate(call):
    at = call.given["DeprecateAt"]
    with call.world.lock:
        image = find(call, call.given["ImageId"])
        if not now() < at < now() + datetime.timedelta(days=3653):
            raise invalid("The deprecation date must be in the future, within 10 years")
        if at.second or at.microsecond:
            # The service rounds to the nearest minute.
            at = (at + datetime.timedelta(seconds=30)).replace(second=0, microsecond=0)
        call.dry_run()
        image.deprecated = at
    return {"Return": True}


def undeprecate(call):
    with call.world.lock:
        image = find(call, call.given["ImageId"])
        call.dry_run()
        image.deprecated = None
    return {"Return": True}


def changed(state):
    """Answers a call that gives an available image another state, or back."""
    def answer(call):
        with call.world.lock:
            image = find(call, call.given["ImageId"])
            before = "available" if state == "disabled" else "disabled"
            if image.state not in (before, state):
                raise invalid(f"The image {image.id} is {image.state}", BAD_STATE)
            call.dry_run()
            image.state = state
            if state == "disabled":
                # A disabled image is not shared any more.
                image.permissions = set()
        return {"Return": True}
    return answer


def protect(call):
    with call.world.lock:
        image = find(call, call.given["ImageId"])
        call.dry_run()
        image.protection = "enabled-with-cooldown" if call.given.get("WithCooldown") else "enabled-without-cooldown"
    return {"Return": "true"}


def unprotect(call):
    with call.world.lock:
        image = find(call, call.given["ImageId"])
        call.dry_run()
        # The cool-down lasts longer than a test.
        image.protection = "disabled-with-cooldown" if "with-cooldown" in image.protection else "disabled"
    return {"Return": "true"}


OPERATIONS = {"RegisterImage": register, "DescribeImages": describe, "DeregisterImage": deregister, "CopyImage": copy,
              "DescribeImageAttribute": attribute, "ModifyImageAttribute": modify, "EnableImageDeprecation": deprecate,
              "DisableImageDeprecation": undeprecate, "EnableImage": changed("available"), "DisableImage": changed("disabled"),
              "EnableImageDeregistrationProtection": protect, "DisableImageDeregistrationProtection": unprotect}
