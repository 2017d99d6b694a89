-- Sign-ins that have begun: between the address that the admin opens and the code that comes back.
-- Columns marked "sealed" hold text sealed under the encryption key, or '' for none.
CREATE TABLE oauth_sessions (
    id            TEXT PRIMARY KEY,
    verifier      TEXT NOT NULL,               -- sealed; the PKCE secret
    state         TEXT NOT NULL,
    proxy         TEXT NOT NULL,               -- sealed JSON
    expires_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_sessions_by_end ON oauth_sessions (expires_at_ms);
