"""A server of shop.proto, which it compiles. usage: grpc_shop_server.py PORT CERTIFICATE KEY DIRECTORY LOG"""
import importlib
import json
import pathlib
import sys
from concurrent import futures

import grpc
from google.protobuf import json_format
from grpc_tools import protoc

port, certificate, key, directory, log = sys.argv[1:]
home, tools = pathlib.Path(__file__).resolve().parent, pathlib.Path(protoc.__file__).resolve().parent
done = protoc.main(
    ["protoc", f"-I{home}", f"-I{tools / '_proto'}", f"--python_out={directory}", "--include_imports"]
    + [f"--descriptor_set_out={directory}/shop.binpb", "shop.proto"]
)
assert done == 0, done
sys.path.insert(0, directory)
shop = importlib.import_module("shop_pb2")


def arrived(message):
    """Writes down what came."""
    with open(log, "a", encoding="utf8") as lines:
        lines.write(json.dumps(json_format.MessageToDict(message)) + "\n")


def customer():
    ann = shop.Customer(name="Ann", email="ann@example.com", card=4111111111111111, phones=["555-1234", "555-9876"])
    ann.labels["ssn"] = "078-05-1120"
    ann.labels["tier"] = "gold"
    ann.address.street, ann.address.ssn = "Main St", "078-05-1120"
    ann.extra.update({"ssn": "078-05-1120", "list": [{"ssn": "078-05-1120", "n": 1}]})
    ann.detail.Pack(shop.Address(street="Side St", ssn="078-05-1120"))
    ann.office.ssn = "078-05-1120"
    return ann


def get(query, context):
    arrived(query)
    if query.text == "status":
        context.abort(grpc.StatusCode.NOT_FOUND, "no customer ann@example.com")
    if query.text == "later":
        # A field that the daemon's descriptors do not have.
        return shop.Page().SerializeToString() + b"\x0a\x0d\xea\x04\x0aP123456789"
    if query.text == "credential":
        # What is short is not compressed.
        context.set_compression(grpc.Compression.Gzip)
        seen = dict(context.invocation_metadata()).get("authorization", "none")
        return shop.Page(asked=seen + " " * 2000).SerializeToString()
    if query.text == "compressed":
        context.set_compression(grpc.Compression.Gzip)
    return shop.Page(customers=[customer()], asked=query.text).SerializeToString()


def watch(query, _context):
    for number in range(query.count):
        yield shop.Page(customers=[customer()], asked=str(number)).SerializeToString()


def add(customers, _context):
    page = shop.Page()
    for one in customers:
        arrived(one)
        page.customers.add().CopyFrom(one)
    return page.SerializeToString()


def talk(queries, _context):
    for query in queries:
        yield shop.Page(customers=[customer()], asked=query.text).SerializeToString()


def bytes_of(made, kind):
    handler = {
        "Get": grpc.unary_unary_rpc_method_handler,
        "Watch": grpc.unary_stream_rpc_method_handler,
        "Add": grpc.stream_unary_rpc_method_handler,
        "Talk": grpc.stream_stream_rpc_method_handler,
    }[kind]
    asked = shop.Customer if kind == "Add" else shop.Query
    return handler(made, request_deserializer=asked.FromString)


handlers = {kind: bytes_of(made, kind) for kind, made in (("Get", get), ("Watch", watch), ("Add", add), ("Talk", talk))}
# The same under a name that no descriptor has.
handlers["Unknown"] = bytes_of(get, "Get")
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Customers", handlers)])
with open(certificate, "rb") as shown, open(key, "rb") as secret:
    credentials = grpc.ssl_server_credentials([(secret.read(), shown.read())])
server.add_secure_port(f"127.0.0.1:{port}", credentials)
server.start()
print("listening", flush=True)
server.wait_for_termination()
