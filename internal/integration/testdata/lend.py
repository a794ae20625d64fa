"""Two principals of the catalog at argv[1] use tables in argv[2:] (ways of access) with nothing but what the catalog lends them.
Their tokens are in the environment. Any failure is an exception."""
import os
import sys

for name in [n for n in os.environ if n.startswith("AWS_")]:
    del os.environ[name]
# One thread: with several, two of seven runs had the first write of a table refused, as if a request had gone out unsigned.
os.environ.update(PYICEBERG_MAX_WORKERS="1", AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE="/dev/null", AWS_SHARED_CREDENTIALS_FILE="/dev/null")

import pyarrow as pa  # noqa: E402
from pyiceberg.catalog import load_catalog  # noqa: E402


def connect(way, who):
    return load_catalog(way + who, type="rest", uri=sys.argv[1], token=os.environ[who], **{"header.X-Iceberg-Access-Delegation": way})


def rows(first, n):
    return pa.table({"id": pa.array(range(first, first + n), pa.int64()), "name": [f"u {i % 7}/{'%'}" for i in range(first, first + n)]})


for way in sys.argv[2:]:
    name = "lend." + way.replace("-", "_")
    writer = connect(way, "WRITER")
    table = writer.create_table(name, rows(0, 1).schema)
    assert ("s3.session-token" in table.io.properties) == (way == "vended-credentials"), sorted(table.io.properties)
    assert ("s3.signer.endpoint" in table.io.properties) == (way == "remote-signing"), sorted(table.io.properties)
    table.append(rows(0, 2000))
    with table.update_spec() as spec:
        spec.add_identity("name")
    table.append(rows(2000, 500))
    table.delete("id < 10")
    assert writer.load_table(name).scan().to_arrow().num_rows == 2490

    # A reader reads all of it, and its write fails at the storage, before any commit.
    mine = connect(way, "READER").load_table(name)
    assert mine.scan().to_arrow()["id"].to_pylist() and mine.scan().to_arrow().num_rows == 2490
    before = mine.current_snapshot().snapshot_id
    try:
        mine.append(rows(9000, 10))
    except Exception as e:
        text = f"{type(e).__name__} {e}"
        assert any(w in text for w in ("AccessDenied", "ACCESS_DENIED", "Access Denied", "SignError", "403")), text
    else:
        raise AssertionError(f"a reader wrote by {way}")
    assert writer.load_table(name).current_snapshot().snapshot_id == before
    assert writer.load_table(name).scan().to_arrow().num_rows == 2490
print("ok")
