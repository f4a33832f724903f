//! Modelfiles: text that says what a model is made of. FROM, PARAMETER, SYSTEM, MESSAGE and LICENSE mean something here.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::models::made::Made;

/// What a Modelfile says, but for what time it is. A word that means nothing here is named in the error.
pub(super) fn read(text: &str) -> Result<Made, String> {
    let mut made = Made::default();
    let mut rest = text;
    while let Some((word, value)) = instruction(&mut rest)? {
        match word.to_ascii_uppercase().as_str() {
            "FROM" => made.from = value,
            "SYSTEM" => made.system = Some(value),
            "LICENSE" => made.license.push(value),
            "PARAMETER" => {
                let (name, value) = value.split_once(char::is_whitespace).unwrap_or((&value, ""));
                add_parameter(&mut made.parameters, &name.to_lowercase(), value.trim());
            }
            "MESSAGE" => {
                let (role, content) = value.split_once(char::is_whitespace).unwrap_or((&value, ""));
                let content = unquoted(content.trim_start());
                made.messages.push(json!({"role": role.to_lowercase(), "content": content}));
            }
            _ => {
                return Err(format!(
                    "`{:.40}` is not supported: FROM, PARAMETER, SYSTEM, MESSAGE and LICENSE are",
                    word.escape_debug()
                ));
            }
        }
    }
    Ok(made)
}

/// Takes the next instruction: a word at the beginning of a line, and what stands behind it, to the line's end or between
/// quotation marks, of which three may hold several lines.
fn instruction(rest: &mut &str) -> Result<Option<(String, String)>, String> {
    loop {
        *rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(None);
        }
        if !rest.starts_with('#') {
            break;
        }
        *rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let after = after.trim_start_matches([' ', '\t']);
    // The role of a message stands before its text.
    let line_end = after.find('\n').unwrap_or(after.len());
    let (value, left) = match after[..line_end].find("\"\"\"") {
        Some(open) => {
            let text = &after[open + 3..];
            let close = text.find("\"\"\"").ok_or("three quotation marks are opened and not closed")?;
            (format!("{}{}", &after[..open], &text[..close]), &text[close + 3..])
        }
        None => (unquoted(after[..line_end].trim()).to_owned(), &after[line_end..]),
    };
    let word = word.to_owned();
    *rest = left;
    Ok(Some((word, value)))
}

/// A text without the quotation marks around it.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text)
}

/// Adds a parameter: a number, true or false, or a text; `stop` may come several times.
fn add_parameter(parameters: &mut Map<String, Value>, name: &str, text: &str) {
    let text = unquoted(text);
    if name == "stop" {
        let stops = parameters.entry(name).or_insert_with(|| json!([]));
        stops.as_array_mut().into_iter().for_each(|stops| stops.push(text.into()));
        return;
    }
    let plain =
        serde_json::from_str(text).ok().filter(|value| matches!(value, Value::Number(_) | Value::Bool(_)));
    parameters.insert(name.to_owned(), plain.unwrap_or_else(|| text.into()));
}

/// What makes the same model again.
pub(super) fn write(made: &Made) -> String {
    let mut text = format!("# Modelfile of Glimmer\nFROM {}\n", made.from);
    for (name, value) in lines(&made.parameters) {
        let _ = writeln!(text, "PARAMETER {name} {value}");
    }
    if let Some(system) = &made.system {
        let _ = writeln!(text, "SYSTEM \"\"\"{system}\"\"\"");
    }
    for message in &made.messages {
        let part = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        let _ = writeln!(text, "MESSAGE {} \"\"\"{}\"\"\"", part("role"), part("content"));
    }
    for license in &made.license {
        let _ = writeln!(text, "LICENSE \"\"\"{license}\"\"\"");
    }
    text
}

/// Parameters one by one.
pub(super) fn lines(parameters: &Map<String, Value>) -> Vec<(&str, &Value)> {
    parameters
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Array(values) => values.iter().map(|value| (name.as_str(), value)).collect(),
            value => vec![(name.as_str(), value)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let text = "# A comment\n\nfrom glm:9b\nPARAMETER temperature 0.5\nPARAMETER stop \"<|user|>\"\nparameter stop END\n\
                    PARAMETER num_ctx 4096\nSYSTEM \"\"\"\nYou are\n\"brief\".\n\"\"\"\nMESSAGE user Hello there\n\
                    MESSAGE assistant \"\"\"Hi.\nYes?\"\"\"\nLICENSE \"MIT\"\n";
        let made = read(text).unwrap();
        assert_eq!(made.from, "glm:9b");
        assert_eq!(
            Value::Object(made.parameters.clone()),
            json!({"temperature": 0.5, "stop": ["<|user|>", "END"], "num_ctx": 4096})
        );
        assert_eq!(made.system.as_deref(), Some("\nYou are\n\"brief\".\n"));
        assert_eq!(
            made.messages,
            [
                json!({"role": "user", "content": "Hello there"}),
                json!({"role": "assistant", "content": "Hi.\nYes?"})
            ]
        );
        assert_eq!(made.license, ["MIT"]);
        assert_eq!(read(&write(&made)).unwrap(), made);
        assert_eq!(read("").unwrap(), Made::default());
    }

    #[test]
    fn what_means_nothing_here_is_named() {
        for (text, word) in [
            ("FROM a\nTEMPLATE \"\"\"{{ .Prompt }}\"\"\"", "`TEMPLATE`"),
            ("ADAPTER ./a.gguf", "`ADAPTER`"),
            ("SYSTEM \"\"\"never closed", "not closed"),
            ("\u{1b}[2J x", "u{1b}"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word) && error.len() < 200, "{text}: {error}");
        }
    }
}
