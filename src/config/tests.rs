//! The settings from all their sources, the unhappy half included.

use super::settings::{SETTINGS, WITHOUT_EFFECT};
use super::*;
use std::path::Path;

fn sources(file: Option<&str>, dotenv: Option<&str>, environment: &[(&str, &str)]) -> Sources {
    Sources {
        file: file.map(|text| ("c.json".into(), text.to_owned())),
        dotenv: dotenv.map(str::to_owned),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

fn load(file: Option<&str>, dotenv: Option<&str>, environment: &[(&str, &str)]) -> Result<Config, Faults> {
    Config::load(sources(file, dotenv, environment))
}

#[test]
fn the_example_holds_every_setting_at_its_default() {
    let text = include_str!("../../config.example.json");
    assert_eq!(load(Some(text), None, &[]).unwrap(), Config::default());
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    let names: Vec<&str> = members.keys().map(String::as_str).collect();
    let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(names, known);
    // Null means "the default": where there is one, the example shows it.
    for (name, value) in &members {
        let changed = format!("{{\"{name}\":[]}}");
        assert!(load(Some(&changed), None, &[]).is_err(), "{name}");
        let has_default = !format!("{:?}", Config::default()).contains(&format!(" {name}: None"));
        assert_eq!(value.is_null(), !has_default, "{name}");
    }
}

#[test]
fn no_name_stands_twice() {
    let mut names: Vec<&str> = SETTINGS.iter().flat_map(|setting| [setting.name, setting.environment]).collect();
    names.extend(WITHOUT_EFFECT.iter().map(|(name, _)| *name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn the_environment_beats_dotenv_beats_the_file() {
    let file = "\u{feff}{\"port\": 1, \"host\": \"a\", \"relay_workers\": 7, \"claude_api_version\": null, \"trust_proxy\": true}";
    let config =
        load(Some(file), Some("PORT=2\nHOST=b\nRELAY_WORKERS=\n"), &[("PORT", "3"), ("HOST", ""), ("OTHER", "x")]);
    let config = config.unwrap();
    assert_eq!((config.port, config.host.as_str(), config.relay_workers, config.trust_proxy), (3, "b", 7, true));
    assert_eq!(config.claude_api_version, "2023-06-01");
}

#[test]
fn every_setting_has_its_own_name_in_the_environment() {
    // What no setting of numbers, words, URLs or secrets allows.
    for setting in SETTINGS {
        let bad = [(setting.environment, "\u{1}")];
        match load(None, None, &bad) {
            Err(faults) => assert!(faults.to_string().contains(setting.environment), "{faults}"),
            Ok(config) => assert_ne!(config, Config::default(), "{}", setting.name),
        }
    }
}

#[test]
fn the_sample_environment_of_the_original_is_read() {
    let text = "PORT=3001\nHOST=0.0.0.0\nNODE_ENV=production\n# Keys\nJWT_SECRET=unused\nADMIN_SESSION_TIMEOUT=86400000\nAPI_KEY_PREFIX=cr_\nENCRYPTION_KEY=0123456789abcdef0123456789abcdef\nREDIS_HOST=localhost\nREDIS_PASSWORD=\nREDIS_DB=0\nCLAUDE_API_URL=https://api.anthropic.com/v1/messages\nCLAUDE_BETA_HEADER=claude-code-20250219,oauth-2025-04-20\nDEFAULT_PROXY_TIMEOUT=60000\nLOG_LEVEL=http\nLOG_MAX_SIZE=10m\nLOG_MAX_FILES=5\nCLEANUP_INTERVAL=3600000\nTOKEN_USAGE_RETENTION=2592000000\nSYSTEM_TIMEZONE=Asia/Shanghai\nTIMEZONE_OFFSET=8\nWEB_TITLE=Claude Relay Service\nWEB_LOGO_URL=/assets/logo.png\nDEBUG=false\nENABLE_CORS=true\nTRUST_PROXY=true\nADMIN_PASSWORD='pass#word 1'\n";
    let config = load(None, Some(text), &[]).unwrap();
    let expected = Config {
        port: 3001,
        encryption_key: Some(Sensitive::new("0123456789abcdef0123456789abcdef".into())),
        admin_password: Some(Sensitive::new("pass#word 1".into())),
        system_timezone: Some("Asia/Shanghai".into()),
        web_title: "Claude Relay Service".into(),
        enable_cors: true,
        trust_proxy: true,
        address_limit: 1000,
        fixed: config.fixed.clone(),
        ..Config::default()
    };
    assert!(config.is_fixed("web_title") && config.is_fixed("system_timezone") && !config.is_fixed("data_dir"));
    assert_eq!(config, expected);
    let ignored: Vec<&str> = sources(None, Some(text), &[]).without_effect().iter().map(|(name, _)| *name).collect();
    assert_eq!(
        ignored,
        [
            "REDIS_HOST",
            "REDIS_PASSWORD",
            "REDIS_DB",
            "JWT_SECRET",
            "CLAUDE_BETA_HEADER",
            "DEFAULT_PROXY_TIMEOUT",
            "DEBUG"
        ]
    );
}

#[test]
fn all_faults_are_told_at_once_each_in_a_line_and_no_secret_is() {
    let faults = load(
        Some(r#"{"prot": 1, "relay_workers": 0, "host": [1], "port": "3000", "encryption_key": 4711, "web_title": true}"#),
        Some("TIMEZONE_OFFSET=15\nLOG_MAX_SIZE=big\n"),
        &[
            ("PORT", "70000"),
            ("CLAUDE_API_URL", "ftp://x"),
            ("SYSTEM_TIMEZONE", "Mars/Base"),
            ("ADMIN_PASSWORD", "hunter2"),
            ("METRICS_TOKEN", "hunter2"),
            ("LOG_LEVEL", "loud"),
            ("ENABLE_CORS", "yes"),
            ("API_KEY_PREFIX", "c r"),
            ("UPSTREAM_IDLE_TIMEOUT", "0"),
        ],
    )
    .unwrap_err();
    let expected = [
        "c.json: unknown setting \"prot\"",
        "c.json: relay_workers must be a whole number from 1 to 4096, found \"0\"",
        "c.json: host must be written as a JSON string, found [1]",
        "c.json: port must be written as a JSON number, found \"3000\"",
        "c.json: encryption_key must be written as a JSON string",
        "c.json: web_title must be written as a JSON string, found true",
        ".env: LOG_MAX_SIZE must be a size from 64k to 1024g, found \"big\"",
        ".env: TIMEZONE_OFFSET must be a whole number from -12 to 14, found \"15\"",
        "environment: PORT must be a whole number from 0 to 65535, found \"70000\"",
        "environment: API_KEY_PREFIX must be 1 to 20 letters, digits, - or _, found \"c r\"",
        "environment: ADMIN_PASSWORD must be at least 8 characters long",
        "environment: CLAUDE_API_URL must be an http:// or https:// URL with a host, found \"ftp://x\"",
        "environment: UPSTREAM_IDLE_TIMEOUT must be a whole number from 100 to 86400000, found \"0\"",
        "environment: LOG_LEVEL must be one of error, warn, info, debug, trace (or http, verbose, silly), found \"loud\"",
        "environment: SYSTEM_TIMEZONE must be an IANA time zone such as Europe/Berlin, found \"Mars/Base\"",
        "environment: ENABLE_CORS must be true or false, found \"yes\"",
        "environment: METRICS_TOKEN must be at least 16 characters long",
    ];
    assert_eq!(faults.lines(), expected);
    for (file, start) in [("{", "c.json: must be a JSON object: "), ("[]", "c.json: must be a JSON object: ")] {
        assert!(load(Some(file), None, &[]).unwrap_err().to_string().starts_with(start));
    }
    assert_eq!(load(None, Some("PORT=1\nhunter2"), &[]).unwrap_err().lines(), [".env: line 2 is not NAME=value"]);
}

#[test]
fn values_are_judged_by_their_bounds() {
    for (name, value, is_allowed) in [
        ("PORT", "0", true),
        ("PORT", " 80 ", true),
        ("PORT", "80x", false),
        ("PORT", "-1", false),
        ("HOST", "::", true),
        ("HOST", "a b", false),
        ("CLAUDE_API_URL", "http://127.0.0.1:8080/v1/messages", true),
        ("CLAUDE_API_URL", "http://[::1]:8080/", true),
        ("CLAUDE_API_URL", "https://[::1]/", true),
        ("CLAUDE_API_URL", "https://a", true),
        ("CLAUDE_API_URL", "https://", false),
        ("CLAUDE_API_URL", "https:///v1", false),
        ("CLAUDE_API_URL", "https://:80/v1", false),
        ("CLAUDE_API_URL", "https://a:b/", false),
        ("CLAUDE_API_URL", "https://a:99999/", false),
        ("CLAUDE_API_URL", "https://::1/", false),
        ("CLAUDE_API_URL", "https://user:pass@a/", false),
        ("CLAUDE_API_URL", "https://a/ b", false),
        ("CLAUDE_API_VERSION", "2023-06-01\n", true),
        ("CLAUDE_API_VERSION", "2023 06", false),
        ("LOG_MAX_SIZE", "1G", true),
        ("LOG_MAX_SIZE", "99999999999999999999g", false),
        ("LOG_MAX_SIZE", "1", false),
        ("LOG_MAX_FILES", "14d", true),
        ("LOG_MAX_FILES", "d", false),
        ("WEB_LOGO_URL", "/x.svg", true),
        ("WEB_LOGO_URL", "javascript:alert(1)", false),
        ("WEB_LOGO_URL", "//elsewhere/x", false),
        ("ADMIN_PASSWORD", "12345678", true),
        ("ADMIN_PASSWORD", "密码密码密码", false),
        ("TIMEZONE_OFFSET", "5.5", true),
        ("TIMEZONE_OFFSET", "h8", false),
    ] {
        assert_eq!(load(None, None, &[(name, value)]).is_ok(), is_allowed, "{name}={value}");
    }
}

#[test]
fn offsets_are_read_as_in_the_original() {
    for (text, hours) in [("5.5", 5), ("-3.5", -3), ("8h", 8), ("+2", 2), ("0", 0)] {
        assert_eq!(load(None, Some(&format!("TIMEZONE_OFFSET={text}")), &[]).unwrap().timezone_offset, hours, "{text}");
    }
}

#[test]
fn production_mode_brings_the_originals_limit_unless_one_is_set() {
    let mode = [("NODE_ENV", "production")];
    let limit = |file, dotenv, environment: &[_]| load(file, dotenv, environment).unwrap().address_limit;
    assert_eq!(limit(None, None, &mode), 1000);
    assert_eq!(limit(None, Some("NODE_ENV=production"), &[]), 1000);
    assert_eq!(limit(None, Some("NODE_ENV=production"), &[("NODE_ENV", "development")]), 0);
    assert_eq!(limit(Some(r#"{"address_limit": 0}"#), None, &mode), 0);
    assert_eq!(limit(None, None, &[mode[0], ("ADDRESS_RATE_LIMIT", "5")]), 5);
    assert_eq!(limit(None, None, &[("NODE_ENV", "test")]), 0);
}

#[test]
fn secrets_are_taken_to_the_letter_and_not_shown() {
    let config = load(None, Some("ENCRYPTION_KEY=' k '"), &[]).unwrap();
    assert_eq!(config.encryption_key.as_ref().map(Sensitive::expose), Some(" k "));
    let shown = format!(
        "{:?}",
        load(None, None, &[("ENCRYPTION_KEY", "hunter2"), ("ADMIN_PASSWORD", "hunter2hunter2")]).unwrap()
    );
    assert!(shown.contains("***") && !shown.contains("hunter2"));
}

#[test]
fn an_empty_price_list_address_is_a_value_and_every_other_empty_one_is_none() {
    for setting in SETTINGS {
        let config = load(None, None, &[(setting.environment, "")]).unwrap();
        assert_eq!(config == Config::default(), setting.environment != "PRICING_URL", "{}", setting.name);
    }
    assert_eq!(load(None, Some("PRICING_URL="), &[]).unwrap().pricing_url, "");
    let file = r#"{"encryption_key": "", "admin_username": "", "upstream_ca_file": "", "system_timezone": "", "web_logo_url": ""}"#;
    assert_eq!(load(Some(file), None, &[]).unwrap(), Config::default());
    assert!(load(Some(r#"{"data_dir": ""}"#), None, &[]).is_err() && load(Some(r#"{"host": ""}"#), None, &[]).is_err());
}

#[test]
fn zones_and_offsets_are_told_apart() {
    let at = jiff::Timestamp::from_second(1_785_000_000).unwrap();
    for (zone, offset, expected_hours) in [
        ("", "", 8),
        ("", "0", 0),
        ("", "-7", -7),
        ("Europe/Berlin", "", 2),
        ("Europe/Berlin", "3", 2),
        ("UTC", "8", 0),
        ("Asia/Shanghai", "", 8),
        ("Asia/Shanghai", "-5", -5),
    ] {
        let config = load(None, None, &[("SYSTEM_TIMEZONE", zone), ("TIMEZONE_OFFSET", offset)]).unwrap();
        assert_eq!(config.time_zone().to_offset(at).seconds(), expected_hours * 3600, "{zone} {offset}");
    }
}

#[test]
fn levels_of_the_original_are_understood() {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
    for (text, level) in [
        ("error", Error),
        ("WARN", Warn),
        ("info", Info),
        ("http", Info),
        ("verbose", Debug),
        ("debug", Debug),
        ("silly", Trace),
    ] {
        assert_eq!(load(None, None, &[("LOG_LEVEL", text)]).unwrap().log_level, level);
    }
}

#[test]
fn a_named_file_must_be_there() {
    let faults = Sources::from_process(Some(Path::new("/nowhere/c.json"))).err().unwrap();
    assert!(faults.to_string().contains("/nowhere/c.json: cannot be read: "), "{faults}");
}
