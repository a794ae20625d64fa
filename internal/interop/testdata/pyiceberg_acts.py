"""PyIceberg as the other engine: catalog URI and table."""
import datetime as dt
import sys
import time
import traceback
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import LongType, NestedField, StringType
from pyiceberg.view.metadata import SQLViewRepresentation, ViewVersion

from lines import LEDGER, OFFSET, PARTITION, Lost, runs, serve

uri, name = sys.argv[1:]
catalog = load_catalog("firn", type="rest", uri=uri)
TRIES = 3  # each of them is several of PyIceberg's own


def tried(call):
    """An act that lost against a commit of Firn is planned anew on the table as it is then, as a job of a scheduler would."""
    for n in range(TRIES):
        table = catalog.load_table(name)
        try:
            call(table)
            return {"tries": n + 1, "snapshot": catalog.load_table(name).current_snapshot().snapshot_id}
        except (CommitFailedException, ValidationException) as e:
            lost = e
            time.sleep(0.05)
    raise Lost(lost)


def rows_of_its_own(table, n, absent=False):
    """n rows in the table's shape, their ledger columns null or left out."""
    rows = pa.concat_tables([table.scan(limit=1).to_arrow()] * n)
    for c in LEDGER:
        i = rows.schema.get_field_index(c)
        rows = rows.remove_column(i) if absent else rows.set_column(i, rows.schema.field(i), pa.nulls(n, rows.schema.field(i).type))
    return rows


def within(partition, first, end):
    return f"{PARTITION} == {partition} and {OFFSET} >= {first} and {OFFSET} < {end}"


def append(n, absent=False):
    rows = rows_of_its_own(catalog.load_table(name), n, absent)
    return tried(lambda table: table.append(rows))


def add_file(n):
    """A file of somebody's, without the ledger columns and without field ids."""
    table = catalog.load_table(name)
    rows = rows_of_its_own(table, n, absent=True)
    plain = pa.table({f.name: rows.column(f.name).cast(bare(f.type)) for f in rows.schema}, schema=pa.schema([pa.field(f.name, bare(f.type)) for f in rows.schema]))
    path = f"{table.location()}/data/{uuid.uuid4()}.parquet"
    with table.io.new_output(path).create() as out:
        pq.write_table(plain, out)
    return tried(lambda table: table.add_files([path]))


def bare(t):
    """An Arrow type without the field ids in its nested fields."""
    if pa.types.is_struct(t):
        return pa.struct([pa.field(f.name, bare(f.type), f.nullable) for f in t])
    if pa.types.is_list(t) or pa.types.is_large_list(t):
        return pa.list_(pa.field("element", bare(t.value_type), t.value_field.nullable))
    if pa.types.is_map(t):
        return pa.map_(bare(t.key_type), bare(t.item_type))
    return t


def delete(partition, first, end):
    return tried(lambda table: table.delete(within(partition, first, end)))


def overwrite(partition, first, end, n):
    rows = rows_of_its_own(catalog.load_table(name), n)
    return tried(lambda table: table.overwrite(rows, overwrite_filter=within(partition, first, end)))


def delete_all():
    return tried(lambda table: table.delete(AlwaysTrue()))


def compact():
    """Every data file into one. PyIceberg has no verb for it; this is the commit that one would make."""
    def call(table):
        old = [task.file for task in table.scan().plan_files()]
        rows = table.scan().to_arrow()
        with table.transaction() as tx, tx.update_snapshot().overwrite() as change:
            for f in _dataframe_to_data_files(table.metadata, rows, table.io):
                change.append_data_file(f)
            for f in old:
                change.delete_data_file(f)
    return tried(call)


def expire():
    """All snapshots that no ref names: what retain_last 1 leaves."""
    return tried(lambda table: table.maintenance.expire_snapshots().older_than(dt.datetime.now() + dt.timedelta(days=1)).commit())


def far(n):
    """Compacts n times and expires what lies between: the pipeline's tag is far behind, and nothing leads back to it."""
    for _ in range(n):
        compact()
    return expire()


def set_property(key, value):
    return tried(lambda table: table.transaction().set_properties({key: value}).commit_transaction())


def add_column(column):
    def call(table):
        with table.update_schema() as u:
            u.add_column(column, StringType())
    return tried(call)


def remove_ref(ref):
    return tried(lambda table: table.manage_snapshots().remove_tag(ref).commit())


def rollback(back):
    """To the snapshot of Firn that is back snapshots of Firn before the newest; was: the head before."""
    out = {}

    def call(table):
        by_id, at, left = {s.snapshot_id: s for s in table.snapshots()}, table.current_snapshot(), back
        out["was"] = at.snapshot_id
        while True:
            if at.summary and at.summary.additional_properties.get("firn.offsets"):
                if left == 0:
                    break
                left -= 1
            at = by_id[at.parent_snapshot_id]
        out["to"] = at.snapshot_id
        table.manage_snapshots().rollback_to_snapshot(at.snapshot_id).commit()
    return tried(call) | out


