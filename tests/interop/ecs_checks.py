"""The vendor's ECS clients against the emulator: `ecs_checks.py URL RPC|ACS3 FOLDER`."""

import json
import sys

import oss2

import disks
from ecs_clients import Acs3, Rpc, code_of
from ledger import Ledger

URL, KIND, FOLDER = sys.argv[1:4]
Client = {"RPC": Rpc, "ACS3": Acs3}[KIND]
ecs = Client(URL)
ledger = Ledger(Client.name, URL, code_of)
does, refused = ledger.does, ledger.refused
REGION = {"RegionId": "cn-hangzhou"}
ANY = "Creating,Waiting,Available,UnAvailable,CreateFailed,Deprecated"
STS, RAM = "2015-04-01", "2015-05-01"


def fill():
    store = oss2.Bucket(oss2.AuthV4("emulator-id", "emulator-secret"), URL, "demo", region="cn-hangzhou")
    for key, (_, body) in {**disks.GOOD, **disks.BAD}.items():
        store.put_object(key, body)
    store.put_object("empty.raw", b"")
    store.put_object("packed.gz", b"x")
    store.put_object("secret.raw", disks.raw(), {"x-oss-server-side-encryption": "AES256"})
    store.put_object("old.raw", disks.raw(), {"x-oss-storage-class": "Archive"})


def params(name, key="disk.raw", form="RAW", bucket="demo", size=5, **more):
    disk = {"OSSBucket": bucket, "OSSObject": key, "Format": form, "DiskImageSize": size}
    return {"ImageName": name, "DiskDeviceMapping": [{k: v for k, v in disk.items() if v}], **more}


def make(*given, **more):
    return ecs.call("ImportImage", params(*given, **more))


def images(**more):
    return ecs.call("DescribeImages", {**REGION, "Status": ANY, "PageSize": 100, **more})["Images"]["Image"]


def task(id):
    return ecs.call("DescribeTaskAttribute", {**REGION, "TaskId": id})


