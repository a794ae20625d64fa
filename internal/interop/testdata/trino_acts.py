"""Trino as the other engine: its URI. Statements go over its HTTP protocol; the catalog is "lake"."""
import json
import sys
import time
import urllib.request

from lines import LEDGER, OFFSET, PARTITION, Lost, runs, serve
from listed import Engine, Refused, listed, reads, remember, some, stamp, told

uri = sys.argv[1]
TRIES = 20  # each of them is several of Trino's own
# What Trino says when the table moved under it.
RETRIED = ("Failed to commit", "conflicting", "ValidationException", "Requirement failed", "Cannot commit")
PATIENCE = 300  # seconds for the server to be ready


def ask(url, body=None):
    request = urllib.request.Request(url, data=body, headers={"X-Trino-User": "firn", "X-Trino-Catalog": "lake", "X-Trino-Time-Zone": "UTC"})
    with urllib.request.urlopen(request, timeout=120) as r:
        return json.load(r)


def run(text):
    rows, page = [], ask(uri + "/v1/statement", text.encode())
    while True:
        rows += page.get("data", [])
        if "error" in page:
            raise RuntimeError(f"{page['error']['errorName']}: {page['error']['message']}")
        if "nextUri" not in page:
            return rows
        page = ask(page["nextUri"])


def ready():
    end = time.time() + PATIENCE
    while True:
        try:
            return run("SELECT 1")
        except (OSError, RuntimeError) as e:
            if time.time() > end or isinstance(e, RuntimeError) and "initializing" not in str(e):
                raise
            time.sleep(0.5)


def tried(statement):
    for n in range(TRIES):
        try:
            run(statement)
            return {"tries": n + 1}
        except RuntimeError as e:
            if not any(w in str(e) for w in RETRIED):
                raise
            lost = e
            time.sleep(0.1)
    raise Lost(lost)


def append(table, n):
    own = ", ".join(f"CAST(NULL AS {r[1]})" if r[0] in LEDGER else f'"{r[0]}"' for r in run(f"SHOW COLUMNS FROM lake.{table}"))
    return tried(f"INSERT INTO lake.{table} SELECT {own} FROM (SELECT * FROM lake.{table} LIMIT 1) CROSS JOIN UNNEST(sequence(1, {n}))")


def delete(table, partition, first, end):
    return tried(f"DELETE FROM lake.{table} WHERE {PARTITION} = {partition} AND {OFFSET} >= {first} AND {OFFSET} < {end}")


def ledger(table):
    return runs([tuple(r) for r in run(f"SELECT {PARTITION}, {OFFSET} FROM lake.{table}")])


def past(tables):
    """What kind of table of a past time each is, and its rows."""
    out = {}
    for t in tables:
        kind = run(f'SELECT value FROM lake.{t.rsplit(".", 1)[0]}."{t.rsplit(".", 1)[1]}$properties" WHERE key = \'firn.as-of.kind\'')
        out[t] = {"kind": kind[0][0], "rows": ledger(t)}
    return out


def simple(table, n):
    """n commits of a row each to a table of two columns."""
    return sum(tried(f"INSERT INTO lake.{table} VALUES ({i}, 'trino')")["tries"] - 1 for i in range(n))


