//! `GET /admin/requests.csv`: the ledger as a table, page by page, so that its length costs no memory.

use super::Server;
use super::call::{Answer, Call};
use super::requests;
use super::watch::{Outlet, Over, Watched};
use crate::model::cost::DOLLAR;
use crate::model::time::iso;
use crate::model::{Cost, Outcome};
use crate::store::{KeptLine, LineFilter, Named};
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines that are read and sent at a time.
const LINES_AT_A_TIME: usize = 500;
/// The longest that one download takes.
const TIME_MAX: Duration = Duration::from_secs(600);

const HEADER: &str = "id,request_id,at,key_id,key_name,account_id,account_name,model,stream,status,complete,outcome,\
    input_tokens,output_tokens,cache_creation_5m_tokens,cache_creation_1h_tokens,cache_read_tokens,web_search_requests,\
    cost_usd,cost_input_usd,cost_output_usd,cost_cache_write_usd,cost_cache_read_usd,cost_web_search_usd,price_version,\
    attempts,account_reason,first_byte_ms,total_ms,upstream_request_id,service_tier,speed,inference_geo\r\n";

/// `GET /admin/requests.csv`.
pub(crate) fn requests_csv(server: &Server, call: &Call) -> Result<Watched, Answer> {
    let filter = requests::filter(server, call)?;
    Ok(Watched {
        content_type: "text/csv; charset=utf-8",
        disposition: Some("attachment; filename=\"requests.csv\""),
        feed: Box::new(move |server, outlet| send(server, outlet, &filter)),
    })
}

fn send(server: &Server, outlet: &mut Outlet<'_>, filter: &LineFilter) -> Result<(), Over> {
    let end = Instant::now() + TIME_MAX;
    let mut before = None;
    let mut text = HEADER.to_owned();
    loop {
        let page = server.store.ledger_lines(filter, before, LINES_AT_A_TIME).map_err(|error| {
            log::error!("a download of requests broke off: {error}");
            Over
        })?;
        for line in &page.lines {
            row(&mut text, line);
        }
        outlet.send(text.as_bytes())?;
        text.clear();
        before = page.next;
        if before.is_none() {
            return Ok(());
        }
        if Instant::now() > end {
            log::warn!("a download of requests took longer than {} s and was cut", TIME_MAX.as_secs());
            return Err(Over);
        }
    }
}

fn row(text: &mut String, kept: &KeptLine) {
    let KeptLine { id, line, priced, key, account } = kept;
    let cost = priced.as_ref().map(|(cost, _)| cost);
    let tokens = line.tokens.unwrap_or_default();
    let mut row = Row { text, is_first: true };
    row.number(id);
    row.text(&line.request_id);
    row.text(&iso(line.at_ms));
    row.named(key.as_ref());
    row.named(account.as_ref());
    row.text(&line.model);
    row.number(line.stream);
    row.number(line.status);
    row.number(line.complete);
    row.text(Outcome::of(line.status, line.complete).as_str());
    row.number(tokens.input);
    row.number(tokens.output);
    row.number(tokens.cache_creation_5m);
    row.number(tokens.cache_creation_1h);
    row.number(tokens.cache_read);
    row.number(line.web_search_requests);
    let parts: [fn(&Cost) -> i64; 6] = [
        Cost::total,
        |cost| cost.input,
        |cost| cost.output,
        |cost| cost.cache_write,
        |cost| cost.cache_read,
        |cost| cost.web_search,
    ];
    for part in parts {
        row.number(cost.map(|cost| dollars(part(cost))).unwrap_or_default());
    }
    row.text(priced.as_ref().map_or("", |(_, version)| version));
    row.number(line.attempts);
    row.text(&line.account_reason);
    row.number(line.first_byte_ms);
    row.number(line.total_ms);
    for optional in [&line.upstream_request_id, &line.service_tier, &line.speed, &line.inference_geo] {
        row.text(optional.as_deref().unwrap_or_default());
    }
    text.push_str("\r\n");
}

/// A row of the table (RFC 4180).
struct Row<'a> {
    text: &'a mut String,
    is_first: bool,
}

impl Row<'_> {
    fn next(&mut self) {
        if !std::mem::take(&mut self.is_first) {
            self.text.push(',');
        }
    }

    /// A cell that this program wrote: a number, or nothing.
    fn number(&mut self, value: impl Display) {
        self.next();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{value}");
    }

    /// A cell that somebody else may have written. Spreadsheets run what looks like a formula, so it must not.
    fn text(&mut self, value: &str) {
        self.next();
        let is_formula = value.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let is_quoted = value.contains(['"', ',', '\r', '\n']);
        if is_quoted {
            self.text.push('"');
        }
        if is_formula {
            self.text.push('\'');
        }
        for c in value.chars() {
            if c == '"' {
                self.text.push('"');
            }
            self.text.push(c);
        }
        if is_quoted {
            self.text.push('"');
        }
    }

    fn named(&mut self, named: Option<&Arc<Named>>) {
        self.text(named.map_or("", |named| &named.id));
        self.text(named.map_or("", |named| &named.name));
    }
}

/// An amount in dollars, exactly.
fn dollars(pico: i64) -> String {
    let (unit, amount) = (DOLLAR.unsigned_abs(), pico.unsigned_abs());
    let sign = if pico < 0 { "-" } else { "" };
    let exact = format!("{sign}{}.{:012}", amount / unit, amount % unit);
    exact.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_as_needed_and_never_formulas() {
        for (value, cell) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\tx", "'\tx"),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("a=1", "a=1"),
        ] {
            let mut text = String::new();
            Row { text: &mut text, is_first: true }.text(value);
            assert_eq!(text, cell);
        }
        let mut text = String::new();
        let mut row = Row { text: &mut text, is_first: true };
        row.number(-1);
        row.text("x");
        assert_eq!(text, "-1,x");
    }

    #[test]
    fn amounts_are_exact() {
        for (pico, text) in
            [(0, "0"), (DOLLAR, "1"), (10 * DOLLAR, "10"), (1, "0.000000000001"), (-1_500_000_000_000, "-1.5")]
        {
            assert_eq!(dollars(pico), text);
        }
    }
}
