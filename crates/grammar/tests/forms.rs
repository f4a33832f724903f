//! Forms other than schemas, schemas that are rewritten, and tokens of every kind of tokenizer.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_grammar::{Beginning, Grammar, GrammarError};
use serde_json::{Map, Value, json};
use support::{Kit, has, set_of};

#[test]
fn texts_of_other_forms() {
    let kit = Kit::new("glm4-tiktoken");
    let gbnf = |source: &str| Grammar::Gbnf(source.to_owned());
    let sums = "root ::= sum\nsum ::= term (\" + \" sum)?\nterm ::= [0-9]+ | \"(\" sum \")\"";
    let words = "root ::= ws \"x\" ws\nws ::= [ \\t]* # any\n";
    let choice = Grammar::Choice(vec!["yes".into(), "no (never)".into(), "是的".into()]);
    let lark = Grammar::Lark("start: greeting \"!\"\ngreeting: /h(ello|i)/".into());
    for (grammar, good, bad) in [
        (choice, vec!["yes", "no (never)", "是的"], vec!["", "y", "yes!", "no", "是"]),
        (Grammar::Regex("[a-f]{2}-\\d+".into()), vec!["ab-1", "ff-99"], vec!["", "ab-", "abc-1", "ab-1 "]),
        (Grammar::Regex("é+/?".into()), vec!["é", "éé/"], vec!["e", "é//"]),
        (gbnf(sums), vec!["1", "(1 + 22) + 3", "((7))"], vec!["", "1+2", "(1", "1 + "]),
        (gbnf(words), vec!["x", "  x\t"], vec!["", " ", "xx"]),
        (gbnf("root ::= \"a\"{2,3} [^a]"), vec!["aab", "aaa中"], vec!["ab", "aaaa", "aaaab"]),
        (gbnf("root ::= [\\x41-\\u0043\\]\"] .?"), vec!["A", "]\n", "\"é"], vec!["D", "Axx"]),
        (lark, vec!["hello!", "hi!"], vec!["hello", "h!"]),
        (Grammar::JsonObject, vec!["{}", "{\"a\": [1, {\"b\": null}]}"], vec!["[]", "{", "{}{}", "1"]),
    ] {
        for text in good {
            assert!(kit.takes(&grammar, text).unwrap(), "{grammar:?} refuses {text:?}");
        }
        for text in bad {
            assert!(!kit.takes(&grammar, text).unwrap(), "{grammar:?} takes {text:?}");
        }
    }
}

