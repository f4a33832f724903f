//! The OpenAI API: shapes, parameters, errors.

use serde_json::{Value, json};

use glimmer_tokenizer::Tokenizer;

use crate::client::Server;
use crate::support::{chain, further_words, root};

fn chat(text: &str, more: Value) -> Value {
    let mut body =
        json!({"model": "demo", "messages": [{"role": "user", "content": text}], "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn text(more: Value) -> Value {
    let mut body = json!({
        "model": "demo", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 12, "ignore_eos": true
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn prompt_and_answer_are_at_most_the_context() {
    let server = Server::start(&["--ctx", "64"]);
    let ask = |prompt: usize, max_tokens: usize| {
        text(json!({"prompt": vec![5; prompt], "max_tokens": max_tokens, "ignore_eos": true}))
    };
    for (prompt, max_tokens, new) in [(63, 5, 1), (60, 5, 4), (60, 4, 4), (60, 3, 3), (64, 0, 0)] {
        let whole = server.ask("/v1/completions", &ask(prompt, max_tokens));
        assert_eq!(whole["usage"]["completion_tokens"], new, "{prompt} and {max_tokens}");
        assert_eq!(whole["choices"][0]["finish_reason"], "length");
    }
    for (prompt, max_tokens) in [(64, 1), (65, 0), (65, 5)] {
        let error = server.refused("/v1/completions", &ask(prompt, max_tokens), 400);
        assert_eq!(error["code"], "context_length_exceeded");
        let said = error["message"].as_str().unwrap();
        assert!(said.contains(&format!("{prompt} tokens, the context 64")), "{said}");
    }
}

#[test]
fn conversations() {
    let server = Server::start(&[]);
    // Whole.
    let whole = server.ask("/v1/chat/completions", &chat("Hello!", json!({})));
    let choice = &whole["choices"][0];
    let content = choice["message"]["content"].as_str().unwrap();
    assert!(!content.is_empty());
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], "demo");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["logprobs"], Value::Null);
    let usage = &whole["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    assert!(whole["id"].as_str().unwrap().starts_with("chatcmpl-"));

    // The same as a stream.
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = server.stream("/v1/chat/completions", &chat("Hello!", more));
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"])
    );
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, before) = chunks.split_last().unwrap();
    assert!(before.iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], usage["completion_tokens"]);
    assert_eq!(before.last().unwrap()["choices"][0]["finish_reason"], "stop");
    let said: String =
        before.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, content);
    let plain = server.stream("/v1/chat/completions", &chat("Hello!", json!({"stream": true})));
    assert!(plain[..plain.len() - 1].iter().all(|data| !data.contains("usage")));

    // A conversation remembers, and its prompt was computed before.
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hello!"}]},
        {"role": "assistant", "content": content},
        {"role": "user", "content": "3 + 4?"},
    ]);
    server.ask("/v1/chat/completions", &json!({"model": "demo", "messages": messages, "temperature": 0}));
}

