"""PyIceberg and DuckDB on the catalog at argv[1]: each writes, the other reads. Any failure is an exception."""
import datetime as dt
import sys

import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, NamespaceNotEmptyError, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.update import AssertRefSnapshotId
from pyiceberg.transforms import DayTransform
from pyiceberg.types import DoubleType, LongType, NestedField, StringType, StructType, TimestamptzType

from engines import duck

uri = sys.argv[1]
catalog = load_catalog("firn", type="rest", uri=uri)


def fails(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"{error.__name__} was expected")


schema = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "at", TimestamptzType(), required=True),
    NestedField(3, "key", StructType(NestedField(4, "user_id", StringType(), required=False)), required=False),
)
arrow = pa.schema([
    pa.field("id", pa.int64(), nullable=False),
    pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("key", pa.struct([pa.field("user_id", pa.string())])),
])
start = dt.datetime(2026, 6, 4, 11, tzinfo=dt.timezone.utc)


def rows(first, n):
    ids = range(first, first + n)
    return pa.table({"id": list(ids), "at": [start + dt.timedelta(minutes=i) for i in ids], "key": [{"user_id": f"u{i % 7}"} for i in ids]}, schema=arrow)


# Names.
catalog.create_namespace("py", {"owner": "tests"})
assert catalog.load_namespace_properties("py")["owner"] == "tests"
assert ("py",) in catalog.list_namespaces()
spec = PartitionSpec(PartitionField(source_id=2, field_id=1000, transform=DayTransform(), name="day"))
table = catalog.create_table("py.events", schema, partition_spec=spec, properties={"write.parquet.compression-codec": "zstd"})
fails(TableAlreadyExistsError, lambda: catalog.create_table("py.events", schema))
fails(NamespaceNotEmptyError, lambda: catalog.drop_namespace("py"))

# Append, scan, prune, travel.
table.append(rows(0, 3000))
first = table.current_snapshot().snapshot_id
table.append(rows(3000, 3000))
table = catalog.load_table("py.events")
assert table.scan().to_arrow().num_rows == 6000

# Scans that the catalog plans have the files and the rows of those that PyIceberg plans for itself.
planned = load_catalog("planned", type="rest", uri=uri, **{"scan-planning-mode": "server"})
assert planned.supports_server_side_planning() and not catalog.supports_server_side_planning()
for query in [{}, {"row_filter": "id >= 4000"}, {"row_filter": "id in (5, 4999) or key.user_id = 'u3'"}, {"row_filter": "not (key.user_id like 'u%')"},
              {"row_filter": "at < '2026-06-05T00:00:00+00:00' and id is not null"}, {"row_filter": "id < 0"}, {"row_filter": "ID = 7", "case_sensitive": False},
              {"snapshot_id": first, "selected_fields": ("id",)}]:
    here, there = table.scan(**query), planned.load_table("py.events").scan(**query)
    assert sorted(t.file.file_path for t in here.plan_files()) == sorted(t.file.file_path for t in there.plan_files()), query
    assert here.to_arrow().sort_by("id").equals(there.to_arrow().sort_by("id")), query
    assert here.count() == there.count(), query
assert table.scan(snapshot_id=first).to_arrow().num_rows == 3000
assert table.scan(row_filter="id >= 5990").to_arrow().num_rows == 10
assert len(list(table.scan(row_filter=f"at < '{(start + dt.timedelta(minutes=10)).isoformat()}'").plan_files())) == 1
assert [s.summary["total-records"] for s in table.snapshots()] == ["3000", "6000"]

# A commit whose requirement does not hold is refused.
table.append(rows(6000, 10))
fails(CommitFailedException, lambda: table._do_commit(updates=(), requirements=(AssertRefSnapshotId(ref="main", snapshot_id=first),)))

# Schema, tags, overwrite, delete.
table = catalog.load_table("py.events")
with table.update_schema() as u:
    u.add_column("amount", DoubleType())
    u.rename_column("id", "event")
table.manage_snapshots().create_tag(first, "monday").commit()
table = catalog.load_table("py.events")
assert table.schema().find_field("amount").field_type == DoubleType()
assert table.refs()["monday"].snapshot_id == first
table.delete("event < 100")
assert table.scan().to_arrow().num_rows == 5910

# DuckDB reads it through the catalog, now and then, and writes a table that PyIceberg reads.
db = duck(uri)
assert db.execute("select count(*), count(distinct event), count(amount) from lake.py.events").fetchone() == (5910, 5910, 0)
assert db.execute(f"select count(*) from lake.py.events at (version => {first})").fetchone() == (3000,)
assert db.execute("select key.user_id, count(*) from lake.py.events group by 1 order by 1 limit 1").fetchone()[0] == "u0"
db.execute("create schema if not exists lake.duck")
db.execute("create table lake.duck.numbers (n bigint, name varchar)")
db.execute("insert into lake.duck.numbers select i, 'n' || i from range(1000) t(i)")
db.execute("insert into lake.duck.numbers select i, 'n' || i from range(1000, 1500) t(i)")
numbers = catalog.load_table("duck.numbers")
assert numbers.scan().to_arrow().num_rows == 1500
numbers.append(pa.table({"n": [1500], "name": ["n1500"]}))
assert duck(uri).execute("select count(*), sum(n) from lake.duck.numbers").fetchone() == (1501, 1500 * 1501 // 2)

# A table dropped without purge is registered again from its newest metadata file.
where = catalog.load_table("py.events").metadata_location
catalog.drop_table("py.events")
fails(NoSuchTableError, lambda: catalog.load_table("py.events"))
back = catalog.register_table("py.back", where)
assert back.scan().to_arrow().num_rows == 5910
catalog.rename_table("py.back", "py.again")
assert catalog.table_exists("py.again") and not catalog.table_exists("py.back")
assert catalog.list_tables("py") == [("py", "again")]
catalog.purge_table("py.again")
catalog.drop_namespace("py")

print("pyiceberg and duckdb agree")
