-- Requests that count in a key's window and have no ledger line: the relay itself refused them after it had counted them.
ALTER TABLE key_windows ADD COLUMN unlisted INTEGER NOT NULL DEFAULT 0;
