CREATE TABLE receipts (
  key     TEXT    COLLATE "C" PRIMARY KEY,  -- Idempotency-Key of a request
  at_ms   BIGINT  NOT NULL,                 -- when it was answered; old ones are deleted
  request TEXT    NOT NULL,                 -- digest of method, path and body: a key belongs to one request
  status  INTEGER NOT NULL,                 -- of the answer
  body    BYTEA                             -- of the answer; NULL where it is made again from the newest state
);
CREATE INDEX receipts_by_age ON receipts (at_ms);
