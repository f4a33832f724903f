//! Whether and how long a model thinks: the words of the APIs for it, and answers of models that do.

use glimmer_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::client::Server;
use crate::tools::{ask, of_one_reply};

const PATH: &str = "/v1/chat/completions";

const REPLY: &str = "the and of to in</think>\nYes";

fn body(more: Value) -> Value {
    let mut body = json!({"model": "demo", "messages": [{"role": "user", "content": "?"}], "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Reasoning, content and the number of tokens of the first, of a whole answer whose stream is the same.
fn thought(server: &Server, more: Value) -> (String, String, u64) {
    let answer = ask(server, &body(more));
    let message = &answer["choices"][0]["message"];
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(message.get("reasoning"), message.get("reasoning_content"));
    let tokens = answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
    (text("reasoning"), text("content"), tokens)
}

#[test]
fn budgets_in_the_words_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), REPLY, "glm-4.7");
    let thought = |more: Value| thought(&server, more);
    let all = ("the and of to in".to_owned(), "Yes".to_owned());
    let two = ("the and".to_owned(), "Yes".to_owned());
    for (more, expected) in [
        (json!({}), &all),
        (json!({"thinking_budget": 2}), &two),
        (json!({"thinking_token_budget": 2}), &two),
        (json!({"chat_template_kwargs": {"thinking_budget": 2}}), &two),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2}}), &two),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 5}}), &all),
        (json!({"reasoning": {"max_tokens": 2}}), &two),
        (json!({"reasoning": {"max_tokens": 2.0, "enabled": true, "effort": "low", "exclude": false}}), &two),
        (
            json!({"thinking_budget": 2, "reasoning": {"max_tokens": 2}, "logprobs": true, "top_logprobs": 2}),
            &two,
        ),
        (json!({"thinking_budget": 2, "guided_choice": ["No", "Yes"]}), &two),
        (json!({"thinking_budget": 2, "tools": [{"type": "function", "function": {"name": "f"}}]}), &two),
        (json!({"thinking_budget": 1000}), &all),
    ] {
        let (reasoning, content, tokens) = thought(more.clone());
        assert_eq!((&reasoning, &content), (&expected.0, &expected.1), "{more}");
        assert_eq!(tokens, reasoning.split(' ').count() as u64, "{more}");
    }
    // Nothing is thought: the template opens nothing.
    for more in [
        json!({"thinking_budget": 0}),
        json!({"thinking_budget": 0, "enable_thinking": true}),
        json!({"thinking": {"type": "enabled", "budget_tokens": 0}}),
        json!({"thinking": {"type": "disabled"}}),
        json!({"reasoning": {"enabled": false}}),
        json!({"reasoning": {"effort": "none"}}),
        json!({"reasoning_effort": "none"}),
    ] {
        assert_eq!(thought(more), (String::new(), "Yes".to_owned(), 0));
    }
    // It is thought and not shown.
    assert_eq!(
        thought(json!({"reasoning": {"exclude": true, "max_tokens": 3}})),
        (String::new(), "Yes".to_owned(), 3)
    );
}

#[test]
fn copies_and_log_probabilities() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), REPLY, "glm-4.7");
    let more = json!({"thinking_budget": 2, "n": 3, "logprobs": true});
    let answer = server.ask(PATH, &body(more));
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(
            (&choice["message"]["content"], &choice["message"]["reasoning"]),
            (&json!("Yes"), &json!("the and"))
        );
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let texts: Vec<&str> = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
        assert_eq!(texts, ["the", " and", "</think>", "\n", "Y", "es"]);
        assert!(tokens.iter().all(|token| token["logprob"].as_f64().unwrap() <= 0.0));
    }
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 6);
}

/// GLM-4.5 opens its reasoning itself, and has a line break after it.
#[test]
fn a_model_that_opens_its_reasoning_itself() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "<think>the and of</think>\nYes", "glm-4.5");
    let thought = |more: Value| thought(&server, more);
    assert_eq!(thought(json!({})).0, "the and of");
    // Its tag is one of the tokens.
    assert_eq!(thought(json!({"thinking_budget": 3})), ("the and".to_owned(), "Yes".to_owned(), 3));
    assert_eq!(thought(json!({"thinking_budget": 0})), (String::new(), "Yes".to_owned(), 0));
}

