"""Counts a table through the catalog with PyIceberg and with DuckDB: catalog, table, S3 endpoint, key, secret.
Prints {"engine": [rows, distinct partition and offset]}."""
import json
import sys

from pyiceberg.catalog import load_catalog

from engines import duck

uri, name, endpoint, key, secret = sys.argv[1:]
catalog = load_catalog("firn", type="rest", uri=uri, **{
    "s3.endpoint": endpoint, "s3.access-key-id": key, "s3.secret-access-key": secret, "s3.region": "us-east-1"})

arrow = catalog.load_table(name).scan(selected_fields=("_kafka_partition", "_kafka_offset")).to_arrow()
pairs = arrow.group_by(["_kafka_partition", "_kafka_offset"]).aggregate([]).num_rows
counts = {"pyiceberg": [arrow.num_rows, pairs]}

# DuckDB's own reader of Iceberg, through the same catalog.
db = duck(uri, key_id=key, secret=secret, endpoint=endpoint.removeprefix("http://"), region="us-east-1")
counts["duckdb"] = list(db.execute(f"select count(*), count(distinct (_kafka_partition, _kafka_offset)) from lake.{name}").fetchone())
print(json.dumps(counts))
