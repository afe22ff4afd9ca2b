"""alibabacloud-oss-v2 against the emulator: `oss_v2_checks.py URL V1|V4 FOLDER`."""

import base64
import datetime
import hashlib
import os
import sys
import time
import urllib.error
import urllib.request

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import models as m

from ledger import Ledger, blob

URL, VERSION, FOLDER = sys.argv[1:4]
REGION = "cn-hangzhou"


def code_of(error):
    while hasattr(error, "unwrap"):
        error = error.unwrap()
    return getattr(error, "code", None) or type(error).__name__


ledger = Ledger(f"oss-v2 {VERSION}", URL, code_of)
does, refused = ledger.does, ledger.refused


def client(key="emulator-id", secret="emulator-secret", token=None, region=REGION, url=URL, **more):
    provider = oss.credentials.StaticCredentialsProvider(key, secret, token)
    config = oss.Config(region=region, endpoint=url, signature_version=VERSION.lower(),
                        credentials_provider=provider, retry_max_attempts=1, **more)
    return oss.Client(config)


demo = client()
BODY = blob(300_000)
KEYS = ["plain", "dir/a b+c", "ключ/钥匙 %41", "tilde~!'()*", "q?x=1&y#z"]
AT = {"bucket": "demo"}


def put(key, body=BODY, **more):
    return demo.put_object(m.PutObjectRequest(bucket=more.pop("bucket", "demo"), key=key, body=body, **more))


def get(key, who=None, **more):
    request = m.GetObjectRequest(bucket=more.pop("bucket", "demo"), key=key, **more)
    return (who or demo).get_object(request)


def read(*given, **more):
    with get(*given, **more).body as body:
        return body.read()


def head(key, **more):
    return demo.head_object(m.HeadObjectRequest(bucket="demo", key=key, **more))


def buckets():
    none, fresh = {"bucket": "no-such-bucket"}, {"bucket": "fresh-bucket"}
    does("PutBucket", "makes a bucket", lambda: demo.put_bucket(m.PutBucketRequest(**fresh)).status_code, 200)
    does("ListBuckets", "names it", lambda: [b.name for b in demo.list_buckets(m.ListBucketsRequest()).buckets],
         ["demo", "fresh-bucket", "other-region"])
    info = lambda **at: demo.get_bucket_info(m.GetBucketInfoRequest(**at)).bucket_info
    does("GetBucketInfo", "location", lambda: info(**AT).location, "oss-" + REGION)
    does("GetBucketInfo", "class and owner", lambda: (info(**AT).storage_class, info(**AT).owner.id),
         ("Standard", "1000000000000001"))
    does("GetBucketLocation", "region", lambda: demo.get_bucket_location(
        m.GetBucketLocationRequest(**AT)).location, "oss-" + REGION)
    does("GetBucketStat", "counts", lambda: demo.get_bucket_stat(m.GetBucketStatRequest(**fresh)).object_count, 0)
    for name, call, request in [("GetBucketInfo", demo.get_bucket_info, m.GetBucketInfoRequest),
                                ("GetBucketLocation", demo.get_bucket_location, m.GetBucketLocationRequest),
                                ("GetBucketStat", demo.get_bucket_stat, m.GetBucketStatRequest),
                                ("DeleteBucket", demo.delete_bucket, m.DeleteBucketRequest),
                                ("ListObjects", demo.list_objects, m.ListObjectsRequest),
                                ("ListObjectsV2", demo.list_objects_v2, m.ListObjectsV2Request),
                                ("ListMultipartUploads", demo.list_multipart_uploads, m.ListMultipartUploadsRequest)]:
        refused(name, "no bucket", lambda: call(request(**none)), "NoSuchBucket")
    does("DeleteBucket", "an empty one", lambda: demo.delete_bucket(m.DeleteBucketRequest(**fresh)).status_code, 204)
    does("GetBucketInfo", "is_bucket_exist", lambda: (demo.is_bucket_exist("demo"), demo.is_bucket_exist("fresh-bucket")), (True, False))
    default = m.ApplyServerSideEncryptionByDefault(sse_algorithm="KMS", kms_master_key_id="key-1")
    rule = m.ServerSideEncryptionRule(apply_server_side_encryption_by_default=default)
    at = m.GetBucketEncryptionRequest(**AT)
    refused("GetBucketEncryption", "none", lambda: demo.get_bucket_encryption(at), "NoSuchServerSideEncryptionRule")
    does("PutBucketEncryption", "KMS", lambda: demo.put_bucket_encryption(
        m.PutBucketEncryptionRequest(server_side_encryption_rule=rule, **AT)).status_code, 200)
    does("GetBucketEncryption", "tells it", lambda: demo.get_bucket_encryption(
        at).server_side_encryption_rule.apply_server_side_encryption_by_default.kms_master_key_id, "key-1")
    does("DeleteBucketEncryption", "takes it away", lambda: demo.delete_bucket_encryption(
        m.DeleteBucketEncryptionRequest(**AT)).status_code, 204)


