//! JSON Schema's own test suite, each instance forced through masks token by token.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use glimmer_grammar::{Grammar, GrammarError};
use serde_json::{Map, Value};
use support::Kit;

/// Spellings of a value that differ in the order of properties and in how whole numbers are written. Masks allow the order
/// of the schema, and whole numbers without a point.
fn spellings(value: &Value) -> Vec<Value> {
    const MOST: usize = 400;
    match value {
        Value::Number(number) => {
            let whole = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 1e16);
            let whole = whole.map(|x| Value::from(x as i64)).filter(|whole| whole != value);
            std::iter::once(value.clone()).chain(whole).collect()
        }
        Value::Array(items) => {
            let mut lists = vec![Vec::new()];
            for item in items {
                let item = spellings(item);
                let longer = |list: &Vec<Value>| {
                    item.iter().map(|item| [list.as_slice(), std::slice::from_ref(item)].concat()).collect()
                };
                lists =
                    lists.iter().flat_map(|list| -> Vec<Vec<Value>> { longer(list) }).take(MOST).collect();
            }
            lists.into_iter().map(Value::from).collect()
        }
        Value::Object(entries) => {
            let mut objects = vec![Map::new()];
            for _ in 0..entries.len() {
                let mut longer = Vec::new();
                for object in &objects {
                    for (key, value) in entries.iter().filter(|(key, _)| !object.contains_key(*key)) {
                        for value in spellings(value) {
                            let mut object = object.clone();
                            object.insert(key.clone(), value);
                            longer.push(object);
                        }
                    }
                }
                longer.truncate(MOST);
                objects = longer;
            }
            objects.into_iter().map(Value::from).collect()
        }
        _ => vec![value.clone()],
    }
}

/// What came of a draft's tests.
#[derive(Default)]
struct Outcome {
    /// Groups by file whose schema is refused.
    refused: BTreeMap<String, Vec<String>>,
    /// Groups by file that are checked afterwards.
    unmasked: BTreeMap<String, usize>,
    /// Valid instances that masks do not allow.
    missed: Vec<String>,
    exact: usize,
    checked: usize,
}

fn run(draft: &str, kit: &Kit) -> Outcome {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/json-schema-test-suite");
    let text = std::fs::read_to_string(data.join(format!("{draft}.json"))).unwrap();
    let groups: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut outcome = Outcome::default();
    for group in &groups {
        let name = |key: &str| group[key].as_str().unwrap().to_owned();
        let file = name("file");
        let mut schema = group["schema"].clone();
        if draft == "draft7" && schema.is_object() && schema.get("$schema").is_none() {
            schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
        }
        let compiled = match kit.compiler.compile(&Grammar::json_schema(&schema, false)) {
            Ok(compiled) => compiled,
            // No answer is right, and none can be asked for.
            Err(GrammarError::Unsatisfiable(_)) => {
                let tests = group["tests"].as_array().unwrap();
                assert!(tests.iter().all(|test| test["valid"] == false), "{file}: {}", name("description"));
                outcome.exact += tests.len();
                continue;
            }
            Err(error) => {
                outcome.refused.entry(file).or_default().push(format!("{}: {error}", name("description")));
                continue;
            }
        };
        let is_exact = compiled.unmasked().is_empty();
        *outcome.unmasked.entry(file.clone()).or_default() += usize::from(!is_exact);
        for test in group["tests"].as_array().unwrap() {
            let place = format!("{file}: {}: {}", name("description"), test["description"]);
            let valid = test["valid"].as_bool().unwrap();
            let texts: Vec<String> = spellings(&test["data"]).iter().map(Value::to_string).collect();
            let allowed: Vec<&String> = texts.iter().filter(|text| kit.allows(&compiled, text)).collect();
            *(if is_exact { &mut outcome.exact } else { &mut outcome.checked }) += 1;
            match valid {
                true if allowed.is_empty() => outcome.missed.push(place),
                true => assert!(allowed.iter().all(|text| compiled.check(text).is_ok()), "{place}"),
                false if is_exact => assert!(allowed.is_empty(), "allowed: {place}: {allowed:?}"),
                false => assert!(
                    allowed.iter().all(|text| compiled.check(text).is_err()),
                    "passed: {place}: {allowed:?}"
                ),
            }
        }
    }
    outcome
}

#[test]
fn no_invalid_value_is_allowed_and_no_valid_one_refused() {
    let kit = Kit::new("glm4-tiktoken");
    for (draft, exact, checked) in [("draft2020-12", 746, 302), ("draft7", 652, 118)] {
        let outcome = run(draft, &kit);
        println!("{draft}: exact {}, checked {}", outcome.exact, outcome.checked);
        println!("unmasked {:?}", outcome.unmasked);
        println!("refused {:#?}", outcome.refused);
        assert_eq!(outcome.missed, [""; 0]);
        assert!(outcome.exact >= exact && outcome.exact + outcome.checked >= exact + checked, "{draft}");
    }
}
