//! For the fuzz targets: what a stranger's grammar goes through.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use glimmer_tokenizer::{TokenId, fuzz_entry};

use crate::{
    Beginning, CallForm, CallTool, Calls, Compiled, Compiler, Grammar, Matcher, TokenTable, gbnf, schema,
};

/// Takes bytes for a grammar of each kind, before a compiler meets it.
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

/// Tokens of an answer.
const TOKENS: usize = 96;
/// Masks and compilation of one input together; a step takes some milliseconds at most, a compilation some hundred.
const TIME: Duration = Duration::from_secs(20);
/// Longer tokens than bytes, some that begin like others, and blanks before words.
const PIECES: [&str; 24] = [
    "{\"",
    "\":",
    "\", \"",
    "\"}",
    "}}",
    "[[",
    "],",
    "  ",
    "\n\n",
    " a",
    " th",
    "the",
    "north",
    "nor",
    "true",
    "null",
    "10",
    "-1",
    "0.",
    "\\u00",
    "</",
    "京",
    "tool_call(",
    "='",
];
const SPECIAL: [&str; 8] = [
    "<|user|>",
    "<|assistant|>",
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
];

/// A grammar from bytes, and an answer in it: one byte for its kind, its source, NUL, and a byte for the choice of each token.
///
/// # Panics
/// If a mask has no token or one that is not taken, if a token that must come may not, if an answer that masks hold to all of
/// its schema breaks it, or if it takes too long.
pub fn constraint(data: &[u8]) {
    static COMPILER: OnceLock<Option<Compiler>> = OnceLock::new();
    let [kind, rest @ ..] = data else { return };
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    let Ok(source) = std::str::from_utf8(&rest[..end]) else { return };
    let Some(compiler) = COMPILER.get_or_init(compiler) else { return };
    let begin = Instant::now();
    let grammar = grammar_of(*kind, source.to_owned());
    let Ok(compiled) = compiler.compile(&grammar) else { return };
    let beginning = if kind & 16 == 0 { Beginning::Exact } else { Beginning::Trimmed };
    let choices = rest.get(end + 1..).unwrap_or_default();
    let names_tokens = matches!(grammar, Grammar::Lark(_));
    let answer = answer(compiler, compiler.matcher(&compiled, beginning), choices, names_tokens);
    if let (Some(answer), Grammar::JsonSchema { schema, .. }) = (answer, &grammar) {
        check(&answer, schema, &compiled);
    }
    assert!(begin.elapsed() < TIME, "{:?}", begin.elapsed());
}

fn compiler() -> Option<Compiler> {
    let pieces = PIECES.map(str::as_bytes);
    let tokenizer = fuzz_entry::toy(&pieces, &SPECIAL)?;
    let end = tokenizer.special_id(SPECIAL[0])?;
    Some(Compiler::new(TokenTable::new(&tokenizer, &[end]).ok()?))
}

fn grammar_of(kind: u8, source: String) -> Grammar {
    let next = SPECIAL[1].to_owned();
    let pair = |at: usize| [SPECIAL[at].to_owned(), SPECIAL[at + 1].to_owned()];
    let form = match kind & 15 {
        0 | 1 => return Grammar::JsonSchema { schema: source, strict: kind & 15 == 1 },
        2 => return Grammar::Regex(source),
        3 => return Grammar::Choice(source.lines().map(str::to_owned).collect()),
        4 => return Grammar::Gbnf(source),
        5 => return Grammar::Lark(source),
        6 => CallForm::Lines { next },
        7 => CallForm::Python { next },
        more => {
            let gap = if more == 8 { "\n" } else { "" }.to_owned();
            CallForm::Tagged { call: pair(2), key: pair(4), value: pair(6), gap }
        }
    };
    let tool = |name: &str, parameters: Option<String>| CallTool {
        name: name.to_owned(),
        parameters,
        strict: kind & 32 != 0,
        texts: vec!["a".to_owned()],
    };
    Grammar::Calls(Calls {
        form,
        tools: vec![tool("get", Some(source)), tool("get_time", None)],
        single: kind & 64 != 0,
    })
}

/// An answer of tokens that bytes choose among those that may come; `None` where it did not end.
fn answer(compiler: &Compiler, mut matcher: Matcher, choices: &[u8], names_tokens: bool) -> Option<Vec<u8>> {
    let table = compiler.table();
    let mut text = Vec::new();
    let mut choices = choices.iter().map(|&byte| usize::from(byte)).chain(std::iter::repeat(1));
    for _ in 0..TOKENS {
        // What fails is told; it never takes a token that it did not allow.
        let mask = matcher.mask().ok()?;
        let allowed: Vec<TokenId> =
            (0..table.len() as TokenId).filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1).collect();
        assert!(!allowed.is_empty(), "no token may come after {:?}", String::from_utf8_lossy(&text));
        let has_end = table.ends().iter().any(|end| allowed.contains(end));
        // A grammar in Lark may name such a token as a part of its texts.
        assert!(
            has_end == matcher.may_end() || has_end && names_tokens,
            "an end that may not come, or is not told"
        );
        let forced = matcher.forced();
        if let Some(first) = forced.first() {
            assert_eq!(allowed, [*first], "after {:?}", String::from_utf8_lossy(&text));
        }
        let id = allowed[choices.next().unwrap_or_default() * 7 % allowed.len()];
        if matcher.accept(id).is_err() {
            // Only a limit may keep it from being taken.
            assert!(matcher.mask().is_err(), "{id} is allowed, and is not taken");
            return None;
        }
        if table.ends().contains(&id) {
            return Some(text);
        }
        text.extend(table.bytes(id));
    }
    None
}

fn check(answer: &[u8], schema: &str, compiled: &Compiled) {
    let answer = String::from_utf8_lossy(answer);
    let (Ok(schema), Ok(value)) = (Grammar::parse_schema(schema), serde_json::from_str(answer.trim())) else {
        panic!("an answer that is no JSON: {answer:?}");
    };
    if compiled.unmasked().is_empty() {
        let validator = schema::validator(&schema, false).expect("a schema that was compiled");
        let is_valid = schema::patiently(|| validator.is_valid(&value));
        assert_ne!(is_valid, Some(false), "{schema} {value}");
    }
}