def imports():
    made = None
    for key, (form, _) in disks.GOOD.items():
        made = does("ImportImage", f"takes {key}", lambda: make("good-" + form.lower(), key, form), lambda got: got["ImageId"][:2] == "m-")
        done = does("DescribeTaskAttribute", f"{key} is taken", lambda: task(made["TaskId"]), lambda got: got["TaskStatus"] == "Finished")
        does("DescribeTaskAttribute", f"{key}: counts", lambda: (done["SuccessCount"], done["FailedCount"], done["TaskProcess"]), (1, 0, "100%"))
        does("DescribeImages", f"{key} is Available", lambda: images(ImageId=made["ImageId"])[0]["Status"], "Available")
    for key, (form, _) in disks.BAD.items():
        bad = make("bad-" + key.replace(".", "-"), key, form)
        does("ImportImage", f"fails with {key}", lambda: task(bad["TaskId"]), lambda got: got["FailedCount"] == 1 and
             got["OperationProgressSet"]["OperationProgress"][0]["ErrorCode"] in ("ImportImageFailed", "InvalidImageFormat.Malformed", "InvalidImageSize"))
        does("DescribeImages", f"{key} is CreateFailed", lambda: images(ImageId=bad["ImageId"])[0]["Status"], "CreateFailed")
    for check, code, given in [
        ("missing object", "InvalidOSSObject.NotFound", {"key": "none.raw"}),
        ("missing bucket", "InvalidOSSBucket.NotFound", {"bucket": "no-such-bucket"}),
        ("bucket of another region", "InvalidOSSBucket.NotMatched", {"bucket": "other-region"}),
        ("empty object", "InvalidOSSObject.Size", {"key": "empty.raw"}),
        ("packed object", "UnsupportedSuffix.OSSObject", {"key": "packed.gz"}),
        ("encrypted object", "InvalidOSSBucket.EncryptUnsupported", {"key": "secret.raw"}),
        ("archived object", "InvalidOSSObject.NeedRestore", {"key": "old.raw"}),
        ("wrong format", "InvalidImageFormat.Malformed", {"form": "ISO"}),
        ("size beyond 2048 GiB", "InvalidImageSize", {"size": 9999}),
        ("wrong platform", "InvalidPlatform.Malformed", {"Platform": "Plan9"}),
        ("wrong boot mode", "InvalidBootMode.Malformed", {"BootMode": "Coal"}),
        ("wrong architecture", "InvalidArchitecture.Malformed", {"Architecture": "vax"}),
        ("no such role", "NoSetRoletoECSServiceAcount", {"RoleName": "nobody"}),
        ("DryRun", "DryRunOperation", {"DryRun": True}),
        ("same tag twice", "TagKey.Duplication", {"Tag": [{"Key": "a", "Value": "1"}, {"Key": "A", "Value": "2"}]}),
    ]:
        refused("ImportImage", check, lambda: make("refused", **given), code)
    refused("ImportImage", "bad name", lambda: make("1bad"), "InvalidImageName.Malformed")
    refused("ImportImage", "taken name", lambda: make("good-raw"), "InvalidImageName.Duplicated")
    refused("DescribeImages", "no such region", lambda: images(RegionId="mars-1"), "InvalidRegionId.NotFound")
    first = make("token-1", ClientToken="once")
    does("ImportImage", "same ClientToken", lambda: make("token-1", ClientToken="once")["ImageId"], first["ImageId"])
    refused("ImportImage", "ClientToken, other call", lambda: make("token-2", ClientToken="once"), "IdempotentParameterMismatch")
    ledger.faults({"operation": "ImportImage", "count": 1, "action": {"fail_task": {"code": "Ordered", "finished": True}}},
                  {"operation": "ImportImage", "nth": 2, "action": {"keep_creating": 4294967295}})
    failed = make("ordered")
    does("DescribeTaskAttribute", "Finished but failed", lambda: (lambda t: (t["TaskStatus"], t["FailedCount"]))(task(failed["TaskId"])), ("Finished", 1))
    stuck = make("stuck")
    does("DescribeImages", "stuck in Creating", lambda: images(ImageId=stuck["ImageId"])[0]["Status"], "Creating")
    refused("DeleteImage", "being imported", lambda: ecs.call("DeleteImage", {"ImageId": stuck["ImageId"]}), "ImageIsImporting")
    ledger.faults()
    return first["ImageId"]


def tasks():
    does("DescribeTasks", "finished ones", lambda: ecs.call("DescribeTasks", {**REGION, "TaskStatus": "Finished", "TaskAction": "ImportImage"})["TotalCount"],
         lambda count: count >= 3)
    does("DescribeTasks", "in pages", lambda: len(ecs.call("DescribeTasks", {**REGION, "PageSize": 2, "PageNumber": 2})["TaskSet"]["Task"]), 2)
    refused("DescribeTaskAttribute", "missing", lambda: task("t-none"), "InvalidTaskId.NotFound")
    refused("CancelTask", "missing", lambda: ecs.call("CancelTask", {**REGION, "TaskId": "t-none"}), "InvalidTaskId.NotFound")
    done = ecs.call("DescribeTasks", {**REGION, "TaskStatus": "Finished"})["TaskSet"]["Task"][0]["TaskId"]
    refused("CancelTask", "finished", lambda: ecs.call("CancelTask", {**REGION, "TaskId": done}), "IncorrectTaskStatus")


