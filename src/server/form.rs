//! Bodies and queries in the form encoding of the URL standard. Bodies may nest, as the original's parser reads them:
//! `a[b]=1`, `a[]=1&a[]=2`, `a[0][b]=1`. Names are only names; what JavaScript gives a meaning has none here.

use super::router::percent_decode;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Pairs of one body, as in the original.
const PAIRS_MAX: usize = 1000;
/// Names in a row, `a[b][c]` has three: what a handler reads has fewer.
const DEPTH_MAX: usize = 32;

/// Why a form is not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// More than [`PAIRS_MAX`] pairs.
    TooMany,
    /// Deeper than [`DEPTH_MAX`].
    TooDeep,
}

impl Fault {
    /// What a client is told.
    pub(super) fn message(self) -> String {
        match self {
            Fault::TooMany => format!("A form may have at most {PAIRS_MAX} values"),
            Fault::TooDeep => format!("A form may nest at most {DEPTH_MAX} names"),
        }
    }
}

/// The first value of a name in a query, decoded; nothing nests there. A name that comes twice is a list to the original, of
/// which its handlers read the first item.
pub(super) fn first(query: &str, wanted: &str) -> Option<String> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(name, _)| decode(name) == wanted).map(|(_, value)| decode(value))
}

/// Reads a body.
///
/// # Errors
/// It is larger or deeper than anything that is meant.
pub(super) fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Fault> {
    let text = String::from_utf8_lossy(bytes);
    let mut root = Branch { is_root: true, ..Branch::default() };
    for (number, pair) in text.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if number == PAIRS_MAX {
            return Err(Fault::TooMany);
        }
        let (name, value) = split(pair);
        let name = decode(name);
        let path = path(&name);
        if path.len() > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        root.place(&path, decode(value));
    }
    Ok(root.members.into_iter().map(|(name, node)| (name, node.into_json())).collect())
}

/// Splits a pair at its `=`: behind a bracket if there is one, since a name in brackets may hold another.
fn split(pair: &str) -> (&str, &str) {
    let at = pair.find("]=").map(|at| at + 1).or_else(|| pair.find('='));
    at.map_or((pair, ""), |at| (&pair[..at], &pair[at + 1..]))
}

/// What is broken is taken as it is, as in the original.
fn decode(part: &str) -> String {
    let spaced = part.replace('+', " ");
    percent_decode(&spaced).unwrap_or(spaced)
}

/// The names of `a[b][]`: "a", "b" and "". What is not in brackets as it should be belongs to the name before.
fn path(name: &str) -> Vec<&str> {
    let first = name.find('[').filter(|at| *at > 0 && name[*at..].contains(']')).unwrap_or(name.len());
    let (mut names, mut rest) = (vec![&name[..first]], &name[first..]);
    if let Some((inner, after)) = bracketed(name) {
        (names, rest) = (vec![inner], after);
    }
    while let Some((inner, after)) = bracketed(rest) {
        names.push(inner);
        rest = after;
    }
    names
}

/// The text in the brackets that a text begins with, and what follows.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?.split_once(']')
}

/// A value, or names with values.
enum Node {
    Text(String),
    Branch(Branch),
}

#[derive(Default)]
struct Branch {
    /// The form itself is no list: an empty name is a name there.
    is_root: bool,
    members: BTreeMap<String, Node>,
    /// What follows the largest index so far: the place of the next `[]`.
    next: usize,
}

impl Branch {
    fn place(&mut self, path: &[&str], text: String) {
        let Some((name, rest)) = path.split_first() else { return };
        let name = if name.is_empty() && !self.is_root { self.next.to_string() } else { (*name).to_owned() };
        if let Some(index) = index(&name) {
            self.next = self.next.max(index + 1);
        }
        match self.members.get_mut(&name) {
            None if rest.is_empty() => drop(self.members.insert(name, Node::Text(text))),
            None => {
                let mut branch = Branch::default();
                branch.place(rest, text);
                self.members.insert(name, Node::Branch(branch));
            }
            Some(node) => node.add(rest, text),
        }
    }

    /// Whether all names are places in a list.
    fn is_list(&self) -> bool {
        !self.members.is_empty() && self.members.keys().all(|name| index(name).is_some())
    }
}

impl Node {
    /// A second value for one name makes a list of both.
    fn add(&mut self, path: &[&str], text: String) {
        if let Node::Text(first) = self {
            let mut list = Branch::default();
            list.place(&[""], std::mem::take(first));
            list.place(&[""].into_iter().chain(path.iter().copied()).collect::<Vec<_>>(), text);
            *self = Node::Branch(list);
        } else if let Node::Branch(branch) = self {
            branch.place(if path.is_empty() { &[""] } else { path }, text);
        }
    }

