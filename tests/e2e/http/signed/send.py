# Sends a body in pieces that are signed with nothing.
import hashlib
import http.client
import ssl
import sys

port, ca, kind, size, piece = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
body = bytes(range(251)) * (size // 251 + 1)
body = body[:size]
framed = b""
for at in [*range(0, size, piece), size]:
    part = body[at : at + piece]
    framed += f"{len(part):x};chunk-signature={'0' * 64}\r\n".encode() + part
    if part or kind != "trailer":
        framed += b"\r\n"
if kind == "trailer":
    framed += b"x-amz-checksum-crc32c:AAAAAA==\r\nx-amz-trailer-signature:" + b"0" * 64 + b"\r\n\r\n"
if kind == "cut":
    framed = framed[:-1] + b"x"
end = "-TRAILER" if kind == "trailer" else ""
headers = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDOWN/20150830/us-east-1/s3/aws4_request, SignedHeaders=host, Signature="
    + "0" * 64,
    "X-Amz-Date": "20150830T123600Z",
    "X-Amz-Content-Sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + end,
    "X-Amz-Decoded-Content-Length": str(size),
    "Content-Encoding": "aws-chunked",
    "Content-Length": str(len(framed)),
}
if end:
    headers["X-Amz-Trailer"] = "x-amz-checksum-crc32c"
if kind == "asymmetric":
    headers["X-Amz-Content-Sha256"] = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection("localhost", port, context=context)
# Of what is refused at its first line no more is sent: it would meet a closed connection.
connection.request("PUT", "/bucket/key", framed[:1000] if kind == "long" else framed, headers)
answer = connection.getresponse()
print(answer.status, answer.read().decode())
print("expected", hashlib.sha256(body).hexdigest(), size)
