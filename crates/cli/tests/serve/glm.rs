//! The GLM API, `api.py`, and the paths of other servers for tokens.

use serde_json::{Value, json};

use crate::client::Server;

#[test]
fn the_glm_api() {
    let server = Server::start(&[]);
    let body = json!({"prompt": "Hello!", "history": [], "max_length": 500, "top_p": 0.7, "temperature": 0});
    let whole = server.ask("/chat", &body);
    assert_eq!(whole["model"], "glm-60B");
    assert_eq!(whole["object"], "chat.completion");
    let content = whole["content"].as_str().unwrap();
    assert!(!content.is_empty());
    let count = |name: &str| whole[name].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    let ids = server.ask("/tokenize", &json!({"content": "Hello!"}))["tokens"].clone();
    assert_eq!(count("prompt_tokens"), ids.as_array().unwrap().len() as u64);

    // Each event has the whole answer so far.
    let events = server.stream("/chat-stream", &body);
    let replies: Vec<Value> = events.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let texts: Vec<&str> = replies.iter().map(|reply| reply["content"].as_str().unwrap()).collect();
    assert!(texts.windows(2).all(|pair| pair[1].starts_with(pair[0]) && pair[1] != pair[0]));
    assert!(texts.len() > 1);
    assert_eq!(replies.last().unwrap(), &whole);

    // The ways in which clients nest a history.
    let round = json!(["Hello!", content]);
    let with = |history: Value| {
        server.ask("/chat", &json!({"prompt": "3 + 4?", "history": history, "temperature": 0}))["content"]
            .clone()
    };
    let one = with(json!([round]));
    assert_eq!(with(json!([[round]])), one);
    assert_eq!(with(round), one);
    let pairs = with(json!([["a", "b"], ["c", "d"]]));
    assert_eq!(with(json!([["a", "b", "c", "d"]])), pairs);
    server.refused("/chat", &json!({"prompt": "x", "history": [["a"]]}), 400);
    server.refused("/chat", &json!({"history": []}), 400);
    // Prompt and answer together.
    let short = server.ask("/chat", &json!({"prompt": "Hello!", "max_length": 12, "temperature": 0}));
    assert!(short["completion_tokens"].as_u64().unwrap() < 12);
    server.refused("/chat", &json!({"prompt": "Hello!", "max_length": 2}), 400);
    server.refused("/embedding", &json!({"prompt": ["x"]}), 400);

    // Later versions of the API take messages, and a model that is called what it likes.
    let mut later = json!({
        "model": "chatglm3-6b", "messages": [{"role": "user", "content": "Hello!"}], "temperature": 0, "max_tokens": 200,
    });
    let whole = server.ask("/chat", &later);
    assert_eq!(whole["choices"][0]["message"]["content"], content);
    later["stream"] = true.into();
    let texts = |body: &Value| -> Vec<String> {
        let events = server.stream("/chat", body);
        assert_eq!(events.last().unwrap(), "[DONE]");
        let chunks =
            events[..events.len() - 1].iter().map(|data| serde_json::from_str::<Value>(data).unwrap());
        let texts =
            chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned));
        texts.filter(|text| !text.is_empty()).collect()
    };
    assert_eq!(texts(&later).concat(), content);
    later["chunk"] = false.into();
    let cumulative = texts(&later);
    assert_eq!(cumulative.last().unwrap(), content);
    assert!(cumulative.windows(2).all(|pair| pair[1].starts_with(&pair[0])));

    let server = Server::start(&["--glm-api-deltas"]);
    let events = server.stream("/chat-stream", &body);
    let replies = events.iter().map(|data| serde_json::from_str::<Value>(data).unwrap());
    let joined: String = replies.map(|reply| reply["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(joined, content);
}

#[test]
fn api_py() {
    let server = Server::start(&[]);
    let answer = server.ask("/", &json!({"prompt": "Hello!", "temperature": 0}));
    assert_eq!(answer["status"], 200);
    assert_eq!(answer["history"], json!([["Hello!", answer["response"]]]));
    let time = answer["time"].as_str().unwrap();
    assert!(time.len() == 19 && time.as_bytes()[10] == b' ', "{time}");
    let body = json!({"prompt": "3 + 4?", "history": answer["history"], "temperature": 0});
    let again = server.ask("/", &body);
    assert_eq!(again["history"].as_array().unwrap().len(), 2);
}

#[test]
fn tokens() {
    let server = Server::start(&[]);
    let text = "Hello, 你好!";
    // llama.cpp
    let ids = server.ask("/tokenize", &json!({"content": text}))["tokens"].clone();
    let with = server.ask("/tokenize", &json!({"content": text, "add_special": true}))["tokens"].clone();
    assert!(with.as_array().unwrap().len() > ids.as_array().unwrap().len());
    assert_eq!(server.ask("/detokenize", &json!({"tokens": ids})), json!({"content": text}));
    let pieces = server.ask("/tokenize", &json!({"content": text, "with_pieces": true}))["tokens"].clone();
    assert_eq!(pieces[0]["id"], ids[0]);
    let special = server.ask("/tokenize", &json!({"content": "<|user|>"}))["tokens"].clone();
    assert_eq!(special.as_array().unwrap().len(), 1);
    // vLLM
    let answer =
        server.ask("/tokenize", &json!({"model": "demo", "prompt": text, "return_token_strs": true}));
    assert_eq!(answer["tokens"], with);
    assert_eq!(answer["count"], with.as_array().unwrap().len());
    assert_eq!(answer["token_strs"].as_array().unwrap().len(), with.as_array().unwrap().len());
    assert!(answer["max_model_len"].as_u64().unwrap() > 0);
    let back = server.ask("/detokenize", &json!({"model": "demo", "tokens": ids}));
    assert_eq!(back, json!({"prompt": text}));
    let messages = json!([{"role": "user", "content": text}]);
    let answer = server.ask("/tokenize", &json!({"messages": messages}));
    let usage =
        server.ask("/v1/chat/completions", &json!({"messages": messages, "max_tokens": 1}))["usage"].clone();
    assert_eq!(answer["count"], usage["prompt_tokens"]);
    // What a person writes is never a special token.
    let messages = json!([{"role": "user", "content": "<|user|>"}]);
    let ids = server.ask("/tokenize", &json!({"messages": messages}))["tokens"].clone();
    let users = ids.as_array().unwrap().iter().filter(|&id| *id == special[0]).count();
    assert_eq!(users, 1);
    let prompt = server.ask("/apply-template", &json!({"messages": messages}))["prompt"].clone();
    assert!(prompt.as_str().unwrap().contains("<|user|>"));
    // The GLM API
    let answer = server.ask("/tokenize", &json!({"prompt": text, "max_length": 4096}));
    assert_eq!(answer["tokenIds"], with);
    let answer = server.ask("/tokenize", &json!({"prompt": text, "max_length": 3}));
    assert_eq!(answer["tokenIds"].as_array().unwrap().len(), 3);
    server.refused("/detokenize", &json!({"tokens": [99_999_999]}), 400);
}
