//! Ollama's API: the same answers as the OpenAI API's in its words, models that come and go, and what is refused.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::client::Server;
use crate::support::fixture;
use crate::tools::of_one_reply;

/// The lines of a stream.
#[track_caller]
pub fn lines(server: &Server, path: &str, body: &Value) -> Vec<Value> {
    let response = server.post(path, body);
    assert_eq!(response.status, 200, "{body} => {}", response.text());
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    let text = response.text();
    assert!(text.ends_with('\n'));
    text.trim_end_matches('\n').split('\n').map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn with(base: Value, more: Value) -> Value {
    let mut all = base;
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// The message of an answer, whole and put together of its lines; both must be the same but for the ids of calls.
#[track_caller]
fn message(server: &Server, body: &Value) -> (Value, Value) {
    let whole = server.ask("/api/chat", &with(body.clone(), json!({"stream": false})));
    let parts = lines(server, "/api/chat", body);
    let (mut content, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for (at, part) in parts.iter().enumerate() {
        assert_eq!(part["done"], at + 1 == parts.len(), "{part}");
        assert_eq!(part["message"]["role"], "assistant");
        content += part["message"]["content"].as_str().unwrap();
        thinking += part["message"]["thinking"].as_str().unwrap_or_default();
        calls.extend(part["message"]["tool_calls"].as_array().into_iter().flatten().cloned());
    }
    let mut together = json!({"role": "assistant", "content": content});
    if !thinking.is_empty() {
        together["thinking"] = thinking.into();
    }
    if !calls.is_empty() {
        together["tool_calls"] = calls.into();
    }
    let without_ids = |message: &Value| {
        let mut message = message.clone();
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            assert!(
                call.as_object_mut().unwrap().remove("id").unwrap().as_str().unwrap().starts_with("call_")
            );
        }
        message
    };
    assert_eq!(without_ids(&whole["message"]), without_ids(&together));
    let last = parts.last().unwrap();
    for counted in ["done_reason", "prompt_eval_count", "eval_count"] {
        assert_eq!(whole[counted], last[counted], "{counted}");
    }
    for time in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(whole[time].is_u64() && last[time].is_u64(), "{time}: {whole}");
        assert!(whole[time].as_u64() <= whole["total_duration"].as_u64(), "{time}: {whole}");
    }
    (whole["message"].clone(), whole)
}

fn tools() -> Value {
    let city = json!({"type": "string", "description": "The name of the city"});
    json!([{"type": "function", "function": {"name": "get_weather", "description": "Get the current weather in a city",
        "parameters": {"type": "object", "properties": {"city": city}, "required": ["city"]}}}])
}

/// The same conversation, with the same options, has the same tokens and the same end in both APIs.
#[test]
fn answers_are_those_of_the_openai_api() {
    let server = Server::start(&["--ctx", "256"]);
    let conversations = [
        json!([{"role": "user", "content": "Hello!"}]),
        json!([{"role": "system", "content": "You are brief."}, {"role": "user", "content": "What can you do?"},
               {"role": "assistant", "content": "Sums."}, {"role": "user", "content": "How much is 2 + 3?"}]),
        json!([{"role": "user", "content": "And what's the weather like in Oslo today?"}]),
    ];
    let options = [
        json!({"temperature": 0}),
        json!({"temperature": 0, "num_predict": 3}),
        json!({"temperature": 1.2, "seed": 7, "top_k": 20, "top_p": 0.9, "num_predict": 40}),
        json!({"temperature": 0.7, "seed": -9, "min_p": 0.05, "presence_penalty": 0.5, "frequency_penalty": 0.2, "num_predict": 30}),
        json!({"temperature": 0, "repeat_penalty": 1.3, "repeat_last_n": -1, "stop": ["."], "num_predict": 60}),
        json!({"temperature": 0, "num_predict": -1, "num_ctx": 4096, "num_thread": 2, "use_mmap": true, "mirostat": 0}),
    ];
    for messages in &conversations {
        for options in &options {
            for tools in [json!(null), tools()] {
                let mut own = Map::new();
                for (name, value) in options.as_object().unwrap() {
                    match name.as_str() {
                        "num_predict" if *value != json!(-1) => {
                            own.insert("max_tokens".to_owned(), value.clone())
                        }
                        "num_predict" | "num_ctx" | "num_thread" | "use_mmap" | "mirostat"
                        | "repeat_last_n" => None,
                        _ => own.insert(name.clone(), value.clone()),
                    };
                }
                let body = json!({"model": "demo", "messages": messages, "tools": tools});
                let theirs = server.ask("/v1/chat/completions", &with(body.clone(), Value::Object(own)));
                let choice = &theirs["choices"][0];
                let (message, whole) = message(&server, &with(body, json!({"options": options})));
                let said = choice["message"]["content"].as_str().unwrap_or_default();
                assert_eq!(message["content"], said, "{options} {messages}");
                assert_eq!(whole["eval_count"], theirs["usage"]["completion_tokens"]);
                assert_eq!(whole["prompt_eval_count"], theirs["usage"]["prompt_tokens"]);
                let length = choice["finish_reason"] == "length";
                assert_eq!(whole["done_reason"], if length { "length" } else { "stop" });
                let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
                let own = message["tool_calls"].as_array().cloned().unwrap_or_default();
                // A call that was cut is none: it has no object of arguments.
                if length {
                    continue;
                }
                assert_eq!(calls.len(), own.len());
                for (call, own) in calls.iter().zip(&own) {
                    assert_eq!(call["function"]["name"], own["function"]["name"]);
                    let arguments = call["function"]["arguments"].as_str().unwrap();
                    assert_eq!(
                        serde_json::from_str::<Value>(arguments).unwrap(),
                        own["function"]["arguments"]
                    );
                }
            }
        }
    }
}

#[test]
fn calls_and_results_go_to_and_fro() {
    let server = Server::start(&[]);
    let question = json!({"role": "user", "content": "And what's the weather like in Oslo today?"});
    let ask = |messages: &[Value], tools: &Value| {
        let body = json!({"model": "demo:latest", "messages": messages, "tools": tools, "options": {"temperature": 0}});
        message(&server, &body).0
    };
    let call = ask(std::slice::from_ref(&question), &tools());
    let function = &call["tool_calls"][0]["function"];
    assert_eq!(function, &json!({"index": 0, "name": "get_weather", "arguments": {"city": "Oslo"}}));
    assert_eq!(call["content"], "");
    // As clients send it back, with what they leave out as null.
    let result = json!({"role": "tool", "tool_name": "get_weather", "content": "{\"temperature\": -4, \"condition\": \"snow\"}"});
    let back = with(call.clone(), json!({"images": null, "thinking": null, "tool_name": null}));
    let said = ask(&[question.clone(), back, result], &tools());
    assert!(said["content"].as_str().unwrap().contains("-4"), "{said}");
    // Schemas as clients strip and fill them.
    for parameters in [
        json!({"type": "object", "properties": null}),
        json!({"type": "object", "defs": null, "items": null, "required": null,
               "properties": {"city": {"type": ["string", "null"], "items": null, "description": "?", "enum": null}}}),
        json!({"type": "object", "properties": {"city": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}}),
        json!({}),
    ] {
        let tools = json!([{"type": "function", "function": {"name": "get_weather", "description": "Get the current weather in a city",
            "parameters": parameters}}]);
        let said = ask(std::slice::from_ref(&question), &tools);
        let calls = said["tool_calls"].as_array().cloned().unwrap_or_default();
        assert!(calls.iter().all(|call| call["function"]["arguments"].is_object()), "{said}");
    }
    assert_eq!(ask(std::slice::from_ref(&question), &json!([])).get("tool_calls"), None);
}

#[test]
fn reasoning_has_a_place_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "the and of to in</think>\nYes", "glm-4.7");
    let ask = |more: Value| {
        let body = json!({"model": "demo", "messages": [{"role": "user", "content": "?"}], "options": {"temperature": 0}});
        message(&server, &with(body, more)).0
    };
    let thought = json!({"role": "assistant", "content": "Yes", "thinking": "the and of to in"});
    for more in [json!({}), json!({"think": true}), json!({"think": "low"}), json!({"think": "max"})] {
        assert_eq!(ask(more.clone()), thought, "{more}");
    }
    assert_eq!(ask(json!({"think": false})), json!({"role": "assistant", "content": "Yes"}));
    let generated = json!({"model": "demo", "prompt": "?", "stream": false, "options": {"temperature": 0}});
    let generated = server.ask("/api/generate", &generated);
    assert_eq!((&generated["response"], &generated["thinking"]), (&json!("Yes"), &json!("the and of to in")));
    let show = server.ask("/api/show", &json!({"model": "demo"}));
    assert!(show["capabilities"].as_array().unwrap().contains(&json!("thinking")), "{show}");
    assert_eq!(
        server.refused("/api/chat", &json!({"model": "demo", "think": "some"}), 400),
        "`think` is to be true, false or one of low, medium, high, max"
    );
}

