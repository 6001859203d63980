# What agents do with S3, signed with a key that opens nothing.
import io
import ssl
import sys
import tempfile
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

url, ca = sys.argv[1:]


def client(version=None, **settings):
    config = Config(
        s3={"addressing_style": "path", **settings}, retries={"max_attempts": 0}, signature_version=version
    )
    return boto3.client("s3", endpoint_url=url, verify=ca, region_name="us-east-1", config=config)


s3 = client()
s3.create_bucket(Bucket="bucket")
keys = ["plain", "a b/c+d=é:(x)~*.txt", "100%", "q?x=1&y"]
for key in keys:
    s3.put_object(Bucket="bucket", Key=key, Body=key.encode(), Metadata={"words": "two  words"})
    got = s3.get_object(Bucket="bucket", Key=key)
    assert got["Body"].read() == key.encode(), key
listed = s3.list_objects_v2(Bucket="bucket", Prefix="a b/c+", Delimiter="/")
assert [one["Key"] for one in listed["Contents"]] == [keys[1]], listed
s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": keys[1]})
print("keys")

# Longer than anything that is read to be judged: in pieces that nobody signs, signed as a whole, and in parts.
large = bytes(range(256)) * (3 << 12)
with tempfile.TemporaryFile() as file:
    file.write(large)
    file.seek(0)
    s3.put_object(Bucket="bucket", Key="pieces", Body=file)
client(payload_signing_enabled=True).put_object(Bucket="bucket", Key="whole", Body=large)
parts = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=5 << 20, max_concurrency=3)
s3.upload_fileobj(io.BytesIO(large * 4), "bucket", "parts", Config=parts)
for key, expected in [("pieces", large), ("whole", large), ("parts", large * 4)]:
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == expected, key
# What is longer than 8 MiB is fetched in parts, each written to its place.
got = io.BytesIO()
s3.download_fileobj("bucket", "parts", got, Config=TransferConfig(multipart_chunksize=5 << 20, max_concurrency=3))
assert got.getvalue() == large * 4, len(got.getvalue())
part = s3.get_object(Bucket="bucket", Key="whole", Range="bytes=-7")
assert (part["ResponseMetadata"]["HTTPStatusCode"], part["Body"].read()) == (206, large[-7:]), part
print("bodies")

context = ssl.create_default_context(cafile=ca)
put = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "by hand +1"})
plain = {"Content-Type": "text/plain"}
with urllib.request.urlopen(urllib.request.Request(put, b"presigned", plain, method="PUT"), context=context):
    pass
# The first was signed as boto3 does where nobody says more, which is the scheme before.
get = client("s3v4").generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "by hand +1"})
with urllib.request.urlopen(get, context=context) as answer:
    assert answer.read() == b"presigned"
print("presigned")
s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": key} for key in keys]})
print("deleted")