#[test]
fn parameters_do_what_they_say() {
    let server = Server::start(&[]);
    let path = "/v1/chat/completions";
    let said = |more: Value| -> String {
        let answer = server.ask(path, &chat("What can you do?", more));
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    let greedy = said(json!({}));
    // Length.
    let short = server.ask(path, &chat("What can you do?", json!({"max_tokens": 3})));
    assert_eq!(short["choices"][0]["finish_reason"], "length");
    assert_eq!(short["usage"]["completion_tokens"], 3);
    let short =
        server.ask(path, &chat("What can you do?", json!({"max_completion_tokens": 2, "max_tokens": 9})));
    assert_eq!(short["usage"]["completion_tokens"], 2);
    // Stop strings.
    let word = greedy.split_whitespace().nth(2).unwrap();
    let cut = said(json!({"stop": word}));
    assert_eq!(cut, greedy.split(word).next().unwrap().trim_end_matches('\u{0}'));
    assert_eq!(said(json!({"stop": ["\u{1}", word]})), cut);
    // Seeds, as warm as may be asked for: the demo is sure of this answer.
    let warm =
        |seed: i64| said(json!({"temperature": 2, "seed": seed, "max_tokens": 40, "ignore_eos": true}));
    assert_eq!(warm(7), warm(7));
    assert_ne!(warm(7), warm(-8));
    // Several answers: the first has the request's seed.
    let more = json!({"temperature": 2, "seed": 7, "max_tokens": 40, "n": 3, "ignore_eos": true});
    let several = server.ask(path, &chat("What can you do?", more));
    let texts: Vec<&str> =
        (0..3).map(|at| several["choices"][at]["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(texts[0], warm(7));
    assert!(texts[0] != texts[1] && texts[1] != texts[2]);
    assert_eq!(several["usage"]["completion_tokens"], 120);
    // Bias and penalties, by the ids of the answer.
    let ids = server.ask("/tokenize", &json!({"content": greedy}))["tokens"].clone();
    let bias = json!({ids[0].to_string(): -100});
    assert_ne!(said(json!({"logit_bias": bias})), greedy);
    let more =
        json!({"frequency_penalty": 2, "presence_penalty": 2, "repetition_penalty": 2.0, "max_tokens": 60});
    assert_ne!(said(json!({"max_tokens": 60, "ignore_eos": true})), said(more));
    assert_eq!(said(json!({"temperature": 1.5, "do_sample": false})), greedy);
    assert_eq!(said(json!({"temperature": 1.5, "top_k": 1})), greedy);
    assert_eq!(said(json!({"temperature": 1.5, "top_p": 0.0001})), greedy);
    assert_eq!(said(json!({"temperature": 1.5, "min_p": 1.0})), greedy);
    let stop_id = ids[3].clone();
    let cut = server.ask(path, &chat("What can you do?", json!({"stop_token_ids": [stop_id]})));
    let cut = cut["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(cut.len() < greedy.len() && greedy.starts_with(cut), "{cut:?}");
    // Another word for one of them.
    assert_eq!(
        said(json!({"max_tokens": 30, "ignore_eos": true, "repeat_penalty": 1.5})),
        said(json!({"max_tokens": 30, "ignore_eos": true, "repetition_penalty": 1.5}))
    );
    // No end before so many tokens, of the model's own ids and of others.
    let count =
        |more: Value| server.ask(path, &chat("Hello!", more))["usage"]["completion_tokens"].as_u64().unwrap();
    let own = count(json!({}));
    assert!(count(json!({"min_tokens": own + 5, "max_tokens": own + 20})) >= own + 5);
    assert_eq!(count(json!({"min_tokens": own})), own);
    let any: Vec<u32> = ids.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    assert!(count(json!({"stop_token_ids": any, "min_tokens": 4, "max_tokens": 9})) >= 4);
    let error = server.refused(path, &chat("Hello!", json!({"min_tokens": 9, "max_tokens": 8})), 400);
    assert_eq!(error["param"], "min_tokens");
    // What has no effect is taken: the OpenAI API's own, and what zai-sdk 0.2.3 may send.
    let idle = json!({
        "store": true, "verbosity": "low", "prompt_cache_retention": "24h", "prompt_cache_key": "k", "service_tier": "flex",
        "safety_identifier": "me", "tool_stream": true, "watermark_enabled": false, "request_id": "r", "user_id": "u",
        "sensitive_word_check": {"type": "ALL", "status": "DISABLE"}, "reasoning_effort": "high",
        "thinking": {"type": "enabled", "clear_thinking": true},
    });
    assert_eq!(said(idle), greedy);
    let idle = json!({
        "user": "me", "metadata": {"a": "b"}, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
        "logit_bias": {}, "stop": null, "n": 1, "store": false, "parallel_tool_calls": true, "reasoning_effort": null,
    });
    assert_eq!(said(idle), greedy);
}

#[test]
fn log_probabilities() {
    let server = Server::start(&[]);
    let more = json!({"logprobs": true, "top_logprobs": 3});
    let whole = server.ask("/v1/chat/completions", &chat("Hello!", more.clone()));
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens.len() as u64, whole["usage"]["completion_tokens"].as_u64().unwrap());
    for token in &tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
        // The likeliest is the one that was taken.
        assert_eq!(token["top_logprobs"][0]["bytes"], token["bytes"]);
    }
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().clone())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap().trim(), content.trim());
    let mut more = more;
    more["stream"] = true.into();
    let events = server.stream("/v1/chat/completions", &chat("Hello!", more));
    let streamed: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|data| serde_json::from_str::<Value>(data).unwrap())
        .flat_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(streamed, tokens);

    let answer = server.ask("/v1/completions", &text(json!({"logprobs": 2})));
    let logprobs = &answer["choices"][0]["logprobs"];
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[name].as_array().unwrap().len(), 12, "{name}");
    }
    assert_eq!(logprobs["text_offset"][0], 0);
}

