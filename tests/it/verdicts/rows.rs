//! The rows of `tests/fixtures/verdicts.tsv`, which the table is held against both by itself and end to end.

/// One row; texts are empty where the file has a dash.
pub(super) struct Row {
    pub(super) status: u16,
    pub(super) kind: String,
    pub(super) message: String,
    /// Header fields, instants filled in.
    pub(super) fields: Vec<(String, String)>,
    pub(super) may_refresh: bool,
    /// `pass`, `next` or `refresh`.
    pub(super) action: String,
    /// Empty, `stop`, or the rest's reason, scope and end.
    pub(super) effect: String,
    pub(super) source: String,
}

impl Row {
    /// The rest's reason, scope, and end in seconds from now, `None` for a guess.
    pub(super) fn rest(&self) -> Option<(&str, &str, Option<i64>)> {
        let mut words = self.effect.split(' ');
        let (reason, scope) = (words.next()?, words.next()?);
        Some((reason, scope, words.next().filter(|end| *end != "guess").map(|end| end.parse().unwrap())))
    }
}

/// All rows, as they read at an instant, Unix seconds.
pub(super) fn rows(now_s: i64) -> Vec<Row> {
    let lines = include_str!("../../fixtures/verdicts.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| row(line, now_s)).collect()
}

fn row(line: &str, now_s: i64) -> Row {
    let cells: Vec<&str> = line.split('\t').map(|cell| if cell == "-" { "" } else { cell }).collect();
    let [status, kind, message, fields, refresh, action, effect, source] = cells.try_into().expect("eight cells");
    let pairs =
        fields.split(" ; ").filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').expect("name=value"));
    Row {
        status: status.parse().unwrap(),
        kind: kind.to_owned(),
        message: message.to_owned(),
        fields: pairs.map(|(name, value)| (name.to_owned(), filled(value, now_s))).collect(),
        may_refresh: refresh == "refresh",
        action: action.to_owned(),
        effect: effect.to_owned(),
        source: source.to_owned(),
    }
}

/// Fills in `{unix+N}`, `{rfc3339+N}` and `{date+N}`.
fn filled(value: &str, now_s: i64) -> String {
    let Some(inner) = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return value.to_owned() };
    let sign = inner.find(['+', '-']).unwrap();
    let at = jiff::Timestamp::from_second(now_s + inner[sign..].parse::<i64>().unwrap()).unwrap();
    match &inner[..sign] {
        "unix" => at.as_second().to_string(),
        "rfc3339" => at.to_string(),
        "date" => at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        other => panic!("{other}"),
    }
}
