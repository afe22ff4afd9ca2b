"""oss2 against the emulator: `oss2_checks.py URL V1|V4 FOLDER`."""

import base64
import hashlib
import os
import sys
import time

import oss2
from oss2.models import PartInfo, ServerSideEncryptionRule

from ledger import Ledger, blob

URL, VERSION, FOLDER = sys.argv[1:4]
REGION = "cn-hangzhou"
oss2.defaults.request_retries = 0


def code_of(error):
    return getattr(error, "code", "") or f"HTTP {getattr(error, 'status', type(error).__name__)}"


ledger = Ledger(f"oss2 {VERSION}", URL, code_of)
does, refused = ledger.does, ledger.refused


def bucket(name="demo", key="emulator-id", secret="emulator-secret", token=None, url=URL, **more):
    if token:
        kind = oss2.ProviderAuthV4 if VERSION == "V4" else oss2.ProviderAuth
        provider = oss2.credentials.StaticCredentialsProvider(key, secret, token)
        auth = kind(provider)
    else:
        auth = (oss2.AuthV4 if VERSION == "V4" else oss2.Auth)(key, secret)
    return oss2.Bucket(auth, url, name, region=more.pop("region", REGION), **more)


def service():
    auth = (oss2.AuthV4 if VERSION == "V4" else oss2.Auth)("emulator-id", "emulator-secret")
    return oss2.Service(auth, URL, region=REGION)


demo = bucket()
other = bucket("other-region", region="cn-beijing")
nobody = bucket("no-such-bucket")
BODY = blob(300_000)
KEYS = ["plain", "dir/a b+c", "ключ/钥匙 %41", "tilde~!'()*", "q?x=1&y#z"]


def buckets():
    fresh = bucket("fresh-bucket")
    does("PutBucket", "makes a bucket", lambda: fresh.create_bucket().status, 200)
    does("PutBucket", "one's own again", lambda: fresh.create_bucket().status, 200)
    does("ListBuckets", "names it", lambda: [b.name for b in service().list_buckets().buckets],
         ["demo", "fresh-bucket", "other-region"])
    does("ListBuckets", "by prefix, in pages",
         lambda: service().list_buckets(prefix="f", max_keys=1).buckets[0].name, "fresh-bucket")
    does("GetBucketInfo", "location", lambda: demo.get_bucket_info().location, "oss-" + REGION)
    does("GetBucketInfo", "grant", lambda: demo.get_bucket_info().acl.grant, "private")
    does("GetBucketInfo", "no encryption",
         lambda: demo.get_bucket_info().bucket_encryption_rule.sse_algorithm, lambda got: got is None)
    refused("GetBucketInfo", "no bucket", nobody.get_bucket_info, "NoSuchBucket")
    does("GetBucketLocation", "region", lambda: other.get_bucket_location().location, "oss-cn-beijing")
    refused("GetBucketLocation", "no bucket", nobody.get_bucket_location, "NoSuchBucket")
    does("DeleteBucket", "an empty one", lambda: fresh.delete_bucket().status, 204)
    refused("DeleteBucket", "gone", fresh.delete_bucket, "NoSuchBucket")
    rule = ServerSideEncryptionRule()
    rule.sse_algorithm = "AES256"
    refused("GetBucketEncryption", "none", demo.get_bucket_encryption, "NoSuchServerSideEncryptionRule")
    does("PutBucketEncryption", "AES256", lambda: demo.put_bucket_encryption(rule).status, 200)
    does("GetBucketEncryption", "tells it", lambda: demo.get_bucket_encryption().sse_algorithm, "AES256")
    does("GetBucketInfo", "tells the encryption",
         lambda: demo.get_bucket_info().bucket_encryption_rule.sse_algorithm, "AES256")
    does("PutObject", "takes the bucket's encryption", lambda: demo.put_object("enc", b"x") and
         demo.head_object("enc").headers["x-oss-server-side-encryption"], "AES256")
    does("DeleteBucketEncryption", "takes it away", lambda: demo.delete_bucket_encryption().status, 204)
    demo.delete_object("enc")