    fn into_json(self) -> Value {
        match self {
            Node::Text(text) => Value::String(text),
            Node::Branch(branch) if branch.is_list() => {
                let mut places: Vec<_> = branch.members.into_iter().map(|(name, node)| (index(&name), node)).collect();
                places.sort_by_key(|(index, _)| *index);
                places.into_iter().map(|(_, node)| node.into_json()).collect()
            }
            Node::Branch(branch) => {
                let members = branch.members.into_iter();
                Value::Object(members.map(|(name, node)| (name, node.into_json())).collect())
            }
        }
    }
}

/// A place in a list, if a name is one. Larger numbers are names: no list is longer than a body has pairs.
fn index(name: &str) -> Option<usize> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name.len() == 1 || !name.starts_with('0'));
    name.parse().ok().filter(|index| is_number && *index < PAIRS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_nest_as_in_the_original() {
        for (body, expected) in [
            ("", json!({})),
            ("a=1&b=x+y%26", json!({ "a": "1", "b": "x y&" })),
            ("a&b=&=c", json!({ "a": "", "b": "", "": "c" })),
            ("a=1&a=2&a=3", json!({ "a": ["1", "2", "3"] })),
            ("a[]=1", json!({ "a": ["1"] })),
            ("a[]=1&a[]=2", json!({ "a": ["1", "2"] })),
            ("a%5Bb%5D=1&a%5bc%5d=2", json!({ "a": { "b": "1", "c": "2" } })),
            ("a[b][c]=1&a[b][d][]=2", json!({ "a": { "b": { "c": "1", "d": ["2"] } } })),
            ("a[1]=y&a[0]=x&a[10]=z", json!({ "a": ["x", "y", "z"] })),
            ("a[7]=x&a[]=y", json!({ "a": ["x", "y"] })),
            ("a[0][b]=1&a[0][c]=2&a[1][b]=3", json!({ "a": [{ "b": "1", "c": "2" }, { "b": "3" }] })),
            ("a[01]=x", json!({ "a": { "01": "x" } })),
            ("a[99999999999999999999]=x&a[1000]=y", json!({ "a": { "1000": "y", "99999999999999999999": "x" } })),
            ("a=1&a[b]=2", json!({ "a": ["1", { "b": "2" }] })),
            ("a[b]=1&a[b]=2", json!({ "a": { "b": ["1", "2"] } })),
            ("a[b=c]=d", json!({ "a": { "b=c": "d" } })),
            ("[a]=1&[b][c]=2", json!({ "a": "1", "b": { "c": "2" } })),
            ("a[b=1&c]=2&d[=3", json!({ "a[b": "1", "c]": "2", "d[": "3" })),
            ("a[b]c=1", json!({ "a": { "b": "1" } })),
            ("a=%zz", json!({ "a": "%zz" })),
            (
                "__proto__[x]=1&constructor[prototype][y]=2&toString=3",
                json!({ "__proto__": { "x": "1" }, "constructor": { "prototype": { "y": "2" } }, "toString": "3" }),
            ),
        ] {
            let found = parse(body.as_bytes()).map(Value::Object);
            assert_eq!(found.as_ref(), Ok(&expected), "{body}");
        }
    }

    #[test]
    fn depth_and_number_are_bounded() {
        let nested = |depth: usize| format!("a{}=1", "[b]".repeat(depth - 1));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(parse(nested(DEPTH_MAX + 1).as_bytes()).err(), Some(Fault::TooDeep));
        assert_eq!(parse(nested(2_000_000).as_bytes()).err(), Some(Fault::TooDeep));
        let many = |pairs: usize| vec!["a[]=1"; pairs].join("&");
        assert_eq!(parse(many(PAIRS_MAX).as_bytes()).map(|body| body["a"].as_array().map(Vec::len)), Ok(Some(1000)));
        assert_eq!(parse(many(PAIRS_MAX + 1).as_bytes()).err(), Some(Fault::TooMany));
    }

    #[test]
    fn queries_do_not_nest_and_the_first_value_counts() {
        for (query, name, expected) in [
            ("a=1&a=2&b=3", "a", Some("1")),
            ("a=1", "b", None),
            ("a", "a", Some("")),
            ("a[]=1", "a", None),
            ("a%20b=c+d", "a b", Some("c d")),
        ] {
            assert_eq!(first(query, name).as_deref(), expected, "{query}");
        }
    }
}
