//! `.env` files as the `dotenv` package of the original reads them: `NAME=value`, `export`, quotes, comments.

/// Reads the pairs in order.
///
/// # Errors
/// The first line that is neither a pair, a comment nor blank, by its number; its content may be a secret.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let pair = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match pair {
            Some((name, value)) if is_name(name) => pairs.push((name.to_owned(), unquote(value))),
            _ => return Err(format!("line {} is not NAME=value", number + 1)),
        }
    }
    Ok(pairs)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Quotes keep everything between them; without quotes a `#` begins a comment. In double quotes `\n` is a line break.
fn unquote(value: &str) -> String {
    for quote in ['"', '\'', '`'] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some(end) = rest.find(quote)
        {
            let inner = &rest[..end];
            return if quote == '"' { inner.replace("\\n", "\n") } else { inner.to_owned() };
        }
    }
    value.split('#').next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_and_without_quotes() {
        for (line, expected) in [
            ("A=b", "b"),
            ("A = b c # d", "b c"),
            ("A=\"b # c\" # d", "b # c"),
            ("A='b\"c'", "b\"c"),
            ("A=", ""),
            ("A=#", ""),
            ("A=\"x\\ny\"", "x\ny"),
            ("A=\"open", "\"open"),
            ("export A=b", "b"),
        ] {
            assert_eq!(parse(line).unwrap(), [("A".to_owned(), expected.to_owned())], "{line}");
        }
        assert_eq!(parse("A=1\n\nnonsense").unwrap_err(), "line 3 is not NAME=value");
    }
}
