CREATE TABLE views (
  id                INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
  namespace_id      INTEGER NOT NULL REFERENCES namespaces (id),
  name              TEXT    NOT NULL,                  -- no table of the namespace has it
  uuid              TEXT    NOT NULL UNIQUE,
  version           INTEGER NOT NULL,                  -- grows by one per commit; what a commit compares and swaps
  metadata_dir      TEXT    NOT NULL,                  -- where its metadata files lie; no table's location overlaps it
  metadata_location TEXT    NOT NULL,                  -- of this version's metadata file
  body              BLOB    NOT NULL,                  -- the metadata JSON, as that file has it
  UNIQUE (namespace_id, name)
);
CREATE INDEX views_by_metadata_dir ON views (metadata_dir);
