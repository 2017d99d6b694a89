-- Whether the answer to a refresh never came: the refresh token may be spent.
ALTER TABLE accounts ADD COLUMN refresh_in_doubt INTEGER NOT NULL DEFAULT 0 CHECK (refresh_in_doubt IN (0, 1));