/// Where the pieces of a text begin in it, in characters, by the bytes of each.
fn places(server: &Server, text: &str) -> Vec<usize> {
    let pieces = server.ask("/tokenize", &json!({"content": text, "with_pieces": true}))["tokens"].clone();
    let mut bytes: Vec<u8> = Vec::new();
    let mut places = Vec::new();
    for piece in pieces.as_array().unwrap() {
        let whole = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
        places.push(std::str::from_utf8(&bytes[..whole]).unwrap().chars().count());
        match &piece["piece"] {
            Value::String(text) => bytes.extend(text.bytes()),
            list => bytes.extend(list.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8)),
        }
    }
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    places
}

#[test]
fn offsets_are_places_in_the_text() {
    let server = Server::start(&[]);
    let path = "/v1/completions";
    // A prompt with characters of several tokens, and what the tokenizer puts before it.
    let prompt = "a 你好 🦜é🙂 b";
    let own = places(&server, prompt);
    assert!(own.windows(2).any(|pair| pair[0] == pair[1]), "no character has several tokens: {own:?}");
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 12});
    let whole = server.ask(path, &text(body.clone()))["choices"][0].clone();
    let offsets: Vec<usize> = whole["logprobs"]["text_offset"]
        .as_array()
        .unwrap()
        .iter()
        .map(|at| at.as_u64().unwrap() as usize)
        .collect();
    let tokens = whole["logprobs"]["tokens"].as_array().unwrap();
    let before = offsets.len() - 12 - own.len();
    assert!(offsets[..before].iter().all(|&at| at == 0));
    assert_eq!(offsets[before..before + own.len()], own);
    // Every token that is text stands where it is said to.
    let shown: Vec<char> = whole["text"].as_str().unwrap().chars().collect();
    assert_eq!(offsets[before + own.len()], prompt.chars().count());
    let next = offsets.iter().skip(1).copied().chain([shown.len()]);
    for ((token, &at), next) in tokens.iter().zip(&offsets).zip(next).skip(before) {
        let token = token.as_str().unwrap();
        if next > at && !token.starts_with("bytes:") {
            assert_eq!(shown[at..next].iter().collect::<String>(), token, "{at}");
        }
    }
    // The same as a stream.
    let streamed = |body: &Value| {
        let mut body = body.clone();
        body["stream"] = true.into();
        let (mut said, mut offsets) = (String::new(), Vec::new());
        for data in server.stream(path, &text(body)).iter().filter(|data| *data != "[DONE]") {
            let choice = serde_json::from_str::<Value>(data).unwrap()["choices"][0].clone();
            said += choice["text"].as_str().unwrap();
            offsets.extend(choice["logprobs"]["text_offset"].as_array().cloned().unwrap_or_default());
        }
        (said, Value::Array(offsets))
    };
    assert_eq!(
        streamed(&body),
        (whole["text"].as_str().unwrap().to_owned(), whole["logprobs"]["text_offset"].clone())
    );
    // Special tokens, which are no text: one is made likely beyond all doubt, and the next begins where it does.
    let special = server.ask("/tokenize", &json!({"content": "<|user|>"}))["tokens"][0].clone();
    let body = json!({
        "prompt": "a", "logprobs": 0, "max_tokens": 4, "logit_bias": {special.to_string(): 100}, "ignore_eos": true
    });
    let silent = server.ask(path, &text(body.clone()))["choices"][0].clone();
    assert_eq!((&silent["text"], &silent["logprobs"]["text_offset"]), (&json!(""), &json!([0, 0, 0, 0])));
    assert_eq!(streamed(&body), (String::new(), json!([0, 0, 0, 0])));
    let mut body = body;
    body["skip_special_tokens"] = false.into();
    let spelled = server.ask(path, &text(body))["choices"][0].clone();
    assert_eq!(spelled["logprobs"]["text_offset"], json!([0, 8, 16, 24]), "{spelled}");
    // Text that was cut off has no places.
    let answer = server.ask(path, &text(json!({})))["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop: String = answer.chars().skip(3).take(4).collect();
    let cut = server.ask(path, &text(json!({"logprobs": 0, "stop": stop})))["choices"][0].clone();
    let length = cut["text"].as_str().unwrap().chars().count() as u64;
    assert!(
        cut["logprobs"]["text_offset"].as_array().unwrap().iter().all(|at| at.as_u64().unwrap() <= length),
        "{cut}"
    );
}

