CREATE TABLE namespaces (
  id         INTEGER PRIMARY KEY,
  parent_id  INTEGER NOT NULL,           -- 0 at the top level
  name       TEXT    NOT NULL,
  properties TEXT    NOT NULL,           -- JSON object
  UNIQUE (parent_id, name)
);

CREATE TABLE tables (
  id                    INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused
  namespace_id          INTEGER NOT NULL REFERENCES namespaces (id),
  name                  TEXT    NOT NULL,
  uuid                  TEXT    NOT NULL UNIQUE,
  location              TEXT    NOT NULL,
  format_version        INTEGER NOT NULL,
  version               INTEGER NOT NULL,  -- grows by one per commit; what a commit compares and swaps
  last_updated_ms       INTEGER NOT NULL,
  last_sequence_number  INTEGER NOT NULL,
  next_row_id           INTEGER NOT NULL,
  materialized_version  INTEGER NOT NULL,  -- newest version that has a metadata file; 0: none yet
  materialized_location TEXT    NOT NULL,
  UNIQUE (namespace_id, name)
);
CREATE INDEX tables_by_location ON tables (location);

CREATE TABLE skeletons (
  table_id INTEGER PRIMARY KEY REFERENCES tables (id),
  body     BLOB NOT NULL                   -- metadata JSON without snapshots, refs, logs and counters
);

CREATE TABLE snapshots (
  ord         INTEGER PRIMARY KEY,         -- order of arrival
  table_id    INTEGER NOT NULL REFERENCES tables (id),
  snapshot_id INTEGER NOT NULL,
  body        BLOB    NOT NULL,            -- the snapshot's JSON
  UNIQUE (table_id, snapshot_id)
);

CREATE TABLE refs (
  table_id    INTEGER NOT NULL REFERENCES tables (id),
  name        TEXT    NOT NULL,
  snapshot_id INTEGER NOT NULL,
  body        BLOB    NOT NULL,            -- the ref's JSON
  PRIMARY KEY (table_id, name)
) WITHOUT ROWID;

CREATE TABLE snapshot_log (
  table_id    INTEGER NOT NULL REFERENCES tables (id),
  version     INTEGER NOT NULL,            -- of the commit; at registration, counted up from below zero
  at_ms       INTEGER NOT NULL,
  snapshot_id INTEGER NOT NULL,
  PRIMARY KEY (table_id, version)
) WITHOUT ROWID;

CREATE TABLE metadata_files (
  table_id INTEGER NOT NULL REFERENCES tables (id),
  version  INTEGER NOT NULL,               -- at or below zero: files from before the table was registered
  at_ms    INTEGER NOT NULL,               -- last-updated-ms of that version
  location TEXT    NOT NULL,
  PRIMARY KEY (table_id, version)
) WITHOUT ROWID;

CREATE TABLE history (
  table_id    INTEGER NOT NULL REFERENCES tables (id),
  version     INTEGER NOT NULL,
  at_ms       INTEGER NOT NULL,            -- when the catalog committed it
  snapshot_id INTEGER NOT NULL,            -- main's head after the commit
  offsets     TEXT,                        -- summary key firn.offsets, where the snapshot has one
  PRIMARY KEY (table_id, version)
) WITHOUT ROWID;
