//! Lists of models as the API writes them: read, made up from names, and cut into pages.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The longest name of a model that is listed, in bytes.
const ID_BYTES_MAX: usize = 256;
/// Models that are read of one list.
const MODELS_MAX: usize = 2000;
/// Where the date of a model is not known; the vendor writes it so, too.
const UNDATED: &str = "1970-01-01T00:00:00Z";

/// One model. It has the four members that clients rely on, and whatever else the upstream said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Model(Map<String, Value>);

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Models of the page, at least 1.
    pub limit: usize,
    /// It begins behind this one.
    pub after: Option<&'a str>,
    /// It ends before this one.
    pub before: Option<&'a str>,
}

impl Model {
    /// A model of which only the name is known: the name for people and the date are read off it.
    pub fn named(id: &str) -> Model {
        let words: Vec<&str> = id.split('-').collect();
        let is_date = |word: &&str| word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_digit());
        let created_at = match words.last().filter(|word| is_date(word)) {
            Some(day) => format!("{}-{}-{}T00:00:00Z", &day[..4], &day[4..6], &day[6..]),
            None => UNDATED.to_owned(),
        };
        let mut shown = String::new();
        let mut was_number = false;
        for word in words.iter().filter(|word| !is_date(word)) {
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            if !shown.is_empty() {
                shown.push(if is_number && was_number { '.' } else { ' ' });
            }
            let mut letters = word.chars();
            shown.extend(letters.next().into_iter().flat_map(char::to_uppercase).chain(letters));
            was_number = is_number;
        }
        let members = json!({ "type": "model", "id": id, "display_name": shown, "created_at": created_at });
        Model(members.as_object().cloned().unwrap_or_default())
    }

    /// The same model by another of its names.
    pub fn renamed(&self, id: &str) -> Model {
        let mut members = self.0.clone();
        members.insert("id".to_owned(), id.into());
        Model(members)
    }

    /// Its name.
    pub fn id(&self) -> &str {
        self.0.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// As JSON.
    pub fn as_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// An entry of an upstream's list. What it lacks is made up from its name.
    fn read(entry: Value) -> Option<Model> {
        let Value::Object(said) = entry else { return None };
        let id = said.get("id")?.as_str().filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))?;
        let mut model = Model::named(id);
        for (name, value) in said {
            let is_fit = !matches!(name.as_str(), "type" | "display_name" | "created_at") || value.is_string();
            if is_fit && name != "type" {
                model.0.insert(name, value);
            }
        }
        Some(model)
    }
}

/// Reads an upstream's list. `None` when it is none, or has not one model.
pub fn read(body: &[u8]) -> Option<Vec<Model>> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Value>,
    }
    let list: List = serde_json::from_slice(body).ok()?;
    let models: Vec<Model> = list.data.into_iter().take(MODELS_MAX).filter_map(Model::read).collect();
    Some(models).filter(|models| !models.is_empty())
}

/// One page of a list, as the API answers it.
///
/// # Errors
/// What is wrong with the page that is asked for, for the client.
pub fn page(models: &[Model], page: Page<'_>) -> Result<Value, String> {
    let place = |id: &str, name: &str| {
        let found = models.iter().position(|model| model.id() == id);
        found.ok_or_else(|| format!("{name}: no model of this name is listed"))
    };
    let limit = page.limit.max(1);
    let (from, to, has_more) = match (page.after, page.before) {
        (Some(_), Some(_)) => return Err("after_id and before_id exclude one another".to_owned()),
        (None, Some(before)) => {
            let to = place(before, "before_id")?;
            (to.saturating_sub(limit), to, to > limit)
        }
        (after, None) => {
            let from = after.map_or(Ok(0), |after| place(after, "after_id").map(|at| at + 1))?;
            let to = from.saturating_add(limit).min(models.len());
            (from, to, to < models.len())
        }
    };
    let shown = &models[from..to];
    Ok(json!({
        "data": shown.iter().map(Model::as_json).collect::<Vec<_>>(),
        "has_more": has_more,
        "first_id": shown.first().map(Model::id),
        "last_id": shown.last().map(Model::id),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_people_call_a_model() {
        for (id, shown, created) in [
            ("claude-opus-4-5-20251101", "Claude Opus 4.5", "2025-11-01T00:00:00Z"),
            ("claude-3-5-haiku-latest", "Claude 3.5 Haiku Latest", UNDATED),
            ("claude-fable-5", "Claude Fable 5", UNDATED),
            ("ä", "Ä", UNDATED),
            ("", "", UNDATED),
        ] {
            let model = Model::named(id).as_json();
            assert_eq!((&model["display_name"], &model["created_at"]), (&json!(shown), &json!(created)), "{id}");
        }
    }

    #[test]
    fn lists_of_other_makes_get_the_members_that_they_lack() {
        let body = br#"{"object":"list","data":[{"id":"glm-4","object":"model","created":1,"created_at":5,"type":7},
            {"id":"claude-x","display_name":"X","created_at":"2026-01-01T00:00:00Z","max_tokens":9},{"id":7},7,{"id":""}]}"#;
        let models = read(body).unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!(models[0].as_json()["type"], "model");
        assert_eq!(models[0].as_json()["created_at"], UNDATED);
        assert_eq!(models[1].as_json()["max_tokens"], 9);
        assert_eq!(models[1].as_json()["display_name"], "X");
        for nothing in [&b""[..], b"[]", b"{}", br#"{"data":[]}"#, br#"{"data":{}}"#, b"<html>"] {
            assert!(read(nothing).is_none());
        }
    }

    #[test]
    fn pages_follow_one_another_in_both_directions() {
        let models: Vec<Model> = ["a", "b", "c", "d", "e"].map(Model::named).to_vec();
        let ids = |limit, after, before| {
            let found = page(&models, Page { limit, after, before }).unwrap();
            let ids: String = found["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
            (ids, found["has_more"].as_bool().unwrap())
        };
        assert_eq!(ids(2, None, None), ("ab".into(), true));
        assert_eq!(ids(2, Some("b"), None), ("cd".into(), true));
        assert_eq!(ids(2, Some("d"), None), ("e".into(), false));
        assert_eq!(ids(2, Some("e"), None), (String::new(), false));
        assert_eq!(ids(2, None, Some("e")), ("cd".into(), true));
        assert_eq!(ids(2, None, Some("c")), ("ab".into(), false));
        assert_eq!(ids(2, None, Some("a")), (String::new(), false));
        assert_eq!(ids(1000, None, None), ("abcde".into(), false));
        assert!(page(&models, Page { limit: 1, after: Some("x"), before: None }).is_err());
        assert!(page(&models, Page { limit: 1, after: Some("a"), before: Some("b") }).is_err());
        let none = page(&[], Page { limit: 1, after: None, before: None }).unwrap();
        assert_eq!(none, json!({ "data": [], "has_more": false, "first_id": null, "last_id": null }));
    }
}