#[test]
fn a_stream_may_tell_how_far_the_prompt_is() {
    let server = Server::start(&["--step-tokens", "32"]);
    let options = json!({"stream": true, "max_tokens": 4, "return_progress": true});
    let chunks = server.stream("/v1/chat/completions", &chat(&"one two three ".repeat(40), options));
    let chunks: Vec<Value> = chunks.iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    let told: Vec<&Value> =
        chunks.iter().map(|chunk| &chunk["prompt_progress"]).filter(|p| p.is_object()).collect();
    let total = told[0]["total"].as_u64().unwrap();
    let done: Vec<u64> = told.iter().map(|progress| progress["processed"].as_u64().unwrap()).collect();
    assert!(done.len() > 2 && done.is_sorted() && done.last() == Some(&total), "{done:?} of {total}");
    let plain = chat("Hello!", json!({"stream": true, "max_tokens": 4}));
    let plain = server.stream("/v1/chat/completions", &plain).concat();
    assert!(!plain.contains("prompt_progress"));
}

#[test]
fn usage_may_come_with_every_chunk() {
    let server = Server::start(&[]);
    // As guidellm 0.8.1 asks.
    let options = json!({
        "stream": true, "max_tokens": 8, "ignore_eos": true,
        "stream_options": {"include_usage": true, "continuous_usage_stats": true}
    });
    for (path, body) in
        [("/v1/completions", text(options.clone())), ("/v1/chat/completions", chat("Hello!", options))]
    {
        let counts: Vec<u64> = server
            .stream(path, &body)
            .iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| {
                serde_json::from_str::<Value>(data).unwrap()["usage"]["completion_tokens"].as_u64().unwrap()
            })
            .collect();
        assert!(counts.is_sorted() && counts.len() > 3, "{counts:?}");
        assert_eq!(counts.last(), Some(&8));
        assert!(counts[0] < 8, "{counts:?}");
    }
}

#[test]
fn switches_reach_a_template_that_reads_them() {
    // Written for this test: what GLM-5.2's and later templates read, in a line.
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(crate::support::fixture("lm-eval")).unwrap() {
        let entry = entry.unwrap().path();
        std::fs::copy(&entry, directory.path().join(entry.file_name().unwrap())).unwrap();
    }
    std::fs::write(
        directory.path().join("chat_template.jinja"),
        "{% for message in messages %}{% endfor %}{{ reasoning_effort | default('-') }} {{ clear_thinking | default('-') }} {{ enable_thinking | default('-') }}",
    )
    .unwrap();
    let server = Server::start(&[directory.path().to_str().unwrap()]);
    let prompt = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "Hello!"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.ask("/apply-template", &body)["prompt"].clone()
    };
    assert_eq!(prompt(json!({})), "- - -");
    assert_eq!(prompt(json!({"reasoning_effort": "high"})), "high - -");
    assert_eq!(prompt(json!({"reasoning_effort": "none"})), "none - False");
    let thinking =
        json!({"thinking": {"type": "enabled", "clear_thinking": false}, "reasoning_effort": "max"});
    assert_eq!(prompt(thinking), "max False True");
    let own = json!({"chat_template_kwargs": {"reasoning_effort": "low"}, "reasoning_effort": "high"});
    assert_eq!(prompt(own), "low - -");
}

