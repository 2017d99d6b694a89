-- What each request cost, frozen when its line was written: amounts in pico-dollars (10^12 are one dollar). A line whose model
-- or rule had no price then has none: all are NULL. The total is the sum of the five.
ALTER TABLE ledger ADD COLUMN cost_input INTEGER;
ALTER TABLE ledger ADD COLUMN cost_output INTEGER;
ALTER TABLE ledger ADD COLUMN cost_cache_write INTEGER;
ALTER TABLE ledger ADD COLUMN cost_cache_read INTEGER;
ALTER TABLE ledger ADD COLUMN cost_web_search INTEGER;
ALTER TABLE ledger ADD COLUMN price_version TEXT; -- the edition of the price table

ALTER TABLE rollups ADD COLUMN cost_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollups ADD COLUMN cost_output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollups ADD COLUMN cost_cache_write INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollups ADD COLUMN cost_cache_read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollups ADD COLUMN cost_web_search INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollups ADD COLUMN unpriced_requests INTEGER NOT NULL DEFAULT 0;
-- What was written before there were prices has none.
UPDATE rollups SET unpriced_requests = requests;

-- Reports over all keys read one span of time; without this they would walk through every key's whole history.
CREATE INDEX rollups_by_time ON rollups (scope, span, bucket);
