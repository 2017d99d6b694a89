//! Reading the ledger line by line, newest first: pages by cursor, one line, and what it costs to look for more.
//!
//! A page is an indexed read of bounded length. Key, time and failure have an index; account, model and exact outcomes are
//! looked at line by line on the way, and a page that has looked at enough lines ends where it stands. So no filter can
//! make a read long, however many lines there are, and no line is dearer to write for it.

use super::{Store, lock};
use crate::error::Result;
use crate::model::{Cost, Line, Outcome, Tokens};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use std::collections::HashMap;
use std::sync::Arc;

/// Lines that one page looks at.
const SCANNED_MAX: usize = 20_000;
/// Newest lines among which a request is looked for by the id that its client saw.
const BY_REQUEST_ID_MAX: i64 = 100_000;

/// Which lines are asked for; all that is `None` says nothing.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    /// Row number of the key.
    pub key_seq: Option<i64>,
    /// Row numbers of the account: one that was deleted and made anew has several.
    pub account_seqs: Option<Vec<i64>>,
    /// The exact model.
    pub model: Option<String>,
    /// How it ended.
    pub status: Option<StatusFilter>,
    /// Arrived at or after, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Arrived before, Unix milliseconds.
    pub to_ms: Option<i64>,
}

/// How the requests asked for ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusFilter {
    /// With this status.
    Code(u16),
    /// In this way.
    Outcome(Outcome),
}

impl StatusFilter {
    fn fits(self, status: u16, complete: bool) -> bool {
        match self {
            StatusFilter::Code(code) => status == code,
            StatusFilter::Outcome(outcome) => Outcome::of(status, complete) == outcome,
        }
    }

    /// Whether all that fit are in the index of failures.
    fn is_failure(self) -> bool {
        match self {
            StatusFilter::Code(code) => code >= 400,
            StatusFilter::Outcome(outcome) => outcome != Outcome::Ok,
        }
    }
}

/// A place in the order of the ledger: lines behind it are older, or came in the same millisecond and were written before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Arrival, Unix milliseconds.
    pub at_ms: i64,
    /// The line's number.
    pub id: i64,
}

/// What a key or an account was called.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its identifier.
    pub id: String,
    /// Its name now, or its last one.
    pub name: String,
    /// Whether it was deleted.
    pub is_deleted: bool,
}

/// A line as the ledger keeps it.
#[derive(Clone, Debug)]
pub struct KeptLine {
    /// Its number.
    pub id: i64,
    /// The request.
    pub line: Line,
    /// What it cost, and the edition of the prices; `None` for a line without a price.
    pub priced: Option<(Cost, String)>,
    /// Whose request it was.
    pub key: Option<Arc<Named>>,
    /// Who answered; `None` for an account that nothing is known of any more.
    pub account: Option<Arc<Named>>,
}

/// A page of lines, newest first.
#[derive(Debug)]
pub struct LinePage {
    /// Those that fit.
    pub lines: Vec<KeptLine>,
    /// Where the next page begins; `None` when there are no more lines.
    pub next: Option<Place>,
    /// Lines that were looked at, at most 20,000.
    pub scanned: usize,
}

fn tokens(row: &Row<'_>) -> rusqlite::Result<Option<Tokens>> {
    let tokens = Tokens {
        input: row.get("input_tokens")?,
        output: row.get("output_tokens")?,
        cache_creation_5m: row.get("cache_creation_5m_tokens")?,
        cache_creation_1h: row.get("cache_creation_1h_tokens")?,
        cache_read: row.get("cache_read_tokens")?,
    };
    Ok(row.get::<_, bool>("billed")?.then_some(tokens))
}

fn line(row: &Row<'_>) -> rusqlite::Result<Line> {
    Ok(Line {
        request_id: row.get("request_id")?,
        at_ms: row.get("at_ms")?,
        key_seq: row.get("key_seq")?,
        account_seq: row.get("account_seq")?,
        model: row.get("model")?,
        stream: row.get("stream")?,
        status: row.get("status")?,
        upstream_request_id: row.get("upstream_request_id")?,
        tokens: tokens(row)?,
        web_search_requests: row.get("web_search_requests")?,
        service_tier: row.get("service_tier")?,
        speed: row.get("speed")?,
        inference_geo: row.get("inference_geo")?,
        complete: row.get("complete")?,
        attempts: row.get("attempts")?,
        account_reason: row.get::<_, String>("account_reason")?.into(),
        first_byte_ms: row.get("first_byte_ms")?,
        total_ms: row.get("total_ms")?,
    })
}