def objects():
    for key in KEYS:
        does("PutObject", f"key {key!r}", lambda: put(key).status_code, 200)
        does("GetObject", f"key {key!r}", lambda: read(key) == BODY, True)
    md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
    does("PutObject", "Content-MD5", lambda: put("k", content_md5=md5).status_code, 200)
    refused("PutObject", "wrong Content-MD5", lambda: put("k", b"x", content_md5=md5), "InvalidDigest")
    does("PutObject", "from an iterator, in chunks", lambda: put("chunks", iter([b"ab", b"cd"])) and read("chunks"), b"abcd")
    does("PutObject", "empty", lambda: put("empty", b"").status_code, 200)
    does("PutObject", "tells the CRC-64", lambda: put("crc", b"123456789").hash_crc64, "11051210869376104954")
    does("PutObject", "metadata", lambda: put("meta", metadata={"who": "me"}, content_type="text/x").status_code, 200)
    does("HeadObject", "metadata", lambda: (head("meta").metadata["who"], head("meta").content_type), ("me", "text/x"))
    does("HeadObject", "length", lambda: head("meta").content_length, len(BODY))
    does("GetObjectMeta", "length", lambda: demo.get_object_meta(m.GetObjectMetaRequest(key="meta", **AT)).content_length, len(BODY))
    does("GetObjectMeta", "is_object_exist", lambda: (demo.is_object_exist("demo", "meta"), demo.is_object_exist("demo", "no")), (True, False))
    refused("HeadObject", "missing", lambda: head("no"), "NoSuchKey")
    refused("GetObject", "missing", lambda: get("no"), "NoSuchKey")
    refused("PutObject", "no bucket", lambda: put("k", bucket="no-such-bucket"), "NoSuchBucket")
    refused("PutObject", "forbid overwrite", lambda: put("k", forbid_overwrite=True), "FileAlreadyExists")
    refused("PutObject", "bad storage class", lambda: put("k", storage_class="Cheap"), "InvalidArgument")
    for span, behaviour, want in [("bytes=0-9", None, BODY[:10]), ("bytes=-5", None, BODY[-5:]),
                                  ("bytes=5-", None, BODY[5:]), ("bytes=0-9999999", None, BODY),
                                  ("bytes=299990-9999999", "standard", BODY[-10:])]:
        does("GetObject", f"{span} {behaviour}", lambda: read("meta", range_header=span, range_behavior=behaviour) == want, True)
    refused("GetObject", "range beyond the end", lambda: get(
        "meta", range_header="bytes=9999999-", range_behavior="standard"), "InvalidRange")
    etag = head("meta").etag
    does("GetObject", "If-Match", lambda: get("meta", if_match=etag).status_code, 200)
    refused("GetObject", "If-Match", lambda: get("meta", if_match='"x"'), "PreconditionFailed")
    refused("HeadObject", "If-Match", lambda: head("meta", if_match='"x"'), "PreconditionFailed")
    refused("GetObject", "If-None-Match", lambda: get("meta", if_none_match=etag), ("NotModified", "BadErrorResponse"))
    refused("HeadObject", "If-None-Match", lambda: head("meta", if_none_match=etag), ("NotModified", "BadErrorResponse"))
    does("DeleteObject", "deletes", lambda: demo.delete_object(m.DeleteObjectRequest(key="k", **AT)).status_code, 204)
    for number in range(4):
        put(f"list/{number}", b"x")
    for name, pages in [("ListObjects", demo.list_objects_paginator(limit=2)), ("ListObjectsV2", demo.list_objects_v2_paginator(limit=2))]:
        kind = m.ListObjectsRequest if name == "ListObjects" else m.ListObjectsV2Request
        does(name, "in pages", lambda: [item.key for page in pages.iter_page(kind(prefix="list/", **AT)) for item in page.contents],
             [f"list/{n}" for n in range(4)])
        does(name, "folds folders", lambda: [item.prefix for item in (demo.list_objects if name == "ListObjects" else demo.list_objects_v2)(
            kind(delimiter="/", prefix="l", **AT)).common_prefixes], ["list/"])
    names = [m.DeleteObject(key=key) for key in KEYS + ["missing"]]
    does("DeleteMultipleObjects", "names all", lambda: sorted(item.key for item in demo.delete_multiple_objects(
        m.DeleteMultipleObjectsRequest(objects=names, encoding_type="url", **AT)).deleted_objects), sorted(KEYS + ["missing"]))
    does("DeleteMultipleObjects", "they are gone", lambda: demo.is_object_exist("demo", KEYS[2]), False)
    refused("DeleteMultipleObjects", "no bucket", lambda: demo.delete_multiple_objects(
        m.DeleteMultipleObjectsRequest(bucket="no-such-bucket", objects=names)), "NoSuchBucket")
    refused("DeleteBucket", "not empty", lambda: demo.delete_bucket(m.DeleteBucketRequest(**AT)), "BucketNotEmpty")


