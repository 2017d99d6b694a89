-- Lines that failed or were cut are few and what an admin looks for: writing all the others costs this index nothing.
CREATE INDEX ledger_of_failures ON ledger (at_ms) WHERE status >= 400 OR complete = 0;

-- What deleted accounts were called: their ledger lines go on naming them.
CREATE TABLE former_accounts (
    seq           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL,
    name          TEXT NOT NULL,
    deleted_at_ms INTEGER NOT NULL
) STRICT;
CREATE TRIGGER accounts_leave_their_name AFTER DELETE ON accounts BEGIN
    INSERT OR REPLACE INTO former_accounts (seq, id, name, deleted_at_ms)
    VALUES (OLD.seq, OLD.id, OLD.name, CAST(unixepoch('subsec') * 1000 AS INTEGER));
END;