fn priced(row: &Row<'_>) -> rusqlite::Result<Option<(Cost, String)>> {
    let Some(version) = row.get("price_version")? else { return Ok(None) };
    let cost = Cost {
        input: row.get("cost_input")?,
        output: row.get("cost_output")?,
        cache_write: row.get("cost_cache_write")?,
        cache_read: row.get("cost_cache_read")?,
        web_search: row.get("cost_web_search")?,
    };
    Ok(Some((cost, version)))
}

/// A line whose key and account are still to be named.
fn kept(row: &Row<'_>) -> rusqlite::Result<KeptLine> {
    Ok(KeptLine { id: row.get("id")?, line: line(row)?, priced: priced(row)?, key: None, account: None })
}

const KEY: &str = "SELECT id, name, deleted_at_ms IS NOT NULL AS is_deleted FROM api_keys WHERE seq = ?1";
const ACCOUNT: &str = "SELECT id, name, 0 AS is_deleted FROM accounts WHERE seq = ?1
    UNION ALL SELECT id, name, 1 AS is_deleted FROM former_accounts WHERE seq = ?1";

/// Names the keys and accounts of lines.
fn name_all(db: &Connection, lines: &mut [KeptLine]) -> Result<()> {
    let (mut keys, mut accounts) = (HashMap::new(), HashMap::new());
    for line in lines {
        line.key = named(db, KEY, &mut keys, line.line.key_seq)?;
        line.account = named(db, ACCOUNT, &mut accounts, line.line.account_seq)?;
    }
    Ok(())
}

type Names = HashMap<i64, Option<Arc<Named>>>;

fn named(db: &Connection, sql: &str, known: &mut Names, seq: i64) -> Result<Option<Arc<Named>>> {
    if let Some(found) = known.get(&seq) {
        return Ok(found.clone());
    }
    let read = |row: &Row<'_>| {
        Ok(Arc::new(Named { id: row.get("id")?, name: row.get("name")?, is_deleted: row.get("is_deleted")? }))
    };
    let found = db.prepare_cached(sql)?.query_row([seq], read).optional()?;
    known.insert(seq, found.clone());
    Ok(found)
}

/// The read of a page, in the order of the one index that leaves the fewest lines to look at.
fn page_sql(filter: &LineFilter) -> String {
    let (index, condition) = match filter {
        LineFilter { status: Some(status), .. } if status.is_failure() => {
            ("ledger_of_failures", "(status >= 400 OR complete = 0) AND (:key IS NULL OR key_seq = :key) AND")
        }
        LineFilter { key_seq: Some(_), .. } => ("ledger_by_key", "key_seq = :key AND"),
        _ => ("ledger_by_time", ":key IS NULL AND"),
    };
    format!(
        "SELECT * FROM ledger INDEXED BY {index}
         WHERE {condition} at_ms BETWEEN :first AND :last AND (at_ms < :at OR id < :id)
         ORDER BY at_ms DESC, id DESC"
    )
}

/// Walks through the lines from a place on until there are enough.
fn page(db: &Connection, filter: &LineFilter, before: Option<Place>, limit: usize) -> Result<LinePage> {
    let mut statement = db.prepare_cached(&page_sql(filter))?;
    let columns =
        ["id", "at_ms", "account_seq", "model", "status", "complete"].map(|name| statement.column_index(name));
    let [id, at_ms, account_seq, model, status, complete] = columns;
    let (id, at_ms, account_seq, model, status, complete) = (id?, at_ms?, account_seq?, model?, status?, complete?);
    let before = before.unwrap_or(Place { at_ms: i64::MAX, id: i64::MAX });
    let first = filter.from_ms.unwrap_or(i64::MIN);
    let last = filter.to_ms.map_or(i64::MAX, |to| to.saturating_sub(1)).min(before.at_ms);
    let mut rows = statement.query(named_params! {
        ":key": filter.key_seq, ":first": first, ":last": last, ":at": before.at_ms, ":id": before.id,
    })?;
    let mut page = LinePage { lines: Vec::new(), next: None, scanned: 0 };
    let mut place = None;
    while let Some(row) = rows.next()? {
        if page.lines.len() >= limit || page.scanned >= SCANNED_MAX {
            page.next = place;
            break;
        }
        page.scanned += 1;
        place = Some(Place { at_ms: row.get(at_ms)?, id: row.get(id)? });
        let is_account = match &filter.account_seqs {
            None => true,
            Some(seqs) => seqs.contains(&row.get(account_seq)?),
        };
        let is_model = match &filter.model {
            None => true,
            Some(name) => row.get_ref(model)?.as_bytes().is_ok_and(|found| found == name.as_bytes()),
        };
        let is_status = match filter.status {
            None => true,
            Some(filter) => filter.fits(row.get(status)?, row.get(complete)?),
        };
        if is_account && is_model && is_status {
            page.lines.push(kept(row)?);
        }
    }
    Ok(page)
}

