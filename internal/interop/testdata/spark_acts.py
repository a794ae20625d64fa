"""Spark as the other engine: the paths of Iceberg's jars and a directory. One session serves all tests; each act names the catalog
by its URI, and the table."""
import os
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

from lines import LEDGER, OFFSET, PARTITION, Lost, runs, serve
from listed import Engine, listed, reads, remember, some, stamp, told

jars, work = sys.argv[1:]
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.jars", jars)
    .config("spark.driver.memory", "1g")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.local.dir", work)
    .config("spark.sql.warehouse.dir", work + "/warehouse")
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.sql.session.timeZone", "UTC")
    # A second look at the files during a statement, which gives up when the table has moved since the first.
    .config("spark.sql.optimizer.runtime.rowLevelOperationGroupFilter.enabled", "false")
    .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
TRIES = 4
# What Spark says when the table moved under it.
RETRIED = ("ValidationException", "CommitFailedException", "concurrently modified", "Still referenced by refs")
catalogs = {}


def lake(uri):
    """The name of the catalog at an address."""
    if uri not in catalogs:
        name = f"lake{len(catalogs)}"
        for key, value in {"": "org.apache.iceberg.spark.SparkCatalog", ".type": "rest", ".uri": uri, ".cache-enabled": "false",
                           ".header.X-Iceberg-Access-Delegation": "vended-credentials"}.items():
            spark.conf.set(f"spark.sql.catalog.{name}{key}", value)
        catalogs[uri] = name
    return catalogs[uri]


class Table:
    """A table of a lake, and what is done to it."""

    def __init__(self, uri, table):
        self.uri, self.lake, self.short = uri, lake(uri), table
        self.name = f"{self.lake}.{table}"

    def sql(self, text):
        return spark.sql(text.format(t=self.name)).collect()

    def call(self, procedure, args):
        return self.sql(f"CALL {self.lake}.system.{procedure}(table => '{self.short}', {args})")

    def head(self):
        return self.sql("SELECT snapshot_id FROM {t}.refs WHERE name = 'main'")[0][0]

    def tried(self, act):
        """A statement that lost against commits of Firn is planned anew, as a person or a scheduler would."""
        for n in range(TRIES):
            try:
                act()
                return {"tries": n + 1, "snapshot": self.head()}
            except Exception as e:
                if not any(w in str(e) for w in RETRIED):
                    raise
                lost = e
                time.sleep(0.1)
        raise Lost(lost)

    def own(self, n):
        """n rows in the table's shape, without a ledger."""
        rows = spark.table(self.name).limit(1).crossJoin(spark.range(n)).drop("id")
        return rows.select([f.lit(None).cast(c.dataType).alias(c.name) if c.name in LEDGER else f.col(c.name) for c in rows.schema])


def within(partition, first, end):
    return f"{PARTITION} = {partition} AND {OFFSET} >= {first} AND {OFFSET} < {end}"


def append(t, n):
    return t.tried(lambda: t.own(n).writeTo(t.name).append())


def append_absent(t, n):
    """Rows that do not have the ledger columns at all. The property goes afterwards: with it Spark resolves no MERGE."""
    t.sql("ALTER TABLE {t} SET TBLPROPERTIES ('write.spark.accept-any-schema' = 'true')")
    done = t.tried(lambda: t.own(n).drop(*LEDGER).writeTo(t.name).option("mergeSchema", "true").option("check-ordering", "false").append())
    t.sql("ALTER TABLE {t} UNSET TBLPROPERTIES ('write.spark.accept-any-schema')")
    return done


def delete(t, partition, first, end, mode):
    """mode: copy-on-write, or merge-on-read, which leaves the rows in their files and lists their positions."""
    t.sql(f"ALTER TABLE {{t}} SET TBLPROPERTIES ('write.delete.mode' = '{mode}')")
    return t.tried(lambda: t.sql(f"DELETE FROM {{t}} WHERE {within(partition, first, end)}"))


def update(t, partition, first, end):
    return t.tried(lambda: t.sql(f"UPDATE {{t}} SET theirs = 'seen' WHERE {within(partition, first, end)}"))


