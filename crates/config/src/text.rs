//! Text of strangers as messages and reports show it: on one line, and without power over a terminal.

use std::fmt;

/// Whether a character does something to a terminal or to the line that it stands in, or cannot be seen: control
/// characters (line breaks among them), separators of lines and paragraphs, marks that turn the direction of writing,
/// blanks without width, tags (Unicode's general categories Cc, Zl, Zp, and what of Cf no name needs).
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Shows a text whole, harmful characters as Rust spells them: `\n`, `\u{1b}`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(is_harmful) {
            f.write_str(&rest[..at])?;
            let mut after = rest[at..].chars();
            after.next().map_or(Ok(()), |c| write!(f, "{}", c.escape_default()))?;
            rest = after.as_str();
        }
        f.write_str(rest)
    }
}

/// As [`Escaped`], the end cut off when it is long: for errors, which quote what a file holds.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 100;
        match self.0.char_indices().nth(SHOWN) {
            Some((end, _)) => write!(f, "{}...", Escaped(&self.0[..end])),
            None => Escaped(self.0).fmt(f),
        }
    }
}

/// The same JSON text on a line that is one for everybody: clients that split what they read as Python's `str.splitlines`
/// does (httpx's `iter_lines`, and with it zai-sdk) end a line at these three as well.
pub fn json_line(json: String) -> String {
    if !json.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return json;
    }
    json.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_json_is_one_line_for_every_reader() {
        let value = serde_json::Value::from("a\u{2028}b\u{85}c\u{2029}d\n\u{b}\u{c}\u{1c}\u{1e}");
        let line = json_line(value.to_string());
        // Where Python's `str.splitlines` ends a line.
        let ends =
            |c: char| matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
        assert!(!line.contains(ends), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
    }

    #[test]
    fn nothing_harmful_is_shown() {
        assert_eq!(
            Escaped("model.layers.0 \u{4f60}\u{597d} 'x' \\").to_string(),
            "model.layers.0 你好 'x' \\"
        );
        assert_eq!(
            Escaped("a\x1b[2J\nerror: b\r\u{9b}1m\x7f\u{202e}\u{2067}\u{2028}\u{e0041}").to_string(),
            "a\\u{1b}[2J\\nerror: b\\r\\u{9b}1m\\u{7f}\\u{202e}\\u{2067}\\u{2028}\\u{e0041}"
        );
        assert_eq!(Quoted(&"\n".repeat(1000)).to_string(), format!("{}...", "\\n".repeat(100)));
    }
}