impl Store {
    /// The next lines that fit, newest first, at most `limit`. A page may have fewer, also none, and still have a next one:
    /// it looks at no more than 20,000 lines.
    ///
    /// # Errors
    /// SQLite's.
    pub fn ledger_lines(&self, filter: &LineFilter, before: Option<Place>, limit: usize) -> Result<LinePage> {
        let db = lock(&self.scanner);
        let mut page = page(&db, filter, before, limit)?;
        name_all(&db, &mut page.lines)?;
        Ok(page)
    }

    /// One line by its number.
    ///
    /// # Errors
    /// SQLite's.
    pub fn ledger_line(&self, id: i64) -> Result<Option<KeptLine>> {
        self.one_line("SELECT * FROM ledger WHERE id = ?1", &[&id])
    }

    /// The newest line of a request id, looked for among the newest 100,000 lines: these ids have no index, which would be
    /// the dearest of all to write.
    ///
    /// # Errors
    /// SQLite's.
    pub fn ledger_line_of_request(&self, request_id: &str) -> Result<Option<KeptLine>> {
        self.one_line(
            "SELECT * FROM ledger WHERE id > (SELECT max(id) FROM ledger) - ?2 AND request_id = ?1
             ORDER BY id DESC LIMIT 1",
            &[&request_id, &BY_REQUEST_ID_MAX],
        )
    }

    fn one_line(&self, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Option<KeptLine>> {
        let db = lock(&self.scanner);
        let mut found: Vec<KeptLine> =
            db.prepare_cached(sql)?.query_map(values, kept)?.collect::<rusqlite::Result<_>>()?;
        name_all(&db, &mut found)?;
        Ok(found.pop())
    }

    /// The row number of a key, also of a deleted one.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_seq(&self, id: &str) -> Result<Option<i64>> {
        let db = lock(&self.scanner);
        let mut statement = db.prepare_cached("SELECT seq FROM api_keys WHERE id = ?1")?;
        Ok(statement.query_row([id], |row| row.get("seq")).optional()?)
    }

    /// The row numbers that an account has and had; none for one that nothing is known of.
    ///
    /// # Errors
    /// SQLite's.
    pub fn account_seqs(&self, id: &str) -> Result<Vec<i64>> {
        let db = lock(&self.scanner);
        let mut statement = db.prepare_cached(
            "SELECT seq FROM accounts WHERE id = ?1 UNION SELECT seq FROM former_accounts WHERE id = ?1",
        )?;
        Ok(statement.query_map([id], |row| row.get("seq"))?.collect::<rusqlite::Result<_>>()?)
    }

    /// How many keys there are, and how many ledger lines, without counting these: from the oldest number to the newest.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rough_counts(&self) -> Result<(i64, i64)> {
        let db = lock(&self.scanner);
        let mut statement = db.prepare_cached(
            "SELECT (SELECT count(*) FROM api_keys WHERE deleted_at_ms IS NULL) AS keys,
                 coalesce((SELECT max(id) FROM ledger) - (SELECT min(id) FROM ledger) + 1, 0) AS lines",
        )?;
        Ok(statement.query_row([], |row| Ok((row.get("keys")?, row.get("lines")?)))?)
    }

    /// Bytes of the database's file and of its write-ahead log; 0 for one that is not there.
    pub fn file_bytes(&self) -> (u64, u64) {
        let bytes = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        (bytes(&self.path), bytes(log.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SQLite means to do for a read.
    fn plan(db: &Connection, filter: &LineFilter) -> String {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {}", page_sql(filter))).unwrap();
        let count = statement.parameter_count();
        let steps =
            statement.query_map(rusqlite::params_from_iter(vec![1; count]), |row| row.get::<_, String>("detail"));
        steps.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    }

    #[test]
    fn every_page_is_a_walk_along_one_index_and_nothing_is_sorted() {
        let mut db = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut db, std::path::Path::new("")).unwrap();
        let all = LineFilter::default();
        let key = LineFilter { key_seq: Some(1), ..all.clone() };
        let failed = LineFilter { status: Some(StatusFilter::Outcome(Outcome::Error)), ..key.clone() };
        for (filter, index) in [
            (&all, "ledger_by_time (at_ms>? AND at_ms<?)"),
            (&key, "ledger_by_key (key_seq=? AND at_ms>? AND at_ms<?)"),
            (&failed, "ledger_of_failures (at_ms>? AND at_ms<?)"),
        ] {
            assert_eq!(plan(&db, filter), format!("SEARCH ledger USING INDEX {index}"));
        }
    }
}