def merge(t, partition, first, end, n):
    """Takes a stretch of rows out and puts n of its own in, in one statement."""
    def act():
        old = spark.table(t.name).where(within(partition, first, end))
        old.unionByName(t.own(n)).localCheckpoint().createOrReplaceTempView("changes")
        t.sql(f"""MERGE INTO {{t}} AS t USING changes AS c ON t.{PARTITION} = c.{PARTITION} AND t.{OFFSET} = c.{OFFSET}
                  WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT *""")
    return t.tried(act)


def overwrite_all(t):
    """Every row anew, by INSERT OVERWRITE of the table with itself."""
    return t.tried(lambda: spark.table(t.name).localCheckpoint().writeTo(t.name).overwrite(f.lit(True)))


def rewrite_data_files(t):
    return t.tried(lambda: t.call("rewrite_data_files", "options => map('rewrite-all', 'true', 'remove-dangling-deletes', 'true')"))


def rewrite_manifests(t):
    return t.tried(lambda: t.call("rewrite_manifests", "use_caching => false"))


def expire(t, retention):
    """retain_last 1. retention: takes away first what main itself would have kept."""
    if retention:
        t.sql(f"ALTER TABLE {{t}} REPLACE BRANCH main AS OF VERSION {t.head()} WITH SNAPSHOT RETENTION 1 SNAPSHOTS")
    return t.tried(lambda: t.call("expire_snapshots", "older_than => TIMESTAMP '2999-01-01 00:00:00', retain_last => 1"))


def expire_by_name(t):
    """Every snapshot that no ref names, whatever main's retention says."""
    def act():
        named = {r[0] for r in t.sql("SELECT snapshot_id FROM {t}.refs")}
        rest = [r[0] for r in t.sql("SELECT snapshot_id FROM {t}.snapshots") if r[0] not in named]
        if rest:
            t.call("expire_snapshots", f"snapshot_ids => ARRAY({', '.join(map(str, rest))}), retain_last => 1")
    return t.tried(act)


def far(t, n):
    """Compacts n times and expires what lies between: the pipeline's tag is far behind, and nothing leads back to it."""
    for _ in range(n):
        rewrite_data_files(t)
    return expire_by_name(t)


def set_property(t, key, value):
    return t.tried(lambda: t.sql(f"ALTER TABLE {{t}} SET TBLPROPERTIES ('{key}' = '{value}')"))


def add_column(t, column):
    return t.tried(lambda: t.sql(f"ALTER TABLE {{t}} ADD COLUMN {column} string"))


def remove_ref(t, ref):
    return t.tried(lambda: t.sql(f"ALTER TABLE {{t}} DROP TAG `{ref}`"))


def line(t):
    """Firn's snapshots in the head's line, the newest first."""
    by_id = {r[0]: r for r in t.sql("SELECT snapshot_id, parent_id, summary FROM {t}.snapshots")}
    at, out = by_id.get(t.head()), []
    while at:
        if "firn.offsets" in at[2]:
            out.append(at[0])
        at = by_id.get(at[1])
    return out


def rollback(t, back):
    """To the snapshot of Firn that is back snapshots of Firn before the newest; was: the newest."""
    out = {}

    def act():
        of = line(t)
        out.update(was=of[0], to=of[back])
        t.call("rollback_to_snapshot", f"snapshot_id => {of[back]}")
    return t.tried(act) | out


def set_current(t, snapshot):
    return t.tried(lambda: t.call("set_current_snapshot", f"snapshot_id => {snapshot}"))


def cherrypick(t, snapshot):
    return t.tried(lambda: t.call("cherrypick_snapshot", f"snapshot_id => {snapshot}"))


def pick_next(t, back):
    """Goes back, commits something, and picks the snapshot that came next: the vector goes on from where it stands."""
    of = line(t)
    t.call("rollback_to_snapshot", f"snapshot_id => {of[back]}")
    rewrite_manifests(t)
    return cherrypick(t, of[back - 1])


def replace(t):
    return t.tried(lambda: t.sql("CREATE OR REPLACE TABLE {t} USING iceberg PARTITIONED BY (days(metadata.event_timestamp)) AS SELECT * FROM {t} LIMIT 3"))


