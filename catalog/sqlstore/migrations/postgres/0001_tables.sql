-- Names, locations and keys compare byte by byte, as they do in SQLite: COLLATE "C".
CREATE TABLE namespaces (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  parent_id  BIGINT NOT NULL,              -- 0 at the top level
  name       TEXT   COLLATE "C" NOT NULL,
  properties TEXT   NOT NULL,              -- JSON object
  UNIQUE (parent_id, name)
);

CREATE TABLE tables (
  id                    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- never reused
  namespace_id          BIGINT NOT NULL REFERENCES namespaces (id),
  name                  TEXT   COLLATE "C" NOT NULL,
  uuid                  TEXT   NOT NULL UNIQUE,
  location              TEXT   COLLATE "C" NOT NULL,
  format_version        INTEGER NOT NULL,
  version               BIGINT NOT NULL,   -- grows by one per commit; what a commit compares and swaps
  last_updated_ms       BIGINT NOT NULL,
  last_sequence_number  BIGINT NOT NULL,
  next_row_id           BIGINT NOT NULL,
  materialized_version  BIGINT NOT NULL,   -- newest version that has a metadata file; 0: none yet
  materialized_location TEXT   NOT NULL,
  UNIQUE (namespace_id, name)
);
CREATE INDEX tables_by_location ON tables (location);

CREATE TABLE skeletons (
  table_id BIGINT PRIMARY KEY REFERENCES tables (id),
  body     BYTEA NOT NULL                  -- metadata JSON without snapshots, refs, logs and counters
);

CREATE TABLE snapshots (
  ord         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- order of arrival
  table_id    BIGINT NOT NULL REFERENCES tables (id),
  snapshot_id BIGINT NOT NULL,
  body        BYTEA  NOT NULL,             -- the snapshot's JSON
  UNIQUE (table_id, snapshot_id)
);

CREATE TABLE refs (
  table_id    BIGINT NOT NULL REFERENCES tables (id),
  name        TEXT   COLLATE "C" NOT NULL,
  snapshot_id BIGINT NOT NULL,
  body        BYTEA  NOT NULL,             -- the ref's JSON
  PRIMARY KEY (table_id, name)
);

CREATE TABLE snapshot_log (
  table_id    BIGINT NOT NULL REFERENCES tables (id),
  version     BIGINT NOT NULL,             -- of the commit; at registration, counted up from below zero
  at_ms       BIGINT NOT NULL,
  snapshot_id BIGINT NOT NULL,
  PRIMARY KEY (table_id, version)
);

CREATE TABLE metadata_files (
  table_id BIGINT NOT NULL REFERENCES tables (id),
  version  BIGINT NOT NULL,                -- at or below zero: files from before the table was registered
  at_ms    BIGINT NOT NULL,                -- last-updated-ms of that version
  location TEXT   NOT NULL,
  PRIMARY KEY (table_id, version)
);

CREATE TABLE history (
  table_id    BIGINT NOT NULL REFERENCES tables (id),
  version     BIGINT NOT NULL,
  at_ms       BIGINT NOT NULL,             -- when the catalog committed it
  snapshot_id BIGINT NOT NULL,             -- main's head after the commit
  offsets     TEXT,                        -- summary key firn.offsets, where the snapshot has one
  PRIMARY KEY (table_id, version)
);
