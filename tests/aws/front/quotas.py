"""Answers calls of Service Quotas about images and snapshots.

Basis: the vendor's reference of GetServiceQuota, and its tables of quotas of EC2 and EBS.
"""

from errors import Refused

# Service, name, and setting of an account by the code of a quota. One of them has no value of its own: only a default.
QUOTAS = {"L-B665C33B": ("ec2", "AMIs", "images"), "L-0E3CBAB9": ("ec2", "Public AMIs", "public_images"),
          "L-70015FFA": ("ec2", "AMI sharing", "shares"), "L-309BACF6": ("ebs", "Snapshots per Region", "snapshots")}
DEFAULT_ONLY = {"L-70015FFA"}


def answer(default):
    def quota(call):
        service, code = call.given["ServiceCode"], call.given["QuotaCode"]
        if code not in QUOTAS or QUOTAS[code][0] != service or (code in DEFAULT_ONLY and not default):
            raise Refused("NoSuchResourceException", f"The request failed because the quota {code} of {service} does not exist.", 400)
        _, name, setting = QUOTAS[code]
        return {"Quota": {"ServiceCode": service, "QuotaCode": code, "QuotaName": name, "Value": float(call.account.settings[setting]), "Unit": "None",
                          "Adjustable": True, "GlobalQuota": False}}
    return quota


OPERATIONS = {"GetServiceQuota": answer(False), "GetAWSDefaultServiceQuota": answer(True)}
