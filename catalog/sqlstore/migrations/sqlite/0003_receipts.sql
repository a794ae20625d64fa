CREATE TABLE receipts (
  key     TEXT    PRIMARY KEY,             -- Idempotency-Key of a request
  at_ms   INTEGER NOT NULL,                -- when it was answered; old ones are deleted
  request TEXT    NOT NULL,                -- digest of method, path and body: a key belongs to one request
  status  INTEGER NOT NULL,                -- of the answer
  body    BLOB                             -- of the answer; NULL where it is made again from the newest state
) WITHOUT ROWID;
CREATE INDEX receipts_by_age ON receipts (at_ms);