def copies():
    put("src/a b", metadata={"m": "1"})
    copy = lambda key="dst", source="src/a b", **more: demo.copy_object(
        m.CopyObjectRequest(key=key, source_key=source, **AT, **more))
    does("CopyObject", "takes all along", lambda: copy() and (read("dst") == BODY, head("dst").metadata["m"]), (True, "1"))
    does("CopyObject", "replaces metadata", lambda: copy(metadata_directive="REPLACE", metadata={"m": "2"}) and head("dst").metadata["m"], "2")
    refused("CopyObject", "missing source", lambda: copy(source="no"), "NoSuchKey")
    refused("CopyObject", "source condition", lambda: copy(if_match="x"), "PreconditionFailed")
    refused("CopyObject", "forbid overwrite", lambda: copy(forbid_overwrite=True), "FileAlreadyExists")
    refused("CopyObject", "other region", lambda: copy(source_bucket="other-region"), "AccessDenied")
    upload = demo.initiate_multipart_upload(m.InitiateMultipartUploadRequest(key="joined", **AT)).upload_id
    part = lambda number, **more: demo.upload_part_copy(m.UploadPartCopyRequest(
        key="joined", upload_id=upload, part_number=number, source_key=more.pop("source", "src/a b"), **AT, **more))
    one = does("UploadPartCopy", "a range", lambda: part(1, source_range="bytes=0-199999"))
    two = does("UploadPartCopy", "the whole", lambda: part(2))
    refused("UploadPartCopy", "missing source", lambda: part(3, source="no"), "NoSuchKey")
    parts = [m.UploadPart(part_number=n, etag=p.etag) for n, p in ((1, one), (2, two))]
    does("UploadPartCopy", "make an object", lambda: demo.complete_multipart_upload(m.CompleteMultipartUploadRequest(
        key="joined", upload_id=upload, complete_multipart_upload=m.CompleteMultipartUpload(parts=parts), **AT))
        and read("joined") == BODY[:200_000] + BODY, True)


