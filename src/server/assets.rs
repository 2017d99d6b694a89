//! The pages, embedded in the binary.

use super::Server;
use super::call::{Answer, Call};
use super::dialect;
use include_dir::{Dir, include_dir};

type Outcome = Result<Answer, Answer>;

static PAGES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/web/page");

/// `GET /web`.
pub(crate) fn index(_: &Server, call: &Call) -> Outcome {
    file("index.html", call)
}

/// `GET /web/assets/:file`.
pub(crate) fn asset(_: &Server, call: &Call) -> Outcome {
    file(&format!("assets/{}", call.id()), call)
}

fn file(path: &str, call: &Call) -> Outcome {
    let file = PAGES.get_file(path).ok_or_else(|| dialect::no_route(&call.head))?;
    Ok(Answer::content(content_type(path), file.contents().to_vec()))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "application/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}
