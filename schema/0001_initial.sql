-- The relay's database. Instants are Unix milliseconds, UTC. Migrations are append-only: never edit a file that was released.

-- Facts about this database itself, such as the fingerprint of the key that seals its secrets.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE admins (
    username      TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,               -- bcrypt
    created_at_ms INTEGER NOT NULL,
    updated_at_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    token_hash   TEXT PRIMARY KEY,             -- SHA-256 of the token; the token itself is kept nowhere
    username     TEXT NOT NULL REFERENCES admins (username) ON DELETE CASCADE ON UPDATE CASCADE,
    login_at_ms  INTEGER NOT NULL,
    active_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Columns marked "sealed" hold text sealed under the encryption key, or '' for none.
CREATE TABLE accounts (
    seq                INTEGER PRIMARY KEY AUTOINCREMENT,
    id                 TEXT NOT NULL UNIQUE,
    name               TEXT NOT NULL,
    description        TEXT NOT NULL,
    kind               TEXT NOT NULL CHECK (kind IN ('oauth', 'setup_token', 'api_key')),
    account_type       TEXT NOT NULL CHECK (account_type IN ('shared', 'dedicated')),
    is_active          INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    schedulable        INTEGER NOT NULL CHECK (schedulable IN (0, 1)),
    priority           INTEGER NOT NULL CHECK (priority BETWEEN 1 AND 100),
    status             TEXT NOT NULL CHECK (status IN ('created', 'active', 'error')),
    error_message      TEXT NOT NULL,
    email              TEXT NOT NULL,          -- sealed
    password           TEXT NOT NULL,          -- sealed
    access_token       TEXT NOT NULL,          -- sealed
    refresh_token      TEXT NOT NULL,          -- sealed
    api_key            TEXT NOT NULL,          -- sealed
    proxy              TEXT NOT NULL,          -- sealed JSON
    expires_at_ms      INTEGER,
    scopes             TEXT NOT NULL,          -- separated by spaces
    base_url           TEXT,
    created_at_ms      INTEGER NOT NULL,
    updated_at_ms      INTEGER,
    last_used_at_ms    INTEGER,
    last_refresh_at_ms INTEGER
) STRICT;

CREATE TABLE api_keys (
    seq                      INTEGER PRIMARY KEY AUTOINCREMENT,
    id                       TEXT NOT NULL UNIQUE,
    key_hash                 TEXT NOT NULL UNIQUE, -- SHA-256 of key and pepper, as in the original
    name                     TEXT NOT NULL,
    description              TEXT NOT NULL,
    token_limit              INTEGER NOT NULL,
    concurrency_limit        INTEGER NOT NULL,
    rate_limit_window        INTEGER NOT NULL,     -- minutes
    rate_limit_requests      INTEGER NOT NULL,
    is_active                INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    claude_account_id        TEXT NOT NULL,
    enable_model_restriction INTEGER NOT NULL CHECK (enable_model_restriction IN (0, 1)),
    restricted_models        TEXT NOT NULL,        -- JSON array
    created_at_ms            INTEGER NOT NULL,
    updated_at_ms            INTEGER,
    last_used_at_ms          INTEGER,
    expires_at               TEXT NOT NULL,        -- as the admin wrote it
    expires_at_ms            INTEGER,
    deleted_at_ms            INTEGER               -- the record and its bill stay after deletion
) STRICT;

-- One line a relayed request, written before its last byte is sent.
CREATE TABLE ledger (
    id                       INTEGER PRIMARY KEY,
    request_id               TEXT NOT NULL,
    at_ms                    INTEGER NOT NULL,
    key_seq                  INTEGER NOT NULL REFERENCES api_keys (seq),
    account_seq              INTEGER NOT NULL,     -- no reference: an account may go, what it served stays
    model                    TEXT NOT NULL,
    stream                   INTEGER NOT NULL CHECK (stream IN (0, 1)),
    status                   INTEGER NOT NULL,
    upstream_request_id      TEXT,
    billed                   INTEGER NOT NULL CHECK (billed IN (0, 1)), -- whether the upstream reported usage
    complete                 INTEGER NOT NULL CHECK (complete IN (0, 1)),
    input_tokens             INTEGER NOT NULL,
    output_tokens            INTEGER NOT NULL,
    cache_creation_5m_tokens INTEGER NOT NULL,
    cache_creation_1h_tokens INTEGER NOT NULL,
    cache_read_tokens        INTEGER NOT NULL,
    web_search_requests      INTEGER NOT NULL,
    service_tier             TEXT,
    speed                    TEXT,
    inference_geo            TEXT,
    first_byte_ms            INTEGER NOT NULL,
    total_ms                 INTEGER NOT NULL
) STRICT;
CREATE INDEX ledger_by_time ON ledger (at_ms);
CREATE INDEX ledger_by_key ON ledger (key_seq, at_ms);

-- Sums of the billed ledger lines, written in the transaction of the line, so that no report adds up the ledger and no two totals differ.
-- scope: 0 everything, 1 a key, 2 an account; subject: 0, or the row number of the key or account.
-- span: 0 all time, 1 month, 2 day, 3 hour; bucket: 0, yyyymm, yyyymmdd, or the Unix second at which the local hour began.
CREATE TABLE rollups (
    scope                    INTEGER NOT NULL,
    subject                  INTEGER NOT NULL,
    span                     INTEGER NOT NULL,
    bucket                   INTEGER NOT NULL,
    model                    TEXT NOT NULL,
    requests                 INTEGER NOT NULL,
    input_tokens             INTEGER NOT NULL,
    output_tokens            INTEGER NOT NULL,
    cache_creation_5m_tokens INTEGER NOT NULL,
    cache_creation_1h_tokens INTEGER NOT NULL,
    cache_read_tokens        INTEGER NOT NULL,
    PRIMARY KEY (scope, subject, span, bucket, model)
) STRICT, WITHOUT ROWID;
