-- What the admin has set in the pages, and prices of the admin's own.

-- A setting by its name in the configuration file. The environment is stronger, the file weaker.
CREATE TABLE settings (
    name          TEXT PRIMARY KEY,
    value         TEXT NOT NULL,             -- as the environment would say it; sealed where is_sealed is 1
    is_sealed     INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Prices that are stronger than every table: the rates in JSON as the admin gave them, dollars per million tokens.
CREATE TABLE price_overrides (
    model         TEXT PRIMARY KEY,
    rates         TEXT NOT NULL,
    updated_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