def multipart():
    begin = lambda key, **more: demo.initiate_multipart_upload(m.InitiateMultipartUploadRequest(key=key, **AT, **more)).upload_id
    upload = does("InitiateMultipartUpload", "starts", lambda: begin("big"))
    refused("InitiateMultipartUpload", "forbid overwrite", lambda: begin("meta", forbid_overwrite=True), "FileAlreadyExists")
    at = {"bucket": "demo", "key": "big", "upload_id": upload}
    send = lambda number, body, **more: demo.upload_part(m.UploadPartRequest(**{**at, **more}, part_number=number, body=body))
    sent = {}
    for number in (3, 1, 2):
        sent[number] = does("UploadPart", f"part {number}", lambda: send(number, blob(102_400, number)))
    for number in (0, 10_001):
        refused("UploadPart", f"part {number}", lambda: send(number, b"x"), "InvalidArgument")
    refused("UploadPart", "no upload", lambda: send(1, b"x", upload_id="none"), "NoSuchUpload")
    refused("UploadPart", "wrong Content-MD5", lambda: send(4, b"x", content_md5="1B2M2Y8AsgTpgAmY7PhCfg=="), "InvalidDigest")
    listed = lambda: [part for page in demo.list_parts_paginator(limit=2).iter_page(m.ListPartsRequest(**at)) for part in page.parts]
    does("ListParts", "in pages", lambda: [(p.part_number, p.size, p.hash_crc64) for p in listed()],
         [(n, 102_400, sent[n].hash_crc64) for n in (1, 2, 3)])
    refused("ListParts", "no upload", lambda: demo.list_parts(m.ListPartsRequest(**{**at, "upload_id": "none"})), "NoSuchUpload")
    begin("big2")
    does("ListMultipartUploads", "in pages", lambda: [item.key for page in demo.list_multipart_uploads_paginator(
        limit=1).iter_page(m.ListMultipartUploadsRequest(prefix="big", **AT)) for item in page.uploads], ["big", "big2"])
    def complete(*pairs, **more):
        parts = [m.UploadPart(part_number=number, etag=etag) for number, etag in pairs]
        return demo.complete_multipart_upload(m.CompleteMultipartUploadRequest(
            complete_multipart_upload=m.CompleteMultipartUpload(parts=parts), **{**at, **more}))
    good = [(n, sent[n].etag) for n in (1, 2, 3)]
    refused("CompleteMultipartUpload", "wrong ETag", lambda: complete(good[0], (2, '"0"')), "InvalidPart")
    refused("CompleteMultipartUpload", "wrong order", lambda: complete(good[1], good[0]), "InvalidPartOrder")
    refused("CompleteMultipartUpload", "no upload", lambda: complete(*good, upload_id="none"), "NoSuchUpload")
    done = does("CompleteMultipartUpload", "joins", lambda: complete(*good))
    does("CompleteMultipartUpload", "tells the CRC-64", lambda: done.hash_crc64, lambda crc: crc == head("big").hash_crc64)
    does("HeadObject", "type Multipart", lambda: head("big").object_type, "Multipart")
    gone = {"bucket": "demo", "key": "gone", "upload_id": begin("gone")}
    does("AbortMultipartUpload", "ends it", lambda: demo.abort_multipart_upload(m.AbortMultipartUploadRequest(**gone)).status_code, 204)
    refused("AbortMultipartUpload", "gone", lambda: demo.abort_multipart_upload(m.AbortMultipartUploadRequest(**gone)), "NoSuchUpload")
    small = {"key": "small", "upload_id": begin("small")}
    pairs = [(n, send(n, b"x", **small).etag) for n in (1, 2)]
    refused("CompleteMultipartUpload", "parts too small", lambda: complete(*pairs, **small), "EntityTooSmall")


