-- What came over from the original: which installation it came from, and what of it has been counted.

-- An installation is known by its encryption key, which was also the pepper of the keys it issued.
CREATE TABLE origins (
    id             INTEGER PRIMARY KEY,
    fingerprint    TEXT NOT NULL UNIQUE,       -- of its encryption key
    pepper         TEXT NOT NULL,              -- the same key, sealed
    imported_at_ms INTEGER NOT NULL
) STRICT;

-- Key hashes made with an origin's pepper; every other hash is made with this relay's own.
CREATE TABLE imported_hashes (
    key_hash TEXT PRIMARY KEY,
    origin   INTEGER NOT NULL REFERENCES origins (id)
) STRICT, WITHOUT ROWID;

-- What has been added to the rollups for an origin so far. A later import adds only what has grown since.
-- Meaning of the columns as in the rollups.
CREATE TABLE imported_usage (
    origin                INTEGER NOT NULL REFERENCES origins (id),
    scope                 INTEGER NOT NULL,
    subject               INTEGER NOT NULL,
    span                  INTEGER NOT NULL,
    bucket                INTEGER NOT NULL,
    model                 TEXT NOT NULL,
    requests              INTEGER NOT NULL,
    input_tokens          INTEGER NOT NULL,
    output_tokens         INTEGER NOT NULL,
    cache_creation_tokens INTEGER NOT NULL,
    cache_read_tokens     INTEGER NOT NULL,
    PRIMARY KEY (origin, scope, span, bucket, subject, model)
) STRICT, WITHOUT ROWID;