def objects():
    for key in KEYS:
        does("PutObject", f"key {key!r}", lambda: demo.put_object(key, BODY).status, 200)
        does("GetObject", f"key {key!r}", lambda: demo.get_object(key).read() == BODY, True)
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    does("PutObject", "Content-MD5", lambda: demo.put_object("k", BODY, {"Content-MD5": md5}).status, 200)
    refused("PutObject", "wrong Content-MD5",
            lambda: demo.put_object("k", b"x", {"Content-MD5": md5}), "InvalidDigest")
    does("PutObject", "empty, in chunks", lambda: demo.put_object("empty", b"").status, 200)
    does("PutObject", "tells the CRC-64", lambda: demo.put_object("k", b"123456789").crc,
         11051210869376104954)
    meta = {"x-oss-meta-who": "me  too", "Content-Type": "text/x"}
    demo.put_object("meta", BODY, meta)
    does("HeadObject", "metadata", lambda: demo.head_object("meta").headers["x-oss-meta-who"], "me  too")
    does("HeadObject", "length", lambda: demo.head_object("meta").content_length, len(BODY))
    does("GetObjectMeta", "length", lambda: demo.get_object_meta("meta").content_length, len(BODY))
    does("GetObjectMeta", "exists", lambda: (demo.object_exists("meta"), demo.object_exists("no")), (True, False))
    refused("HeadObject", "missing", lambda: demo.head_object("no"), ("NoSuchKey", "HTTP 404"))
    refused("GetObject", "missing", lambda: demo.get_object("no"), "NoSuchKey")
    refused("GetObject", "no bucket", lambda: nobody.get_object("k"), "NoSuchBucket")
    forbid = {"x-oss-forbid-overwrite": "true"}
    refused("PutObject", "forbid overwrite", lambda: demo.put_object("k", b"", forbid), "FileAlreadyExists")
    refused("PutObject", "key too long", lambda: demo.put_object("k" * 1024, b""), "InvalidObjectName")
    refused("PutObject", "bad storage class",
            lambda: demo.put_object("k", b"", {"x-oss-storage-class": "Cheap"}), "InvalidArgument")
    for span, want in [((0, 9), BODY[:10]), ((5, None), BODY[5:]), ((None, 5), BODY[-5:]),
                       ((0, 10**7), BODY)]:
        does("GetObject", f"range {span}",
             lambda: demo.get_object("meta", byte_range=span).read() == want, True)
    standard = {"x-oss-range-behavior": "standard"}
    refused("GetObject", "range beyond the end",
            lambda: demo.get_object("meta", (10**7, None), headers=standard), "InvalidRange")
    does("GetObject", "response-content-type", lambda: demo.get_object(
        "meta", params={"response-content-type": "a/b"}).headers["Content-Type"], "a/b")


def conditions():
    etag = demo.put_object("cond", b"cond").etag
    now, early = oss2.http_date(int(time.time()) + 60), oss2.http_date(1)
    for operation, call in [("GetObject", demo.get_object), ("HeadObject", demo.head_object)]:
        for headers, code in [({"If-Match": f'"{etag}"'}, None), ({"If-Match": "x"}, 412),
                              ({"If-None-Match": f'"{etag}"'}, 304), ({"If-None-Match": "x"}, None),
                              ({"If-Modified-Since": now}, 304), ({"If-Modified-Since": early}, None),
                              ({"If-Unmodified-Since": early}, 412), ({"If-Unmodified-Since": now}, None)]:
            check = ", ".join(f"{name}: {value[:9]}" for name, value in headers.items())
            if code is None:
                does(operation, check, lambda: call("cond", headers=headers).status, 200)
            else:
                names = {412: ("PreconditionFailed", "HTTP 412"), 304: ("NotModified", "HTTP 304")}
                refused(operation, check, lambda: call("cond", headers=headers), names[code])