def attributes(image):
    at = {**REGION, "ImageId": image}
    one = lambda: images(ImageId=image)[0]
    modify = lambda **more: ecs.call("ModifyImageAttribute", {**at, **more})
    does("DescribeImages", "name matches in part", lambda: [i["ImageName"] for i in images(ImageName="token")], ["token-1"])
    does("DescribeImages", "in pages", lambda: len(images(PageSize=2, PageNumber=2)), 2)
    does("DescribeImages", "no such image", lambda: images(ImageId="m-none"), [])
    does("DescribeImages", "disk", lambda: (lambda d: (d["Size"], d["ImportOSSBucket"]))(one()["DiskDeviceMappings"]["DiskDeviceMapping"][0]), ("5", "demo"))
    refused("DescribeImages", "DryRun", lambda: images(DryRun=True), "DryRunOperation")
    does("ModifyImageAttribute", "NVMe", lambda: modify(**{"Features": {"NvmeSupport": "supported"}} if KIND == "ACS3" else {"Features.NvmeSupport": "supported"})
         and one()["Features"]["NvmeSupport"], "supported")
    does("ModifyImageAttribute", "family and text", lambda: modify(ImageFamily="fam", Description="words") and
         (one()["ImageFamily"], one()["Description"]), ("fam", "words"))
    does("ModifyImageAttribute", "boot mode", lambda: modify(BootMode="UEFI") and one()["BootMode"], "UEFI")
    does("ModifyImageAttribute", "Deprecated and back", lambda: modify(Status="Deprecated") and (one()["Status"], modify(Status="Available"))[0], "Deprecated")
    refused("ModifyImageAttribute", "taken name", lambda: modify(ImageName="good-raw"), "InvalidImageName.Duplicated")
    refused("ModifyImageAttribute", "missing", lambda: ecs.call("ModifyImageAttribute", {**REGION, "ImageId": "m-none", "Description": "xx"}), "InvalidImageId.NotFound")


def tags(image):
    pair = lambda key, value: [{"Key": key, "Value": value}]
    listed = lambda **more: {t["TagKey"]: t["TagValue"] for t in ecs.call("ListTagResources", {
        **REGION, "ResourceType": "image", "ResourceId": [image], **more})["TagResources"]["TagResource"]}
    at = {**REGION, "ResourceType": "image"}
    does("TagResources", "an image", lambda: ecs.call("TagResources", {**at, "ResourceId": [image], "Tag": pair("a", "1")}) and listed(), {"a": "1"})
    does("AddTags", "an image", lambda: ecs.call("AddTags", {**at, "ResourceId": image, "Tag": pair("b", "2")}) and listed(), {"a": "1", "b": "2"})
    does("ListTagResources", "by tag", lambda: listed(Tag=pair("b", "2")), {"b": "2"})
    does("DescribeImages", "by tag", lambda: [i["ImageId"] for i in images(Tag=pair("b", "2"))], [image])
    does("RemoveTags", "one", lambda: ecs.call("RemoveTags", {**at, "ResourceId": image, "Tag": pair("b", "2")}) and listed(), {"a": "1"})
    does("UntagResources", "all", lambda: ecs.call("UntagResources", {**at, "ResourceId": [image], "All": True}) and listed(), {})
    refused("TagResources", "missing image", lambda: ecs.call("TagResources", {**at, "ResourceId": ["m-none"], "Tag": pair("a", "1")}), "InvalidResourceId.NotFound")
    refused("TagResources", "reserved key", lambda: ecs.call("TagResources", {**at, "ResourceId": [image], "Tag": pair("acs:x", "1")}), "InvalidTagKey.Malformed")
    refused("TagResources", "21 tags", lambda: ecs.call("TagResources", {**at, "ResourceId": [image], "Tag": [{"Key": f"k{n}", "Value": ""} for n in range(21)]}), "NumberExceed.Tags")


def shares(image):
    at = {**REGION, "ImageId": image}
    shared = lambda: [a["AliyunId"] for a in ecs.call("DescribeImageSharePermission", {**at, "PageSize": 100})["Accounts"]["Account"]]
    share = lambda **more: ecs.call("ModifyImageSharePermission", {**at, **more})
    accounts = [str(2_000_000_000_000_000 + n) for n in range(12)]
    does("ModifyImageSharePermission", "two accounts", lambda: share(AddAccount=accounts[:2]) and shared(), accounts[:2])
    does("ModifyImageSharePermission", "drops the eleventh", lambda: share(AddAccount=accounts[1:]) and len(shared()), 11)
    does("ModifyImageSharePermission", "takes back", lambda: share(RemoveAccount=accounts[:10]) and len(shared()), 1)
    refused("ModifyImageSharePermission", "one's own account", lambda: share(AddAccount=["1000000000000001"]), "InvalidAccount.Forbbiden")
    refused("ModifyImageSharePermission", "no account", lambda: share(AddAccount=["x"]), "InvalidAccount.NotFound")
    refused("DescribeImageSharePermission", "missing", lambda: ecs.call("DescribeImageSharePermission", {**REGION, "ImageId": "m-none"}), "InvalidImageId.NotFound")
    refused("DeleteImage", "shared", lambda: ecs.call("DeleteImage", at), "ImageUseShared")


