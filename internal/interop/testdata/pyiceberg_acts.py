"""PyIceberg as the other engine: catalog URI and table."""
import datetime as dt
import sys
import time
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.types import StringType

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
    t = catalog.load_table(name).scan(selected_fields=(PARTITION, OFFSET)).to_arrow()
    return runs(list(zip(t.column(PARTITION).to_pylist(), t.column(OFFSET).to_pylist())))


serve({f.__name__: f for f in (append, add_file, delete, overwrite, delete_all, compact, expire, far, set_property, add_column,
                               remove_ref, rollback, set_current, drop, register, create_again, ledger)})