#[test]
fn forms_and_log_probabilities() {
    let server = Server::start(&[]);
    let ask = |more: Value| {
        let body = json!({"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "options": {"temperature": 0, "num_predict": 200}});
        message(&server, &with(body, more))
    };
    let plain = ask(json!({})).0;
    assert_eq!(ask(json!({"format": ""})).0, plain);
    assert_eq!(ask(json!({"format": null, "tools": null, "think": null, "keep_alive": null})).0, plain);
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Bergen", "Moss"]}}, "required": ["city"], "additionalProperties": false});
    let (formed, whole) = ask(json!({"format": schema}));
    assert_eq!(whole["done_reason"], "stop");
    let value: Value = serde_json::from_str(formed["content"].as_str().unwrap()).unwrap();
    assert!(["Bergen", "Moss"].contains(&value["city"].as_str().unwrap()), "{value}");
    let (any, whole) = ask(json!({"format": "json"}));
    assert!(
        whole["done_reason"] == "length"
            || serde_json::from_str::<Value>(any["content"].as_str().unwrap()).is_ok()
    );
    let (told, whole) = ask(json!({"logprobs": true, "top_logprobs": 2}));
    let tokens = whole["logprobs"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    // The chat format has a line break before the text.
    assert_eq!((told, text.trim_start()), (plain.clone(), plain["content"].as_str().unwrap()));
    assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2
        && token["logprob"].as_f64().unwrap() <= 0.0
        && token["bytes"].is_array()));
}

#[test]
fn a_prompt_alone() {
    let server = Server::start(&[]);
    let ask = |more: Value| {
        let body =
            json!({"model": "demo", "prompt": "Hello!", "options": {"temperature": 0, "num_predict": 24}});
        let parts = lines(&server, "/api/generate", &with(body.clone(), more.clone()));
        let whole = server.ask("/api/generate", &with(with(body, more), json!({"stream": false})));
        let together: String = parts.iter().map(|part| part["response"].as_str().unwrap()).collect();
        assert_eq!(whole["response"], together);
        whole
    };
    let chat = |messages: Value| {
        let body =
            json!({"model": "demo", "messages": messages, "options": {"temperature": 0, "num_predict": 24}});
        message(&server, &body).0["content"].clone()
    };
    // As the command line sends it.
    let empty =
        json!({"suffix": "", "system": "", "template": "", "images": [], "context": [], "raw": false});
    assert_eq!(ask(empty)["response"], chat(json!([{"role": "user", "content": "Hello!"}])));
    let system = json!({"role": "system", "content": "Be brief."});
    assert_eq!(
        ask(json!({"system": "Be brief."}))["response"],
        chat(json!([system, {"role": "user", "content": "Hello!"}]))
    );
    let raw = "[gMASK]<sop><|user|>\nHello!<|assistant|>\n";
    let completion = json!({"model": "demo", "prompt": raw, "add_special_tokens": false, "parse_special": true, "temperature": 0, "max_tokens": 24});
    let completion = server.ask("/v1/completions", &completion)["choices"][0]["text"].clone();
    let own = ask(json!({"prompt": raw, "raw": true}));
    assert_eq!(own["response"], completion);
}

/// A client may have a model loaded, kept and let go of; who looks is no use of it.
#[test]
fn models_come_and_go() {
    let server = Server::start(&[]);
    let listed = || server.get("/api/ps").json()["models"].clone();
    let is_loaded = || !listed().as_array().unwrap().is_empty();
    let gone = || {
        let deadline = Instant::now() + Duration::from_secs(30);
        while is_loaded() {
            assert!(Instant::now() < deadline, "{}", listed());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let ps = listed();
    assert_eq!(
        (&ps[0]["name"], &ps[0]["model"], &ps[0]["size_vram"]),
        (&json!("demo:latest"), &json!("demo:latest"), &json!(0))
    );
    assert!(ps[0]["size"].as_u64() > Some(1 << 20) && ps[0]["context_length"].as_u64() >= Some(512));
    // It stays without an end: that is far away.
    assert!(ps[0]["expires_at"].as_str() > Some("2300"), "{ps}");
    let unloaded = server.ask("/api/chat", &json!({"model": "demo", "messages": [], "keep_alive": 0}));
    assert_eq!(
        (&unloaded["done_reason"], &unloaded["message"]["role"]),
        (&json!("unload"), &json!("assistant"))
    );
    gone();
    // It is not loaded to be let go of.
    server.ask("/api/generate", &json!({"model": "demo", "prompt": "", "keep_alive": "0s"}));
    assert!(!is_loaded());
    let loaded = server.ask("/api/generate", &json!({"model": "demo", "keep_alive": "10m"}));
    assert_eq!(
        (&loaded["done_reason"], &loaded["response"], &loaded["done"]),
        (&json!("load"), &json!(""), &json!(true))
    );
    let expires = listed()[0]["expires_at"].as_str().unwrap().to_owned();
    assert!(expires.as_str() < "2300" && expires.ends_with('Z'), "{expires}");
    // What was wished counts as long as the model is loaded.
    let hello = json!({"model": "demo", "prompt": "Hello!", "stream": false, "options": {"num_predict": 2}});
    server.ask("/api/generate", &hello);
    assert!(listed()[0]["expires_at"].as_str() < Some("2300"));
    let answer = server.ask("/api/generate", &with(hello.clone(), json!({"keep_alive": 0})));
    assert_eq!(answer["done_reason"], "length");
    gone();
    // A request by any API has it loaded again, as the operator said: without an end.
    server.ask("/v1/completions", &json!({"prompt": "x", "max_tokens": 1}));
    assert!(listed()[0]["expires_at"].as_str() > Some("2300"));
}

#[test]
fn what_is_known_of_models() {
    let encoder = fixture("text2vec-bert");
    let server = Server::start(&["--embedding-model", encoder.to_str().unwrap()]);
    let version = server.get("/api/version").json()["version"].as_str().unwrap().to_owned();
    assert!(version.split(['.', '+']).take(3).all(|part| part.parse::<u32>().is_ok()), "{version}");
    let tags = server.get("/api/tags").json();
    let [demo, vectors] = tags["models"].as_array().unwrap().as_slice() else { panic!("{tags}") };
    assert_eq!((&demo["name"], &vectors["name"]), (&json!("demo:latest"), &json!("text2vec-bert:latest")));
    for model in [demo, vectors] {
        assert!(
            model["size"].as_u64() > Some(1000) && model["digest"].as_str().unwrap().len() == 64,
            "{model}"
        );
        assert!(model["modified_at"].as_str() > Some("2024") && model["details"]["families"].is_array());
    }
    assert_eq!(demo["details"]["format"], "gguf");
    assert!(demo["details"]["parameter_size"].as_str().unwrap().ends_with('M'), "{demo}");
    let show = server.ask("/api/show", &json!({"model": "demo", "system": "", "template": "", "verbose": false, "options": null, "name": ""}));
    assert_eq!(show["capabilities"], json!(["completion", "tools"]));
    let arch = show["model_info"]["general.architecture"].as_str().unwrap();
    assert!(show["model_info"][format!("{arch}.context_length")].is_u64(), "{show}");
    assert!(show["model_info"]["tokenizer.ggml.tokens"].as_array().is_some_and(Vec::is_empty));
    assert!(show["modelfile"].as_str().unwrap().contains("\nFROM demo\n") && show.get("tensors").is_none());
    let verbose = server.ask("/api/show", &json!({"name": "demo", "verbose": true}));
    assert!(verbose["tensors"][0]["shape"].is_array() && verbose["model_info"] == show["model_info"]);
    let vectors = server.ask("/api/show", &json!({"model": "text2vec-bert"}));
    assert_eq!(
        (&vectors["capabilities"], &vectors["details"]["family"]),
        (&json!(["embedding"]), &json!("bert"))
    );
    // A shelf may be empty; a list is a list all the same.
    let directory = tempfile::tempdir().unwrap();
    let empty = Server::start(&["--models-dir", directory.path().to_str().unwrap()]);
    assert_eq!(empty.get("/api/tags").json(), json!({"models": []}));
    assert_eq!(empty.get("/api/ps").json(), json!({"models": []}));
    assert_eq!(empty.head("/api/tags"), 200);
}

#[test]
fn what_is_refused_is_named() {
    let server = Server::start(&["--max-tokens", "50"]);
    let chat = json!({"model": "demo", "messages": [{"role": "user", "content": "x"}]});
    for (more, words) in [
        (json!({"options": {"mirostat": 1}}), vec!["options.mirostat"]),
        (json!({"options": {"typical_p": 0.5}}), vec!["options.typical_p"]),
        (json!({"options": {"tfs_z": 2}}), vec!["options.tfs_z"]),
        (json!({"options": {"repeat_penalty": 1.1, "repeat_last_n": 64}}), vec!["options.repeat_last_n"]),
        (json!({"options": {"num_predict": 51}}), vec!["options.num_predict", "at most 50"]),
        (json!({"options": {"num_predict": -3}}), vec!["options.num_predict"]),
        (json!({"options": {"num_ctx": "many"}}), vec!["options.num_ctx"]),
        (json!({"options": {"tempreature": 1}}), vec!["options.tempreature"]),
        (json!({"options": 5}), vec!["options"]),
        (json!({"format": "xml"}), vec!["format"]),
        (json!({"format": {"type": "strnig"}}), vec!["format"]),
        (json!({"think": true}), vec!["think", "does not support thinking"]),
        (json!({"keep_alive": "soon"}), vec!["keep_alive"]),
        (json!({"top_logprobs": 21}), vec!["top_logprobs"]),
        (json!({"tools": [{"type": "function"}]}), vec!["tools"]),
        (json!({"mood": 1}), vec!["mood"]),
        (
            json!({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}),
            vec!["demo sees no pictures"],
        ),
        (
            json!({"messages": [{"role": "user", "content": "x", "images": [5]}]}),
            vec!["message 0", "`images`"],
        ),
        (
            json!({"messages": [{"role": "system", "content": "x", "images": ["aGk="]}]}),
            vec!["message 0", "`images`"],
        ),
        (json!({"messages": [{"role": "nobody", "content": "x"}]}), vec!["message 0", "nobody"]),
        (json!({"messages": [{"role": "user", "content": "x", "mood": 1}]}), vec!["message 0", "mood"]),
        (json!({"messages": "x"}), vec!["messages"]),
    ] {
        let error = server.refused("/api/chat", &with(chat.clone(), more.clone()), 400);
        let text = error.as_str().unwrap_or_else(|| panic!("{more}: an error is a text, not {error}"));
        assert!(
            words.iter().all(|word| text.contains(word)) && text.chars().count() <= 300,
            "{more}: {text}"
        );
    }
    let generate = json!({"model": "demo", "prompt": "x"});
    for (more, word) in [
        (json!({"template": "{{ .Prompt }}"}), "`template`"),
        (json!({"suffix": "}"}), "`suffix`"),
        (json!({"images": ["aGk="]}), "demo sees no pictures"),
        (json!({"images": "aGk="}), "`images`"),
        (json!({"images": ["aGk="], "raw": true}), "`images`"),
        (json!({"context": [1, 2]}), "`context`"),
        (json!({"raw": true, "system": "x"}), "`system`"),
        (json!({"raw": true, "think": false}), "`think`"),
    ] {
        let error = server.refused("/api/generate", &with(generate.clone(), more), 400);
        assert!(error.as_str().unwrap().contains(word), "{error}");
    }
    for path in ["/api/chat", "/api/generate", "/api/show"] {
        let error = server.refused(path, &json!({"model": "nope"}), 404);
        assert!(error.as_str().unwrap().starts_with("model 'nope' not found"), "{error}");
        assert!(server.refused(path, &json!({}), 400).as_str().unwrap().contains("`model`"));
    }
    assert!(server.get("/api/nothing").json()["error"].is_string());
    // What does not fit is not cut in silence.
    let long = json!({"model": "demo", "prompt": "word ".repeat(20_000), "truncate": true});
    assert!(server.refused("/api/generate", &long, 400).as_str().unwrap().contains("token"));
}

#[test]
fn vectors_have_length_1() {
    let encoder = fixture("text2vec-bert");
    let server = Server::start(&["--embedding-model", encoder.to_str().unwrap()]);
    let length = |vector: &Value| {
        vector.as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum::<f64>().sqrt()
    };
    let texts = ["你好", "hello there", ""];
    let body = json!({"model": "text2vec-bert", "input": texts, "options": {"num_ctx": 512}});
    let answer = server.ask("/api/embed", &body);
    let vectors = answer["embeddings"].as_array().unwrap();
    assert!(vectors.len() == 3 && vectors.iter().all(|vector| (length(vector) - 1.0).abs() < 1e-6));
    assert!(answer["prompt_eval_count"].as_u64() > Some(3) && answer["total_duration"].as_u64() > Some(0));
    let raw = server.ask("/v1/embeddings", &json!({"model": "text2vec-bert", "input": texts[0]}));
    let raw = raw["data"][0]["embedding"].clone();
    let own = server.ask("/api/embeddings", &json!({"model": "text2vec-bert:latest", "prompt": texts[0]}));
    assert_eq!(own["embedding"], raw);
    let scale = length(&raw);
    for (own, raw) in vectors[0].as_array().unwrap().iter().zip(raw.as_array().unwrap()) {
        assert!((own.as_f64().unwrap() - raw.as_f64().unwrap() / scale).abs() < 1e-6);
    }
    let few =
        server.ask("/api/embed", &json!({"model": "text2vec-bert", "input": texts[0], "dimensions": 4}));
    let few = &few["embeddings"][0];
    assert!(few.as_array().unwrap().len() == 4 && (length(few) - 1.0).abs() < 1e-6);
    // Without a text the model is loaded.
    for body in [json!({"input": ""}), json!({"input": []}), json!({})] {
        let answer =
            server.ask("/api/embed", &with(body, json!({"model": "text2vec-bert", "keep_alive": "1h"})));
        assert_eq!(answer["embeddings"], json!([]));
    }
    assert_eq!(server.ask("/api/embeddings", &json!({"model": "text2vec-bert"})), json!({"embedding": []}));
    // What is too long is cut, unless that is not wanted.
    let long = json!({"model": "text2vec-bert", "input": "word ".repeat(2000)});
    assert!(length(&server.ask("/api/embed", &long)["embeddings"][0]) > 0.9);
    let error = server.refused("/api/embed", &with(long, json!({"truncate": false})), 400);
    assert!(error.as_str().unwrap().contains("token"), "{error}");
    for (more, word) in [
        (json!({"input": [1]}), "`input`"),
        (json!({"input": {}}), "`input`"),
        (json!({"dimensions": -1}), "`dimensions`"),
        (json!({"options": 1}), "`options`"),
        (json!({"options": {"mood": 1}}), "`options.mood`"),
        (json!({"options": {"temperature": "x"}}), "`options.temperature`"),
        (json!({"mood": 1}), "`mood`"),
        (json!({"model": "demo"}), "makes no vectors"),
    ] {
        let body = with(json!({"model": "text2vec-bert", "input": "x"}), more);
        let error = server.refused("/api/embed", &body, 400);
        assert!(error.as_str().unwrap().contains(word), "{error}");
    }
}

/// Where clients may not change what is served, they are told so; a model that is there need not be pulled.
#[test]
fn a_server_that_is_as_its_operator_said() {
    let server = Server::start(&[]);
    let pulled = lines(&server, "/api/pull", &json!({"model": "demo"}));
    assert_eq!(pulled.last().unwrap(), &json!({"status": "success"}));
    let pulled = server.ask("/api/pull", &json!({"name": "demo:latest", "stream": false}));
    assert_eq!(pulled, json!({"status": "success"}));
    for (method, path, body) in [
        ("POST", "/api/pull", json!({"model": "glm-edge:1.5b"})),
        ("POST", "/api/create", json!({"model": "x", "from": "demo"})),
        ("POST", "/api/copy", json!({"source": "demo", "destination": "x"})),
        ("DELETE", "/api/delete", json!({"model": "demo"})),
    ] {
        let response = server.request(method, path, &[], &body.to_string());
        assert_eq!(response.status, 403, "{path}: {}", response.text());
        assert!(response.json()["error"].as_str().unwrap().contains("glimmer local"));
    }
    let digest = format!("/api/blobs/sha256:{}", "2f".repeat(32));
    assert_eq!(server.head(&digest), 404);
    assert_eq!(server.request("POST", &digest, &["Content-Type: application/json"], "GGUF\0").status, 400);
    let error = server.refused("/api/push", &json!({"model": "demo"}), 400);
    assert!(error.as_str().unwrap().contains("not published"), "{error}");
}

/// Whatever comes, it is refused in time and in memory, in a line.
#[test]
fn hostile_bodies() {
    let server = Server::start(&[]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for path in ["/api/chat", "/api/generate", "/api/show", "/api/embed", "/api/pull", "/api/create"] {
        for body in [
            "".to_owned(),
            "[]".to_owned(),
            "{".to_owned(),
            "{\"model\": \"demo\", \"model\": 5}".to_owned(),
            format!("{{\"model\": \"demo\", \"options\": {deep}}}"),
            format!("{{\"model\": \"demo\", \"messages\": {deep}, \"prompt\": {deep}}}"),
            format!("{{\"model\": \"demo\", \"format\": {deep}, \"prompt\": \"x\"}}"),
            format!("{{\"model\": \"demo\", \"tools\": [{deep}], \"think\": {deep}}}"),
            format!("{{\"model\": \"{}\"}}", "x".repeat(1 << 20)),
            format!("{{\"model\": \"demo\", \"keep_alive\": \"{}h\"}}", "9".repeat(1 << 20)),
            "{\"model\": \"\\u001b[2J\\n\"}".to_owned(),
        ] {
            let response = server.request("POST", path, &["Content-Type: application/json"], &body);
            let start: String = body.chars().take(80).collect();
            assert!((400..500).contains(&response.status), "{path} {start}: {}", response.status);
            if response.status != 200 {
                let error = response.json()["error"].as_str().unwrap().to_owned();
                assert!(error.chars().count() <= 300, "{error}");
            }
        }
    }
}