def copies(image):
    beijing = {"RegionId": "cn-beijing"}
    given = {**REGION, "ImageId": image, "DestinationRegionId": "cn-beijing", "DestinationImageName": "copy-1"}
    made = does("CopyImage", "to another region", lambda: ecs.call("CopyImage", given)["ImageId"])
    # The region's own name, reached through the emulator as a proxy, which it is for plain HTTP only.
    there = ecs if URL.startswith("https:") else Client(URL, proxy=URL, endpoint="ecs.cn-beijing.aliyuncs.com")
    found = does("CopyImage", "found at the region's endpoint", lambda: there.call("DescribeImages", {**beijing, "ImageId": made, "Status": ANY})["Images"]["Image"][0],
                 lambda got: got["Status"] == "Available")
    does("CopyImage", "drops NVMe", lambda: found["Features"]["NvmeSupport"], "unsupported")
    does("CopyImage", "drops shares", lambda: ecs.call("DescribeImageSharePermission", {**beijing, "ImageId": made})["TotalCount"], 0)
    for check, code, more in [("same region", "IncorrectDestinationRegion", {"DestinationRegionId": "cn-hangzhou"}),
                              ("taken name", "InvalidImageName.Duplicated", {}), ("DryRun", "DryRunOperation", {"DestinationImageName": "copy-2", "DryRun": True}),
                              ("missing", "InvalidImageId.NotFound", {"ImageId": "m-none"})]:
        refused("CopyImage", check, lambda: ecs.call("CopyImage", {**given, **more}), code)
    again = {**given, "DestinationImageName": "copy-3", "ClientToken": "copy"}
    does("CopyImage", "same ClientToken", lambda: ecs.call("CopyImage", again)["ImageId"] == ecs.call("CopyImage", again)["ImageId"], True)
    marked = {**given, "DestinationImageName": "copy-4", "Encrypted": True, "KMSKeyId": "key-1", "Tag": [{"Key": "mark", "Value": "1"}]}
    secret = does("CopyImage", "encrypted", lambda: ecs.call("CopyImage", marked)["ImageId"])
    does("DescribeImages", "by the key of a tag", lambda: [i["ImageId"] for i in ecs.call("DescribeImages", {
        **beijing, "Tag": [{"Key": "mark"}]})["Images"]["Image"]], [secret])
    kept = lambda: [s for s in ecs.call("DescribeSnapshots", {**beijing, "PageSize": 100})["Snapshots"]["Snapshot"] if s["Encrypted"]]
    does("DescribeSnapshots", "encrypted", lambda: [s["KMSKeyId"] for s in kept()], ["key-1"])
    share = lambda **more: ecs.call("ModifyImageSharePermission", {**beijing, "ImageId": secret, **more})
    does("ModifyImageSharePermission", "encrypted with a key", lambda: bool(share(AddAccount=["2000000000000001"])), True)
    refused("ModifyImageSharePermission", "published and encrypted", lambda: share(IsPublic=True), "OperationDeined.EncryptedSnapshot")
    refused("CopyImage", "key without encryption", lambda: ecs.call("CopyImage", {**given, "DestinationImageName": "copy-5", "KMSKeyId": "key-1"}),
            "InvalidParameter.KMSKeyId.EncryptedIllegal")
    inner = does("CopyImage", "encrypted in its region", lambda: ecs.call("CopyImage", {
        **marked, "DestinationRegionId": "cn-hangzhou", "DestinationImageName": "copy-6"})["ImageId"])
    refused("CopyImage", "encrypted without a key", lambda: ecs.call("CopyImage", {**given, "ImageId": inner, "DestinationImageName": "copy-7"}),
            "OperationDeined.EncryptedSnapshot")
    join = lambda group: ecs.call("JoinResourceGroup", {**REGION, "ResourceGroupId": group, "ResourceType": "image", "ResourceId": inner})
    does("JoinResourceGroup", "an image", lambda: join("rg-2") and images(ImageId=inner)[0]["ResourceGroupId"], "rg-2")
    refused("JoinResourceGroup", "missing group", lambda: join("none"), "InvalidResourceGroup.NotFound")
    ecs.call("DeleteImage", {**REGION, "ImageId": inner})
    ledger.faults({"operation": "CopyImage", "action": {"keep_creating": 3600}})
    slow = [ecs.call("CopyImage", {**given, "DestinationImageName": f"slow-{n}"})["ImageId"] for n in range(6)]
    ledger.faults()
    does("CopyImage", "five at a time", lambda: sorted(i["Status"] for i in ecs.call("DescribeImages", {
        **beijing, "ImageId": ",".join(slow), "Status": ANY, "PageSize": 100})["Images"]["Image"]), ["Creating"] * 5 + ["Waiting"])
    does("CancelCopyImage", "one that waits", lambda: ecs.call("CancelCopyImage", {**beijing, "ImageId": slow[5]}) and
         ecs.call("DescribeImages", {**beijing, "ImageId": slow[5], "Status": ANY})["TotalCount"], 0)
    refused("CancelCopyImage", "a finished one", lambda: ecs.call("CancelCopyImage", {**beijing, "ImageId": made}), "IncorrectImageStatus")
    refused("DeleteImage", "being copied", lambda: ecs.call("DeleteImage", {**REGION, "ImageId": image, "Force": True}), "OperationDenied.ImageCopying")
    for copy in slow[:5]:
        ecs.call("CancelCopyImage", {**beijing, "ImageId": copy})


