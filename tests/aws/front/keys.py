"""Looks up keys of the key service (KMS), which moto holds."""

from moto.kms.models import kms_backends

from errors import Refused

DEFAULT_KEY = "alias/aws/ebs"


def kms_key(account, region, name=None, refused=None):
    """The ARN of an enabled key; without a name that of the vendor's own key of an account."""
    backend = kms_backends[account.id][region]
    if name in (None, DEFAULT_KEY):
        return account.keys.setdefault(region, f"arn:aws:kms:{region}:{account.id}:key/00000000-0000-4000-8000-{account.id}")
    if name == account.keys.get(region):
        return name
    try:
        key = backend.describe_key(name)
    except Exception:  # Several types, for ids, aliases, and ARNs.
        key = None
    if key is None or key.key_state != "Enabled" or key.arn.split(":")[3] != region:
        raise refused or Refused("ResourceNotFoundException", f"The KMS key {name} does not exist or is not enabled.", 404,
                                 Reason="DEPENDENCY_RESOURCE_NOT_FOUND")
    return key.arn