#[test]
fn continuations() {
    let server = Server::start(&[]);
    let path = "/v1/completions";
    let one = server.ask(path, &text(json!({})));
    assert_eq!(one["object"], "text_completion");
    assert_eq!(one["usage"]["completion_tokens"], 12);
    let said = one["choices"][0]["text"].as_str().unwrap();
    // Ids, batches and batches of ids are the same requests.
    let body = json!({"model": "demo", "prompt": "Once upon a time"});
    let ids = server.ask("/tokenize", &body)["tokens"].clone();
    let again = |prompt: Value| server.ask(path, &text(json!({"prompt": prompt})))["choices"].clone();
    assert_eq!(again(ids.clone())[0]["text"], said);
    assert_eq!(again(json!(["Once upon a time"]))[0]["text"], said);
    let three = server.ask(path, &text(json!({"prompt": [ids, ids, [5, 6, 7]], "n": 2, "seed": 1})));
    let choices = three["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    assert!(choices.iter().enumerate().all(|(at, choice)| choice["index"] == at));
    assert!(choices[..4].iter().all(|choice| choice["text"] == said));
    // Echo, with nothing new or something.
    let echo = server.ask(path, &text(json!({"echo": true, "max_tokens": 0})));
    assert_eq!(echo["choices"][0]["text"], "Once upon a time");
    assert_eq!(echo["usage"]["completion_tokens"], 0);
    let echo = server.ask(path, &text(json!({"echo": true})));
    assert_eq!(echo["choices"][0]["text"], format!("Once upon a time{said}"));
    // As lm-evaluation-harness asks for the probabilities of a text.
    let body = json!({"prompt": [ids, [5, 6, 7]], "echo": true, "logprobs": 1, "max_tokens": 1, "n": 1});
    let scored = server.ask(path, &text(body.clone()));
    for (choice, length) in
        scored["choices"].as_array().unwrap().iter().zip([ids.as_array().unwrap().len(), 3])
    {
        let logprobs = &choice["logprobs"];
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(logprobs[name].as_array().unwrap().len(), length + 1, "{name}");
        }
        assert!(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null());
        for at in 1..=length {
            let own = logprobs["token_logprobs"][at].as_f64().unwrap();
            let top = logprobs["top_logprobs"][at].as_object().unwrap();
            let best = top.values().map(|x| x.as_f64().unwrap()).fold(f64::NEG_INFINITY, f64::max);
            assert!(own <= best && best <= 0.0 && top.len() <= 2);
        }
    }
    // Also where the first token ends the answer: here any token does.
    let mut ended = body.clone();
    ended["stop_token_ids"] = (0..3000).collect::<Vec<u32>>().into();
    for (choice, was) in server.ask(path, &text(ended))["choices"]
        .as_array()
        .unwrap()
        .iter()
        .zip(scored["choices"].as_array().unwrap())
    {
        assert_eq!(choice["logprobs"]["token_logprobs"], was["logprobs"]["token_logprobs"]);
        assert_eq!(choice["finish_reason"], "stop");
    }
    // Each step of a greedy answer, asked for again as a prompt, is the likeliest.
    let answer = server.ask(path, &text(json!({"prompt": ids, "logprobs": 1})));
    let said_ids =
        server.ask("/tokenize", &json!({"content": answer["choices"][0]["text"]}))["tokens"].clone();
    let both: Vec<Value> = [&ids, &said_ids].iter().flat_map(|ids| ids.as_array().unwrap().clone()).collect();
    let again =
        server.ask(path, &text(json!({"prompt": both, "echo": true, "logprobs": 1, "max_tokens": 0})));
    let start = ids.as_array().unwrap().len();
    let told = &again["choices"][0]["logprobs"]["token_logprobs"];
    if said_ids.as_array().unwrap().len() == 12 {
        for at in 0..12 {
            assert_eq!(told[start + at], answer["choices"][0]["logprobs"]["token_logprobs"][at], "{at}");
        }
    }
    // The same as a stream.
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = server.stream(path, &text(streamed));
    let mut told = [Vec::new(), Vec::new()];
    for data in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let choice = &chunk["choices"][0];
        let more = choice["logprobs"]["token_logprobs"].as_array().cloned().unwrap_or_default();
        told[choice["index"].as_u64().unwrap() as usize].extend(more);
    }
    for (told, choice) in told.iter().zip(scored["choices"].as_array().unwrap()) {
        assert_eq!(told, choice["logprobs"]["token_logprobs"].as_array().unwrap());
    }
    // As a stream.
    let events = server.stream(path, &text(json!({"stream": true, "echo": true, "prompt": ["a", "b"]})));
    assert_eq!(events.last().unwrap(), "[DONE]");
    let mut texts = [String::new(), String::new()];
    for data in &events[..events.len() - 1] {
        let chunk: Value = serde_json::from_str(data).unwrap();
        let choice = &chunk["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    let whole = server.ask(path, &text(json!({"echo": true, "prompt": ["a", "b"]})));
    assert_eq!(whole["choices"][0]["text"], texts[0]);
    assert_eq!(whole["choices"][1]["text"], texts[1]);
}

/// SentencePiece takes away a blank at the beginning of a text; an answer is no beginning, whole, streamed or echoed.
#[test]
fn the_first_blank_of_a_continuation_stays() {
    for name in ["chatglm2-6b", "chatglm-6b"] {
        let from = root().join("crates/tokenizer/tests/data").join(name);
        let tokenizer = Tokenizer::from_dir(&from).unwrap();
        let answer = further_words(&tokenizer);
        let both = tokenizer.decode(&[tokenizer.encode("Hello"), answer.clone()].concat());
        let wanted = both.strip_prefix("Hello").unwrap();
        assert!(wanted.starts_with(" w") && wanted.len() > 3, "{name}: {wanted:?}");
        let (beginning, end) = wanted.split_at(3);
        let model = tempfile::tempdir().unwrap();
        chain(model.path(), &from, tokenizer.len() + 8, &answer);
        let server = Server::start(&[model.path().to_str().unwrap()]);
        let id = server.get("/v1/models").json()["data"][0]["id"].clone();
        let ask = |more: Value| {
            text(json!({"model": id, "prompt": "Hello", "max_tokens": answer.len()}))
                .as_object()
                .unwrap()
                .clone()
                .into_iter()
                .chain(more.as_object().unwrap().clone())
                .collect::<serde_json::Map<_, _>>()
        };
        for (more, wanted) in [
            (json!({}), wanted),
            (json!({"echo": true}), both.as_str()),
            (json!({"stop": [end]}), beginning),
            (json!({"stop": [wanted.trim_start()]}), " "),
            (json!({"stop": [beginning]}), ""),
            (json!({"logprobs": 1}), wanted),
        ] {
            let mut body = Value::Object(ask(more));
            let whole = server.ask("/v1/completions", &body);
            assert_eq!(whole["choices"][0]["text"], wanted, "{name}: {body}");
            body["stream"] = true.into();
            let events = server.stream("/v1/completions", &body);
            let chunks = events.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
            let streamed: String =
                chunks.filter_map(|chunk| Some(chunk["choices"][0]["text"].as_str()?.to_owned())).collect();
            assert_eq!(streamed, wanted, "{name}: {body}");
        }
    }
}

#[test]
fn errors() {
    let server = Server::start(&[]);
    let path = "/v1/chat/completions";
    let refused = |more: Value, param: &str| {
        let error = server.refused(path, &chat("Hello!", more.clone()), 400);
        assert_eq!(error["type"], "invalid_request_error", "{more}");
        assert_eq!(error["param"], param, "{more} => {error}");
        assert!(error["message"].as_str().unwrap().len() > 10);
        error
    };
    assert_eq!(refused(json!({"tempreature": 1}), "tempreature")["code"], "unknown_parameter");
    refused(json!({"temperature": -1}), "temperature");
    refused(json!({"temperature": "hot"}), "temperature");
    refused(json!({"top_p": 1.1}), "top_p");
    refused(json!({"n": 0}), "n");
    refused(json!({"n": 100_000}), "n");
    refused(json!({"max_tokens": -1}), "max_tokens");
    refused(json!({"stop": [""]}), "stop");
    refused(json!({"stop": 5}), "stop");
    refused(json!({"logit_bias": {"999999999": 1}}), "logit_bias");
    refused(json!({"top_logprobs": 3}), "top_logprobs");
    refused(json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs");
    refused(json!({"stream_options": {"include_usage": true}}), "stream_options");
    refused(json!({"messages": []}), "messages");
    refused(json!({"messages": [{"role": "king", "content": "x"}]}), "messages");
    refused(json!({"messages": [{"role": "user", "content": "x", "mood": 1}]}), "messages");
    let image = json!([{"type": "image_url", "image_url": {"url": "data:"}}]);
    refused(json!({"messages": [{"role": "user", "content": image}]}), "messages");
    // What is not there yet is refused, not passed over.
    for (name, value) in
        [("tools", json!([{"type": "web_search", "web_search": {}}])), ("documents", json!([{"text": "x"}]))]
    {
        assert_eq!(refused(json!({name: value}), name)["code"], "unsupported_parameter");
    }
    // All at once, the first by its name.
    let several = json!({
        "tools": [{"type": "web_search"}], "response_format": 5,
        "n": 0, "what": 1, "reasoning_effort": "some"
    });
    let error = refused(several, "n");
    let message = error["message"].as_str().unwrap();
    for name in ["tools", "response_format", "n", "what", "reasoning_effort"] {
        assert!(message.contains(&format!("`{name}`")), "{name}: {message}");
    }
    assert!(message.chars().count() <= 300);
    let long = refused(json!({"messages": [{"role": "k".repeat(1000), "content": "x"}]}), "messages");
    assert!(long["message"].as_str().unwrap().chars().count() <= 300);
    // Too long.
    let error = server.refused(path, &chat(&"word ".repeat(20_000), json!({})), 400);
    assert_eq!(error["code"], "context_length_exceeded");
    let error = server.refused("/v1/completions", &text(json!({"prompt": vec![5; 9000]})), 400);
    assert_eq!(error["code"], "context_length_exceeded");
    for prompt in [json!([]), json!({}), json!([[]]), json!([-1]), json!([99_999_999]), json!(["a", 1])] {
        server.refused("/v1/completions", &text(json!({"prompt": prompt})), 400);
    }
    // Unknown.
    let error = server.refused(path, &json!({"model": "gpt-5", "messages": []}), 404);
    assert_eq!(error["code"], "model_not_found");
    assert_eq!(server.get("/v1/models/gpt-5").status, 404);
    assert_eq!(server.get("/v1/modles").json()["error"]["code"], "not_found");
    assert_eq!(server.get(path).status, 405);
    // No JSON.
    for body in ["", "{", "[]", "nonsense", "{\"a\": 1}}"] {
        let status = server.request("POST", path, &["Content-Type: application/json"], body).status;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(server.request("POST", path, &["Content-Type: text/plain"], "{}").status, 415);
    server.refused("/v1/embeddings", &json!({"input": "x"}), 400);
}

#[test]
fn models_have_the_names_they_are_given() {
    let server =
        Server::start(&["--served-model-name", "gpt-4o", "--served-model-name", "org/glm", "--any-model"]);
    let list = server.get("/v1/models").json();
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["gpt-4o", "org/glm"]);
    assert_eq!(server.get("/v1/models/org/glm").json()["id"], "org/glm");
    let mut body = chat("Hello!", json!({"max_tokens": 2}));
    body["model"] = "anything".into();
    assert_eq!(server.ask("/v1/chat/completions", &body)["model"], "anything");
}

#[test]
fn reasoning_stands_apart() {
    // The demo model does not reason; in this format everything before `</think>` is taken for it.
    let server = Server::start(&["--chat-format", "glm-z1"]);
    let path = "/v1/chat/completions";
    let whole = server.ask(path, &chat("Hello!", json!({"max_tokens": 20, "ignore_eos": true})));
    let message = &whole["choices"][0]["message"];
    let reasoning = message["reasoning_content"].as_str().unwrap();
    assert!(!reasoning.is_empty());
    assert_eq!(message["content"], "");
    assert!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
    let events =
        server.stream(path, &chat("Hello!", json!({"max_tokens": 20, "ignore_eos": true, "stream": true})));
    let said: String = events[..events.len() - 1]
        .iter()
        .map(|data| serde_json::from_str::<Value>(data).unwrap())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["reasoning_content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(said, reasoning);
    let hidden = server.ask(
        path,
        &chat("Hello!", json!({"max_tokens": 20, "ignore_eos": true, "include_reasoning": false})),
    );
    assert!(hidden["choices"][0]["message"].get("reasoning_content").is_none());
    // The switches reach the template of a model that has them.
    let server = Server::start(&["--chat-format", "glm-4.5"]);
    let prompt = |more: Value| {
        server
            .post("/apply-template", &{
                let mut body = json!({"messages": [{"role": "user", "content": "Hello!"}]});
                body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                body
            })
            .json()["prompt"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let off = prompt(json!({"enable_thinking": false}));
    assert_ne!(off, prompt(json!({})));
    assert_eq!(off, prompt(json!({"thinking": {"type": "disabled"}})));
    assert_eq!(off, prompt(json!({"reasoning_effort": "none"})));
    assert_eq!(off, prompt(json!({"chat_template_kwargs": {"enable_thinking": false}})));
}
