//! Pages of the list of keys beside the whole list, and bodies as forms that nest.

use crate::harness::client::{Response, fetch};
use crate::harness::relay::Start;
use crate::harness::upstream::json;
use crate::harness::{Relay, Upstream};
use crate::samples::message;
use serde_json::{Value, json as value};

fn get(relay: &Relay, query: &str) -> Value {
    let response = relay.admin("GET", &format!("/admin/api-keys{query}"), &Value::Null);
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    response.json()
}

fn names(answer: &Value) -> Vec<&str> {
    answer["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect()
}

fn filled() -> Relay {
    let relay = Start::new().run();
    for (name, description, tags, expires_at) in [
        ("Erika", "first floor", value!(["home"]), "2099-01-01T00:00:00.000Z"),
        ("bert", "", value!(["work", "home"]), ""),
        ("Ärger", "a key of 100%", value!([]), "2098-01-01T00:00:00.000Z"),
        ("anna", "", value!(["Homework"]), ""),
        ("dora", "second FLOOR", value!(["work"]), ""),
    ] {
        relay.add_key_with(&value!({
            "name": name, "description": description, "tags": tags, "expiresAt": expires_at, "weeklyCostLimit": 7,
        }));
    }
    relay
}

#[test]
fn the_list_is_whole_unless_a_page_is_asked_for() {
    let relay = filled();
    let whole = get(&relay, "");
    assert_eq!(names(&whole).len(), 5);
    assert!(whole.get("total").is_none() && whole.get("limit").is_none());
    let page = get(&relay, "?limit=200");
    assert_eq!(page["data"], whole["data"], "a key is shown alike on a page and in the list");
    assert_eq!((&page["total"], &page["limit"], &page["offset"]), (&5.into(), &200.into(), &0.into()));
    let default = get(&relay, "?sort=createdAt");
    assert_eq!((default["data"] == whole["data"], &default["limit"]), (true, &50.into()));
    let mut paged = Vec::new();
    for offset in [0, 2, 4, 6] {
        let page = get(&relay, &format!("?limit=2&offset={offset}"));
        assert_eq!((&page["total"], &page["offset"]), (&5.into(), &offset.into()));
        paged.extend(page["data"].as_array().unwrap().clone());
    }
    assert_eq!(Value::Array(paged), whole["data"], "pages are the list, cut");
}

#[test]
fn keys_are_searched_filtered_and_ordered() {
    let relay = filled();
    let id = get(&relay, "")["data"][1]["id"].as_str().unwrap().to_owned();
    for (query, expected) in [
        ("?search=floor", vec!["Erika", "dora"]),
        ("?search=HOME", vec!["Erika", "bert", "anna"]),
        ("?search=%C3%A4RGER", vec!["Ärger"]),
        ("?search=100%25", vec!["Ärger"]),
        ("?search=_", vec![]),
        ("?search=+home%20BERT+", vec!["bert"]),
        ("?search=home%20nobody", vec![]),
        ("?search=&limit=2", vec!["Erika", "bert"]),
        ("?tag=home", vec!["Erika", "bert"]),
        ("?tag=Home", vec![]),
        ("?tag=work&search=bert", vec!["bert"]),
        ("?sort=name", vec!["anna", "bert", "dora", "Erika", "Ärger"]),
        ("?sort=name&order=desc&limit=2", vec!["Ärger", "Erika"]),
        ("?order=desc&limit=2", vec!["dora", "anna"]),
        ("?sort=expiresAt", vec!["Ärger", "Erika", "bert", "anna", "dora"]),
        ("?sort=totalCost", vec!["Erika", "bert", "Ärger", "anna", "dora"]),
        ("?deleted=true&limit=5", vec![]),
    ] {
        let page = get(&relay, query);
        assert_eq!(names(&page), expected, "{query}");
    }
    assert_eq!(names(&get(&relay, &format!("?search={}", id.to_uppercase()))), ["bert"]);
    assert_eq!(get(&relay, "?tag=work&limit=1")["total"], 2);
    assert_eq!(relay.admin("DELETE", &format!("/admin/api-keys/{id}"), &Value::Null).status, 200);
    assert_eq!(names(&get(&relay, "?deleted=true&search=bert")), ["bert"]);
    assert_eq!(get(&relay, "?tag=home")["total"], 1);
}

#[test]
fn keys_are_found_by_their_state_and_ordered_by_what_they_used() {
    let upstream = Upstream::start(|_| json(200, &message("claude-sonnet-4-5", 1000, 1000)));
    let relay = Start::new().upstream(&upstream).run();
    relay.add_api_key_account("a", "sk-ant-a");
    // One answer costs 0.018 dollars.
    let add = |name: &str, members: Value| {
        let mut body = value!({ "name": name, "tokenLimit": 0, "tags": [format!("tag of {name}")] });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        relay.add_key_with(&body)
    };
    let free = add("key 10", value!({}));
    let near = add("key 9", value!({ "dailyCostLimit": 0.02 }));
    let over = add("key 2", value!({ "monthlyCostLimit": 0.04, "rateLimitWindow": 60, "rateLimitRequests": 1 }));
    add("key 1", value!({ "isActive": false }));
    let body = br#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    for key in [&free, &free, &near, &over] {
        assert_eq!(relay.message(key, body).status, 200);
    }
    let off = get(&relay, "?state=off")["data"][0]["id"].as_str().unwrap().to_owned();
    for (query, expected) in [
        ("?sort=name", vec!["key 1", "key 2", "key 9", "key 10"]),
        ("?state=active&sort=name", vec!["key 9", "key 10"]),
        ("?state=off", vec!["key 1"]),
        ("?state=expired", vec![]),
        ("?state=reached", vec!["key 2"]),
        ("?sort=dailyRequests&limit=1", vec!["key 10"]),
        ("?sort=nearestLimit&limit=2", vec!["key 2", "key 9"]),
        ("?sort=nearestLimit&order=asc&limit=3", vec!["key 10", "key 1", "key 9"]),
    ] {
        let page = get(&relay, query);
        assert_eq!(names(&page), expected, "{query}");
        let tags = value!(["tag of key 1", "tag of key 10", "tag of key 2", "tag of key 9"]);
        assert_eq!(page["tags"], tags, "{query}: the tags of all keys");
    }
    assert_eq!(names(&get(&relay, &format!("?search={off}&limit=200"))), ["key 1"]);
}

