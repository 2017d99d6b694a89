-- Limits in money that an admin was told of as reached: once a key, limit and span, also over a restart.
CREATE TABLE told_limits (
    key_seq    INTEGER NOT NULL REFERENCES api_keys (seq),
    name       TEXT NOT NULL,                -- 'daily', 'weekly', 'monthly', 'total', 'window'
    allowed    INTEGER NOT NULL,             -- pico-dollars; a limit that was changed is another one
    ends_at_ms INTEGER,                      -- the end of the span; NULL = none
    PRIMARY KEY (key_seq, name)
) STRICT, WITHOUT ROWID;
