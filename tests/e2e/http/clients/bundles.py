"""Clients of HTTP with the bundles that they find by themselves, each its own."""
import ssl
import subprocess
import sys
import urllib.request

import botocore.awsrequest
import botocore.httpsession
import certifi
import httpx
import requests

url = sys.argv[1]


def says(client, ask):
    try:
        print(client, "Ann" in ask())
    except Exception as error:
        print(client, type(error).__name__)


says("urllib", lambda: urllib.request.urlopen(url, timeout=30).read().decode())
says("requests", lambda: requests.get(url, timeout=30).text)
says("httpx", lambda: httpx.get(url, verify=ssl.create_default_context(cafile=certifi.where()), timeout=30).text)
says(
    "botocore",
    lambda: botocore.httpsession.URLLib3Session()
    .send(botocore.awsrequest.AWSPreparedRequest("GET", url, {}, None, False))
    .text,
)
says("curl", lambda: subprocess.run(["curl", "-sS", "-4", url], capture_output=True, text=True, check=True).stdout)
