# A server with a scheme of its own: it holds each request against its signature, its time and its nonce.
import base64
import hashlib
import hmac
import http.server
import sys
import time

PORT, KEY = int(sys.argv[1]), sys.argv[2].encode()
seen = set()


class Scheme(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        said, nonce = self.headers["X-Time"], self.headers["X-Nonce"]
        hashed = base64.b64encode(hashlib.sha512(body).digest()).decode()
        signed = f"{self.command}\n{self.headers['Host']}\n{self.path}\n{said}\n{nonce}\n{self.headers['Content-Type'] or ''}\n{hashed}"
        signature = base64.b64encode(hmac.new(KEY, signed.encode(), hashlib.sha512).digest()).decode()
        wrong = [
            why
            for why, is_it in {
                "signature": self.headers.get_all("Authorization") != [f"Own id=agents,signature={signature}"],
                "time": abs(time.time() * 1000 - int(said)) > 60_000,
                "nonce": nonce in seen,
            }.items()
            if is_it
        ]
        seen.add(nonce)
        answer = (" ".join(["wrong", *wrong]) if wrong else f"good {hashlib.sha256(body).hexdigest()}").encode()
        self.send_response(403 if wrong else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Scheme)
print("listening", flush=True)
server.serve_forever()
