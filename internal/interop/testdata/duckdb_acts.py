"""DuckDB with its Iceberg extension as the other engine: catalog URI."""
import re
import sys

import duckdb
from duckdb_extensions import import_extension

from lines import OFFSET, PARTITION, Lost, runs, serve
from listed import Engine, Refused, listed, reads, remember, some, stamp, told

uri = sys.argv[1]


def connect():
    """Each act begins anew: DuckDB keeps what it once loaded of a table for as long as it is attached."""
    db = duckdb.connect(config={"python_enable_replacements": "false"})
    for name in ("avro", "httpfs", "iceberg"):
        import_extension(name, con=db)
        db.execute(f"load {name}")
    db.execute("set timezone = 'UTC'")
    db.execute(f"attach '' as lake (type iceberg, endpoint '{uri}', authorization_type 'none', purge_requested true)")
    return db


def run(text):
    return run.db.execute(text).fetchall()


run.db = connect()


def again(_):
    run.db = connect()


ACTS = {
    "create": ["CREATE SCHEMA lake.{ns}", "CREATE TABLE {t} (id INTEGER, name VARCHAR, ts TIMESTAMPTZ)"],
    "append": ["INSERT INTO {t} VALUES (1, 'a', TIMESTAMPTZ '2026-11-24 12:00:07+00'), (2, 'b', TIMESTAMPTZ '2026-11-25 12:00:07+00')",
               ("SELECT id, name FROM {t} ORDER BY 1", [[1, "a"], [2, "b"]]),
               remember(first="SELECT snapshot_id FROM iceberg_snapshots({t}) ORDER BY sequence_number DESC LIMIT 1",
                        then="SELECT max(timestamp_ms)::VARCHAR FROM iceberg_snapshots({t})")],
    "add a column": ["ALTER TABLE {t} ADD COLUMN more VARCHAR", again, ("SELECT more FROM {t} WHERE id = 1", [[None]])],
    "rename a column": ["ALTER TABLE {t} RENAME COLUMN more TO extra", again, ("SELECT extra FROM {t} WHERE id = 1", [[None]])],
    "widen a column": ["ALTER TABLE {t} ALTER COLUMN id SET DATA TYPE BIGINT", again, "INSERT INTO {t} (id, name) VALUES (3000000000, 'c')",
                       ("SELECT id FROM {t} WHERE name IN ('a', 'c') ORDER BY 1", [[1], [3000000000]])],
    "reorder columns": [Refused("ALTER TABLE {t} ALTER COLUMN name FIRST", "syntax error")],
    "drop a column": ["ALTER TABLE {t} DROP COLUMN extra", again, ("SELECT count(*) FROM {t}", [[3]])],
    "partition evolution": ["ALTER TABLE {t} SET PARTITIONED BY (name)", again, "INSERT INTO {t} (id, name) VALUES (4, 'd')", ("SELECT id FROM {t} WHERE name = 'd'", [[4]])],
    "delete": ["DELETE FROM {t} WHERE id = 2", ("SELECT count(*) FROM {t} WHERE id = 2", [[0]])],
    "update": ["UPDATE {t} SET name = 'A' WHERE id = 1", ("SELECT name FROM {t} WHERE id = 1", [["A"]])],
    "merge": ["MERGE INTO {t} AS t USING (VALUES (1, 'one'), (5, 'five')) AS c (id, name) ON t.id = c.id "
              "WHEN MATCHED THEN UPDATE SET name = c.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (c.id, c.name)",
              ("SELECT id, name FROM {t} WHERE id IN (1, 5) ORDER BY 1", [[1, "one"], [5, "five"]])],
    "create as select": ["CREATE TABLE lake.{ns}.copy AS SELECT id, name FROM {t}", again,
                         ("SELECT id, name FROM lake.{ns}.copy WHERE id IN (1, 5) ORDER BY 1", [[1, "one"], [5, "five"]]), "DROP TABLE lake.{ns}.copy", again],
    "overwrite": [Refused("INSERT OVERWRITE INTO {t} SELECT * FROM {t}", "syntax error")],
    "branch": [Refused("ALTER TABLE {t} CREATE BRANCH b1", "syntax error")],
    "tag": [Refused("ALTER TABLE {t} CREATE TAG t1", "syntax error")],
    "as of a snapshot": [again, ("SELECT id FROM {t} AT (VERSION => {first}) ORDER BY 1", [[1], [2]])],
    "as of a time": [("SELECT id FROM {t} AT (TIMESTAMP => TIMESTAMP '{then}') ORDER BY 1", [[1], [2]])],
    "as of a tag": [Refused("SELECT count(*) FROM {tagged} AT (VERSION => 'kept')", "cast|Could not")],
    "metadata tables": some("SELECT * FROM iceberg_snapshots({t})", "SELECT * FROM iceberg_metadata({t})"),
    "views": [Refused("CREATE VIEW lake.{ns}.v AS SELECT id FROM {t}", "[Nn]ot (supported|implemented)|Create View")],
    "compact": [Refused("CALL iceberg_rewrite_data_files('{t}')", "does not exist")],
    "rename": ["ALTER TABLE {t} RENAME TO other", again, ("SELECT count(*) FROM lake.{ns}.other", [[4]])],
    "drop": [again, "DROP TABLE lake.{ns}.other", ("SELECT count(*) FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = '{ns}'", [[0]]), "DROP SCHEMA lake.{ns}"],
}