def copies():
    demo.put_object("src/a b", BODY, {"x-oss-meta-m": "1"})
    does("CopyObject", "takes the metadata along", lambda: demo.copy_object("demo", "src/a b", "dst") and
         demo.head_object("dst").headers["x-oss-meta-m"], "1")
    does("CopyObject", "takes the bytes along", lambda: demo.get_object("dst").read() == BODY, True)
    does("CopyObject", "replaces metadata", lambda: demo.update_object_meta("dst", {"x-oss-meta-m": "2"}) and
         demo.head_object("dst").headers["x-oss-meta-m"], "2")
    refused("CopyObject", "missing source", lambda: demo.copy_object("demo", "no", "d"), "NoSuchKey")
    refused("CopyObject", "missing bucket", lambda: demo.copy_object("no-such-bucket", "k", "d"), "NoSuchBucket")
    refused("CopyObject", "other region", lambda: demo.copy_object("other-region", "k", "d"), "AccessDenied")
    refused("CopyObject", "source condition", lambda: demo.copy_object(
        "demo", "src/a b", "d", {"x-oss-copy-source-if-match": "x"}), "PreconditionFailed")
    refused("CopyObject", "forbid overwrite", lambda: demo.copy_object(
        "demo", "src/a b", "dst", {"x-oss-forbid-overwrite": "true"}), "FileAlreadyExists")
    upload = demo.init_multipart_upload("joined").upload_id
    one = does("UploadPartCopy", "a range", lambda: demo.upload_part_copy(
        "demo", "src/a b", (0, 199_999), "joined", upload, 1))
    two = does("UploadPartCopy", "the whole", lambda: demo.upload_part_copy(
        "demo", "dst", None, "joined", upload, 2))
    refused("UploadPartCopy", "missing source", lambda: demo.upload_part_copy(
        "demo", "no", None, "joined", upload, 3), "NoSuchKey")
    refused("UploadPartCopy", "source condition", lambda: demo.upload_part_copy(
        "demo", "dst", None, "joined", upload, 3, {"x-oss-copy-source-if-match": "x"}), "PreconditionFailed")
    etag = demo.head_object("dst").etag
    does("UploadPartCopy", "the same source", lambda: demo.upload_part_copy(
        "demo", "dst", (0, 99), "joined", upload, 9, {"x-oss-copy-source-if-match": etag}).etag != "", True)
    refused("UploadPartCopy", "no upload", lambda: demo.upload_part_copy(
        "demo", "dst", None, "joined", "none", 3), "NoSuchUpload")
    parts = [PartInfo(1, one.etag), PartInfo(2, two.etag)]
    does("UploadPartCopy", "make an object", lambda: demo.complete_multipart_upload(
        "joined", upload, parts) and demo.get_object("joined").read() == BODY[:200_000] + BODY, True)
    crc = oss2.utils.Crc64(0)
    crc(BODY[:200_000] + BODY)
    does("UploadPartCopy", "has the checksum of its bytes", lambda: demo.head_object("joined").server_crc, crc.crc)


def deletes():
    for key in KEYS:
        demo.put_object("del/" + key, b"x")
    names = ["del/" + key for key in KEYS] + ["del/missing"]
    does("DeleteMultipleObjects", "names all", lambda: sorted(
        demo.batch_delete_objects(names).deleted_keys), sorted(names))
    does("DeleteMultipleObjects", "they are gone", lambda: demo.object_exists(names[1]), False)
    refused("DeleteMultipleObjects", "no bucket", lambda: nobody.batch_delete_objects(["k"]), "NoSuchBucket")
    does("DeleteObject", "deletes", lambda: demo.delete_object("k").status, 204)
    does("DeleteObject", "missing is fine", lambda: demo.delete_object("k").status, 204)
    refused("DeleteObject", "no bucket", lambda: nobody.delete_object("k"), "NoSuchBucket")
    refused("DeleteBucket", "not empty", demo.delete_bucket, "BucketNotEmpty")


def lists():
    for number in range(5):
        demo.put_object(f"list/{number} +", b"x")
    demo.put_object("list/sub/deep", b"x")
    for second in (False, True):
        operation = "ListObjectsV2" if second else "ListObjects"
        def page(more="", **given):
            if second:
                return demo.list_objects_v2(continuation_token=more, **given)
            return demo.list_objects(marker=more, **given)
        does(operation, "folds folders", lambda: page(prefix="list/", delimiter="/").prefix_list, ["list/sub/"])
        def walk():
            keys, more = [], ""
            while True:
                found = page(more, prefix="list/", max_keys=2)
                keys += [item.key for item in found.object_list]
                more = found.next_continuation_token if second else found.next_marker
                if not found.is_truncated:
                    return keys
        does(operation, "in pages", walk, [f"list/{n} +" for n in range(5)] + ["list/sub/deep"])
        refused(operation, "too long a page", lambda: page(max_keys=1001), "InvalidArgument")
    refused("ListObjects", "no bucket", nobody.list_objects, "NoSuchBucket")
    does("ListObjects", "tells owner and size", lambda: (
        lambda item: (item.size, item.type, bool(item.owner.id)))(
            demo.list_objects("list/0").object_list[0]), (1, "Normal", True))


