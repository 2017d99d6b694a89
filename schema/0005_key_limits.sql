-- What a key may cost, which models it may use, how long it lives, and what becomes of it. Amounts are pico-dollars, 0 = none.
ALTER TABLE api_keys ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';           -- JSON array
ALTER TABLE api_keys ADD COLUMN allowed_models TEXT NOT NULL DEFAULT '[]'; -- JSON array; empty = all
ALTER TABLE api_keys ADD COLUMN daily_cost_limit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN weekly_cost_limit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN monthly_cost_limit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN total_cost_limit INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN rate_limit_cost INTEGER NOT NULL DEFAULT 0; -- per window
ALTER TABLE api_keys ADD COLUMN expiration_mode TEXT NOT NULL DEFAULT 'fixed' CHECK (expiration_mode IN ('fixed', 'activation'));
ALTER TABLE api_keys ADD COLUMN activation_days INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN activated_at_ms INTEGER;                   -- the first use of a key that lives from it
ALTER TABLE api_keys ADD COLUMN account_fallback INTEGER NOT NULL DEFAULT 0 CHECK (account_fallback IN (0, 1));
ALTER TABLE api_keys ADD COLUMN purged_at_ms INTEGER;                      -- only number, id and name are left, for the ledger
