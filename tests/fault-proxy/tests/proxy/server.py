"""An HTTP/1.1 server made of Python's own parts: stores what is PUT, answers with bytes that follow from their place,
and counts what it has done. Prints its port. With a certificate and a key as arguments it serves HTTPS."""

import hashlib
import http.server
import json
import ssl
import sys

DONE = {}


def content(length):
    return bytes(index * 7 % 251 for index in range(length))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        DONE[self.path] = DONE.get(self.path, 0) + 1
        kind, _, number = self.path.strip("/").partition("/")
        if kind == "done":
            self.answer(json.dumps(DONE).encode())
        elif kind == "bytes":
            self.answer(content(int(number)))
        elif kind == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            body = content(int(number))
            for start in range(0, len(body), 1000):
                piece = body[start : start + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(b"no such path", 404)

    do_HEAD = do_GET

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def pieces(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            yield from self.chunks()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 1 << 16))
            if not piece:
                raise ConnectionError("the request's body broke off")
            left -= len(piece)
            yield piece

    def do_PUT(self):
        digest, length = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            length += len(piece)
        DONE[self.path] = DONE.get(self.path, 0) + 1
        expect = self.headers.get("Expect", "")
        self.answer(json.dumps({"length": length, "sha256": digest.hexdigest(), "expect": expect}).encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Handler)
if sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
