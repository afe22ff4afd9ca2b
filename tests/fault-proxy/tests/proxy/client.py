"""Requests made with Python's http.client: `client.py URL CA REQUESTS`, where REQUESTS is a JSON list of
[METHOD, PATH, BODY_BYTES, HEADERS]. All go over one connection as long as it lives. Prints one JSON list with what came
of each: status, headers, length and digest of the body, seconds, or the name of the exception."""

import hashlib
import http.client
import json
import ssl
import sys
import time
import urllib.parse

url, ca, requests = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
context = ssl.create_default_context(cafile=ca) if url.scheme == "https" else None


def connect():
    if context:
        return http.client.HTTPSConnection("localhost", url.port, timeout=5, context=context)
    return http.client.HTTPConnection("localhost", url.port, timeout=5)


results, connection = [], connect()
for method, path, size, headers in requests:
    begun = time.monotonic()
    try:
        connection.request(method, path, b"x" * size if size else None, headers)
        opened = connection.sock.getsockname()[1] if connection.sock else None
        answer = connection.getresponse()
        body = answer.read()
        result = {
            "status": answer.status,
            "headers": {name.lower(): value for name, value in answer.getheaders()},
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "text": body[:300].decode("latin-1"),
            "port": opened,
        }
    except Exception as error:
        result = {"exception": type(error).__name__}
        connection.close()
        connection = connect()
    result["seconds"] = time.monotonic() - begun
    results.append(result)
print(json.dumps(results))