#[test]
fn keywords_are_rewritten_where_that_is_exact() {
    let kit = Kit::new("glm4-tiktoken");
    let kinds = json!({
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "lives": {"type": "integer"}, "barks": {"type": "boolean"}},
        "required": ["kind"], "additionalProperties": false,
        "if": {"properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
        "then": {"required": ["lives"]}, "else": {"properties": {"lives": false}, "required": ["barks"]}
    });
    let shapes = json!({"oneOf": [
        {"type": "object", "properties": {"t": {"const": "a"}, "x": {"type": "integer"}}, "required": ["t", "x"]},
        {"$ref": "#/$defs/b"},
    ], "$defs": {"b": {"type": "object", "properties": {"t": {"const": "b"}}, "required": ["t"]}}});
    for (schema, good, bad) in [
        (
            kinds,
            vec![r#"{"kind":"cat","lives":9}"#, r#"{"kind":"dog","barks":true}"#],
            vec![r#"{"kind":"cat"}"#, r#"{"kind":"dog","lives":1,"barks":true}"#, r#"{"kind":"dog"}"#],
        ),
        (shapes, vec![r#"{"t":"a","x":1}"#, r#"{"t":"b"}"#], vec![r#"{"t":"a"}"#, r#"{"t":"c"}"#]),
        (
            json!({"type": "object", "properties": {"a": {}, "b": {}}, "additionalProperties": false,
                   "dependentRequired": {"a": ["b"]}}),
            vec![r#"{}"#, r#"{"b":1}"#, r#"{"a":1,"b":2}"#],
            vec![r#"{"a":1}"#],
        ),
        (json!({"not": {"type": ["object", "array"]}}), vec!["1", "\"x\"", "null"], vec!["{}", "[]"]),
        (json!({"enum": [1, 2, 3], "not": {"enum": [2]}}), vec!["1", "3"], vec!["2"]),
        (
            json!({"type": "object", "propertyNames": {"pattern": "^x"}}),
            vec![r#"{}"#, r#"{"xy":1}"#],
            vec![r#"{"yx":1}"#],
        ),
        (
            json!({"allOf": [{"type": "integer", "multipleOf": 4}, {"multipleOf": 6}]}),
            vec!["12", "-24"],
            vec!["8", "18"],
        ),
        (
            json!({"type": "integer", "maximum": 9_223_372_036_854_775_807_u64}),
            vec!["9"],
            vec!["9300000000000000000"],
        ),
        (json!({"type": "string", "format": "colour"}), vec!["\"red\""], vec!["1"]),
        (
            json!({"type": "array", "items": {"not": {"minLength": 2}}}),
            vec!["[\"a\"]"],
            vec!["[\"ab\"]", "[1]"],
        ),
        (
            json!({"type": "object", "not": {"required": ["a", "b"]}, "properties": {"a": {}, "b": {}}}),
            vec![r#"{"a":1}"#, r#"{"b":1}"#, "{}"],
            vec![r#"{"a":1,"b":1}"#],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {}, "c": {}},
                   "oneOf": [{"required": ["a"]}, {"required": ["b", "c"]}]}),
            vec![r#"{"a":1}"#, r#"{"a":1,"c":1}"#, r#"{"b":1,"c":1}"#],
            vec![r#"{"a":1,"b":1,"c":1}"#, "{}", r#"{"b":1}"#],
        ),
        (
            json!({"oneOf": [{"type": "array", "items": {"type": "number"}}, {"type": "array", "items": {"type": "string"}}]}),
            vec!["[1]", "[\"a\"]"],
            vec!["[]", "[1,\"a\"]"],
        ),
        (
            json!({"$ref": "#/$defs/node", "required": ["name"], "$defs": {"node": {"type": "object",
                   "properties": {"name": {"type": "string"}, "in": {"$ref": "#/$defs/node", "minProperties": 1}},
                   "additionalProperties": false}}}),
            vec![r#"{"name":"a"}"#, r#"{"name":"a","in":{"in":{"name":"b"}}}"#],
            vec![r#"{"in":{"name":"b"}}"#, r#"{"name":"a","in":{}}"#],
        ),
        (
            json!({"type": "object", "properties": {"a": {}}, "unevaluatedProperties": false}),
            vec![r#"{"a":1}"#],
            vec![r#"{"b":1}"#],
        ),
    ] {
        let grammar = Grammar::json_schema(&schema, true);
        for text in good {
            assert!(kit.takes(&grammar, text).unwrap(), "{schema} refuses {text}");
        }
        for text in bad {
            assert!(!kit.takes(&grammar, text).unwrap(), "{schema} takes {text}");
        }
    }
}

#[test]
fn many_options_are_told_apart_and_more_that_overlap_given_up() {
    let kit = Kit::new("glm4-tiktoken");
    let option = |i: usize| json!({"type": "object", "properties": {"t": {"const": i}}, "required": ["t"]});
    let apart = json!({"oneOf": (0..100).map(option).collect::<Vec<_>>()});
    assert!(kit.takes(&Grammar::json_schema(&apart, true), r#"{"t":99}"#).unwrap());
    let open = |i: usize| json!({"required": [format!("p{i}")]});
    let overlapping = |options| json!({"oneOf": (0..options).map(open).collect::<Vec<_>>()});
    let begin = std::time::Instant::now();
    assert!(kit.compiler.compile(&Grammar::json_schema(&overlapping(15_000), true)).is_err());
    let strict = kit.compiler.compile(&Grammar::json_schema(&overlapping(500), true)).map(|_| ());
    assert_eq!(strict, Err(GrammarError::Unmasked { keyword: "oneOf".to_owned(), at: String::new() }));
    assert!(begin.elapsed().as_secs() < 30, "{:?}", begin.elapsed());
}

#[test]
fn what_cannot_be_kept_is_named_and_checked() {
    let kit = Kit::new("glm4-tiktoken");
    for (schema, keyword, at, good, bad) in [
        (
            json!({"properties": {"a": {"uniqueItems": true}}}),
            "uniqueItems",
            "/properties/a",
            "[1,2]",
            "[1,1]",
        ),
        (json!({"items": {"not": {"pattern": "a"}}}), "not", "/items", "[\"b\"]", "[\"a\"]"),
        (json!({"type": "string", "pattern": "^(?!b)"}), "pattern", "", "\"a\"", "\"b\""),
        (json!({"type": "array", "contains": {"const": 1}}), "contains", "", "[2,1]", "[2]"),
        // Numbers that are too large to reckon with.
        (json!({"type": "integer", "minimum": -9.3e18}), "minimum", "", "", ""),
        (json!({"type": "number", "maximum": 1e300}), "maximum", "", "", ""),
        (
            json!({"allOf": [{"type": "integer", "multipleOf": 9973}, {"multipleOf": 9967}]}),
            "multipleOf",
            "/allOf/0",
            "",
            "",
        ),
    ] {
        let strict = kit.compiler.compile(&Grammar::json_schema(&schema, true)).map(|_| ());
        let named = GrammarError::Unmasked { keyword: keyword.to_owned(), at: at.to_owned() };
        assert_eq!(strict, Err(named), "{schema}");
        let compiled = kit.compiler.compile(&Grammar::json_schema(&schema, false)).unwrap();
        assert_eq!(
            (compiled.unmasked()[0].keyword.as_str(), compiled.unmasked()[0].at.as_str()),
            (keyword, at)
        );
        let within =
            |text: &str| if at == "/properties/a" { format!("{{\"a\":{text}}}") } else { text.to_owned() };
        if !good.is_empty() {
            assert!(
                kit.allows(&compiled, &within(good)) && compiled.check(&within(good)).is_ok(),
                "{schema}"
            );
            assert!(kit.allows(&compiled, &within(bad)) && compiled.check(&within(bad)).is_err(), "{schema}");
        }
    }
}

#[test]
fn forced_tokens_are_those_of_the_tokenizer() {
    let kit = Kit::new("glm4-tiktoken");
    let schema = json!({"type": "object", "properties": {"temperature": {"enum": ["warm"]}}, "required": ["temperature"]});
    let mut matcher = kit
        .compiler
        .matcher(&kit.compiler.compile(&Grammar::json_schema(&schema, true)).unwrap(), Beginning::Exact);
    let text = "{\"temperature\": ";
    let ids = kit.tokenizer.encode(text);
    let start = matcher.forced();
    assert!(!start.is_empty() || set_of(&matcher.mask().unwrap()).len() > 1);
    for &id in &ids[..2] {
        assert!(has(&matcher.mask().unwrap(), id), "{id} of {ids:?}");
        matcher.accept(id).unwrap();
    }
    let forced = matcher.forced();
    assert!(ids[2..].starts_with(&forced) && !forced.is_empty(), "{forced:?} of {ids:?}");
}

#[test]
fn every_tokenizer_has_its_bytes() {
    let schema = json!({"type": "object", "properties": {"名": {"type": "string"}, "n": {"type": "integer"}}, "required": ["名", "n"]});
    for folder in ["glm4-tiktoken", "glm45", "glm-edge", "glm4-hf", "chatglm2-6b", "chatglm-6b"] {
        let kit = Kit::new(folder);
        let compiled = kit.compiler.compile(&Grammar::json_schema(&schema, true)).unwrap();
        let text = "{\"名\": \"x y 😀 ok\", \"n\": 12}";
        assert!(kit.allows(&compiled, text), "{folder}");
        assert!(!kit.allows(&compiled, "{\"名\": \"x\"}"), "{folder}");
        // As the tokenizer writes it, a leading blank aside.
        let mut matcher = kit.compiler.matcher(&compiled, Beginning::Trimmed);
        let ids = kit.tokenizer.encode("{\"");
        for &id in &ids {
            let mask = matcher.mask().unwrap();
            assert!(has(&mask, id), "{folder}: {id} of {ids:?}");
            matcher.accept(id).unwrap();
        }
        // No special token is text, though a string may spell one.
        let mask = {
            let mut matcher = kit.compiler.matcher(&compiled, Beginning::Exact);
            for id in kit.tokenizer.encode("x{\"名\":\"") {
                if kit.compiler.table().bytes(id) != b"x" && kit.compiler.table().bytes(id) != b" x" {
                    let _ = matcher.accept(id);
                }
            }
            matcher.mask().unwrap()
        };
        assert!(kit.tokenizer.special_tokens().all(|(_, id)| !has(&mask, id)), "{folder}");
    }
}

#[test]
fn an_answer_that_can_only_end_does() {
    let kit = Kit::new("glm4-tiktoken");
    let compiled = kit.compiler.compile(&Grammar::Choice(vec!["yes".into()])).unwrap();
    let mut matcher = kit.compiler.matcher(&compiled, Beginning::Trimmed);
    let copy = matcher.clone();
    for id in kit.tokenizer.encode("yes") {
        assert!(!matcher.may_end() && !matcher.is_complete());
        matcher.accept(id).unwrap();
    }
    assert!(matcher.may_end() && matcher.is_complete() && matcher.forced().is_empty());
    assert_eq!(set_of(&matcher.mask().unwrap()), [kit.end]);
    assert_eq!(matcher.accept(5), Err(GrammarError::Token(5)));
    matcher.accept(kit.end).unwrap();
    assert!(!copy.has_begun(), "a copy goes its own way");
}

#[test]
fn a_grammar_that_names_what_ends_answers_ends_there() {
    let kit = Kit::new("glm4-tiktoken");
    let source = format!("start: \"a\" <[{}]> \"b\"", kit.end);
    let compiled = kit.compiler.compile(&Grammar::Lark(source)).unwrap();
    let mut matcher = kit.compiler.matcher(&compiled, Beginning::Exact);
    matcher.accept(kit.tokenizer.encode("a")[0]).unwrap();
    assert_eq!((set_of(&matcher.mask().unwrap()), matcher.may_end()), (vec![kit.end], false));
    matcher.accept(kit.end).unwrap();
}

#[test]
fn checks_of_finished_answers_end_soon() {
    let kit = Kit::new("glm4-tiktoken");
    let doubled: Map<String, Value> = (0..30)
        .map(|at| {
            let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
            (format!("d{at}"), json!({"allOf": [next, next]}))
        })
        .chain([("d30".to_owned(), json!({"type": "string"}))])
        .collect();
    let doubled = json!({"$ref": "#/$defs/d0", "$defs": doubled, "uniqueItems": true});
    let compiled = kit.compiler.compile(&Grammar::json_schema(&doubled, false)).unwrap();
    assert!(!compiled.unmasked().is_empty());
    let begin = std::time::Instant::now();
    assert!(compiled.check("\"x\"").unwrap_err().contains("too often") && compiled.check("1").is_err());
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

#[test]
fn hostile_sources_end_in_errors() {
    let kit = Kit::new("glm4-tiktoken");
    let deep = |n: usize| (0..n).fold(json!({}), |inner, _| json!({"items": inner}));
    let chain: Value = (0..5000)
        .map(|i| (format!("d{i}"), json!({"items": {"$ref": format!("#/$defs/d{}", i + 1)}})))
        .collect();
    let mut chain = json!({"$ref": "#/$defs/d0", "$defs": chain});
    chain["$defs"]["d5000"] = json!({"type": "null"});
    let wide: Value = json!({"anyOf": (0..3000).map(|i| json!({"properties": {format!("p{i}"): {"type": "string"}}, "required": [format!("p{i}")]})).collect::<Vec<_>>()});
    let level = |name: char, at: usize| {
        let next = json!({"$ref": format!("#/$defs/{name}{}", at + 1)});
        (format!("{name}{at}"), json!({"anyOf": vec![next; 50]}))
    };
    let mut definitions: Map<String, Value> =
        ['a', 'b'].iter().flat_map(|&name| (0..7).map(move |at| level(name, at))).collect();
    definitions.insert("a7".to_owned(), json!({"const": 1}));
    definitions.insert("b7".to_owned(), json!({"const": 2}));
    let apart = json!({"oneOf": [{"$ref": "#/$defs/a0"}, {"$ref": "#/$defs/b0"}], "$defs": definitions});
    let names: Map<String, Value> =
        (0..1500).map(|i| (format!("^{i}x{i}$"), json!({"type": "string"}))).collect();
    let rules = (0..3000).map(|i| format!("r{i} ::= r{} | \"x\"\n", i + 1)).collect::<String>();
    for grammar in [
        Grammar::json_schema(&deep(100), false),
        Grammar::json_schema(&json!({"$ref": "#"}), false),
        Grammar::json_schema(&json!({"allOf": [{"$ref": "#"}], "type": "object"}), false),
        Grammar::JsonSchema { schema: "{".into(), strict: false },
        Grammar::Regex("(a|b)*c{0,1000}".repeat(40)),
        Grammar::Regex("((((a{99}){99}){99}){99})".into()),
        Grammar::Regex("\\p{Nothing}".into()),
        Grammar::Lark("start: start".into()),
        Grammar::Lark("start: (\"a\"*)*".into()),
        Grammar::Lark("start: /a/ %json".into()),
        Grammar::Lark(String::new()),
        Grammar::Gbnf("root ::= root root | ".into()),
        Grammar::Gbnf(format!("root ::= r0\n{rules}r3000 ::= \"y\"")),
        Grammar::Choice(vec![String::new()]),
        Grammar::json_schema(&chain, false),
        Grammar::json_schema(&wide, false),
        Grammar::json_schema(&apart, false),
        Grammar::json_schema(&json!({"type": "object", "patternProperties": names}), false),
    ] {
        let begin = std::time::Instant::now();
        let name: String = format!("{grammar:?}").chars().take(60).collect();
        let compiled = kit.compiler.compile(&grammar);
        if let Ok(compiled) = &compiled {
            let mut matcher = kit.compiler.matcher(compiled, Beginning::Exact);
            for _ in 0..20 {
                let Ok(mask) = matcher.mask() else { break };
                let Some(&id) = set_of(&mask).first() else { break };
                if matcher.accept(id).is_err() {
                    break;
                }
            }
        }
        let took = begin.elapsed();
        assert!(took.as_secs() < 20, "{name}: {took:?}");
        println!("{took:?} {name}: {:?}", compiled.map(|_| ()));
    }
}