def multipart():
    upload = does("InitiateMultipartUpload", "starts", lambda: demo.init_multipart_upload("big").upload_id)
    refused("InitiateMultipartUpload", "forbid overwrite", lambda: demo.init_multipart_upload(
        "meta", headers={"x-oss-forbid-overwrite": "true"}), "FileAlreadyExists")
    parts = []
    for number in (3, 1, 2):
        sent = does("UploadPart", f"part {number}", lambda: demo.upload_part("big", upload, number, blob(102_400, number)))
        parts.append(PartInfo(number, sent.etag, size=102_400, part_crc=sent.crc))
    does("UploadPart", "again replaces", lambda: demo.upload_part("big", upload, 2, blob(102_400, 2)).status, 200)
    for number in (0, 10_001):
        refused("UploadPart", f"part {number}", lambda: demo.upload_part("big", upload, number, b"x"), "InvalidArgument")
    refused("UploadPart", "no upload", lambda: demo.upload_part("big", "none", 1, b"x"), "NoSuchUpload")
    refused("UploadPart", "wrong Content-MD5", lambda: demo.upload_part(
        "big", upload, 4, b"x", headers={"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}), "InvalidDigest")
    does("ListParts", "in pages", lambda: [part.part_number for part in oss2.PartIterator(
        demo, "big", upload, max_parts=1)], [1, 2, 3])
    does("ListParts", "sizes and ETags", lambda: [(part.size, part.etag) for part in demo.list_parts(
        "big", upload).parts], [(p.size, p.etag) for p in sorted(parts, key=lambda p: p.part_number)])
    refused("ListParts", "no upload", lambda: demo.list_parts("big", "none"), "NoSuchUpload")
    does("ListMultipartUploads", "names it", lambda: [
        (item.key, item.upload_id) for item in oss2.MultipartUploadIterator(demo, max_uploads=1)],
        [("big", upload)])
    does("GetBucketStat", "counts", lambda: demo.get_bucket_stat().multi_part_upload_count, 1)
    refused("GetBucketStat", "no bucket", nobody.get_bucket_stat, "NoSuchBucket")
    order = sorted(parts, key=lambda part: part.part_number)
    wrong = [order[0], PartInfo(2, "0" * 32), order[2]]
    complete = demo.complete_multipart_upload
    refused("CompleteMultipartUpload", "wrong ETag", lambda: complete("big", upload, wrong), "InvalidPart")
    refused("CompleteMultipartUpload", "part not sent", lambda: complete(
        "big", upload, order + [PartInfo(9, order[0].etag)]), "InvalidPart")
    refused("CompleteMultipartUpload", "no upload", lambda: complete("big", "none", order), "NoSuchUpload")
    does("CompleteMultipartUpload", "joins", lambda: complete("big", upload, order).status, 200)
    whole = b"".join(blob(102_400, number) for number in (1, 2, 3))
    does("GetObject", "of parts", lambda: demo.get_object("big").read() == whole, True)
    does("HeadObject", "type Multipart", lambda: demo.head_object("big").object_type, "Multipart")
    small = demo.init_multipart_upload("small").upload_id
    etags = [PartInfo(n, demo.upload_part("small", small, n, b"x").etag) for n in (1, 2)]
    refused("CompleteMultipartUpload", "parts too small", lambda: complete("small", small, etags), "EntityTooSmall")
    does("CompleteMultipartUpload", "complete-all", lambda: demo.upload_part("small", small, 1, BODY) and
         complete("small", small, None, headers={"x-oss-complete-all": "yes"}) and
         demo.head_object("small").content_length, len(BODY) + 1)
    gone = demo.init_multipart_upload("gone").upload_id
    does("AbortMultipartUpload", "ends it", lambda: demo.abort_multipart_upload("gone", gone).status, 204)
    refused("AbortMultipartUpload", "gone", lambda: demo.abort_multipart_upload("gone", gone), "NoSuchUpload")


def resumable():
    path = os.path.join(FOLDER, "oss2.bin")
    with open(path, "wb") as file:
        file.write(blob(1_000_000))
    store = oss2.ResumableStore(root=FOLDER)
    given = {"store": store, "multipart_threshold": 102_400, "part_size": 102_400, "num_threads": 3}
    ledger.faults({"operation": "UploadPart", "part_number": 7, "count": 1, "action": "reset_before"})
    refused("resumable_upload", "broken off", lambda: oss2.resumable_upload(demo, "res", path, **given), "HTTP -2")
    ledger.faults({"operation": "UploadPart", "part_number": 1, "action": "reset_before"})
    does("resumable_upload", "goes on", lambda: oss2.resumable_upload(demo, "res", path, **given).status, 200)
    does("resumable_upload", "sent no part twice", ledger.struck, [0])
    ledger.faults()
    does("resumable_download", "gives it back", lambda: oss2.resumable_download(
        demo, "res", path + ".back", multiget_threshold=102_400, part_size=102_400, num_threads=3,
        store=oss2.ResumableDownloadStore(root=FOLDER)) or open(path + ".back", "rb").read() == blob(1_000_000), True)


def identities():
    call = lambda who: lambda: who.get_object("meta").read() == BODY
    refused("signature", "wrong secret", call(bucket(secret="wrong")), "SignatureDoesNotMatch")
    refused("signature", "unknown key", call(bucket(key="nobody")), "InvalidAccessKeyId")
    does("signature", "token", call(bucket(key="sts-id", secret="sts-secret", token="sts-token")), True)
    refused("signature", "wrong token", call(bucket(key="sts-id", secret="sts-secret", token="x")), "InvalidSecurityToken")
    refused("signature", "no token", call(bucket(key="sts-id", secret="sts-secret")), "AccessKeyIdAndSecurityTokenNotMatch")
    ledger.faults({"operation": "GetObject", "count": 1, "action": {"skew_seconds": 1000}})
    refused("signature", "clock 1000 s off", call(demo), "RequestTimeTooSkewed")
    ledger.faults({"operation": "GetObject", "count": 1, "action": {"skew_seconds": -800}})
    does("signature", "clock 800 s off", call(demo), True)
    ledger.faults({"operation": "GetObject", "count": 1, "action": "expire_token"})
    refused("signature", "token expired", call(demo), "SecurityTokenExpired")
    if VERSION == "V4":
        refused("signature", "wrong region", call(bucket(region="cn-beijing")), "InvalidArgument")
    url = demo.sign_url("GET", "meta", 60, slash_safe=True)
    get = lambda url: oss2.http.Session().do_request(oss2.http.Request("GET", url), 10)
    does("presigned URL", "works", lambda: get(url).read() == BODY, True)
    slow = demo.sign_url("GET", "meta", 60, params={"x-oss-traffic-limit": str(8 * 10**7)})
    does("presigned URL", "with a traffic limit", lambda: get(slow).read() == BODY, True)
    does("presigned URL", "changed", lambda: get(url.replace("meta?", "k?")).status, 403)
    ledger.faults({"operation": "GetObject", "count": 1, "action": {"skew_seconds": 100}})
    does("presigned URL", "expired", lambda: get(url).status, 403)
    if URL.startswith("https:"):
        return  # the emulator is a proxy of plain HTTP only
    real = "http://oss-cn-hangzhou.aliyuncs.com"
    does("endpoint", "virtual host", call(bucket(url=real, proxies={"http": URL})), True)
    refused("endpoint", "of another region", call(bucket(
        url="http://oss-cn-beijing.aliyuncs.com", proxies={"http": URL})), "AccessDenied")


def traffic():
    demo.put_object("slow", blob(400_000))
    limit = {"x-oss-traffic-limit": str(8 * 400_000)}
    def timed(call):
        begun = time.monotonic()
        call()
        return 0.8 < time.monotonic() - begun < 5
    does("traffic limit", "download", lambda: timed(lambda: demo.get_object("slow", headers=limit).read()), True)
    does("traffic limit", "upload", lambda: timed(lambda: demo.put_object("slow", blob(400_000), limit)), True)
    refused("traffic limit", "too low", lambda: demo.get_object("slow", headers={"x-oss-traffic-limit": "1"}), "InvalidArgument")


def faults():
    demo.put_object("f", BODY)
    get = lambda: demo.get_object("f").read()
    for action, code in [({"status": 500, "code": "InternalError"}, "InternalError"), ("throttle", "TotalQpsLimitExceeded"),
                         ("reset_before", "HTTP -2"), ({"qps": 0}, "TotalQpsLimitExceeded")]:
        ledger.faults({"operation": "GetObject", "count": 1, "action": action})
        refused("faults", f"{action}", get, code)
        does("faults", f"{action}, once", lambda: get() == BODY, True)
    ledger.faults({"operation": "GetObject", "count": 1, "action": "corrupt_answer"})
    does("faults", "corrupt_answer", lambda: get() == bytes([BODY[0] ^ 1]) + BODY[1:], True)
    ledger.faults({"operation": "GetObject", "count": 1, "action": "truncate_answer"})
    refused("faults", "truncate_answer", get, ("HTTP -2", "HTTP -3", "HTTP ChunkedEncodingError"))
    ledger.faults({"operation": "PutObject", "count": 1, "action": "corrupt_body"})
    refused("faults", "corrupt_body", lambda: demo.put_object("f", BODY), "HTTP -3")
    ledger.faults({"operation": "PutObject", "count": 1, "action": "reset_after"})
    refused("faults", "reset_after", lambda: demo.put_object("after", b"x"), "HTTP -2")
    does("faults", "reset_after did it", lambda: demo.get_object("after").read(), b"x")
    ledger.faults()


for part in (buckets, objects, conditions, copies, deletes, lists, multipart, resumable, identities, traffic, faults):
    part()