/// A template that always opens it: the tag is closed at once.
#[test]
fn a_template_that_cannot_leave_it_out() {
    let directory = tempfile::tempdir().unwrap();
    let from = crate::support::root().join("crates/tokenizer/tests/data/glm45");
    let tokenizer = Tokenizer::from_dir(&from).unwrap();
    let ids = [tokenizer.encode_parse_special(REPLY), tokenizer.special_id("<|user|>").into_iter().collect()]
        .concat();
    crate::support::chain(directory.path(), &from, tokenizer.len() + 8, &ids);
    let template = "{% for m in messages %}<|user|>{{ m.content }}{% endfor %}<|assistant|><think>{{ thinking_budget | default('') }}<think>";
    std::fs::write(directory.path().join("chat_template.jinja"), template).unwrap();
    let server = Server::start(&[directory.path().to_str().unwrap(), "--served-model-name", "demo"]);
    assert_eq!(thought(&server, json!({"thinking_budget": 0})), (String::new(), "Yes".to_owned(), 0));
    assert_eq!(thought(&server, json!({"thinking_budget": 1})).0, "the");
    // Templates may read it.
    let prompt = server.ask(
        "/apply-template",
        &json!({"messages": [{"role": "user", "content": "?"}], "thinking_budget": 7}),
    );
    assert!(prompt["prompt"].as_str().unwrap().ends_with("<think>7<think>"), "{prompt}");
}

#[test]
fn what_is_no_budget() {
    let server = Server::start(&[]);
    for (more, param) in [
        (json!({"thinking_budget": -1}), "thinking_budget"),
        (json!({"thinking_budget": 1.5}), "thinking_budget"),
        (json!({"thinking_budget": "many"}), "thinking_budget"),
        (json!({"thinking_token_budget": 1e12}), "thinking_token_budget"),
        (json!({"chat_template_kwargs": {"thinking_budget": -4}}), "chat_template_kwargs.thinking_budget"),
        (json!({"chat_template_kwargs": {"thinking_budget": {}}}), "chat_template_kwargs.thinking_budget"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": []}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "disabled", "budget_tokens": 5}}), "thinking.budget_tokens"),
        (json!({"thinking": {"budget_tokens": 5}}), "type"),
        (json!({"reasoning": {"max_tokens": true}}), "reasoning.max_tokens"),
        (json!({"reasoning": {"effort": "some"}}), "reasoning.effort"),
        (json!({"reasoning": {"mood": 1}}), "reasoning.mood"),
        (json!({"reasoning": 5}), "reasoning"),
        (json!({"thinking_budget": 3, "reasoning": {"max_tokens": 4}}), "thinking_budget"),
    ] {
        let error = server.refused(PATH, &body(more), 400);
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().chars().count() <= 300);
    }
    // A model that does not think keeps to any budget.
    let plain = server.ask(PATH, &body(json!({"max_tokens": 20})));
    let held = server.ask(PATH, &body(json!({"max_tokens": 20, "thinking_budget": 1})));
    assert_eq!(plain["choices"], held["choices"]);
}

/// The prompt opens the reasoning; a model that answers at once has skipped it. Only its end tells: until then a stream has it
/// as reasoning, and then as content.
#[test]
fn a_model_that_skips_its_reasoning_has_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "Well, hello", "glm-4.7");
    let whole = server.ask(PATH, &body(json!({})));
    let message = &whole["choices"][0]["message"];
    assert_eq!((&message["content"], message.get("reasoning")), (&json!("Well, hello"), None));
    assert_eq!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
    for (shown, told) in [(true, "Well, hello"), (false, "")] {
        let more = json!({"stream": true, "include_reasoning": shown});
        let (mut content, mut reasoning) = (String::new(), String::new());
        for data in server.stream(PATH, &body(more)).iter().filter(|data| *data != "[DONE]") {
            let delta = &serde_json::from_str::<Value>(data).unwrap()["choices"][0]["delta"];
            reasoning += delta["reasoning"].as_str().unwrap_or_default();
            content += delta["content"].as_str().unwrap_or_default();
        }
        assert_eq!((content.as_str(), reasoning.as_str()), ("Well, hello", told));
    }
    // A budget that is spent before its end makes reasoning of what was written.
    let cut = server.ask(PATH, &body(json!({"thinking_budget": 1})));
    assert_eq!(cut["choices"][0]["message"]["reasoning"], "We");
}
