# A server that holds each piece of a body against its signature, as S3 does; and who sends such a body.
import hashlib
import hmac
import http.server
import ssl
import sys

PORT, CERTIFICATE, KEY, SECRET = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256)


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        try:
            said, status = self.check(), 200
        except Exception as error:
            said, status = f"{type(error).__name__}: {error}", 403
        self.close_connection = status != 200
        said = said.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def check(self):
        fields = dict(part.strip().split("=", 1) for part in self.headers["Authorization"].split(" ", 1)[1].split(","))
        id, *scope = fields["Credential"].split("/")
        assert id == "AKIDUPSTREAM", id
        names = fields["SignedHeaders"].split(";")
        assert {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length"} <= set(names), names
        headers = "".join(f"{name}:{' '.join(self.headers[name].split())}\n" for name in names)
        path, _, query = self.path.partition("?")
        payload, date = self.headers["x-amz-content-sha256"], self.headers["x-amz-date"]
        canonical = "\n".join([self.command, path, query, headers, ";".join(names), payload])
        key = ("AWS4" + SECRET).encode()
        for part in scope:
            key = sign(key, part).digest()
        of = f"{date}\n{'/'.join(scope)}"
        before = sign(key, f"AWS4-HMAC-SHA256\n{of}\n{digest(canonical.encode())}").hexdigest()
        assert before == fields["Signature"], "the head's signature"
        body = b""
        while True:
            size, _, given = self.rfile.readline().decode().strip().partition(";chunk-signature=")
            piece = self.rfile.read(int(size, 16))
            before = sign(
                key, f"AWS4-HMAC-SHA256-PAYLOAD\n{of}\n{before}\n{digest(b'')}\n{digest(piece)}"
            ).hexdigest()
            assert before == given, f"the signature of a piece of {len(piece)}"
            body += piece
            if not piece and payload.endswith("-TRAILER"):
                break
            assert self.rfile.readline() == b"\r\n"
            if not piece:
                break
        if payload.endswith("-TRAILER"):
            trailers = ""
            while (line := self.rfile.readline().decode().strip()) and not line.startswith("x-amz-trailer-signature:"):
                trailers += line + "\n"
            signed = sign(key, f"AWS4-HMAC-SHA256-TRAILER\n{of}\n{before}\n{digest(trailers.encode())}").hexdigest()
            assert line == f"x-amz-trailer-signature:{signed}", "the trailers' signature"
            assert self.rfile.readline() == b"\r\n"
        assert len(body) == int(self.headers["x-amz-decoded-content-length"])
        return f"{digest(body)} {len(body)}"


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Store)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CERTIFICATE, KEY)
server.socket = tls.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