def ends(image):
    snapshot = images(ImageId=image)[0]["DiskDeviceMappings"]["DiskDeviceMapping"][0]["SnapshotId"]
    described = lambda: ecs.call("DescribeSnapshots", {**REGION, "SnapshotIds": json.dumps([snapshot])})["TotalCount"]
    does("DescribeSnapshots", "of the image", described, 1)
    refused("DeleteSnapshot", "in use", lambda: ecs.call("DeleteSnapshot", {"SnapshotId": snapshot}), "SnapshotCreatedImage")
    does("DeleteImage", "by force", lambda: ecs.call("DeleteImage", {**REGION, "ImageId": image, "Force": True}) and images(ImageId=image), [])
    refused("DeleteImage", "gone", lambda: ecs.call("DeleteImage", {**REGION, "ImageId": image}), "InvalidImageId.NotFound")
    does("DeleteSnapshot", "after the image", lambda: ecs.call("DeleteSnapshot", {"SnapshotId": snapshot, "Force": True}) and described(), 0)
    refused("DeleteSnapshot", "gone", lambda: ecs.call("DeleteSnapshot", {"SnapshotId": snapshot}), "InvalidSnapshotId.NotFound")
    left = 24 - len(images())
    for number in range(left):
        make(f"filler-{number}")
    refused("ImportImage", "beyond the quota", lambda: make("one-more"), "QuotaExceed.Image")


