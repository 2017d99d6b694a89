//! `GET /admin/usage`: all figures of one range come from one reading and agree.

use crate::harness::relay::Start;
use crate::harness::upstream::{Upstream, json};
use crate::harness::{Key, Relay};
use serde_json::{Value, json as value};

fn message(model: &str) -> String {
    let usage = value!({
        "input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 5000,
    });
    value!({ "id": "m", "type": "message", "model": model, "content": [], "usage": usage }).to_string()
}

fn ask(relay: &Relay, key: &Key, model: &str) {
    let body = value!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(relay.message(key, body.to_string().as_bytes()).status, 200);
}

fn usage(relay: &Relay, query: &str) -> Value {
    let answer = relay.admin("GET", &format!("/admin/usage{query}"), &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].clone()
}

fn sum(items: &Value, member: &str) -> f64 {
    items.as_array().unwrap().iter().map(|item| item[member].as_f64().unwrap()).sum()
}

#[test]
fn the_figures_of_a_range_agree_in_all_over_time_by_model_and_by_key() {
    let upstream = Upstream::start(|received| {
        let model = received.json()["model"].as_str().unwrap().to_owned();
        json(200, &message(&model))
    });
    let relay = Start::new().with("SYSTEM_TIMEZONE", "Asia/Shanghai").upstream(&upstream).run();
    relay.add_api_key_account("first", "sk-1");
    let (ann, bob) = (relay.add_key("ann"), relay.add_key("bob"));
    ask(&relay, &ann, "claude-opus-4-1");
    ask(&relay, &ann, "claude-haiku-4-5");
    ask(&relay, &bob, "claude-haiku-4-5");
    ask(&relay, &bob, "claude-without-a-price");
    relay.admin("DELETE", &format!("/admin/api-keys/{}", bob.id), &Value::Null);
    for query in ["", "?by=hour", "?by=day"] {
        let found = usage(&relay, query);
        assert_eq!(found["timeZone"], "Asia/Shanghai");
        assert_eq!((&found["total"]["requests"], &found["total"]["allTokens"]), (&4.into(), &24_440.into()));
        assert_eq!(found["total"]["unpriced"], true);
        for part in ["series", "models", "keys"] {
            assert_eq!(sum(&found[part], "requests"), 4.0, "{part} {query}");
            assert!((sum(&found[part], "cost") - found["total"]["cost"].as_f64().unwrap()).abs() < 1e-9, "{part}");
        }
        assert_eq!(found["models"][0]["model"], "claude-opus-4-1", "the dearest first");
        assert_eq!((&found["keys"][0]["name"], &found["keys"][0]["isDeleted"]), (&"ann".into(), &false.into()));
        assert_eq!((&found["keys"][1]["name"], &found["keys"][1]["isDeleted"]), (&"bob".into(), &true.into()));
    }
    assert_eq!(usage(&relay, "")["series"].as_array().unwrap().len(), 7);
    let of_ann = usage(&relay, &format!("?keyId={}", ann.id));
    assert_eq!((&of_ann["total"]["requests"], &of_ann["keys"]), (&2.into(), &value!([])));
    let past = usage(&relay, "?from=2020-02-27&to=2020-03-01");
    assert_eq!((sum(&past["series"], "requests"), past["series"].as_array().unwrap().len()), (0.0, 4));
    assert_eq!((&past["from"], &past["to"]), (&"2020-02-27".into(), &"2020-03-01".into()));
    let hours = usage(&relay, "?by=hour&from=2020-02-27T00:00&to=2020-02-27T23:59");
    assert_eq!(hours["series"].as_array().unwrap().len(), 24);
    assert_eq!(hours["series"][0]["at"], "2020-02-26T16:00:00.000Z", "hours begin in the zone");
}

#[test]
fn a_range_that_cannot_be_read_is_refused_in_words() {
    let relay = Start::new().run();
    for (query, said) in [
        ("?from=yesterday", "from must be a date or an ISO 8601 instant"),
        ("?to=2020-13-01", "to must be a date or an ISO 8601 instant"),
        ("?by=minute", "by must be day or hour"),
        ("?from=2020-01-02&to=2020-01-01", "from must not be after to"),
        ("?from=2020-01-01&to=2021-01-01", "The range must not be longer than 366 days"),
        ("?by=hour&from=2020-01-01&to=2020-02-01", "The range must not be longer than 31 days"),
        ("?from=0001-01-01&to=9999-12-31", "The range must not be longer than 366 days"),
    ] {
        let answer = relay.admin("GET", &format!("/admin/usage{query}"), &Value::Null);
        assert_eq!((answer.status, answer.json()["message"].as_str()), (400, Some(said)), "{query}");
    }
    let nobody = relay.admin("GET", "/admin/usage?keyId=nobody", &Value::Null);
    assert_eq!((nobody.status, nobody.json()["message"].as_str()), (404, Some("API key not found")));
    let leap = usage(&relay, "?from=2020-01-01&to=2020-12-31");
    assert_eq!(leap["series"].as_array().unwrap().len(), 366);
}

#[test]
fn a_session_says_whether_the_password_is_still_the_made_up_one() {
    let relay = Start::new().without("ADMIN_USERNAME").without("ADMIN_PASSWORD").run();
    let first: Value = serde_json::from_slice(&std::fs::read(relay.folder.0.join("data/init.json")).unwrap()).unwrap();
    let (name, password) = (first["adminUsername"].as_str().unwrap(), first["adminPassword"].as_str().unwrap());
    let made_up = |password: &str| {
        let token = relay.login(name, password).json()["token"].as_str().unwrap().to_owned();
        let bearer = format!("Bearer {token}");
        (relay.get("/web/auth/user", &[("Authorization", &bearer)]).json()["user"]["isPasswordMadeUp"].clone(), bearer)
    };
    let (is_made_up, bearer) = made_up(password);
    assert_eq!(is_made_up, true);
    let body = value!({ "currentPassword": password, "newPassword": "chosen by a person" }).to_string();
    let fields = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    assert_eq!(relay.post("/web/auth/change-password", &fields, body.as_bytes()).status, 200);
    assert_eq!(made_up("chosen by a person").0, false);
}
