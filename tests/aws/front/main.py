"""Serves one address for all services of AWS: checks every request and answer, answers what moto loses, and passes the
rest to moto.

    main.py DIRECTORY

Prints one line of JSON that describes the server, then serves until standard input ends. `/_front/…` is for tests: accounts,
rules, requests, and mismatches; see README.md.
"""

import fnmatch
import io
import json
import os
import sys
import threading
import traceback

# moto reads these when it is imported: it checks every signature and policy, too.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app  # noqa: E402
from moto.s3 import responses as moto_s3  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

import chain  # noqa: E402
import control  # noqa: E402
import ebs  # noqa: E402
import errors  # noqa: E402
import images  # noqa: E402
import imports  # noqa: E402
import objects  # noqa: E402
import quotas  # noqa: E402
import sign  # noqa: E402
import snapshots  # noqa: E402
import wire  # noqa: E402
from errors import Refused, caused  # noqa: E402
from state import OPT_IN, REGIONS, Call, World  # noqa: E402

# What the front answers; all else is moto's.
OPERATIONS = {"ebs": ebs.OPERATIONS, "servicequotas": quotas.OPERATIONS, "ec2": {**images.OPERATIONS, **snapshots.OPERATIONS, **imports.OPERATIONS}}
# Permissions that have another name than their operation: of S3, as its reference lists them.
ACTIONS = {"s3:HeadBucket": "s3:ListBucket", "s3:ListObjectsV2": "s3:ListBucket", "s3:ListObjects": "s3:ListBucket",
           "s3:CreateMultipartUpload": "s3:PutObject", "s3:UploadPart": "s3:PutObject", "s3:CompleteMultipartUpload": "s3:PutObject",
           "s3:HeadObject": "s3:GetObject", "s3:ListParts": "s3:ListMultipartUploadParts", "s3:DeleteObjects": "s3:DeleteObject",
           "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads", "s3:ListBuckets": "s3:ListAllMyBuckets"}
# moto has no permission of this name, and neither has the vendor.
moto_s3.ACTION_MAP["BUCKET"]["HEAD"]["DEFAULT"] = "ListBucket"
# Regions of services without regions.
GLOBAL = {"iam"}