def managers():
    path = os.path.join(FOLDER, "oss-v2.bin")
    whole = blob(1_000_000)
    with open(path, "wb") as file:
        file.write(whole)
    request = m.PutObjectRequest(key="managed", **AT)
    given = {"part_size": 102_400, "parallel_num": 1, "enable_checkpoint": True, "checkpoint_dir": FOLDER}
    ledger.faults({"operation": "UploadPart", "part_number": 5, "count": 1, "action": {"status": 400, "code": "Ordered"}})
    def upload():
        return demo.uploader(**given).upload_file(request, path)
    refused("Uploader", "broken off at part 5", upload, "Ordered")
    ledger.faults({"operation": "UploadPart", "part_number": 1, "action": {"status": 500, "code": "X"}})
    does("Uploader", "goes on from its checkpoint", lambda: upload().status_code, 200)
    does("Uploader", "sent no part twice", ledger.struck, [0])
    ledger.faults()
    does("Uploader", "stream", lambda: demo.uploader(part_size=102_400).upload_from(
        m.PutObjectRequest(key="stream", **AT), open(path, "rb")).status_code, 200)
    does("Downloader", "gives it back", lambda: demo.downloader(**given).download_file(
        m.GetObjectRequest(key="managed", **AT), path + ".back") and open(path + ".back", "rb").read() == whole, True)
    retrying = client()
    retrying._client._options.retry_max_attempts = 3
    ledger.faults({"operation": "GetObject", "nth": 2, "action": "truncate_answer"},
                  {"operation": "GetObject", "nth": 4, "action": {"status": 500, "code": "InternalError"}})
    does("Downloader", "over broken answers", lambda: retrying.downloader(**given).download_file(
        m.GetObjectRequest(key="managed", **AT), path + ".again") and open(path + ".again", "rb").read() == whole, True)
    ledger.faults()


def identities():
    call = lambda who: lambda: read("meta", who=who) == BODY
    refused("signature", "wrong secret", call(client(secret="wrong")), "SignatureDoesNotMatch")
    refused("signature", "unknown key", call(client(key="nobody")), "InvalidAccessKeyId")
    does("signature", "token", call(client("sts-id", "sts-secret", "sts-token")), True)
    refused("signature", "wrong token", call(client("sts-id", "sts-secret", "x")), "InvalidSecurityToken")
    ledger.faults({"operation": "GetObject", "count": 1, "action": {"skew_seconds": 1000}})
    refused("signature", "clock 1000 s off", call(demo), "RequestTimeTooSkewed")
    ledger.faults({"operation": "GetObject", "count": 1, "action": "expire_token"})
    refused("signature", "token expired", call(demo), "SecurityTokenExpired")
    if VERSION == "V4":
        refused("signature", "wrong region", call(client(region="cn-beijing")), "InvalidArgument")
        does("signature", "additional headers", call(client(additional_headers=["range", "host"])), True)
    url = demo.presign(m.GetObjectRequest(key="meta", **AT), expires=datetime.timedelta(minutes=1)).url
    open_url = lambda url: urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url)
    does("presigned URL", "works", lambda: open_url(url).read() == BODY, True)
    def status(url):
        try:
            return open_url(url).status
        except urllib.error.HTTPError as error:
            return error.code
    does("presigned URL", "changed", lambda: status(url.replace("/meta?", "/big?")), 403)
    ledger.faults({"operation": "GetObject", "count": 1, "action": {"skew_seconds": 100}})
    does("presigned URL", "expired", lambda: status(url), 403)
    ledger.faults()
    if URL.startswith("https:"):
        return  # the emulator is a proxy of plain HTTP only
    proxied = lambda host: client(url=f"http://{host}", proxy_host={"http": URL})
    does("endpoint", "virtual host", call(proxied("oss-cn-hangzhou.aliyuncs.com")), True)
    refused("endpoint", "of another region", call(proxied("oss-cn-beijing.aliyuncs.com")), "AccessDenied")
    refused("endpoint", "path style", call(client(url="http://oss-cn-hangzhou.aliyuncs.com", proxy_host={"http": URL}, use_path_style=True)),
            "SecondLevelDomainForbidden")


def traffic():
    def timed(call):
        begun = time.monotonic()
        call()
        return 0.8 < time.monotonic() - begun < 5
    put("slow", blob(400_000))
    does("traffic limit", "download", lambda: timed(lambda: read("slow", traffic_limit=8 * 400_000)), True)
    refused("traffic limit", "too low", lambda: put("slow", traffic_limit=1), "InvalidArgument")


for part in (buckets, objects, copies, multipart, managers, identities, traffic):
    part()