def set_current(snapshot):
    return tried(lambda table: table.manage_snapshots().set_current_snapshot(snapshot_id=snapshot).commit())


def drop():
    """Drops the table without its files; where: its newest metadata."""
    where = catalog.load_table(name).metadata_location
    catalog.drop_table(name)
    return {"where": where}


def register(where):
    catalog.register_table(name, where)


def create_again():
    """Drops the table and creates another in its shape and under its name."""
    old = catalog.load_table(name)
    catalog.drop_table(name)
    catalog.create_table(name, old.schema(), partition_spec=old.spec())


def ledger():
    return rows_of(catalog.load_table(name))


def reads(of, snapshot, ms, tag):
    """The metadata tables of a table of Firn, and its rows of past times."""
    table = catalog.load_table(of)
    see = table.inspect
    refs, files, manifests, parts = see.refs(), see.files(), see.manifests(), see.partitions()
    return {
        "snapshots": see.snapshots()["snapshot_id"].to_pylist(), "history": see.history()["snapshot_id"].to_pylist(),
        "refs": dict(zip(refs["name"].to_pylist(), refs["snapshot_id"].to_pylist())), "files": [len(files), total(files, "record_count")],
        "manifests": [len(manifests), total(manifests, "added_data_files_count", "existing_data_files_count")],
        "partitions": [len(parts), total(parts, "record_count"), total(parts, "file_count")],
        "as of a snapshot": rows_of(table, snapshot_id=snapshot), "as of a time": rows_of(table, snapshot_id=table.snapshot_as_of_timestamp(ms).snapshot_id),
        "as of a tag": rows_of(table, snapshot_id=table.snapshot_by_name(tag).snapshot_id)}


def total(rows, *columns):
    return sum(sum(rows[c].to_pylist()) for c in columns)


def rows_of(table, **of):
    t = table.scan(selected_fields=(PARTITION, OFFSET), **of).to_arrow()
    return runs(list(zip(t.column(PARTITION).to_pylist(), t.column(OFFSET).to_pylist())))


OWN = "py.acts"


def own_table():
    return catalog.load_table(OWN)


def ids(**scan):
    return sorted(own_table().scan(selected_fields=("id",), **scan).to_arrow()["id"].to_pylist())


def sees(got, want):
    assert got == want, f"{got}, want {want}"


def own_rows(*values):
    """(id, name, ts) in the table's columns as they are."""
    names = [f.name for f in own_table().schema().fields]
    kinds = {f.name: f.type for f in own_table().schema().as_arrow()}
    return pa.table({n: pa.array([v.get(n) for v in values], kinds[n]) for n in names})


def act_create():
    catalog.create_namespace("py")
    catalog.create_table(OWN, pa.schema([pa.field("id", pa.int32()), pa.field("name", pa.string()), pa.field("ts", pa.timestamp("us", tz="UTC"))]))


seen = {}
NOON = dt.datetime(2026, 11, 24, 12, 0, 7, tzinfo=dt.timezone.utc)


def act_append():
    own_table().append(own_rows({"id": 1, "name": "a", "ts": NOON}, {"id": 2, "name": "b", "ts": NOON + dt.timedelta(days=1)}))
    sees(ids(), [1, 2])
    s = own_table().current_snapshot()
    seen.update(first=s.snapshot_id, then=s.timestamp_ms)


def evolve(change):
    with own_table().update_schema() as u:
        change(u)


def act_add():
    evolve(lambda u: u.add_column("more", StringType()))
    sees(own_table().scan().to_arrow()["more"].to_pylist(), [None, None])


def act_rename_column():
    evolve(lambda u: u.rename_column("more", "extra"))
    sees(own_table().scan().to_arrow()["extra"].to_pylist(), [None, None])


def act_widen():
    evolve(lambda u: u.update_column("id", LongType()))
    own_table().append(own_rows({"id": 3000000000, "name": "c", "extra": "x"}))
    sees(ids(), [1, 2, 3000000000])


def act_reorder():
    evolve(lambda u: u.move_first("extra"))
    sees(own_table().scan().to_arrow().column_names, ["extra", "id", "name", "ts"])


def act_drop_column():
    evolve(lambda u: u.delete_column("extra"))
    sees(own_table().scan().to_arrow().column_names, ["id", "name", "ts"])


def act_partition():
    with own_table().update_spec() as u:
        u.add_field("ts", DayTransform(), "day")
    own_table().append(own_rows({"id": 4, "name": "d", "ts": NOON}))
    sees(ids(row_filter="ts >= '2026-11-24T00:00:00+00:00' and ts < '2026-11-25T00:00:00+00:00'"), [1, 4])


def act_delete():
    own_table().delete("id == 2")
    sees(ids(), [1, 4, 3000000000])


def act_merge():
    done = own_table().upsert(own_rows({"id": 1, "name": "one"}, {"id": 5, "name": "five"}), join_cols=["id"])
    sees((done.rows_updated, done.rows_inserted), (1, 1))


