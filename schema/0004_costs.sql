-- What each request cost, frozen when its line was written: amounts in pico-dollars (10^12 are one dollar). A line whose model
-- or rule had no price then has none: all are NULL. The total is the sum of the five.
ALTER TABLE ledger ADD COLUMN cost_input INTEGER;
ALTER TABLE ledger ADD COLUMN cost_output INTEGER;
ALTER TABLE ledger ADD COLUMN cost_cache_write INTEGER;
ALTER TABLE ledger ADD COLUMN cost_cache_read INTEGER;
ALTER TABLE ledger ADD COLUMN cost_web_search INTEGER;
ALTER TABLE ledger ADD COLUMN price_version TEXT; -- the edition of the price table

-- The sums again, with costs, and in another order: buckets of time first, so that a report over all keys reads rows that lie
-- together, and what is written now goes to few places. Meaning of the columns as in 0001.
CREATE TABLE rollups_with_costs (
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
    cost_input               INTEGER NOT NULL,
    cost_output              INTEGER NOT NULL,
    cost_cache_write         INTEGER NOT NULL,
    cost_cache_read          INTEGER NOT NULL,
    cost_web_search          INTEGER NOT NULL,
    unpriced_requests        INTEGER NOT NULL, -- requests among them that have no price
    PRIMARY KEY (scope, span, bucket, subject, model)
) STRICT, WITHOUT ROWID;
-- What was written before there were prices has none.
INSERT INTO rollups_with_costs
    SELECT scope, subject, span, bucket, model, requests, input_tokens, output_tokens, cache_creation_5m_tokens,
        cache_creation_1h_tokens, cache_read_tokens, 0, 0, 0, 0, 0, requests
    FROM rollups;
DROP TABLE rollups;
ALTER TABLE rollups_with_costs RENAME TO rollups;
