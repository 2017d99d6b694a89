//! `.env` files as the `dotenv` package (16) of the original reads them: `NAME=value`, `export`, quotes over several lines,
//! comments. One thing differs: what the package passes over without a word is a fault here.

/// Reads the pairs in order.
///
/// # Errors
/// The first line that is neither a pair, a comment nor blank, by its number; its content may be a secret.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let mut pairs = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            rest = after;
            continue;
        }
        let Some((name, value)) = split(rest) else {
            let number = text[..text.len() - rest.len()].matches('\n').count() + 1;
            return Err(format!("line {number} is not NAME=value"));
        };
        let (value, after) = quoted(value).unwrap_or_else(|| unquoted(value));
        pairs.push((name.to_owned(), value));
        rest = after;
    }
    Ok(pairs)
}

/// The name, and everything behind the `=`. `NAME: value` is understood, too.
fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let text = text.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(text).trim_start();
    let end = text.find(|letter: char| !(letter.is_ascii_alphanumeric() || "_.-".contains(letter)))?;
    let (name, rest) = text.split_at(end);
    let value = match rest.strip_prefix(':') {
        Some(value) if value.starts_with([' ', '\t']) => value,
        _ => rest.trim_start_matches([' ', '\t']).strip_prefix('=')?,
    };
    (!name.is_empty()).then_some((name, value.trim_start_matches([' ', '\t'])))
}

/// Quotes keep everything between them, line ends too. They count only if nothing but a comment follows on their last line.
/// A quote behind a backslash does not end the value, and the backslash stays. In double quotes `\n` and `\r` are line ends.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|letter| matches!(letter, '"' | '\'' | '`'))?;
    let inside = &text[1..];
    for (end, _) in inside.match_indices(quote) {
        if inside[..end].ends_with('\\') {
            continue;
        }
        let (line, after) = inside[end + 1..].split_once('\n').unwrap_or((&inside[end + 1..], ""));
        let is_last = line.trim().is_empty() || line.trim_start().starts_with('#');
        let value = &inside[..end];
        let value = if quote == '"' { value.replace("\\n", "\n").replace("\\r", "\r") } else { value.to_owned() };
        return is_last.then_some((value, after));
    }
    None
}

/// Without quotes a `#` begins a comment, wherever it stands.
fn unquoted(text: &str) -> (String, &str) {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    (line.split('#').next().unwrap_or_default().trim().to_owned(), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_and_without_quotes() {
        for (line, expected) in [
            ("A=b", "b"),
            ("A = b c # d", "b c"),
            ("A=b#c", "b"),
            ("A=\"b # c\" # d", "b # c"),
            ("A='b\"c'", "b\"c"),
            ("A=`b'\"c`", "b'\"c"),
            ("A=", ""),
            ("A=   ", ""),
            ("A=#", ""),
            ("A=\"\"", ""),
            ("A=' b '", " b "),
            ("A=\"x\\ny\"", "x\ny"),
            ("A='x\\ny'", "x\\ny"),
            ("A=\"x\ny\n\"  # more", "x\ny\n"),
            ("A=\"x\\\"y\"", "x\\\"y"),
            ("A=\"open", "\"open"),
            ("A=\"x\" y", "\"x\" y"),
            ("A=b=c==", "b=c=="),
            ("export A=b", "b"),
            ("  export\tA=b  ", "b"),
            ("A: b", "b"),
            ("A=密码 🔑", "密码 🔑"),
        ] {
            for text in [line.to_owned(), format!("{line}\n"), format!("\n# x=y\n{line}\r\n\n")] {
                assert_eq!(parse(&text).unwrap(), [("A".to_owned(), expected.to_owned())], "{line}");
            }
        }
    }

    #[test]
    fn pairs_come_in_order_and_a_line_that_is_none_is_told_by_its_number() {
        let pairs = parse("A=1\r\nexportB=\"2\n3\"\nC.d-e_F=4\nA=5").unwrap();
        let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["A=1", "exportB=2\n3", "C.d-e_F=4", "A=5"]);
        for line in ["hunter2", "=hunter2", "hunter 2=x", "A", "é=hunter2"] {
            assert_eq!(parse(&format!("A='1\n2'\n\n{line}\n")).unwrap_err(), "line 4 is not NAME=value", "{line}");
        }
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("\u{feff}A=1").unwrap().len(), 1);
    }
}