def act_create_as():
    """A table that is there with its rows or not at all."""
    rows = own_table().scan(selected_fields=("id", "name")).to_arrow()
    with catalog.create_table_transaction("py.copy", rows.schema) as tx:
        tx.append(rows)
    sees(sorted(catalog.load_table("py.copy").scan().to_arrow()["id"].to_pylist()), ids())
    catalog.purge_table("py.copy")


def act_overwrite():
    own_table().overwrite(own_rows({"id": 5, "name": "FIVE"}), overwrite_filter="id == 5")
    sees(own_table().scan(row_filter="id == 5").to_arrow()["name"].to_pylist(), ["FIVE"])


def act_branch():
    own_table().manage_snapshots().create_branch(seen["first"], "b1").commit()
    own_table().append(own_rows({"id": 9, "name": "i"}), branch="b1")
    sees(sorted(own_table().scan().use_ref("b1").to_arrow()["id"].to_pylist()), [1, 2, 9])
    sees(ids(), [1, 4, 5, 3000000000])


def act_tag():
    own_table().manage_snapshots().create_tag(seen["first"], "t1").commit()


def act_as_of_time():
    sees(own_table().snapshot_as_of_timestamp(seen["then"]).snapshot_id, seen["first"])


def act_as_of_tag():
    sees(sorted(own_table().scan().use_ref("t1").to_arrow()["id"].to_pylist()), [1, 2])


def act_metadata():
    t = own_table().inspect
    for rows in (t.snapshots(), t.history(), t.refs(), t.files(), t.manifests(), t.partitions()):
        assert rows.num_rows


def act_views():
    """It makes, lists and drops them, and runs none: it has no SQL."""
    made = ViewVersion(version_id=1, schema_id=0, timestamp_ms=seen["then"], summary={}, default_namespace=["py"],
                       representations=[SQLViewRepresentation(type="sql", sql="SELECT id FROM py.acts", dialect="spark")])
    catalog.create_view("py.v", Schema(NestedField(1, "id", LongType(), required=False), schema_id=0), made)
    assert catalog.view_exists("py.v") and ("py", "v") in catalog.list_views("py")
    catalog.drop_view("py.v")
    assert not catalog.view_exists("py.v")


def act_rename():
    catalog.rename_table(OWN, "py.other")
    assert catalog.table_exists("py.other") and not catalog.table_exists(OWN)


def act_drop():
    catalog.purge_table("py.other")
    assert not catalog.list_tables("py")
    catalog.drop_namespace("py")


def absent(thing, *names):
    """Not offered as long as the library has none of these verbs."""
    assert not any(hasattr(thing, n) for n in names), f"it has {names} by now"
    return "not offered"


ACTS = {
    "create": act_create, "append": act_append, "add a column": act_add, "rename a column": act_rename_column, "widen a column": act_widen,
    "reorder columns": act_reorder, "drop a column": act_drop_column, "partition evolution": act_partition, "delete": act_delete,
    "update": lambda: absent(Table, "update", "update_rows"), "merge": act_merge, "create as select": act_create_as, "overwrite": act_overwrite, "branch": act_branch, "tag": act_tag,
    "as of a snapshot": lambda: sees(ids(snapshot_id=seen["first"]), [1, 2]), "as of a time": act_as_of_time, "as of a tag": act_as_of_tag,
    "metadata tables": act_metadata, "views": act_views, "compact": lambda: absent(own_table().maintenance, "compact", "rewrite_data_files"),
    "rename": act_rename, "drop": act_drop,
}


def acts(where, tagged):
    out = {}
    for act, call in ACTS.items():
        try:
            out[act] = call() or "ok"
        except Exception:
            out[act] = traceback.format_exc()[-1500:]
    return out


def past(tables):
    out = {}
    for t in tables:
        table = catalog.load_table(t)
        out[t] = {"kind": table.properties["firn.as-of.kind"], "rows": rows_of(table)}
    return out


BOTH_TRIES = 50  # against another engine and Firn; each of them is several of PyIceberg's own


def make(table):
    """A table of two columns for several engines."""
    catalog.create_namespace_if_not_exists(table.split(".")[0])
    catalog.create_table(table, pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.string())]))


def simple(table, n):
    """n commits of a row each to such a table."""
    lost = 0
    for i in range(n):
        for _ in range(BOTH_TRIES):
            try:
                catalog.load_table(table).append(pa.table({"id": [i], "name": ["pyiceberg"]}))
                break
            except (CommitFailedException, ValidationException):
                lost += 1
        else:
            raise Lost(f"{BOTH_TRIES} tries")
    return lost


def by_name(table):
    """How many rows each engine has in such a table, and how many different ones."""
    out = {}
    for r in catalog.load_table(table).scan().to_arrow().to_pylist():
        out.setdefault(r["name"], []).append(r["id"])
    return {k: [len(v), len(set(v))] for k, v in out.items()}


serve({f.__name__: f for f in (append, add_file, delete, overwrite, delete_all, compact, expire, far, set_property, add_column,
                               remove_ref, rollback, set_current, drop, register, create_again, ledger, acts, reads, past, make, simple, by_name)})