def roles():
    name = "ImporterOfMine"
    trust = json.dumps({"Version": "1", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {
        "Service": ["ecs.aliyuncs.com"], "RAM": ["acs:ram::1000000000000001:root"]}}]})
    ram = lambda action, **given: ecs.call(action, {"RoleName": name, **given}, RAM)
    refused("GetRole", "missing", lambda: ram("GetRole"), "EntityNotExist.Role")
    refused("CreateRole", "no JSON", lambda: ram("CreateRole", AssumeRolePolicyDocument="x"), "MalformedPolicyDocument")
    does("CreateRole", "makes one", lambda: ram("CreateRole", AssumeRolePolicyDocument=trust)["Role"]["RoleName"], name)
    refused("CreateRole", "twice", lambda: ram("CreateRole", AssumeRolePolicyDocument=trust), "EntityAlreadyExists.Role")
    refused("ImportImage", "role without policy", lambda: make("by-role", RoleName=name), "NoSetRoletoECSServiceAcount")
    policy = {"PolicyType": "System", "PolicyName": "AliyunECSImageImportRolePolicy"}
    does("AttachPolicyToRole", "attaches", lambda: bool(ram("AttachPolicyToRole", **policy)["RequestId"]), True)
    refused("AttachPolicyToRole", "twice", lambda: ram("AttachPolicyToRole", **policy), "EntityAlreadyExists.Role.Policy")
    refused("AttachPolicyToRole", "no such policy", lambda: ram("AttachPolicyToRole", PolicyType="Custom", PolicyName="x"), "EntityNotExist.Policy")
    does("ListPoliciesForRole", "names it", lambda: [p["PolicyName"] for p in ram("ListPoliciesForRole")["Policies"]["Policy"]], [policy["PolicyName"]])
    does("GetRole", "tells the trust", lambda: json.loads(ram("GetRole")["Role"]["AssumeRolePolicyDocument"])["Version"], "1")
    does("ImportImage", "with the new role", lambda: make("by-role", RoleName=name)["TaskId"][:2], "t-")
    does("GetCallerIdentity", "a user", lambda: ecs.call("GetCallerIdentity", {}, STS)["IdentityType"], "RAMUser")
    asked = {"RoleArn": f"acs:ram::1000000000000001:role/{name.lower()}", "RoleSessionName": "check", "DurationSeconds": 900}
    keys = does("AssumeRole", "gives keys", lambda: ecs.call("AssumeRole", asked, STS)["Credentials"], lambda got: got["AccessKeyId"][:4] == "STS.")
    who = Client(URL, keys["AccessKeyId"], keys["AccessKeySecret"], keys["SecurityToken"])
    does("AssumeRole", "the keys call STS", lambda: who.call("GetCallerIdentity", {}, STS)["IdentityType"], "AssumedRoleUser")
    does("AssumeRole", "the keys call ECS", lambda: who.call("DescribeRegions")["Regions"]["Region"][0]["RegionId"], "cn-hangzhou")
    ledger.faults({"operation": "DescribeRegions", "action": {"skew_seconds": 890}})
    does("AssumeRole", "15 minutes are not over", lambda: bool(who.call("DescribeRegions")), True)
    ledger.faults()
    for check, code, more in [("missing role", "EntityNotExist.Role", {"RoleArn": "acs:ram::1000000000000001:role/none"}),
                              ("too short", "InvalidParameter.DurationSeconds", {"DurationSeconds": 60}),
                              ("bad session name", "InvalidParameter.RoleSessionName", {"RoleSessionName": "a b"})]:
        refused("AssumeRole", check, lambda: ecs.call("AssumeRole", {**asked, **more}, STS), code)


def identities():
    regions = lambda who: lambda: who.call("DescribeRegions")["Regions"]["Region"][0]["RegionId"]
    does("DescribeRegions", "the first", regions(ecs), "cn-hangzhou")
    refused("signature", "wrong secret", regions(Client(URL, secret="wrong")), ("SignatureDoesNotMatch", "InvalidAccessKeySecret"))
    refused("signature", "unknown key", regions(Client(URL, key="nobody")), "InvalidAccessKeyId.NotFound")
    does("signature", "token", regions(Client(URL, "sts-id", "sts-secret", "sts-token")), "cn-hangzhou")
    refused("signature", "wrong token", regions(Client(URL, "sts-id", "sts-secret", "x")), "InvalidSecurityToken.Malformed")
    for action, code in [({"skew_seconds": 1000}, "InvalidTimeStamp.Expired"), ("expire_token", "InvalidSecurityToken.Expired"),
                         ("throttle", "Throttling.User"), ({"status": 503, "code": "ServiceUnavailable"}, "ServiceUnavailable")]:
        ledger.faults({"operation": "DescribeRegions", "count": 1, "action": action})
        refused("faults", f"{action}", regions(ecs), code)
        does("faults", f"{action}, once", regions(ecs), "cn-hangzhou")
    refused("unknown action", "by name", lambda: ecs.call("NoSuchAction", {}, STS), "InvalidAction.NotFound")
    refused("unknown action", "by version", lambda: ecs.call("GetRole", {}, "1999-01-01"), "InvalidVersion")


fill()
identities()
image = imports()
tasks()
attributes(image)
tags(image)
shares(image)
copies(image)
roles()
ends(image)
