//! The repository itself: walls between rooms, links that lead somewhere, files that fit one subject.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What a fuzz target was built into is nobody's source.
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found
}

/// The code of a file without its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn the_arrows_between_the_rooms_run_one_way() {
    let may_use: [(&str, &[&str]); 8] = [
        ("model", &["error", "told"]),
        ("claude", &["error", "model"]),
        ("store", &["error", "told", "model"]),
        ("http", &[]),
        ("relay", &["error", "model", "claude", "store"]),
        ("migrate", &["error", "told", "model", "store"]),
        ("server", &["error", "told", "model", "claude", "store", "relay", "migrate", "http", "config"]),
        ("config", &["error", "model"]),
    ];
    for (room, allowed) in may_use {
        for (path, text) in sources(&format!("src/{room}")) {
            for part in code(&text).split("crate::").skip(1) {
                let used: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let is_fine = used == room || allowed.contains(&used.as_str()) || used.is_empty();
                assert!(is_fine, "{} uses crate::{used}", path.display());
            }
        }
    }
}

#[test]
fn each_foreign_power_has_one_home() {
    let homes: [(&str, &[&str]); 7] = [
        (
            "ureq",
            &[
                "src/relay/upstream.rs",
                "src/relay/watch.rs",
                "src/relay/pooled.rs",
                "src/relay/names.rs",
                "src/relay/faults.rs",
            ],
        ),
        ("rusqlite", &["src/store/"]),
        ("redis::", &["src/migrate/live.rs"]),
        ("TcpStream", &["src/http/"]),
        ("std::env::var", &["src/config/sources.rs", "src/app.rs"]),
        ("jiff::", &["src/model/time.rs", "src/config/", "src/store/"]),
        ("signal_hook", &["src/app.rs"]),
    ];
    for (path, text) in sources("src") {
        let path = path.to_str().unwrap();
        for (power, homes) in homes {
            let is_home = homes.iter().any(|home| path.starts_with(home));
            let lines = code(&text).lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(is_home || !lines.clone().any(|line| line.contains(power)), "{path} knows {power}");
        }
    }
}

#[test]
fn every_file_says_what_lives_there_and_none_holds_two_subjects() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//!"), "{} does not begin with //!", path.display());
        let lines = code(&text).lines().count();
        // A file of tests is a list; a room's file is one subject.
        let max = if path.starts_with("tests") { 700 } else { 450 };
        assert!(lines <= max, "{} has {lines} lines", path.display());
    }
}

/// The name of each sentence that `sentences!` declares, and the names of its values.
fn told(text: &str) -> Vec<(&str, Vec<&str>)> {
    let declared = text.split("\nsentences! {").skip(1).filter_map(|rest| rest.split("\n}\n").next());
    let lines = declared.flat_map(str::lines).map(str::trim).filter(|line| line.starts_with(char::is_uppercase));
    let sentences = lines.filter_map(|line| {
        let (head, _) = line.split_once("=>")?;
        let mut parts = head.split('"');
        let (code, values) = (parts.nth(1)?, parts.next()?);
        let values = values.trim_matches([' ', '{', '}']).split(',').filter_map(|value| value.split_once(':'));
        Some((code, values.map(|(name, _)| name.trim()).collect()))
    });
    sentences.collect()
}

#[test]
fn every_sentence_that_has_a_name_has_a_text_with_its_values_in_both_languages() {
    let sources = sources("src");
    let mut told: Vec<_> = sources.iter().flat_map(|(_, text)| told(code(text))).collect();
    told.sort();
    assert!(told.len() > 60, "{told:?}");
    for language in ["en", "zh-CN"] {
        let file = fs::read_to_string(root().join(format!("web/src/i18n/{language}.json"))).unwrap();
        let file: serde_json::Value = serde_json::from_str(&file).unwrap();
        let texts = file["told"].as_object().unwrap();
        let mut translated: Vec<_> = texts.keys().map(String::as_str).collect();
        translated.sort_unstable();
        // Two of one name would be the same to a page.
        assert_eq!(translated, told.iter().map(|(code, _)| *code).collect::<Vec<_>>(), "{language}");
        for (code, values) in &told {
            let text = texts[*code].as_str().unwrap();
            let mut named: Vec<_> = text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
            named.sort_unstable();
            named.dedup();
            let mut values = values.clone();
            values.sort_unstable();
            assert_eq!(named, values, "{code} in {language}");
        }
    }
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    for name in ["README.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !link.starts_with("http") && !link.starts_with('#') {
                assert!(root().join(link.split('#').next().unwrap()).exists(), "{name}: {link}");
            }
        }
    }
}

#[test]
fn the_readme_names_every_setting_and_every_make_target() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let settings = fs::read_to_string(root().join("src/config/settings.rs")).unwrap();
    let names = settings
        .lines()
        .filter_map(|line| line.trim().split_once(", \""))
        .filter_map(|(_, rest)| rest.split('"').next());
    let names: Vec<&str> =
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')).collect();
    assert!(names.len() >= 30);
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "the README does not name {name}");
    }
    for target in ["make run", "make test"] {
        assert!(readme.contains(target));
    }
}
