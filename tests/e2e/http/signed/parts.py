# What agents are told who ask for parts of what is masked.
import io
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

url, ca = sys.argv[1:]
config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
s3 = boto3.client("s3", endpoint_url=url, verify=ca, region_name="us-east-1", config=config)
s3.create_bucket(Bucket="bucket")
s3.put_object(Bucket="bucket", Key="text", Body=b"words " * 100, ContentType="text/plain")
print("whole", s3.get_object(Bucket="bucket", Key="text")["ResponseMetadata"]["HTTPStatusCode"])
parts = TransferConfig(multipart_threshold=100, multipart_chunksize=100)
ways = {
    "part": lambda: s3.get_object(Bucket="bucket", Key="text", Range="bytes=1-2"),
    "download": lambda: s3.download_fileobj("bucket", "text", io.BytesIO(), Config=parts),
}
for name, way in ways.items():
    try:
        print(name, way())
    except ClientError as error:
        print(name, error.response["ResponseMetadata"]["HTTPStatusCode"])