STAMP = "CAST(max(committed_at) AS varchar)"
ACTS = {
    "create": [
        "CREATE SCHEMA lake.{ns}", "CREATE TABLE {t} (id integer, name varchar, at timestamp(6) with time zone) WITH (partitioning = ARRAY['name'])"],
    "append": ["INSERT INTO {t} VALUES (1, 'a', TIMESTAMP '2026-11-24 12:00:07 UTC'), (2, 'b', TIMESTAMP '2026-11-25 12:00:07 UTC')",
               ("SELECT id, name FROM {t} ORDER BY 1", [[1, "a"], [2, "b"]]),
               remember(first="SELECT snapshot_id FROM lake.{ns}.\"acts$snapshots\" ORDER BY committed_at DESC LIMIT 1",
                        then="SELECT " + STAMP + " FROM lake.{ns}.\"acts$snapshots\"")],
    "add a column": ["ALTER TABLE {t} ADD COLUMN more varchar", ("SELECT more FROM {t} WHERE id = 1", [[None]])],
    "rename a column": ["ALTER TABLE {t} RENAME COLUMN more TO extra", ("SELECT extra FROM {t} WHERE id = 1", [[None]])],
    "widen a column": ["ALTER TABLE {t} ALTER COLUMN id SET DATA TYPE bigint", "INSERT INTO {t} VALUES (3000000000, 'c', NULL, 'x')",
                       ("SELECT id FROM {t} WHERE name IN ('a', 'c') ORDER BY 1", [[1], [3000000000]])],
    "reorder columns": [Refused("ALTER TABLE {t} ALTER COLUMN extra FIRST", "mismatched input")],
    "drop a column": ["ALTER TABLE {t} DROP COLUMN extra", ("SELECT count(*) FROM {t}", [[3]])],
    "partition evolution": ["ALTER TABLE {t} SET PROPERTIES partitioning = ARRAY['day(at)']",
                            "INSERT INTO {t} VALUES (4, 'd', TIMESTAMP '2026-11-24 13:00:07 UTC')",
                            ("SELECT id FROM {t} WHERE at >= TIMESTAMP '2026-11-24 00:00:00 UTC' AND at < TIMESTAMP '2026-11-25 00:00:00 UTC' ORDER BY 1", [[1], [4]])],
    "delete": ["DELETE FROM {t} WHERE id = 2", ("SELECT id FROM {t} ORDER BY 1", [[1], [4], [3000000000]])],
    "update": ["UPDATE {t} SET name = 'A' WHERE id = 1", ("SELECT name FROM {t} WHERE id = 1", [["A"]])],
    "merge": ["MERGE INTO {t} AS t USING (VALUES (1, 'one'), (5, 'five')) AS c (id, name) ON t.id = c.id "
              "WHEN MATCHED THEN UPDATE SET name = c.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (c.id, c.name)",
              ("SELECT id, name FROM {t} WHERE id IN (1, 5) ORDER BY 1", [[1, "one"], [5, "five"]])],
    "create as select": ["CREATE TABLE lake.{ns}.copy AS SELECT id, name FROM {t}",
                         ("SELECT id, name FROM lake.{ns}.copy WHERE id IN (1, 5) ORDER BY 1", [[1, "one"], [5, "five"]]), "DROP TABLE lake.{ns}.copy",
                         "CREATE TABLE lake.{ns}.placed WITH (location = '{where}/{ns}/placed') AS SELECT id FROM {t}",
                         ("SELECT count(*) FROM lake.{ns}.placed", [[4]]), "DROP TABLE lake.{ns}.placed",
                         "CREATE SCHEMA lake.{ns}_2 WITH (location = '{where}/{ns}_2')", "CREATE TABLE lake.{ns}_2.placed (id integer)",
                         "INSERT INTO lake.{ns}_2.placed VALUES 1", "DROP TABLE lake.{ns}_2.placed", "DROP SCHEMA lake.{ns}_2"],
    "overwrite": [Refused("INSERT OVERWRITE {t} SELECT * FROM {t}", "mismatched input")],
    "branch": [Refused("CREATE BRANCH b1 IN TABLE {t}", "mismatched input|not support")],
    "tag": [Refused("ALTER TABLE {t} CREATE TAG t1", "mismatched input")],
    "as of a snapshot": [("SELECT id FROM {t} FOR VERSION AS OF {first} ORDER BY 1", [[1], [2]])],
    "as of a time": [("SELECT id FROM {t} FOR TIMESTAMP AS OF CAST('{then}' AS timestamp(6) with time zone) ORDER BY 1", [[1], [2]])],
    "as of a tag": some("SELECT 1 FROM {tagged} FOR VERSION AS OF 'kept' LIMIT 1"),
    "metadata tables": some(*(f"SELECT * FROM lake.{{ns}}.\"acts${m}\"" for m in ("snapshots", "history", "refs", "files", "manifests", "partitions"))),
    "views": ["CREATE VIEW lake.{ns}.v AS SELECT id FROM {t} WHERE id = 1", ("SELECT * FROM lake.{ns}.v", [[1]]),
              "ALTER VIEW lake.{ns}.v RENAME TO lake.{ns}.w", ("SELECT * FROM lake.{ns}.w", [[1]]), "DROP VIEW lake.{ns}.w"],
    "compact": ["ALTER TABLE {t} EXECUTE optimize", ("SELECT count(*) FROM {t}", [[4]])],
    "rename": ["ALTER TABLE {t} RENAME TO lake.{ns}.other", ("SELECT count(*) FROM lake.{ns}.other", [[4]])],
    "drop": ["DROP TABLE lake.{ns}.other", ("SHOW TABLES FROM lake.{ns}", []), "DROP SCHEMA lake.{ns}"],
}


def acts(where, tagged):
    return listed(Engine(run, ns="trino", t="lake.trino.acts", where=where, tagged="lake." + tagged), ACTS)


READS = {
    "snapshots": "SELECT snapshot_id FROM {m}$snapshots\"",
    "history": "SELECT snapshot_id FROM {m}$history\" ORDER BY made_current_at",
    "refs": "SELECT name, snapshot_id FROM {m}$refs\"",
    "files": "SELECT count(*), sum(record_count) FROM {m}$files\"",
    "manifests": "SELECT count(*), sum(added_data_files_count + existing_data_files_count) FROM {m}$manifests\"",
    "partitions": "SELECT count(*), sum(record_count), sum(file_count) FROM {m}$partitions\"",
    "as of a snapshot": "SELECT {l} FROM {t} FOR VERSION AS OF {snapshot}",
    "as of a time": "SELECT {l} FROM {t} FOR TIMESTAMP AS OF TIMESTAMP '{time} UTC'",
    "as of a tag": "SELECT {l} FROM {t} FOR VERSION AS OF '{tag}'",
}


def reads_of(of, snapshot, ms, tag):
    ns, name = of.rsplit(".", 1)
    names = {"t": "lake." + of, "m": f'lake.{ns}."{name}', "l": f"{PARTITION}, {OFFSET}", "snapshot": snapshot, "time": stamp(ms), "tag": tag}
    return told(reads(Engine(run, **names), READS), runs)


reads_of.__name__ = "reads"
ready()
serve({f.__name__: f for f in (append, delete, ledger, past, simple, acts, reads_of)})
