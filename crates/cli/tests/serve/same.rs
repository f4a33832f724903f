//! The same conversation through every API that converses: what the model reads has the same length, and what it writes is the
//! same to the token.

use serde_json::{Value, json};

use crate::client::Server;
use crate::tools::of_one_reply;

/// What an answer is, in whatever words.
#[derive(Debug, Default, PartialEq)]
struct Said {
    reasoning: String,
    text: String,
    calls: Vec<(String, Value)>,
    prompt_tokens: u64,
    answer_tokens: u64,
    /// Whether it reached its limit.
    is_cut: bool,
}

/// Numbers that look drawn (Marsaglia's xorshift).
struct Lot(u64);

impl Lot {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// A conversation to be gone on with: messages in the words of the OpenAI API.
struct Talk {
    system: Option<String>,
    messages: Vec<Value>,
    tools: Vec<Value>,
    thinks: bool,
    temperature: f64,
    seed: u64,
    most: u64,
}

const WORDS: [&str; 6] =
    ["Hello!", "What is 3 + 4?", "Name a city.", "你好,天气怎么样?", "  two\n\nlines ", "Go on."];

fn talk(lot: &mut Lot, thinks: bool) -> Talk {
    let names = ["get_weather", "get_time", "search"];
    let tool = |name: &&str| {
        json!({"type": "function", "function": {
            "name": name,
            "description": format!("What {name} knows"),
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        }})
    };
    let tools: Vec<Value> = names.iter().take(lot.below(4) as usize).map(tool).collect();
    let mut messages = Vec::new();
    for round in 0..lot.below(3) {
        messages.push(json!({"role": "user", "content": lot.one_of(&WORDS)}));
        if !tools.is_empty() && lot.below(2) == 0 {
            let id = format!("call_{round}");
            let city = Value::from(lot.one_of(&["Oslo", "北京", "a \"b\" c"]));
            // As an object is written where it goes into a prompt; a text goes there as it is.
            let arguments = format!("{{\"city\": {city}}}");
            let function = json!({"name": names[0], "arguments": arguments});
            messages.push(json!({"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function", "function": function}]}));
            messages.push(json!({"role": "tool", "tool_call_id": id, "content": lot.one_of(&["Rain, 7 degrees", "12:30", "{\"a\": [1, 2]}"])}));
        }
        messages.push(json!({"role": "assistant", "content": lot.one_of(&WORDS)}));
    }
    messages.push(json!({"role": "user", "content": lot.one_of(&WORDS)}));
    Talk {
        system: (lot.below(2) == 0)
            .then(|| lot.one_of(&["Be brief.", "Answer in one\nsentence."]).to_owned()),
        messages,
        tools,
        thinks,
        temperature: [0.0, 0.7, 1.0][lot.below(3) as usize],
        seed: lot.below(1 << 30),
        most: 1 + lot.below(40),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A call of OpenAI's shape.
fn call(function: &Value) -> (String, Value) {
    let arguments = &function["arguments"];
    let arguments = arguments
        .as_str()
        .map_or(arguments.clone(), |text| serde_json::from_str(text).unwrap_or_else(|_| text.into()));
    (text(&function["name"]), arguments)
}

impl Talk {
    fn with_system(&self) -> Vec<Value> {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        system.chain(self.messages.iter().cloned()).collect()
    }

    fn chat(&self, server: &Server, path: &str) -> Said {
        let answer = server.ask(path, &json!({
            "model": "demo", "messages": self.with_system(), "tools": self.tools, "enable_thinking": self.thinks,
            "temperature": self.temperature, "seed": self.seed, "max_tokens": self.most,
        }));
        let (choice, usage) = (&answer["choices"][0], &answer["usage"]);
        let message = &choice["message"];
        let calls = message["tool_calls"].as_array().into_iter().flatten().map(|own| call(&own["function"]));
        Said {
            reasoning: text(&message["reasoning_content"]),
            text: text(&message["content"]),
            calls: calls.collect(),
            prompt_tokens: usage["prompt_tokens"].as_u64().unwrap(),
            answer_tokens: usage["completion_tokens"].as_u64().unwrap(),
            is_cut: choice["finish_reason"] == "length",
        }
    }

    fn responses(&self, server: &Server) -> Said {
        let mut input = Vec::new();
        for message in &self.messages {
            let calls = message["tool_calls"].as_array().into_iter().flatten();
            match message["role"].as_str().unwrap() {
                "tool" => input.push(json!({"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]})),
                _ if message["content"].is_null() => input.extend(calls.map(|own| {
                    let function = &own["function"];
                    json!({"type": "function_call", "call_id": own["id"], "name": function["name"], "arguments": function["arguments"]})
                })),
                role => {
                    let kind = if role == "user" { "input_text" } else { "output_text" };
                    input.push(json!({"type": "message", "role": role, "content": [{"type": kind, "text": message["content"]}]}));
                }
            }
        }
        let flat = |tool: &Value| {
            let mut flat = tool["function"].clone();
            flat["type"] = "function".into();
            flat
        };
        let answer = server.ask("/v1/responses", &json!({
            "model": "demo", "input": input, "instructions": self.system, "tools": self.tools.iter().map(flat).collect::<Vec<_>>(),
            "enable_thinking": self.thinks, "temperature": self.temperature, "seed": self.seed,
            "max_output_tokens": self.most, "store": false,
        }));
        let mut said = Said {
            prompt_tokens: answer["usage"]["input_tokens"].as_u64().unwrap(),
            answer_tokens: answer["usage"]["output_tokens"].as_u64().unwrap(),
            is_cut: answer["status"] == "incomplete",
            ..Said::default()
        };
        for item in answer["output"].as_array().unwrap() {
            let content = item["content"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|part| text(&part["text"]))
                .collect::<String>();
            match item["type"].as_str().unwrap() {
                "reasoning" => said.reasoning += &content,
                "message" => said.text += &content,
                _ => said.calls.push(call(item)),
            }
        }
        said
    }

    fn anthropic(&self, server: &Server) -> Said {
        let messages = self.messages.iter().map(|message| match message["role"].as_str().unwrap() {
            "tool" => json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}]}),
            _ if message["content"].is_null() => {
                let own = &message["tool_calls"][0];
                let (name, input) = call(&own["function"]);
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": own["id"], "name": name, "input": input}]})
            }
            role => json!({"role": role, "content": [{"type": "text", "text": message["content"]}]}),
        });
        let tool = |tool: &Value| {
            let function = &tool["function"];
            json!({"name": function["name"], "description": function["description"], "input_schema": function["parameters"]})
        };
        let mut body = json!({
            "model": "demo", "messages": messages.collect::<Vec<_>>(), "tools": self.tools.iter().map(tool).collect::<Vec<_>>(),
            "thinking": {"type": if self.thinks { "adaptive" } else { "disabled" }},
            "temperature": self.temperature, "seed": self.seed, "max_tokens": self.most,
        });
        if let Some(system) = &self.system {
            body["system"] = system.as_str().into();
        }
        let answer = server.ask("/v1/messages", &body);
        let usage = |name: &str| answer["usage"][name].as_u64().unwrap_or_default();
        let mut said = Said {
            prompt_tokens: usage("input_tokens")
                + usage("cache_read_input_tokens")
                + usage("cache_creation_input_tokens"),
            answer_tokens: usage("output_tokens"),
            is_cut: answer["stop_reason"] == "max_tokens",
            ..Said::default()
        };
        for block in answer["content"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "thinking" => said.reasoning += &text(&block["thinking"]),
                "text" => said.text += &text(&block["text"]),
                _ => said.calls.push((text(&block["name"]), block["input"].clone())),
            }
        }
        said
    }

    fn ollama(&self, server: &Server) -> Said {
        let names = |id: &Value| {
            let calls = self
                .messages
                .iter()
                .flat_map(|message| message["tool_calls"].as_array().into_iter().flatten());
            calls
                .filter(|own| own["id"] == *id)
                .map(|own| text(&own["function"]["name"]))
                .next()
                .unwrap_or_default()
        };
        let messages = self.with_system().into_iter().map(|message| match message["role"].as_str().unwrap() {
            "tool" => json!({"role": "tool", "tool_name": names(&message["tool_call_id"]), "content": message["content"]}),
            _ if message["content"].is_null() => {
                let (name, arguments) = call(&message["tool_calls"][0]["function"]);
                json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]})
            }
            _ => message,
        });
        let answer = server.ask("/api/chat", &json!({
            "model": "demo", "messages": messages.collect::<Vec<_>>(), "tools": self.tools, "stream": false, "think": self.thinks,
            "options": {"temperature": self.temperature, "seed": self.seed, "num_predict": self.most},
        }));
        let message = &answer["message"];
        let calls = message["tool_calls"].as_array().into_iter().flatten().map(|own| call(&own["function"]));
        Said {
            reasoning: text(&message["thinking"]),
            text: text(&message["content"]),
            calls: calls.collect(),
            prompt_tokens: answer["prompt_eval_count"].as_u64().unwrap(),
            answer_tokens: answer["eval_count"].as_u64().unwrap(),
            is_cut: answer["done_reason"] == "length",
        }
    }

    /// The rendered conversation as a text to be gone on with: it knows neither reasoning nor calls.
    fn rendered(&self, server: &Server) -> Said {
        let rendered = server.ask(
            "/apply-template",
            &json!({
                "messages": self.with_system(), "tools": self.tools, "enable_thinking": self.thinks,
            }),
        );
        // A text is gone on with by other defaults than a conversation.
        let mut body = server.get("/v1/models/demo").json()["meta"]["sampling"].clone();
        let asked = json!({
            "model": "demo", "prompt": rendered["prompt"], "add_special_tokens": false, "parse_special": true,
            "temperature": self.temperature, "seed": self.seed, "max_tokens": self.most,
        });
        body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
        let answer = server.ask("/v1/completions", &body);
        Said {
            // The line that the format has the model begin with is no part of its answer.
            text: text(&answer["choices"][0]["text"]).trim_start_matches('\n').to_owned(),
            prompt_tokens: answer["usage"]["prompt_tokens"].as_u64().unwrap(),
            answer_tokens: answer["usage"]["completion_tokens"].as_u64().unwrap(),
            is_cut: answer["choices"][0]["finish_reason"] == "length",
            ..Said::default()
        }
    }

    fn is_the_same_everywhere(&self, server: &Server) -> Said {
        // A call that was cut off is shown as far as it came, not at all, or as the text that it is.
        let is_whole = |(_, arguments): &(String, Value)| arguments.is_object();
        let whole = |mut said: Said| {
            said.calls.retain(is_whole);
            said
        };
        let said = self.chat(server, "/v1/chat/completions");
        let cut = said.calls.iter().find(|call| !is_whole(call));
        let mut ollama = self.ollama(server);
        if let Some((name, arguments)) = cut {
            let as_text = format!("{name}\n{}", text(arguments));
            ollama.text = ollama.text.strip_suffix(&as_text).unwrap().to_owned();
        }
        let said = whole(said);
        let others = [self.responses(server), self.anthropic(server), ollama, self.chat(server, "/chat")];
        let others = others.map(whole);
        for (name, other) in ["Responses", "Messages", "Ollama", "GLM"].iter().zip(&others) {
            assert_eq!(*other, said, "{name}: {:?} {:?}", self.with_system(), self.tools);
        }
        if self.tools.is_empty() && !self.thinks {
            assert_eq!(self.rendered(server), said, "{:?}", self.with_system());
        }
        said
    }
}

#[test]
fn a_conversation_is_the_same_through_every_api() {
    let server = Server::start(&["demo"]);
    let mut lot = Lot(0x9e37_79b9);
    let said: Vec<Said> = (0..60).map(|_| talk(&mut lot, false).is_the_same_everywhere(&server)).collect();
    assert!(
        said.iter().any(|said| !said.calls.is_empty()) && said.iter().any(|said| said.is_cut),
        "{said:?}"
    );
}

#[test]
fn thoughts_are_the_same_through_every_api() {
    let directory = tempfile::tempdir().unwrap();
    let server = of_one_reply(directory.path(), "the and of to in</think>\nYes", "glm-4.7");
    let mut lot = Lot(0x1234_5678);
    for thinks in [true, false].into_iter().cycle().take(20) {
        talk(&mut lot, thinks).is_the_same_everywhere(&server);
    }
}
