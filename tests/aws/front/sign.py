"""Checks signatures (SigV4) with botocore's signer, and permissions with moto's reading of policies."""

import datetime
import hashlib
import re

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from moto.iam.access_control import CreateAccessKeyFailure, IAMPolicy, PermissionResult, create_access_key
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from errors import caused

AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request,\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})")
# Seconds that the clock of a client may differ: of S3, and of all others.
SKEW = {"s3": 900}
USUAL_SKEW = 300
# Calls that every valid key may make.
ALWAYS = {"sts:GetCallerIdentity"}
UNSIGNED, STREAMING = "UNSIGNED-PAYLOAD", "STREAMING-"


class Scope:
    """What the Authorization header names."""

    def __init__(self, headers):
        found = AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if found is None:
            self.service = None
            return
        self.key, self.date, self.region, self.service, signed, self.signature = found.groups()
        self.signed = signed.split(";")


class Signer:
    """botocore's signer for exactly the headers that a request names."""

    def __new__(cls, service, region, credentials, signed):
        of = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth

        class Exactly(of):
            def headers_to_sign(self, request):
                chosen = botocore.auth.HTTPHeaders()
                for name in signed:
                    for value in request.headers.get_all(name, []):
                        chosen[name] = value
                return chosen

        return Exactly(credentials, service, region)


def account_of(key, accounts):
    """The account of an access key; None: unknown."""
    for account in accounts:
        if key in iam_backends[account]["aws"].access_keys:
            return account
        if any(role.access_key_id == key for role in sts_backends[account]["aws"].assumed_roles):
            return account
    return None


def owner(account, scope, headers, service, protocol):
    """The key's owner; checks that key and session token belong together."""
    given = {"X-Amz-Security-Token": headers["x-amz-security-token"]} if "x-amz-security-token" in headers else {}
    try:
        return create_access_key(account, "aws", scope.key, given)
    except CreateAccessKeyFailure:
        raise caused("unknown key", service, protocol) from None


def check_signature(key, scope, method, url, headers, body, protocol, may_be_unsigned):
    """Refuses what the services refuse: wrong signatures, old ones, unsigned headers, and another body than signed."""
    service = scope.service
    wrong = lambda text: caused("signature", service, protocol, text)
    stamp = headers.get("x-amz-date", "")
    try:
        at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        raise wrong(f"x-amz-date is `{stamp}`") from None
    if not stamp.startswith(scope.date):
        raise wrong("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
    if abs((datetime.datetime.now(datetime.timezone.utc) - at).total_seconds()) > SKEW.get(service, USUAL_SKEW):
        raise caused("skewed", service, protocol)
    missing = [name for name in headers if (name == "host" or name.startswith("x-amz-")) and name not in scope.signed and name != "x-amz-user-agent"]
    if missing or sorted(scope.signed) != scope.signed:
        raise wrong(f"headers that must be signed, in order: {', '.join(missing)}")
    digest = headers.get("x-amz-content-sha256")
    if service == "s3" and digest is None:
        raise wrong("Missing required header for this request: x-amz-content-sha256")
    if digest == UNSIGNED or (digest or "").startswith(STREAMING):
        if not may_be_unsigned:
            raise wrong("this operation takes no unsigned payload")
    elif digest is not None and digest != hashlib.sha256(body).hexdigest():
        raise caused("signature", service, protocol, "The provided 'x-amz-content-sha256' header does not match what was computed.")
    request = botocore.awsrequest.AWSRequest(method=method, url=url, data=body)
    for name, value in headers.items():
        request.headers[name] = value
    request.context["timestamp"] = stamp
    signer = Signer(service, scope.region, key.create_credentials(), scope.signed)
    canonical = signer.canonical_request(request)
    if signer.signature(signer.string_to_sign(request, canonical), request) != scope.signature:
        raise wrong(f"The request signature we calculated does not match. Canonical: {canonical!r}")


def check_permission(key, service, protocol, action):
    """Whether the policies of the owner permit an action."""
    if action in ALWAYS:
        return
    results = [IAMPolicy(policy).is_action_permitted(action) for policy in key.collect_policies()]
    if PermissionResult.DENIED in results or PermissionResult.PERMITTED not in results:
        raise caused("denied", service, protocol, f"{key.arn} is not authorized to perform: {action}")