class Answer:
    """An answer to a request, which may be an error."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class Front:
    """The application behind the address."""

    def __init__(self, world):
        self.world, self.moto = world, DomainDispatcherApplication(create_backend_app)

    def answer(self, environ):
        path, _, query = environ["RAW_URI"].partition("?")
        chunked = environ.get("wsgi.input_terminated")
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(*() if chunked else (length,))
        if not chunked and len(body) != length:
            raise ConnectionResetError("the body ends early")
        if path.startswith("/_front/"):
            status, value = control.answer(self.world, environ["REQUEST_METHOD"], path[len("/_front/"):], query, body)
            return Answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())
        handed = chain.answer(self.world, environ["REQUEST_METHOD"], path, query, environ["front.headers"], body)
        if handed is not None:
            return Answer(handed[0], {"Content-Type": "application/json", "x-aws-ec2-metadata-token-ttl-seconds": "21600"}, handed[1].encode())
        return self.serve(environ, path, query, body)

    def serve(self, environ, path, query, body):
        headers = environ["front.headers"]
        scope = sign.Scope(headers)
        if scope.service is None:
            return Answer(*errors.write("ec2", "ec2", caused("unsigned", "ec2", "ec2")))
        model = wire.model_of(scope.service)
        protocol = model.resolved_protocol if model else "json"
        account = self.world.accounts.get(sign.account_of(scope.key, list(self.world.accounts)))
        record = {"service": scope.service, "region": scope.region, "operation": None, "key": scope.key, "status": None, "code": None}
        try:
            answer = self.judge(environ, scope, account, protocol, record, (path, query, headers, body))
        except Refused as error:
            record["code"] = error.code
            answer = Answer(*errors.write(scope.service, protocol, error))
        except Exception:  # A defect of the front itself; a test must see it.
            text = traceback.format_exc()
            print(text, file=sys.stderr, flush=True)
            self.mismatch(account, record, text)
            answer = Answer(500, {"Content-Type": "text/plain"}, text.encode())
        record["status"] = answer.status
        if account is not None:
            account.served(record)
        return answer

    def mismatch(self, account, record, text):
        entry = {"service": record["service"], "operation": record["operation"], "text": text}
        (account.mismatches if account is not None else control.STRAY).append(entry)

    def judge(self, environ, scope, account, protocol, record, request):
        path, query, headers, body = request
        method, service = environ["REQUEST_METHOD"], scope.service
        if account is None:
            raise caused("unknown key", service, protocol)
        try:
            read = wire.read(service, method, path, query, headers, wire_body(headers, body))
        except wire.Mismatch as error:
            self.mismatch(account, record, str(error))
            raise caused("mismatch", service, protocol, str(error)) from None
        operation = record["operation"] = read.operation.name
        if "BlockIndex" in read.parameters:
            record["block"] = read.parameters["BlockIndex"]
        with self.world.lock:
            struck = [rule for rule in account.rules if rule.strikes(service, operation, scope.region, scope.key)]
            if any(rule.members.get("expire") for rule in struck):
                account.expired.add(scope.key)
        for rule in struck:
            if "until" in rule.members:
                account.wait_for_another(rule.members["until"])
        before = next((rule for rule in struck if not {"after", "expire", "until"} & rule.members.keys()), None)
        if before is not None:
            raise before.error(service, protocol)
        owner = sign.owner(account.id, scope, headers, service, protocol)
        if scope.key in account.expired:
            raise caused("expired", service, protocol)
        url = f"http://{headers['host']}{path}" + (f"?{query}" if query else "")
        unsigned = service == "s3" or read.operation.auth_type == "v4-unsigned-body"
        sign.check_signature(owner, scope, method, url, headers, body, protocol, unsigned)
        action = f"{service}:{operation}"
        sign.check_permission(owner, service, protocol, ACTIONS.get(action, action))
        if scope.region not in REGIONS + OPT_IN and service not in GLOBAL:
            raise caused("unknown key", service, protocol, f"there is no region {scope.region}")
        if scope.region in OPT_IN:
            # A region that the account has not enabled knows none of its keys.
            raise caused("unknown key", service, protocol)
        if service == "s3":
            objects.check_body(headers, body)
            objects.check_upload(account, read.parameters)
            listed = objects.listed(account, operation, read.parameters)
            if listed is not None:
                answer = Answer(200, {"Content-Type": "application/xml"}, listed)
                wire.check_answer(read.operation, answer.status, answer.headers, answer.body)
                return answer
        handler = OPERATIONS.get(service, {}).get(operation)
        if handler is not None:
            value = handler(Call(self.world, account, scope.region, read.operation, read.parameters))
            answer = Answer(*wire.write(read.operation, value))
        else:
            if service == "ec2" and fnmatch.fnmatch(operation, "*Image*"):
                self.mismatch(account, record, f"{operation} is not supported by the front")
            answer = self.forward(environ, body)
            if operation == "CreateMultipartUpload":
                objects.noted(account)
        if answer.status < 300:
            try:
                wire.check_answer(read.operation, answer.status, answer.headers, answer.body)
            except wire.Mismatch as error:
                self.mismatch(account, record, str(error))
                raise caused("mismatch", service, protocol, str(error)) from None
        after = [rule for rule in struck if rule.members.get("after")]
        if after:
            raise after[0].error(service, protocol)
        return answer

    def forward(self, environ, body):
        """The answer of moto to the request as it came."""
        environ = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        environ.pop("wsgi.input_terminated", None)
        kept = {}

        def start(status, headers, *_):
            kept.update(status=int(status.split()[0]), headers=dict(headers))

        parts = self.moto.get_application(environ)(environ, start)
        try:
            return Answer(kept["status"], kept["headers"], b"".join(parts))
        finally:
            getattr(parts, "close", lambda: None)()


def wire_body(headers, body):
    """The content of a body that is signed in chunks is not looked at."""
    return b"" if headers.get("x-amz-content-sha256", "").startswith(sign.STREAMING) else body


class Handler(MotoRequestHandler):
    """Keeps connections, as the services do: every body is read before its answer."""

    protocol_version = "HTTP/1.1"
    # Answers are short; without this they wait for the acknowledgement of others.
    disable_nagle_algorithm = True

    def run_wsgi(self):
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.app.answer({**self.make_environ(), "front.headers": headers})
        self.send_response(answer.status)
        # An answer to HEAD has the length of what GET would have.
        size = answer.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(answer.body))
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(answer.body if self.command != "HEAD" else b"")

    def log_request(self, *_):
        pass


def main():
    directory = sys.argv[1]
    world = World(directory)
    server = make_server("127.0.0.1", 0, Front(world), threaded=True, request_handler=Handler)
    server.daemon_threads = True
    url = f"http://127.0.0.1:{server.server_port}"
    print(json.dumps({"url": url, "regions": REGIONS, "region": REGIONS[0], "opt_in_region": OPT_IN[0], **control.new_account(world, {})}), flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # `serve` holds the other end, however it ends.
    sys.stdin.read()


main()
