//! The pages inside the binary: which paths lead to them, how they are kept, and what the configuration writes into them.

use crate::harness::client::{Response, fetch};
use crate::harness::relay::Start;
use std::io::Read;

/// The assets that the index names.
fn assets(page: &str) -> Vec<String> {
    let parts = page.split('"').filter(|part| part.starts_with("/web/assets/"));
    parts.map(str::to_owned).collect()
}

fn unpacked(answer: &Response) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_path_of_a_page_leads_to_the_index_and_no_other_does() {
    let relay = Start::new().run();
    let index = relay.get("/web", &[]);
    let router = include_str!("../../web/src/router.ts");
    let paths = router.split("path: '").skip(1).map(|rest| rest.split('\'').next().unwrap());
    let paths: Vec<&str> = paths.filter(|path| !path.contains("rest")).collect();
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        let target = format!("/web{}", path.replace(":id", "a-b").replace(":part", "move"));
        assert_eq!(relay.get(&target, &[]).text(), index.text(), "{target}");
        assert_eq!(fetch(relay.address, "HEAD", &target, &[], b"").status, 200, "{target}");
        assert_eq!(fetch(relay.address, "POST", &target, &[], b"").status, 404, "{target}");
    }
    for target in ["/web/nowhere", "/web/index.html", "/web/keys/a/b", "/web/assets/none.js", "/web/assets/index.html"]
    {
        assert_eq!(relay.get(target, &[]).status, 404, "{target}");
    }
}

#[test]
fn assets_may_be_kept_for_ever_and_come_compressed_or_plain() {
    let relay = Start::new().run();
    let page = relay.get("/web", &[]);
    assert!(page.field("cache-control").unwrap().contains("no-store"));
    let assets = assets(&page.text());
    assert!(assets.len() >= 2, "{assets:?}");
    for target in assets {
        let packed = relay.get(&target, &[("Accept-Encoding", "gzip, br")]);
        assert_eq!((packed.status, packed.field("content-encoding")), (200, Some("gzip")), "{target}");
        let kept: Vec<&str> = packed
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(kept, ["public, max-age=31536000, immutable"], "{target}");
        assert_eq!((packed.field("pragma"), packed.field("expires")), (None, None), "{target}");
        assert_eq!(packed.field("vary"), Some("Origin"), "{target}");
        let plain = relay.get(&target, &[("Accept-Encoding", "identity")]);
        assert_eq!((plain.status, plain.field("content-encoding")), (200, None), "{target}");
        assert_eq!(plain.text(), unpacked(&packed), "{target}");
        assert!(!plain.text().contains("new Function"), "{target} needs eval");
    }
}

#[test]
fn the_configured_title_and_zone_stand_in_the_page_as_text() {
    let relay = Start::new()
        .with("WEB_TITLE", "Tom & Ann's <relay> {{zone}}")
        .with("WEB_LOGO_URL", "https://elsewhere.example/logo.png")
        .with("SYSTEM_TIMEZONE", "Europe/Berlin")
        .run();
    let page = relay.get("/web/key", &[]).text();
    assert!(page.contains("<title>Tom &amp; Ann's &lt;relay&gt; &#123;&#123;zone}}</title>"), "{page}");
    assert!(page.contains("name=\"relay-zone\" content=\"Europe/Berlin\""), "{page}");
    assert!(!page.contains("elsewhere") && !page.contains("{{"), "{page}");
    let fixed = Start::new().with("TIMEZONE_OFFSET", "8").run();
    let page = fixed.get("/web", &[]).text();
    assert!(page.contains("name=\"relay-zone\" content=\"+08:00\"") || page.contains("Asia/Shanghai"), "{page}");
}
