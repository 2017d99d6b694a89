-- How accounts stand: what rests and why, what the vendor's windows say, what happened, which conversation stays with which.

-- What rests: scope is 'account', or a family of models. Kept after its end until a success, so that a guess can grow.
CREATE TABLE account_rests (
    account_seq INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    scope       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    source      TEXT NOT NULL,           -- 'header' or 'guess'
    since_ms    INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL,
    message     TEXT NOT NULL,
    failures    INTEGER NOT NULL,        -- in a row
    PRIMARY KEY (account_seq, scope)
) STRICT, WITHOUT ROWID;

-- The vendor's windows as its last answer told them.
CREATE TABLE account_windows (
    account_seq INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    name        TEXT NOT NULL,
    utilization REAL,                    -- 0 to 1
    status      TEXT NOT NULL,
    reset_at_ms INTEGER,
    seen_at_ms  INTEGER NOT NULL,
    PRIMARY KEY (account_seq, name)
) STRICT, WITHOUT ROWID;

-- What happened to an account; the newest few hundred of each are kept.
CREATE TABLE account_events (
    id          INTEGER PRIMARY KEY,
    account_seq INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    at_ms       INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    reason      TEXT,
    scope       TEXT,
    until_ms    INTEGER,
    source      TEXT,
    status      INTEGER,                 -- the upstream's, if it answered
    message     TEXT NOT NULL
) STRICT;
CREATE INDEX account_events_by_account ON account_events (account_seq, id);

-- Conversations, as hashes over key and session, and the account each stays with.
CREATE TABLE affinities (
    conversation BLOB PRIMARY KEY,
    account_seq  INTEGER NOT NULL REFERENCES accounts (seq) ON DELETE CASCADE,
    used_at_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX affinities_by_use ON affinities (used_at_ms);
CREATE INDEX affinities_by_account ON affinities (account_seq);

ALTER TABLE accounts ADD COLUMN max_concurrency INTEGER NOT NULL DEFAULT 0;  -- requests at the same time; 0 = none
ALTER TABLE accounts ADD COLUMN expires_on_ms INTEGER;                       -- the end of the account's use
ALTER TABLE accounts ADD COLUMN daily_cost_limit INTEGER NOT NULL DEFAULT 0; -- pico-dollars; 0 = none
ALTER TABLE accounts ADD COLUMN model_mapping TEXT NOT NULL DEFAULT '{}';    -- JSON: exact name → name sent upstream

-- How a line's account was found: tries until it answered, and why it was chosen.
ALTER TABLE ledger ADD COLUMN attempts INTEGER NOT NULL DEFAULT 1;
ALTER TABLE ledger ADD COLUMN account_reason TEXT NOT NULL DEFAULT '';
