//! Calls of tools in every form, token by token.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_grammar::{Beginning, CallForm, CallTool, Calls, Grammar, GrammarError};
use serde_json::{Value, json};
use support::{Kit, has};

fn tagged(gap: &str) -> CallForm {
    let pair = |name: &str| [format!("<{name}>"), format!("</{name}>")];
    CallForm::Tagged {
        call: pair("tool_call"),
        key: pair("arg_key"),
        value: pair("arg_value"),
        gap: gap.to_owned(),
    }
}

fn lines() -> CallForm {
    CallForm::Lines { next: "<|assistant|>".to_owned() }
}

fn python() -> CallForm {
    CallForm::Python { next: "<|assistant|>".to_owned() }
}

/// Tools by their names and schemas; arguments that are strings stand as they are.
fn calls(form: CallForm, tools: &[(&str, Value)], strict: bool) -> Grammar {
    let tools = tools.iter().map(|(name, parameters)| CallTool {
        name: (*name).to_owned(),
        parameters: Some(parameters.to_string()),
        strict,
        texts: parameters["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, schema)| schema["type"] == "string" || schema["enum"][0].is_string())
            .map(|(name, _)| name.clone())
            .collect(),
    });
    Grammar::Calls(Calls { form, tools: tools.collect(), single: false })
}

/// Whether masks allow a text whose special tokens are spelt out, and an end after it.
fn takes(kit: &Kit, grammar: &Grammar, text: &str) -> bool {
    let compiled = kit.compiler.compile(grammar).unwrap();
    let mut matcher = kit.compiler.matcher(&compiled, Beginning::Exact);
    let ids = kit.tokenizer.encode_parse_special(text);
    ids.iter().all(|&id| has(&matcher.mask().unwrap(), id) && matcher.accept(id).is_ok()) && matcher.may_end()
}

fn weather() -> Value {
    json!({"type": "object", "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "exact": {"type": "boolean"},
    }, "required": ["city", "days"]})
}

#[test]
fn calls_in_lines() {
    let kit = Kit::new("glm4-tiktoken");
    let grammar = calls(lines(), &[("get", json!({})), ("get_weather", weather())], true);
    for (text, is_call) in [
        ("get_weather\n{\"city\": \"Oslo\", \"days\": 3}", true),
        ("get\n{}", true),
        ("get\n{}<|assistant|>get_weather\n{\"city\":\"\",\"unit\":\"celsius\",\"days\":14}", true),
        ("get\n{}<|assistant|>", false),
        ("get\n{\"x\": 1}", false),
        ("get_weather\n{\"city\": \"Oslo\"}", false),
        ("get_weather\n{\"city\": \"Oslo\", \"days\": 15}", false),
        ("get_weather\n{\"city\": \"Oslo\", \"days\": 1, \"\\u0064ays\": 99}", false),
        ("get_wea\n{}", false),
        ("Hello", false),
        ("", false),
    ] {
        assert_eq!(takes(&kit, &grammar, text), is_call, "{text}");
    }
}

#[test]
fn calls_in_tags() {
    for folder in ["glm45", "glm4-tiktoken"] {
        let kit = Kit::new(folder);
        for gap in ["\n", ""] {
            let grammar = calls(tagged(gap), &[("get", json!({})), ("get_weather", weather())], true);
            let value = |key: &str, value: &str| {
                format!("<arg_key>{key}</arg_key>{gap}<arg_value>{value}</arg_value>{gap}")
            };
            let call = |name: &str, values: &[(&str, &str)]| {
                let values: String = values.iter().map(|(key, of)| value(key, of)).collect();
                format!("<tool_call>{name}{gap}{values}</tool_call>")
            };
            let (city, days) = (("city", "北京 \"x\" </arg_val"), ("days", "3"));
            let good = call("get_weather", &[city, days]);
            for (text, is_call) in [
                (good.clone(), true),
                (call("get", &[]), true),
                (format!("{good}{gap}{}", call("get", &[])), true),
                (call("get_weather", &[("city", ""), ("unit", "celsius"), days, ("exact", "true")]), true),
                (call("get_weather", &[city, ("unit", "kelvin"), days]), false),
                (call("get_weather", &[city]), false),
                (call("get_weather", &[city, ("days", "\"3\"")]), false),
                (call("get_weather", &[city, ("days", "0")]), false),
                (call("get_weather", &[city, days, ("exact", "yes")]), false),
                (call("get_weather", &[city, days, ("more", "1")]), false),
                (call("get", &[city]), false),
                (call("get_wea", &[]), false),
                (good.strip_suffix("</tool_call>").unwrap().to_owned(), false),
                ("<think>".to_owned(), false),
            ] {
                assert_eq!(takes(&kit, &grammar, &text), is_call, "{folder}: {text}");
            }
        }
    }
}

