//! The pages, embedded in the binary as the build left them: the index, which is filled in here, and every asset compressed
//! once and for all. Assets have names with a digest of their content, so a browser may keep them for ever.

use super::Server;
use super::call::{Answer, Call};
use super::{dialect, entity};
use crate::model::time;
use flate2::read::GzDecoder;
use include_dir::{Dir, include_dir};
use std::io::Read;

type Outcome = Result<Answer, Answer>;

static PAGES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/web/dist");

/// For what never changes under its name.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// `GET /web` and every path of a page: the index with the relay's title, description, logo and time zone.
pub(crate) fn index(server: &Server, call: &Call) -> Outcome {
    let file = PAGES.get_file("index.html").and_then(|file| file.contents_utf8());
    let page = file.ok_or_else(|| dialect::no_route(&call.head))?;
    let config = server.settings.now();
    // Nothing is loaded from elsewhere, so a logo of another host is not shown.
    let logo = if config.web_logo_url.starts_with('/') { config.web_logo_url.as_str() } else { "" };
    let zone = time::zone_name(server.store.zone());
    let values = [
        ("{{title}}", config.web_title.as_str()),
        ("{{description}}", config.web_description.as_str()),
        ("{{logo}}", logo),
        ("{{zone}}", &zone),
    ];
    let filled = values.iter().fold(page.to_owned(), |page, (name, value)| page.replace(name, &escaped(value)));
    Ok(Answer::content("text/html; charset=utf-8", filled.into_bytes()))
}

/// `GET /web/assets/:file`.
pub(crate) fn asset(_: &Server, call: &Call) -> Outcome {
    let name = call.id();
    let file = PAGES.get_file(format!("assets/{name}.gz")).ok_or_else(|| dialect::no_route(&call.head))?;
    let compressed = file.contents();
    let answer = if entity::accepts_gzip(&call.head) {
        Answer::content(content_type(name), compressed.to_vec()).with("Content-Encoding", "gzip")
    } else {
        let mut plain = Vec::new();
        GzDecoder::new(compressed).read_to_end(&mut plain).map_err(|error| {
            log::error!("the embedded {name} cannot be unpacked: {error}");
            dialect::no_route(&call.head)
        })?;
        Answer::content(content_type(name), plain)
    };
    Ok(answer.with("Cache-Control", FOR_EVER))
}

/// A text as the value of an attribute or as content.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('{', "&#123;")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "application/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_leave_its_place() {
        assert_eq!(escaped("<b a=\"&\">{{zone}}"), "&lt;b a=&quot;&amp;&quot;&gt;&#123;&#123;zone}}");
    }

    #[test]
    fn every_asset_has_a_type_and_is_compressed() {
        let assets = PAGES.get_dir("assets").unwrap();
        assert!(assets.files().count() > 5);
        for file in assets.files() {
            let name = file.path().file_name().unwrap().to_str().unwrap();
            let name = name.strip_suffix(".gz").unwrap();
            assert_ne!(content_type(name), "application/octet-stream", "{name}");
        }
    }
}
