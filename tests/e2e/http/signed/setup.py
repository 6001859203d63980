# Makes a user, its key and what it may do, while the server asks for no signature yet; prints the key.
import json
import sys

import boto3

url, ca = sys.argv[1:]
iam = boto3.client(
    "iam", endpoint_url=url, verify=ca, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y"
)
iam.create_user(UserName="agents")
key = iam.create_access_key(UserName="agents")["AccessKey"]
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="agents", PolicyName="all", PolicyDocument=json.dumps(everything))
print(key["AccessKeyId"], key["SecretAccessKey"])
