-- The sums of keys without their models: what a list of thousands of keys and their use over time read. Triggers keep them, in
-- the transaction that changes a rollup, whoever changes it; so they cannot differ from the rollups.

-- All time (span 0) and months (span 1) of every key. Meaning of the columns as in 0004.
CREATE TABLE key_sums (
    span                     INTEGER NOT NULL,
    bucket                   INTEGER NOT NULL,
    subject                  INTEGER NOT NULL,
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
    unpriced_requests        INTEGER NOT NULL,
    PRIMARY KEY (span, bucket, subject)
) STRICT, WITHOUT ROWID;

-- Tokens of all kinds and their cost by day (span 2) and hour (span 3), key by key: a key's days lie together.
CREATE TABLE key_use (
    span    INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    bucket  INTEGER NOT NULL,
    tokens  INTEGER NOT NULL,
    cost    INTEGER NOT NULL,
    PRIMARY KEY (span, subject, bucket)
) STRICT, WITHOUT ROWID;

INSERT INTO key_sums
    SELECT span, bucket, subject, sum(requests), sum(input_tokens), sum(output_tokens), sum(cache_creation_5m_tokens),
        sum(cache_creation_1h_tokens), sum(cache_read_tokens), sum(cost_input), sum(cost_output), sum(cost_cache_write),
        sum(cost_cache_read), sum(cost_web_search), sum(unpriced_requests)
    FROM rollups WHERE scope = 1 AND span < 2 GROUP BY span, bucket, subject;
INSERT INTO key_use
    SELECT span, subject, bucket, sum(input_tokens + output_tokens + cache_creation_5m_tokens + cache_creation_1h_tokens
        + cache_read_tokens), sum(cost_input + cost_output + cost_cache_write + cost_cache_read + cost_web_search)
    FROM rollups WHERE scope = 1 AND span >= 2 GROUP BY span, subject, bucket;

CREATE TRIGGER key_sums_grow AFTER INSERT ON rollups WHEN NEW.scope = 1 AND NEW.span < 2 BEGIN
    INSERT INTO key_sums VALUES (NEW.span, NEW.bucket, NEW.subject, NEW.requests, NEW.input_tokens, NEW.output_tokens,
        NEW.cache_creation_5m_tokens, NEW.cache_creation_1h_tokens, NEW.cache_read_tokens, NEW.cost_input, NEW.cost_output,
        NEW.cost_cache_write, NEW.cost_cache_read, NEW.cost_web_search, NEW.unpriced_requests)
    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
        input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
        cache_creation_5m_tokens = cache_creation_5m_tokens + excluded.cache_creation_5m_tokens,
        cache_creation_1h_tokens = cache_creation_1h_tokens + excluded.cache_creation_1h_tokens,
        cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens, cost_input = cost_input + excluded.cost_input,
        cost_output = cost_output + excluded.cost_output, cost_cache_write = cost_cache_write + excluded.cost_cache_write,
        cost_cache_read = cost_cache_read + excluded.cost_cache_read,
        cost_web_search = cost_web_search + excluded.cost_web_search,
        unpriced_requests = unpriced_requests + excluded.unpriced_requests;
END;
CREATE TRIGGER key_use_grows AFTER INSERT ON rollups WHEN NEW.scope = 1 AND NEW.span >= 2 BEGIN
    INSERT INTO key_use VALUES (NEW.span, NEW.subject, NEW.bucket, NEW.input_tokens + NEW.output_tokens
        + NEW.cache_creation_5m_tokens + NEW.cache_creation_1h_tokens + NEW.cache_read_tokens,
        NEW.cost_input + NEW.cost_output + NEW.cost_cache_write + NEW.cost_cache_read + NEW.cost_web_search)
    ON CONFLICT DO UPDATE SET tokens = tokens + excluded.tokens, cost = cost + excluded.cost;
END;

-- What is added to a rollup. Rollups only grow: none moves to another bucket, and none is deleted.
CREATE TRIGGER key_sums_change AFTER UPDATE ON rollups WHEN NEW.scope = 1 AND NEW.span < 2 BEGIN
    UPDATE key_sums SET requests = requests + NEW.requests - OLD.requests,
        input_tokens = input_tokens + NEW.input_tokens - OLD.input_tokens,
        output_tokens = output_tokens + NEW.output_tokens - OLD.output_tokens,
        cache_creation_5m_tokens = cache_creation_5m_tokens + NEW.cache_creation_5m_tokens - OLD.cache_creation_5m_tokens,
        cache_creation_1h_tokens = cache_creation_1h_tokens + NEW.cache_creation_1h_tokens - OLD.cache_creation_1h_tokens,
        cache_read_tokens = cache_read_tokens + NEW.cache_read_tokens - OLD.cache_read_tokens,
        cost_input = cost_input + NEW.cost_input - OLD.cost_input,
        cost_output = cost_output + NEW.cost_output - OLD.cost_output,
        cost_cache_write = cost_cache_write + NEW.cost_cache_write - OLD.cost_cache_write,
        cost_cache_read = cost_cache_read + NEW.cost_cache_read - OLD.cost_cache_read,
        cost_web_search = cost_web_search + NEW.cost_web_search - OLD.cost_web_search,
        unpriced_requests = unpriced_requests + NEW.unpriced_requests - OLD.unpriced_requests
    WHERE span = NEW.span AND bucket = NEW.bucket AND subject = NEW.subject;
END;
CREATE TRIGGER key_use_changes AFTER UPDATE ON rollups WHEN NEW.scope = 1 AND NEW.span >= 2 BEGIN
    UPDATE key_use SET tokens = tokens
        + NEW.input_tokens + NEW.output_tokens + NEW.cache_creation_5m_tokens + NEW.cache_creation_1h_tokens
        + NEW.cache_read_tokens
        - OLD.input_tokens - OLD.output_tokens - OLD.cache_creation_5m_tokens - OLD.cache_creation_1h_tokens
        - OLD.cache_read_tokens,
        cost = cost
        + NEW.cost_input + NEW.cost_output + NEW.cost_cache_write + NEW.cost_cache_read + NEW.cost_web_search
        - OLD.cost_input - OLD.cost_output - OLD.cost_cache_write - OLD.cost_cache_read - OLD.cost_web_search
    WHERE span = NEW.span AND subject = NEW.subject AND bucket = NEW.bucket;
END;