def ledger(t):
    return runs([tuple(r) for r in spark.table(t.name).select(PARTITION, OFFSET).collect()])


def past(t, tables):
    """What kind of table of a past time each is, and its rows."""
    out = {}
    for name in tables:
        kind = spark.sql(f"SHOW TBLPROPERTIES {t.lake}.{name} ('firn.as-of.kind')").collect()[0][1]
        out[name] = {"kind": kind, "rows": ledger(Table(t.uri, name))}
    return out


M = ("snapshots", "history", "refs", "files", "manifests", "partitions")
ACTS = {
    "create": ["CREATE NAMESPACE {lake}.{ns}", "CREATE TABLE {t} (id int, name string, ts timestamp) USING iceberg PARTITIONED BY (name)"],
    "append": ["INSERT INTO {t} VALUES (1, 'a', TIMESTAMP '2026-11-24 12:00:07'), (2, 'b', TIMESTAMP '2026-11-25 12:00:07')",
               ("SELECT id, name FROM {t} ORDER BY 1", [[1, "a"], [2, "b"]]),
               remember(first="SELECT snapshot_id FROM {t}.snapshots ORDER BY committed_at DESC LIMIT 1", then="SELECT string(max(committed_at)) FROM {t}.snapshots")],
    "add a column": ["ALTER TABLE {t} ADD COLUMN more string", ("SELECT more FROM {t} WHERE id = 1", [[None]])],
    "rename a column": ["ALTER TABLE {t} RENAME COLUMN more TO extra", ("SELECT extra FROM {t} WHERE id = 1", [[None]])],
    "widen a column": ["ALTER TABLE {t} ALTER COLUMN id TYPE bigint", "INSERT INTO {t} VALUES (3000000000, 'c', NULL, 'x')",
                       ("SELECT id FROM {t} WHERE name IN ('a', 'c') ORDER BY 1", [[1], [3000000000]])],
    "reorder columns": ["ALTER TABLE {t} ALTER COLUMN extra FIRST", ("SELECT * FROM {t} WHERE id = 3000000000", [["x", 3000000000, "c", None]])],
    "drop a column": ["ALTER TABLE {t} DROP COLUMN extra", ("SELECT count(*) FROM {t}", [[3]])],
    "partition evolution": ["ALTER TABLE {t} ADD PARTITION FIELD days(ts)", "ALTER TABLE {t} DROP PARTITION FIELD name",
                            "INSERT INTO {t} VALUES (4, 'd', TIMESTAMP '2026-11-24 13:00:07')",
                            ("SELECT id FROM {t} WHERE ts >= TIMESTAMP '2026-11-24' AND ts < TIMESTAMP '2026-11-25' ORDER BY 1", [[1], [4]])],
    "delete": ["DELETE FROM {t} WHERE id = 2", ("SELECT id FROM {t} ORDER BY 1", [[1], [4], [3000000000]])],
    "update": ["UPDATE {t} SET name = 'A' WHERE id = 1", ("SELECT name FROM {t} WHERE id = 1", [["A"]])],
    "merge": ["MERGE INTO {t} AS t USING (SELECT * FROM VALUES (1, 'one'), (5, 'five') AS v(id, name)) AS c ON t.id = c.id "
              "WHEN MATCHED THEN UPDATE SET name = c.name WHEN NOT MATCHED THEN INSERT (id, name, ts) VALUES (c.id, c.name, NULL)",
              ("SELECT id, name FROM {t} WHERE id IN (1, 5) ORDER BY 1", [[1, "one"], [5, "five"]])],
    "create as select": ["CREATE TABLE {lake}.{ns}.copy USING iceberg AS SELECT id, name FROM {t}",
                         ("SELECT id, name FROM {lake}.{ns}.copy WHERE id IN (1, 5) ORDER BY 1", [[1, "one"], [5, "five"]]), "DROP TABLE {lake}.{ns}.copy PURGE"],
    "overwrite": ["INSERT OVERWRITE {t} SELECT * FROM {t} WHERE id <> 4", ("SELECT id FROM {t} ORDER BY 1", [[1], [5], [3000000000]])],
    "branch": ["ALTER TABLE {t} CREATE BRANCH b1 AS OF VERSION {first}", "INSERT INTO {t}.branch_b1 VALUES (9, 'i', NULL)",
               ("SELECT id FROM {t} VERSION AS OF 'b1' ORDER BY 1", [[1], [2], [9]]), ("SELECT count(*) FROM {t}", [[3]]), "ALTER TABLE {t} DROP BRANCH b1"],
    "tag": ["ALTER TABLE {t} CREATE TAG t1 AS OF VERSION {first}"],
    "as of a snapshot": [("SELECT id FROM {t} VERSION AS OF {first} ORDER BY 1", [[1], [2]])],
    "as of a time": [("SELECT id FROM {t} TIMESTAMP AS OF '{then}' ORDER BY 1", [[1], [2]])],
    "as of a tag": [("SELECT id FROM {t} VERSION AS OF 't1' ORDER BY 1", [[1], [2]])],
    "metadata tables": some(*(f"SELECT * FROM {{t}}.{m}" for m in M)),
    "views": ["CREATE VIEW {lake}.{ns}.v AS SELECT id FROM {t} WHERE id = 1", ("SELECT * FROM {lake}.{ns}.v", [[1]]),
              "ALTER VIEW {lake}.{ns}.v RENAME TO {lake}.{ns}.w", ("SELECT * FROM {lake}.{ns}.w", [[1]]), "DROP VIEW {lake}.{ns}.w"],
    "compact": ["CALL {lake}.system.rewrite_data_files(table => '{ns}.acts', options => map('rewrite-all', 'true'))", ("SELECT count(*) FROM {t}", [[3]])],
    "rename": ["ALTER TABLE {t} RENAME TO {ns}.other", ("SELECT count(*) FROM {lake}.{ns}.other", [[3]])],
    "drop": ["DROP TABLE {lake}.{ns}.other PURGE", ("SHOW TABLES IN {lake}.{ns}", []), "DROP NAMESPACE {lake}.{ns}"],
}


