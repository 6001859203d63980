"""A server of gRPC in all its ways: bytes in, bytes out. usage: grpc_server.py PORT CERTIFICATE KEY"""
import sys
from concurrent import futures

import grpc

port, certificate, key = sys.argv[1:]


def one(request, context):
    if request == b"nothing":
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")
    if request == b"late":
        # Until its client has given up.
        while context.is_active() and context.time_remaining() > 0:
            pass
    context.set_trailing_metadata([("x-trailer", "kept")])
    if request == b"credential":
        shown = dict(context.invocation_metadata()).get("authorization", "none")
        return shown.encode()
    return request


def many(request, _context):
    for number in range(int(request)):
        yield str(number).encode()


def taken(requests, _context):
    return str(sum(len(request) for request in requests)).encode()


def both(requests, _context):
    yield from requests


handlers = {
    "One": grpc.unary_unary_rpc_method_handler(one),
    "Many": grpc.unary_stream_rpc_method_handler(many),
    "Taken": grpc.stream_unary_rpc_method_handler(taken),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers(
    [grpc.method_handlers_generic_handler(name, handlers) for name in ("shop.Echo", "shop.Admin")]
)
with open(certificate, "rb") as shown, open(key, "rb") as secret:
    credentials = grpc.ssl_server_credentials([(secret.read(), shown.read())])
server.add_secure_port(f"127.0.0.1:{port}", credentials)
server.start()
print("listening", flush=True)
server.wait_for_termination()