def acts(where, tagged):
    if where.startswith("file:"):  # it does not make the directory of the first manifest
        ACTS["create as select"] = [Refused("CREATE TABLE lake.{ns}.copy AS SELECT id, name FROM {t}", "No such file or directory"), again]
    return listed(Engine(run, ns="duck", t="lake.duck.acts", tagged="lake." + tagged), ACTS)


NO_SUCH = "does not exist"
READS = {
    "snapshots": "SELECT snapshot_id FROM iceberg_snapshots({t})",
    "history": Refused("SELECT * FROM iceberg_history({t})", NO_SUCH),
    "refs": Refused("SELECT * FROM iceberg_refs({t})", NO_SUCH),
    "files": "SELECT count(*), sum(record_count) FROM iceberg_metadata({t})",
    "manifests": "SELECT count(DISTINCT manifest_path), count(*) FROM iceberg_metadata({t})",
    "partitions": Refused("SELECT * FROM iceberg_partitions({t})", NO_SUCH),
    "as of a snapshot": "SELECT {l} FROM {t} AT (VERSION => {snapshot})",
    "as of a time": "SELECT {l} FROM {t} AT (TIMESTAMP => TIMESTAMP '{time}')",
    "as of a tag": Refused("SELECT {l} FROM {t} AT (VERSION => '{tag}')", "cast|Could not"),
}


def reads_of(of, snapshot, ms, tag):
    again(None)
    return told(reads(Engine(run, t="lake." + of, l=f"{PARTITION}, {OFFSET}", snapshot=snapshot, time=stamp(ms), tag=tag), READS), runs)


reads_of.__name__ = "reads"


def ledger(table):
    again(None)  # what it has loaded it does not load again
    return runs(run(f"SELECT {PARTITION}, {OFFSET} FROM lake.{table}"))


def past(tables):
    """The rows of tables of a past time; DuckDB does not show their properties."""
    return {t: {"rows": ledger(t)} for t in tables}


BOTH_TRIES = 50


def simple(table, n):
    """n commits of a row each to a table of two columns."""
    lost = 0
    for i in range(n):
        for _ in range(BOTH_TRIES):
            try:
                run(f"INSERT INTO lake.{table} VALUES ({i}, 'duckdb')")
                break
            except duckdb.Error as e:
                if not re.search("[Cc]onflict|CommitFailed|[Rr]equirement", str(e)):
                    raise
                lost += 1
                again(None)
        else:
            raise Lost(f"{BOTH_TRIES} tries")
    return lost


serve({f.__name__: f for f in (acts, reads_of, ledger, past, simple)})