def listed_acts(t, where, tagged):
    return listed(Engine(lambda text: [list(r) for r in spark.sql(text).collect()], lake=t.lake, ns="spark", t=f"{t.lake}.spark.acts"), ACTS)


READS = {
    "snapshots": "SELECT snapshot_id FROM {t}.snapshots",
    "history": "SELECT snapshot_id FROM {t}.history ORDER BY made_current_at",
    "refs": "SELECT name, snapshot_id FROM {t}.refs",
    "files": "SELECT count(*), sum(record_count) FROM {t}.files",
    "manifests": "SELECT count(*), sum(added_data_files_count + existing_data_files_count) FROM {t}.manifests",
    "partitions": "SELECT count(*), sum(record_count), sum(file_count) FROM {t}.partitions",
    "as of a snapshot": "SELECT {l} FROM {t} VERSION AS OF {snapshot}",
    "as of a time": "SELECT {l} FROM {t} TIMESTAMP AS OF '{time}'",
    "as of a tag": "SELECT {l} FROM {t} VERSION AS OF '{tag}'",
}


def reads_of(t, of, snapshot, ms, tag):
    names = {"t": f"{t.lake}.{of}", "l": f"{PARTITION}, {OFFSET}", "snapshot": snapshot, "time": stamp(ms), "tag": tag}
    return told(reads(Engine(lambda text: [tuple(r) for r in spark.sql(text).collect()], **names), READS), runs)


def simple(t, n):
    """n commits of a row each to a table of two columns."""
    return sum(t.tried(lambda i=i: t.sql(f"INSERT INTO {{t}} VALUES ({i}, 'spark')"))["tries"] - 1 for i in range(n))


listed_acts.__name__, reads_of.__name__ = "acts", "reads"
acts = (listed_acts, reads_of, simple, past, append, append_absent, delete, update, merge, overwrite_all, rewrite_data_files, rewrite_manifests, expire, expire_by_name, far,
        set_property, add_column, remove_ref, rollback, set_current, cherrypick, pick_next, replace, ledger)
serve({a.__name__: (lambda uri, table, a=a, **args: a(Table(uri, table), **args)) for a in acts})
