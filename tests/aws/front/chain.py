"""Hands out temporary credentials of the role `builder` as an instance, a container, the portal of SSO, and STS do.

`/_credentials/ACCOUNT` is the endpoint of the metadata service of an instance (version 2: with a token), and
`/_credentials/ACCOUNT/container` that of a container. The portal is found by its own path.
"""

import datetime
import json
import urllib.parse

import control

# Token of the metadata service, and what a container, SSO, and a client with another identity must send.
INSTANCE_TOKEN, CONTAINER_TOKEN, PORTAL_TOKEN, WEB_TOKEN = "of-the-instance", "of-the-container", "of-the-portal", "of-the-web"
ROLES = "latest/meta-data/iam/security-credentials"


def time(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def answer(world, method, path, query, headers, body):
    """Status and body of a request; None: it is none of these."""
    if path == "/federation/credentials":
        given = dict(urllib.parse.parse_qsl(query))
        if headers.get("x-amz-sso_bearer_token") != PORTAL_TOKEN or given.get("account_id") not in world.accounts or given.get("role_name") != "builder":
            return 401, json.dumps({"__type": "UnauthorizedException", "message": "Session token not found or invalid"})
        made = control.session(world, {"account": given["account_id"]})
        return 200, json.dumps({"roleCredentials": {"accessKeyId": made["id"], "secretAccessKey": made["secret"], "sessionToken": made["token"],
                                                    "expiration": int(made["expires"] * 1000)}})
    if b"Action=AssumeRoleWithWebIdentity" in body and "authorization" not in headers:
        return web_identity(world, dict(urllib.parse.parse_qsl(body.decode())))
    if not path.startswith("/_credentials/"):
        return None
    account, _, rest = path[len("/_credentials/"):].partition("/")
    if account not in world.accounts:
        return 404, "unknown account"
    made = lambda: control.session(world, {"account": account})
    if rest == "container":
        if headers.get("authorization") != CONTAINER_TOKEN:
            return 401, "{}"
        return 200, json.dumps(members(made()))
    if rest == "latest/api/token":
        seconds = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        return (200, INSTANCE_TOKEN) if method == "PUT" and seconds.isdigit() and 1 <= int(seconds) <= 21600 else (400, "")
    if headers.get("x-aws-ec2-metadata-token") != INSTANCE_TOKEN:
        return 401, ""
    if rest.rstrip("/") == ROLES:
        return 200, "builder"
    if rest == f"{ROLES}/builder":
        return 200, json.dumps({"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time(datetime.datetime.now().timestamp()), **members(made())})
    return 404, ""


def web_identity(world, given):
    """What STS answers to a token of another identity provider; the request has no signature."""
    account = given.get("RoleArn", "").split(":")[4:5]
    if given.get("WebIdentityToken") != WEB_TOKEN or account[0] not in world.accounts or not given["RoleArn"].endswith(":role/builder"):
        return 400, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>No OpenIDConnect provider found</Message></Error></ErrorResponse>"
    made = control.session(world, {"account": account[0], "name": given["RoleSessionName"]})
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in (("AccessKeyId", made["id"]), ("SecretAccessKey", made["secret"]),
                                                                  ("SessionToken", made["token"]), ("Expiration", time(made["expires"]))))
    return 200, (f'<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>'
                 f"<Credentials>{inner}</Credentials><AssumedRoleUser><AssumedRoleId>AROA:{given['RoleSessionName']}</AssumedRoleId>"
                 f"<Arn>arn:aws:sts::{account[0]}:assumed-role/builder/{given['RoleSessionName']}</Arn></AssumedRoleUser>"
                 f"</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>")


def members(made):
    return {"AccessKeyId": made["id"], "SecretAccessKey": made["secret"], "Token": made["token"], "Expiration": time(made["expires"])}
