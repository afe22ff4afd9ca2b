"""The vendor's credentials library against the metadata service, a credentials address and OIDC:
`credentials_checks.py URL - FOLDER`. The metadata service is reached at its own address, with the
emulator as the proxy; OIDC by plain HTTP, as the library insists on TLS."""

import base64
import datetime
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import oss2
from alibabacloud_credentials.http import HttpOptions
from alibabacloud_credentials.provider.ecs_ram_role import EcsRamRoleCredentialsProvider
from alibabacloud_credentials.provider.uri import URLCredentialsProvider

from ecs_clients import Acs3, code_of
from ledger import Ledger

URL, _, FOLDER = sys.argv[1:4]
ledger = Ledger("credentials", URL, code_of)
does, refused = ledger.does, ledger.refused
ROLE = "acs:ram::1000000000000001:role/emulator-role"


def calls(keys):
    who = Acs3(URL, keys.get_access_key_id(), keys.get_access_key_secret(), keys.get_security_token())
    return who.call("GetCallerIdentity", {}, "2015-04-01")["Arn"]


def metadata(**more):
    options = HttpOptions(proxy=URL)
    return EcsRamRoleCredentialsProvider(http_options=options, async_update_enabled=False, **more).get_credentials()


def raw(method, path, headers=None, body=None, host=None):
    request = urllib.request.Request(URL + path, body, headers or {}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


arn = "acs:ram::1000000000000001:assumed-role/emulator-role/"
does("metadata", "version 2, role found out", lambda: calls(metadata()), arn + "instance")
does("metadata", "version 2 only", lambda: calls(metadata(disable_imds_v1=True)), arn + "instance")
does("metadata", "role named", lambda: calls(metadata(role_name="emulator-role")), arn + "instance")
refused("metadata", "no such role", lambda: metadata(role_name="nobody"), "CredentialException")
ledger.faults({"operation": "/latest/api/token", "action": {"status": 404, "code": "gone"}})
refused("metadata", "no token, version 2 only", lambda: metadata(disable_imds_v1=True), "CredentialException")
does("metadata", "no token, falls back to version 1", lambda: calls(metadata()), arn + "instance")
ledger.faults()
TTL = "X-aliyun-ecs-metadata-token-ttl-seconds"
for check, method, path, headers, status in [
    ("token", "PUT", "/latest/api/token", {TTL: "60"}, 200), ("token without time", "PUT", "/latest/api/token", {}, 400),
    ("token too long", "PUT", "/latest/api/token", {TTL: "21601"}, 400), ("token by GET", "GET", "/latest/api/token", {TTL: "60"}, 405),
    ("made up token", "GET", "/latest/meta-data/region-id", {"X-aliyun-ecs-metadata-token": "1.x"}, 401),
    ("region, version 1", "GET", "/latest/meta-data/region-id", {}, 200), ("missing", "GET", "/latest/meta-data/none", {}, 404)]:
    does("metadata", check, lambda: raw(method, path, headers)[0], status)

address = URL + "/_emulator/credentials"
does("credentials URI", "gives keys", lambda: calls(URLCredentialsProvider(uri=address).get_credentials()), arn + "credentials-uri")
keys = URLCredentialsProvider(uri=address).get_credentials()
provider = oss2.credentials.StaticCredentialsProvider(keys.get_access_key_id(), keys.get_access_key_secret(), keys.get_security_token())
demo = oss2.Bucket(oss2.ProviderAuthV4(provider), URL, "demo", region="cn-hangzhou")
does("credentials URI", "the keys call OSS", lambda: demo.put_object("k", b"x").status, 200)
ledger.faults({"operation": "PutObject", "count": 1, "action": {"skew_seconds": 800}},
              {"operation": "PutObject", "nth": 2, "action": {"skew_seconds": 899}})
does("credentials URI", "good after 800 s", lambda: demo.put_object("k", b"x").status, 200)
refused("credentials URI", "expired after 899 s", lambda: demo.put_object("k", b"x"), "SecurityTokenExpired")
ledger.faults()


def token(**claims):
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
    return ".".join([part({"alg": "none"}), part({"iss": "https://issuer", "aud": "x", "sub": "me", **claims}), "x"])


def oidc(text=None, role=ROLE, provider="emulator", session="check", duration="900"):
    query = urllib.parse.urlencode({"Action": "AssumeRoleWithOIDC", "Version": "2015-04-01", "Format": "JSON",
                                    "Timestamp": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "SignatureNonce": "n"})
    form = {"RoleArn": role, "OIDCProviderArn": f"acs:ram::1000000000000001:oidc-provider/{provider}",
            "OIDCToken": text or token(exp=time.time() // 1 + 60), "RoleSessionName": session, "DurationSeconds": duration}
    status, body = raw("POST", "/?" + query, {"Content-Type": "application/x-www-form-urlencoded"}, urllib.parse.urlencode(form).encode())
    answer = json.loads(body)
    return answer if status == 200 else answer["Code"]


def oidc_calls():
    got = oidc()["Credentials"]
    return Acs3(URL, got["AccessKeyId"], got["AccessKeySecret"], got["SecurityToken"]).call("GetCallerIdentity", {}, "2015-04-01")["Arn"]


does("AssumeRoleWithOIDC", "gives keys", oidc_calls, arn + "check")
does("AssumeRoleWithOIDC", "tells the subject", lambda: oidc()["OIDCTokenInfo"]["Subject"], "me")
for check, given, code in [("expired", {"text": token(exp=1)}, "AuthenticationFail.OIDCToken.Expired"), ("no token", {"text": "abc"}, "AuthenticationFail.OIDCToken.Invalid"),
                           ("missing role", {"role": ROLE + "x"}, "EntityNotExist.Role"), ("other provider", {"provider": "x"}, "NoPermission"),
                           ("too short", {"duration": "60"}, "InvalidParameter.DurationSeconds"), ("no session name", {"session": ""}, "MissingParameter")]:
    does("AssumeRoleWithOIDC", check, lambda: oidc(**given), code)

page = does("web page", "is HTML", lambda: raw("GET", "/_emulator/")[1], lambda text: text.startswith("<!DOCTYPE html>"))
for section in ("buckets", "objects", "uploads", "tasks", "images", "requests"):
    does("web page", f"shows {section}", lambda: f'<section id="{section}" data-part>' in page, True)
does("web page", "asks again by itself", lambda: 'http-equiv="refresh"' in page, True)
does("web page", "names the bucket and the object", lambda: (">demo</td>" in page, ">k</td>" in page), (True, True))
does("web page", "shows the faults of a request", lambda: "skew_seconds" in page, True)
