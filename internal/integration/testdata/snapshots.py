"""Reads every snapshot of a table, and its head, with PyIceberg and with DuckDB: catalog, table.

Prints, for each snapshot in the order of its making and for the head: its operation, its columns by each engine and its rows
as {column: text}, in the order of the offsets; the columns of Kafka and of Firn other than the offset are left out."""
import json
import sys

from pyiceberg.catalog import load_catalog

from engines import duck

uri, name = sys.argv[1:]
OFFSET = "_kafka_offset"


def plain(v):
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    return None if v is None else str(v)


def told(columns, rows):
    return {"columns": {k: t for k, t in columns.items() if k != OFFSET}, "rows": [plain(r) for r in sorted(rows, key=lambda r: r[OFFSET])]}


def pyiceberg(table, snapshot):
    scan = table.scan(snapshot_id=snapshot)
    scan = scan.select(*(f.name for f in scan.projection().fields if f.name == OFFSET or not f.name.startswith("_")))
    return told({f.name: str(f.field_type) for f in scan.projection().fields}, scan.to_arrow().to_pylist())


def duckdb(db, snapshot):
    of = f"lake.{name}" + (f" at (version => {snapshot})" if snapshot else "")
    rows = db.execute(f"select columns(c -> c = '{OFFSET}' or c not like '\\_%' escape '\\') from {of}")
    columns = [(d[0], str(d[1])) for d in rows.description]
    return told(dict(columns), [dict(zip([c for c, _ in columns], r)) for r in rows.fetchall()])


def told_of(table, db, of, snapshot, operation):
    return {"id": of.snapshot_id, "schema": of.schema_id, "operation": operation, "total": int(of.summary["total-records"]),
            "engines": {"pyiceberg": pyiceberg(table, snapshot), "duckdb": duckdb(db, snapshot)}}


table, db = load_catalog("firn", type="rest", uri=uri).load_table(name), duck(uri)
snapshots = sorted(table.snapshots(), key=lambda s: s.sequence_number)
print(json.dumps([told_of(table, db, s, s.snapshot_id, s.summary.operation.value) for s in snapshots] + [told_of(table, db, snapshots[-1], None, "head")]))
