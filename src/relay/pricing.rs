//! Downloading the price table.

use super::Relay;
use super::upstream::Call;
use crate::error::{Error, Kind, Result};
use crate::model::price::FETCHED_BYTES_MAX;

impl Relay {
    /// Downloads a price table, directly and without redirects.
    ///
    /// # Errors
    /// It did not come whole and in time, is larger than a price table may be, or is no text.
    pub fn fetch_prices(&self, url: &str) -> Result<String> {
        let answer = self.upstream.fetch(&Call::get("price list", url), FETCHED_BYTES_MAX as u64)?;
        if answer.status != 200 {
            return Err(Error::new(Kind::Upstream, format!("{url} answered with status {}", answer.status)));
        }
        String::from_utf8(answer.body)
            .map_err(|error| Error::from_source(Kind::Upstream, format!("{url} is no text"), error))
    }
}
