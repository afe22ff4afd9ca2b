"""Checks what moto does not check for S3: the checksums in headers, and whether an upload in parts exists. Lists objects and
uploads in pages."""

import base64
import hashlib
import urllib.parse
import zlib
from xml.sax.saxutils import escape

from moto.s3.models import s3_backends

from errors import Refused
from state import now

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


def noted(account):
    """Remembers when uploads in parts began; moto does not."""
    for bucket in s3_backends[account.id]["aws"].buckets.values():
        for upload in bucket.multiparts:
            account.initiated.setdefault(upload, now())


def listed(account, operation, given):
    """A page of the objects or uploads of a bucket, which moto lists as a whole; None: another operation, or no bucket."""
    pages = {"ListObjectsV2": objects_page, "ListMultipartUploads": uploads_page}
    bucket = s3_backends[account.id]["aws"].buckets.get(given.get("Bucket"))
    if operation not in pages or bucket is None:
        return None
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + pages[operation](account, bucket, given)).encode()


def shown(given, key):
    return escape(urllib.parse.quote(key, safe="/") if given.get("EncodingType") == "url" else key)


def encoding(given):
    return "<EncodingType>url</EncodingType>" if given.get("EncodingType") == "url" else ""


def stamp(time):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def objects_page(account, bucket, given):
    most = min(given.get("MaxKeys", 1000), account.settings["page"])
    after = base64.b64decode(given["ContinuationToken"]).decode() if "ContinuationToken" in given else given.get("StartAfter", "")
    keys = sorted(key for key in bucket.keys if key.startswith(given.get("Prefix", "")) and key > after)
    page, rest = keys[:most], keys[most:]
    rows = "".join(f"<Contents><Key>{shown(given, key)}</Key><LastModified>{stamp(bucket.keys[key].last_modified)}</LastModified><ETag>{escape(bucket.keys[key].etag)}</ETag>"
                   f"<Size>{bucket.keys[key].size}</Size><StorageClass>STANDARD</StorageClass></Contents>" for key in page)
    more = f"<NextContinuationToken>{base64.b64encode(page[-1].encode()).decode()}</NextContinuationToken>" if rest else ""
    return (f"<ListBucketResult><Name>{bucket.name}</Name><Prefix>{shown(given, given.get('Prefix', ''))}</Prefix><KeyCount>{len(page)}</KeyCount>"
            f"<MaxKeys>{most}</MaxKeys><IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{encoding(given)}{more}{rows}</ListBucketResult>")


def uploads_page(account, bucket, given):
    """In the order of keys, and of times for one key; a marker of an upload needs that of its key."""
    most = min(given.get("MaxUploads", 1000), account.settings["page"])
    if "UploadIdMarker" in given and not given.get("KeyMarker"):
        raise Refused("InvalidArgument", "An upload-id marker cannot be specified without a key marker.")
    order = lambda upload: (upload.key_name, account.initiated.get(upload.id, now()), upload.id)
    uploads = sorted((each for each in bucket.multiparts.values() if each.key_name.startswith(given.get("Prefix", ""))), key=order)
    key, marker = given.get("KeyMarker", ""), given.get("UploadIdMarker")
    if marker:
        passed = [each.id for each in uploads if each.key_name == key]
        passed = passed[:passed.index(marker) + 1] if marker in passed else passed
        uploads = [each for each in uploads if each.key_name > key or (each.key_name == key and each.id not in passed)]
    else:
        uploads = [each for each in uploads if each.key_name > key]
    page, rest = uploads[:most], uploads[most:]
    rows = "".join(f"<Upload><Key>{shown(given, each.key_name)}</Key><UploadId>{escape(each.id)}</UploadId>"
                   f"<Initiated>{stamp(account.initiated.get(each.id, now()))}</Initiated><StorageClass>STANDARD</StorageClass></Upload>" for each in page)
    more = f"<NextKeyMarker>{shown(given, page[-1].key_name)}</NextKeyMarker><NextUploadIdMarker>{escape(page[-1].id)}</NextUploadIdMarker>" if rest else ""
    return (f"<ListMultipartUploadsResult><Bucket>{bucket.name}</Bucket>{more}<MaxUploads>{most}</MaxUploads>"
            f"<IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{encoding(given)}{rows}</ListMultipartUploadsResult>")
