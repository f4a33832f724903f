//! For the fuzz targets: what a stranger's grammar goes through before a compiler meets it.

use crate::{Grammar, gbnf, schema};

/// Takes bytes for a grammar of each kind.
pub fn grammar(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = gbnf::to_lark(text);
    let grammar = Grammar::JsonSchema { schema: text.to_owned(), strict: false };
    if grammar.check_size().is_ok()
        && let Ok(value) = Grammar::parse_schema(text)
    {
        let _ = schema::prepare(&value);
    }
}
