"""Checks what moto does not check for S3: the checksums in headers, and whether an upload in parts exists."""

import base64
import hashlib
import zlib

from moto.s3.models import s3_backends

from errors import Refused

CHECKSUMS = {"x-amz-checksum-sha256": lambda body: hashlib.sha256(body).digest(), "x-amz-checksum-sha1": lambda body: hashlib.sha1(body).digest(),
             "x-amz-checksum-crc32": lambda body: zlib.crc32(body).to_bytes(4, "big")}


def check_body(headers, body):
    given = headers.get("content-md5")
    if given is not None:
        try:
            wanted = base64.b64decode(given, validate=True)
        except ValueError:
            wanted = b""
        if len(wanted) != 16:
            raise Refused("InvalidDigest", "The Content-MD5 you specified is not valid.")
        if wanted != hashlib.md5(body).digest():
            raise Refused("BadDigest", "The Content-MD5 you specified did not match what we received.")
    # The checksum of a completion is that of the whole object, not of its body.
    for name, checksum in CHECKSUMS.items():
        if name in headers and not headers.get("content-type", "").endswith("xml") and base64.b64encode(checksum(body)).decode() != headers[name]:
            raise Refused("BadDigest", f"The {name} you specified did not match the calculated checksum.")


def check_upload(account, given):
    """A request about an upload in parts needs one."""
    if "UploadId" in given:
        bucket = s3_backends[account.id]["aws"].buckets.get(given["Bucket"])
        if bucket is not None and given["UploadId"] not in bucket.multiparts:
            raise Refused("NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", 404)
