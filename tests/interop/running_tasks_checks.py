"""Imports that take an hour, watched with the vendor's ECS clients: `running_tasks_checks.py URL RPC|ACS3
FOLDER`. Time passes by putting the emulator's clock forward, as far as signatures allow."""

import sys

import oss2

import disks
from ecs_clients import Acs3, Rpc, code_of
from ledger import Ledger

URL, KIND, _ = sys.argv[1:4]
Client = {"RPC": Rpc, "ACS3": Acs3}[KIND]
ecs = Client(URL)
ledger = Ledger(Client.name, URL, code_of)
does, refused = ledger.does, ledger.refused
REGION = {"RegionId": "cn-hangzhou"}

store = oss2.Bucket(oss2.AuthV4("emulator-id", "emulator-secret"), URL, "demo", region="cn-hangzhou")
store.put_object("disk.raw", disks.raw())
disk = {"OSSBucket": "demo", "OSSObject": "disk.raw", "Format": "RAW", "DiskImageSize": 5}
made = ecs.call("ImportImage", {"ImageName": "slow", "DiskDeviceMapping": [disk]})
task, image = {**REGION, "TaskId": made["TaskId"]}, {**REGION, "ImageId": made["ImageId"]}


def later(seconds):
    ledger.faults({"operation": "*", "action": {"skew_seconds": seconds}})


def progress():
    found = ecs.call("DescribeTaskAttribute", task)
    return found["TaskStatus"], found["TaskProcess"], found["SupportCancel"]


does("DescribeTaskAttribute", "waits at first", progress, ("Waiting", "0%", "true"))
does("DescribeImages", "not shown by default", lambda: ecs.call("DescribeImages", REGION)["TotalCount"], 0)
does("DescribeImages", "shown as Creating", lambda: ecs.call("DescribeImages", {**image, "Status": "Creating"})["TotalCount"], 1)
refused("DeleteImage", "being imported", lambda: ecs.call("DeleteImage", image), "ImageIsImporting")
refused("CopyImage", "being imported", lambda: ecs.call("CopyImage", {**image, "DestinationRegionId": "cn-beijing"}), "OperationDenied.ImageCopying")
refused("ModifyImageSharePermission", "being imported", lambda: ecs.call(
    "ModifyImageSharePermission", {**image, "AddAccount": ["2000000000000000"]}), "IncorrectImageStatus")
later(720)
does("DescribeTaskAttribute", "a fifth is done", progress, ("Processing", "20%", "true"))
does("DescribeImages", "tells the progress", lambda: ecs.call(
    "DescribeImages", {**image, "Status": "Creating"})["Images"]["Image"][0]["Progress"], "20%")
does("DescribeSnapshots", "progressing", lambda: ecs.call("DescribeSnapshots", REGION)["Snapshots"]["Snapshot"][0]["Status"], "progressing")
does("DescribeTaskAttribute", "names its image", lambda: ecs.call("DescribeTaskAttribute", task)["OperationProgressSet"]["OperationProgress"][0][
    "RelatedItemSet"]["RelatedItem"][0], {"Name": "ImageId", "Value": made["ImageId"]})
later(0)
does("CancelTask", "takes the image away", lambda: bool(ecs.call("CancelTask", task)) and ecs.call(
    "DescribeImages", {**image, "Status": "Creating,Available,CreateFailed"})["TotalCount"], 0)
does("DescribeTasks", "tells it is cancelled", lambda: ecs.call("DescribeTasks", {**REGION, "TaskIds": made["TaskId"]})["TaskSet"]["Task"][0]["TaskStatus"], "Deleted")
refused("CancelTask", "twice", lambda: ecs.call("CancelTask", task), "IncorrectTaskStatus")
