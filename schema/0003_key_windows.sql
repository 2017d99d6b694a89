-- When each key's current window of requests and tokens began. What was used in it is in the ledger.
CREATE TABLE key_windows (
    key_seq  INTEGER PRIMARY KEY REFERENCES api_keys (seq),
    start_ms INTEGER NOT NULL
) STRICT;
