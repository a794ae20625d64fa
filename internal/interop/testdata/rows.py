"""PyIceberg reads whole tables: catalog URI."""
import sys

from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.types import MapType

from lines import OFFSET, PARTITION, serve
from plain import plain

catalog = load_catalog("firn", type="rest", uri=sys.argv[1])


def rows(table):
    """The rows in the order of the log, and the types of the columns; None when there is no such table."""
    try:
        t = catalog.load_table(table)
    except NoSuchTableError:
        return None
    maps = {f.name for f in t.schema().fields if isinstance(f.field_type, MapType)}
    batches = t.scan().to_arrow_batch_reader()  # pyarrow makes no empty table of arrays of uuids
    out = [{k: plain(dict(v) if k in maps and v is not None else v) for k, v in r.items()} for batch in batches for r in batch.to_pylist()]
    out.sort(key=lambda r: (int(r[PARTITION]), int(r[OFFSET])))
    return {"rows": out, "types": {f.name: str(f.field_type) for f in t.schema().fields}}


serve({"rows": rows})
