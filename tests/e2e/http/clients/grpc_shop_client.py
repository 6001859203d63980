"""The stock client of gRPC with the messages that its server has made. usage: … HOST:PORT AUTHORITY DIRECTORY WHAT…"""
import importlib
import json
import sys

import grpc
from google.protobuf import json_format

place, ca, directory, *asked = sys.argv[1:]
sys.path.insert(0, directory)
shop = importlib.import_module("shop_pb2")
with open(ca, "rb") as trusted:
    channel = grpc.secure_channel(place, grpc.ssl_channel_credentials(trusted.read()))
ways = {"Get": channel.unary_unary, "Unknown": channel.unary_unary, "Watch": channel.unary_stream}
ways |= {"Add": channel.stream_unary, "Talk": channel.stream_stream}


def procedure(name):
    kind = shop.Customer if name == "Add" else shop.Query
    call = ways[name](
        f"/shop.Customers/{name}", request_serializer=kind.SerializeToString, response_deserializer=shop.Page.FromString
    )
    return call


def told(name, page):
    print(name, json.dumps(json_format.MessageToDict(page), sort_keys=True), flush=True)


def conversation(heard):
    """Each word is sent once the one before it has come back."""
    for number, word in enumerate(("a", "b")):
        yield shop.Query(text=word)
        while len(heard) <= number:
            pass


for what in asked:
    name, _, said = what.partition(":")
    packed = grpc.Compression.Gzip if said.startswith("packed") else None
    try:
        call = procedure(name)
        if name == "Watch":
            for page in call(shop.Query(count=int(said)), timeout=30):
                told(name, page)
        elif name == "Talk":
            heard = []
            for page in call(conversation(heard), timeout=30):
                heard.append(page)
                told(name, page)
        elif name == "Add":
            sent = (shop.Customer(name=word, email=word) for word in said.split(","))
            told(name, call(sent, timeout=30, compression=packed))
        else:
            # What is short is not compressed.
            text = said + " " * (2000 if packed else 0)
            told(name, call(shop.Query(text=text), timeout=30, compression=packed))
    except grpc.RpcError as error:
        print(name, "failed", error.code().name, error.details(), flush=True)
