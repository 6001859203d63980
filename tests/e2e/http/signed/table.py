# What agents do with a service whose clients say nothing of the body but in the signature.
import sys

import boto3

url, ca = sys.argv[1:]
database = boto3.client("dynamodb", endpoint_url=url, verify=ca, region_name="us-east-1")
database.create_table(
    TableName="things",
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    BillingMode="PAY_PER_REQUEST",
)
long = "ü" * 100_000
database.put_item(TableName="things", Item={"id": {"S": "1"}, "said": {"S": long}, "mail": {"S": "ann@example.com"}})
got = database.get_item(TableName="things", Key={"id": {"S": "1"}})
assert got["Item"]["said"]["S"] == long
print("kept", got["Item"]["mail"]["S"])