#[test]
fn calls_in_python() {
    let kit = Kit::new("glm4-tiktoken");
    let mut schema = weather();
    schema["properties"]["a-b"] = json!({"type": ["string", "null"], "maxLength": 2});
    let grammar = calls(python(), &[("get", json!({})), ("get_weather", schema)], true);
    let call = |name: &str, arguments: &str| format!("{name}\n```python\ntool_call({arguments})\n```");
    for (text, is_call) in [
        (call("get_weather", "city='it\\'s \"北京\"', days=3"), true),
        (call("get_weather", "city='', unit='celsius', days=3, exact=True, **{'a-b': None}"), true),
        (call("get", ""), true),
        (call("get", "a=1"), false),
        (call("get_weather", "city='x', days=3, **{'a-b': 'xyz'}"), false),
        (call("get_weather", "days=3, city='x'"), false),
        (call("get_weather", "city='x', days=33"), false),
        (call("get_weather", "city='x"), false),
    ] {
        assert_eq!(takes(&kit, &grammar, &text), is_call, "{text}");
    }
    let nested = json!({"type": "object", "properties": {"list": {"type": "array"}}});
    let error = kit.compiler.compile(&calls(python(), &[("add", nested)], false)).err().unwrap();
    assert!(error.to_string().contains("/add/properties/list"), "{error}");
}

#[test]
fn schemas_that_cannot_be_held() {
    let kit = Kit::new("glm45");
    let odd = json!({"type": "object", "properties": {"s": {"type": "string", "pattern": "^a"}, "n": {"type": "any"}}});
    let long = json!({"type": "object", "properties": {"s": {"type": "string", "minLength": 2, "maxLength": 3}},
        "required": ["s"]});
    for form in [lines(), tagged("")] {
        let strict = kit.compiler.compile(&calls(form.clone(), &[("odd", odd.clone())], true)).err().unwrap();
        assert!(
            matches!(strict, GrammarError::Schema { .. }) && strict.to_string().contains("/odd"),
            "{strict}"
        );
        let grammar = calls(form.clone(), &[("odd", odd.clone()), ("long", long.clone())], false);
        let compiled = kit.compiler.compile(&grammar).unwrap();
        assert!(compiled.unmasked()[0].at.starts_with("/odd"), "{:?}", compiled.unmasked());
        let [any, good, bad] = match form {
            CallForm::Lines { .. } => ["odd\n{\"s\": 1}", "long\n{\"s\": \"ab\"}", "long\n{\"s\": \"abcd\"}"],
            _ => [
                "<tool_call>odd<arg_key>s</arg_key><arg_value>1</arg_value></tool_call>",
                "<tool_call>long<arg_key>s</arg_key><arg_value>ab</arg_value></tool_call>",
                "<tool_call>long<arg_key>s</arg_key><arg_value>abcd</arg_value></tool_call>",
            ],
        };
        assert!(takes(&kit, &grammar, any), "{any}");
        assert!(takes(&kit, &grammar, good) && !takes(&kit, &grammar, bad), "{good}");
    }
    let pattern = json!({"type": "object", "properties": {"s": {"type": "string", "pattern": "^a"}}});
    let strict = kit.compiler.compile(&calls(tagged(""), &[("odd", pattern.clone())], true)).err();
    assert_eq!(
        strict,
        Some(GrammarError::Unmasked { keyword: "pattern".into(), at: "/odd/properties/s".into() })
    );
    kit.compiler.compile(&calls(lines(), &[("odd", pattern)], true)).unwrap();
    assert!(kit.compiler.compile(&calls(lines(), &[], false)).is_err());
}

#[test]
fn arguments_of_any_name() {
    let kit = Kit::new("glm45");
    let schema = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "required": ["b"],
        "additionalProperties": {"type": "integer"}, "$defs": {"n": {"type": "number"}}});
    let value = |key: &str, value: &str| format!("<arg_key>{key}</arg_key><arg_value>{value}</arg_value>");
    for (values, tagged_is_call, json, json_is_call) in [
        (value("a", "0.5") + &value("b", "1") + &value("c", "2"), true, "{\"a\":0.5,\"b\":1,\"c\":2}", true),
        (value("b", "1"), true, "{\"b\":1}", true),
        (value("a", "0.5"), false, "{\"a\":0.5}", false),
        (value("b", "1") + &value("c", "\"x\""), false, "{\"b\":1,\"c\":\"x\"}", false),
        (value("b", "1") + &value("a", "1"), false, "{\"b\":1,\"\\u0061\":1}", false),
    ] {
        let tool = [("f", schema.clone())];
        let text = format!("<tool_call>f{values}</tool_call>");
        assert_eq!(takes(&kit, &calls(tagged(""), &tool, true), &text), tagged_is_call, "{text}");
        assert_eq!(takes(&kit, &calls(lines(), &tool, true), &format!("f\n{json}")), json_is_call, "{json}");
    }
}
