//! Forced tokens are those that the tokenizer itself writes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_grammar::{Beginning, Grammar};
use serde_json::json;
use support::{Kit, has};

/// A text's tokens as they stand within another text.
fn within(kit: &Kit, text: &str) -> Vec<u32> {
    let lead = kit.tokenizer.encode("\n");
    let all = kit.tokenizer.encode(&format!("\n{text}"));
    all.strip_prefix(lead.as_slice()).map_or_else(|| kit.tokenizer.encode(text), <[u32]>::to_vec)
}

#[test]
fn forced_tokens_are_the_tokenizers_own() {
    let schema = json!({"type": "object", "properties": {
        "departure_city": {"type": "string"},
        "number_of_passengers": {"type": "integer", "minimum": 1, "maximum": 99},
        "目的地城市": {"enum": ["北京市", "上海市"]},
        "return_ticket": {"type": "boolean"},
    }, "required": ["departure_city", "number_of_passengers", "目的地城市", "return_ticket"],
        "additionalProperties": false});
    let json_text = |city: &str, number: usize, place: &str, back: bool| {
        let city = json!(city);
        format!(
            "{{\"departure_city\": {city}, \"number_of_passengers\": {number}, \"目的地城市\": \"{place}\", \"return_ticket\": {back}}}"
        )
    };
    for folder in ["chatglm2-6b", "chatglm-6b"] {
        let kit = Kit::new(folder);
        let grammar = Grammar::json_schema(&schema, true);
        let compiled = kit.compiler.compile(&grammar).unwrap();
        let (mut all, mut forced) = (0, 0);
        for (city, number, place, back) in [
            ("Oslo", 3, "北京市", true),
            ("São Paulo, the city", 42, "上海市", false),
            ("天津 \"x\"", 99, "北京市", false),
            ("", 1, "上海市", true),
        ] {
            let text = json_text(city, number, place, back);
            let ids = within(&kit, &text);
            let mut matcher = kit.compiler.matcher(&compiled, Beginning::Exact);
            for at in 0..ids.len() {
                let next = matcher.forced();
                assert!(ids[at..].starts_with(&next), "{folder}: {next:?} at {at} of {ids:?}: {text}");
                let mask = matcher.mask().unwrap();
                assert!(has(&mask, ids[at]), "{folder}: {at} of {text}");
                forced += usize::from(!next.is_empty());
                all += 1;
                matcher.accept(ids[at]).unwrap();
            }
            assert!(matcher.may_end(), "{folder}: {text}");
        }
        println!("{folder}: {forced} of {all} tokens");
        assert!(forced * 4 > all, "{folder}: {forced} of {all}");
    }
}