#[test]
fn a_page_that_makes_no_sense_is_refused() {
    let relay = Start::new().run();
    let long = format!("?search={}", "x".repeat(101));
    for query in [
        "?limit=0",
        "?limit=201",
        "?limit=-1",
        "?limit=ten",
        "?offset=-1",
        "?offset=99999999999999999999999",
        "?sort=key_hash",
        "?order=up",
        "?state=asleep",
        &long,
    ] {
        let response = relay.admin("GET", &format!("/admin/api-keys{query}"), &Value::Null);
        assert_eq!(response.status, 400, "{query}: {}", response.text());
        let body = response.json();
        assert!(body["error"].is_string() && body["message"].is_string(), "{query}: {body}");
    }
    assert_eq!(names(&get(&relay, "?limit=&offset=&sort=&order=&search=&tag=")), [""; 0]);
}

fn form(relay: &Relay, method: &str, target: &str, body: &str) -> Response {
    let bearer = format!("Bearer {}", relay.token());
    let fields =
        [("Authorization", bearer.as_str()), ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")];
    fetch(relay.address, method, target, &fields, body.as_bytes())
}

#[test]
fn forms_nest_as_in_the_original() {
    let relay = Start::new().run();
    let body = "name=by+form&tags%5B%5D=a&tags%5B%5D=b%26c&restrictedModels[1]=y&restrictedModels[0]=x\
        &__proto__[isActive]=false&constructor[prototype][name]=polluted";
    let made = form(&relay, "POST", "/admin/api-keys", body);
    assert_eq!(made.status, 200, "{}", made.text());
    let key = &get(&relay, "")["data"][0];
    assert_eq!(
        (&key["name"], &key["tags"], &key["restrictedModels"], &key["isActive"]),
        (&value!("by form"), &value!(["a", "b&c"]), &value!(["x", "y"]), &value!(true))
    );
    let body = "name=proxied&kind=api_key&apiKey=sk-x&proxy[type]=socks5&proxy[host]=127.0.0.1&proxy[port]=1080";
    let made = form(&relay, "POST", "/admin/claude-accounts", body);
    assert_eq!(made.status, 200, "{}", made.text());
    let proxy = &made.json()["data"]["proxy"];
    assert_eq!((&proxy["type"], &proxy["host"]), (&value!("socks5"), &value!("127.0.0.1")), "{proxy}");
}

#[test]
fn forms_that_are_too_deep_or_too_long_are_refused() {
    let relay = Start::new().run();
    for body in [format!("name{}=x", "[a]".repeat(40)), format!("name{}", "[".repeat(1_000_000)), "a[]=1&".repeat(1001)]
    {
        let response = form(&relay, "POST", "/admin/api-keys", &body);
        assert_eq!(response.status, 400, "{}", response.text());
    }
    let twice = form(&relay, "POST", "/admin/api-keys", "name=a&name=b");
    assert_eq!((twice.status, get(&relay, "")["data"].as_array().unwrap().len()), (400, 0), "a list is no name");
}
