"""The engines of others, connected to an Iceberg REST catalog."""
import duckdb
from duckdb_extensions import import_extension


def duck(uri, **secret):
    """DuckDB with the catalog attached as lake. secret: key_id, secret, endpoint, region of an S3 that vends no keys."""
    db = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        import_extension(name, con=db)
        db.execute(f"load {name}")
    if secret:
        fields = ", ".join(f"{k} '{v}'" for k, v in secret.items())
        db.execute(f"create secret (type s3, url_style 'path', use_ssl false, {fields})")
    # Asked to delegate, DuckDB makes a secret of what the catalog says of the storage, which here holds no keys.
    delegation = ", access_delegation_mode 'none'" if secret else ""
    db.execute(f"attach '' as lake (type iceberg, endpoint '{uri}', authorization_type 'none'{delegation})")
    return db
