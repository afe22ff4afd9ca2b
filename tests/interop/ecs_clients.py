"""Two official clients behind one call: `call(action, {vendor's parameter: value})` gives a dict."""

import importlib
import json
import os
import re

HOSTS = {"2014-05-26": "ecs", "2015-04-01": "sts", "2015-05-01": "ram"}


def code_of(error):
    for name in ("code", "error_code"):
        if getattr(error, name, None):
            return getattr(error, name)
    return type(error).__name__


class Rpc:
    """aliyun-python-sdk-core and -ecs: signature RPC V1."""

    name = "core/ecs RPC"

    def __init__(self, url, key="emulator-id", secret="emulator-secret", token=None, proxy=None, endpoint=None):
        from aliyunsdkcore.auth.credentials import AccessKeyCredential, StsTokenCredential
        from aliyunsdkcore.client import AcsClient
        from aliyunsdkcore.http import protocol_type
        credential = StsTokenCredential(key, secret, token) if token else AccessKeyCredential(key, secret)
        self.client = AcsClient(region_id="cn-hangzhou", credential=credential, auto_retry=False,
                                proxy={"http": proxy} if proxy else None, verify=os.environ.get("REQUESTS_CA_BUNDLE"))
        protocol, _, address = url.partition("://")
        # The library compares it with `is`.
        self.protocol = {"http": protocol_type.HTTP, "https": protocol_type.HTTPS}[protocol]
        self.endpoint = endpoint or address

    def call(self, action, given=None, version="2014-05-26"):
        given = dict(given or {})
        if version == "2014-05-26":
            module = importlib.import_module(f"aliyunsdkecs.request.v20140526.{action}Request")
            request = getattr(module, action + "Request")()
        else:
            from aliyunsdkcore.request import CommonRequest
            request = CommonRequest(self.endpoint, version, action)
        request.set_endpoint(self.endpoint)
        request.set_protocol_type(self.protocol)
        request.set_accept_format("json")
        for name, value in given.items():
            setter = next((getattr(request, found) for found in (f"set_{name}", f"set_{name}s") if hasattr(request, found)), None)
            if setter:
                setter(value)
            else:
                request.add_query_param(name, value)
        return json.loads(self.client.do_action_with_exception(request))


class Acs3:
    """alibabacloud-ecs20140526 on tea-openapi: signature ACS3."""

    name = "ecs20140526 ACS3"

    def __init__(self, url, key="emulator-id", secret="emulator-secret", token=None, proxy=None, endpoint=None):
        from alibabacloud_ecs20140526.client import Client
        from alibabacloud_tea_openapi.utils_models import Config
        protocol, _, address = url.partition("://")
        self.config = Config(access_key_id=key, access_key_secret=secret, security_token=token,
                             endpoint=endpoint or address, protocol=protocol,
                             region_id="cn-hangzhou", http_proxy=proxy)
        self.client = Client(self.config)

    def call(self, action, given=None, version="2014-05-26"):
        given = dict(given or {})
        if version == "2014-05-26":
            from alibabacloud_ecs20140526 import models
            given.setdefault("RegionId", "cn-hangzhou")
            request = getattr(models, action + "Request")().from_map(given)
            method = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", action).lower()
            return getattr(self.client, method)(request).body.to_map()
        from alibabacloud_tea_openapi.client import Client
        from alibabacloud_tea_openapi.utils_models import OpenApiRequest, Params
        from darabonba.runtime import RuntimeOptions
        params = Params(action=action, version=version, protocol=self.config.protocol.upper(), pathname="/", method="POST", auth_type="AK",
                        style="RPC", req_body_type="formData", body_type="json")
        return Client(self.config).call_api(params, OpenApiRequest(query={name: str(value) for name, value in given.items()}), RuntimeOptions())["body"]
