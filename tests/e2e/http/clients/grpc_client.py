"""The stock client of gRPC in all its ways. usage: grpc_client.py HOST:PORT AUTHORITY"""
import sys

import grpc

place, ca = sys.argv[1:]
with open(ca, "rb") as trusted:
    channel = grpc.secure_channel(place, grpc.ssl_channel_credentials(trusted.read()))
one = channel.unary_unary("/shop.Echo/One")
print("one", one(b"hello", timeout=30).decode())
print("many", len(list(channel.unary_stream("/shop.Echo/Many")(b"5", timeout=30))))
pieces = (b"x" * 1000000 for _ in range(5))
print("taken", channel.stream_unary("/shop.Echo/Taken")(pieces, timeout=30).decode())


def conversation():
    """Each word is sent once the one before it has come back."""
    for word in (b"a", b"b", b"c"):
        yield word
        while len(heard) < b"abc".index(word) + 1:
            pass


heard = []
for word in channel.stream_stream("/shop.Echo/Both")(conversation(), timeout=30):
    heard.append(word.decode())
print("both", *heard)
print("credential", one(b"credential", timeout=30).decode())
_answer, call = one.with_call(b"hello", timeout=30)
print("trailer", dict(call.trailing_metadata()).get("x-trailer"))
for word, request, ask, seconds in [
    ("status", b"nothing", one, 30),
    ("late", b"late", one, 1),
    ("refused", b"hello", channel.unary_unary("/shop.Admin/One"), 30),
]:
    try:
        print(word, "answered", ask(request, timeout=seconds))
    except grpc.RpcError as error:
        said = [] if word == "late" else [error.details()]
        print(word, error.code().name, *said)
