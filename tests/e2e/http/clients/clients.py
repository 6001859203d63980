"""Stock clients of HTTP for Python, one after the other: each says what it was answered."""
import asyncio
import ssl
import sys

import aiohttp
import httpx
import requests
import urllib3
import websockets

base, ca = sys.argv[1], sys.argv[2]
url = base + "/v1/customers"


def trust():
    """One for each client: httpx says in it what it speaks."""
    return ssl.create_default_context(cafile=ca)


def says(client, status, text):
    print(client, status, "Ann" in text)


with requests.Session() as session:
    session.verify = ca
    for _ in range(2):
        answer = session.get(url, timeout=30)
    says("requests", answer.status_code, answer.text)
    answer = session.post(base + "/v1/orders", data=iter([b"a" * 70000, b"b"]), timeout=30)
    print("requests streams", answer.text.strip())

pool = urllib3.PoolManager(ca_certs=ca)
answer = pool.request("GET", url)
says("urllib3", answer.status, answer.data.decode())

for name, two in [("httpx", False), ("httpx 2", True)]:
    with httpx.Client(verify=trust(), http2=two) as client:
        answer = client.get(url)
        says(name, answer.status_code, answer.text)
        with client.stream("GET", base + "/v1/events") as stream:
            print(name, "events", sum(line.startswith("data:") for line in stream.iter_lines()))


async def others():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust())) as session:
        async with session.get(url) as answer:
            says("aiohttp", answer.status, await answer.text())
        async with session.ws_connect(base + "/v1/socket") as socket:
            await socket.send_str("hello")
            print("aiohttp socket", await socket.receive_str())
    async with websockets.connect("wss" + base[5:] + "/v1/socket", ssl=trust()) as socket:
        await socket.send("hello")
        print("websockets", await socket.recv())
    async with httpx.AsyncClient(verify=trust(), http2=True) as client:
        many = await asyncio.gather(*[client.get(url) for _ in range(20)])
        print("httpx at once", sum(answer.status_code == 200 for answer in many))


asyncio.run(others())
