"""Values as JSON that two sides can compare: exact, and written one way whatever type held them."""
import datetime as dt
import decimal
import math
import uuid


def plain(v):
    if v is None or isinstance(v, (bool, str)):
        return v
    if isinstance(v, float):
        return repr(v) if math.isfinite(v) else "NaN" if math.isnan(v) else "Infinity" if v > 0 else "-Infinity"
    if isinstance(v, (int, decimal.Decimal)):
        return str(v)
    if isinstance(v, (bytes, bytearray)):
        return "0x" + bytes(v).hex()
    if isinstance(v, dt.datetime):
        if v.tzinfo:
            v = v.astimezone(dt.timezone.utc)
        return v.isoformat(timespec="microseconds")
    if isinstance(v, dt.time):
        return v.isoformat(timespec="microseconds")
    if isinstance(v, (dt.date, uuid.UUID)):
        return str(v)
    if isinstance(v, dict):
        return {str(k): plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    raise TypeError(f"{type(v)}: {v!r}")
