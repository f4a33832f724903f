//! The native formats, on what this repository holds itself: prompts that Jinja2 made of the published templates,
//! and the worked examples of the formats that have none.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside a #[test] function")]

mod support;

use glimmer_chat::{
    ChatError, ChatTemplate, Conversation, Evidence, Family, Message, Role, Segment, stop_ids,
};
use glimmer_tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::path::PathBuf;
use support::{conversation, data};

fn read(json: Value) -> Conversation {
    serde_json::from_value(json).unwrap()
}

fn prompt(format: Family, json: Value) -> String {
    ChatTemplate::native(format).render(&read(json)).unwrap().prompt()
}

fn synthetic(name: &str) -> Tokenizer {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data").join(name);
    Tokenizer::from_dir(&folder).unwrap()
}

#[test]
fn prompts_are_those_of_the_published_templates() {
    let cases = data("prompts.jsonl");
    for (i, case) in cases.iter().enumerate() {
        let format = Family::from_name(case["format"].as_str().unwrap()).unwrap();
        let rendered = ChatTemplate::native(format).render(&conversation(case)).unwrap();
        assert_eq!(
            rendered.prompt(),
            case["prompt"].as_str().unwrap(),
            "case {i}, {format}: {}",
            case["messages"]
        );
    }
    println!("{} prompts", cases.len());
}

#[test]
fn rounds() {
    let history = json!({"history": [["q0", "a0"], ["q1", "a1"]], "query": "q2"});
    assert_eq!(prompt(Family::ChatGlm6b, json!({"query": "你好"})), "你好");
    assert_eq!(
        prompt(Family::ChatGlm6b, history.clone()),
        "[Round 0]\n问：q0\n答：a0\n[Round 1]\n问：q1\n答：a1\n[Round 2]\n问：q2\n答："
    );
    assert_eq!(prompt(Family::ChatGlm2, json!({"query": "你好"})), "[Round 1]\n\n问：你好\n\n答：");
    assert_eq!(
        prompt(Family::ChatGlm2, history),
        "[Round 1]\n\n问：q0\n\n答：a0\n\n[Round 2]\n\n问：q1\n\n答：a1\n\n[Round 3]\n\n问：q2\n\n答："
    );
    // As the repository's own server: the system message goes before the last question.
    let messages = json!([
        {"role": "system", "content": "S. "},
        {"role": "user", "content": "q0"},
        {"role": "assistant", "content": "a0"},
        {"role": "user", "content": "q1"},
    ]);
    assert_eq!(
        prompt(Family::ChatGlm2, messages),
        "[Round 1]\n\n问：q0\n\n答：a0\n\n[Round 2]\n\n问：S. q1\n\n答："
    );
    assert_eq!(
        prompt(Family::CodeGeex2, json!({"query": "write a bubble sort function", "language": "Python"})),
        "# language: Python\n# write a bubble sort function\n"
    );
    assert_eq!(prompt(Family::CodeGeex2, json!({"query": "def f("})), "def f(");
}

#[test]
fn rounds_refuse_what_they_cannot_say() {
    for messages in [
        json!([]),
        json!([{"role": "system", "content": "s"}]),
        json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]),
        json!([{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}]),
        json!([{"role": "user", "content": "q", "tools": []}]),
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
    ] {
        for format in [Family::ChatGlm6b, Family::ChatGlm2, Family::CodeGeex2] {
            assert!(
                ChatTemplate::native(format).render(&read(messages.clone())).is_err(),
                "{format}: {messages}"
            );
        }
    }
}

#[test]
fn chatglm3() {
    let call = json!({"role": "assistant", "content": "", "tool_calls": [
        {"function": {"name": "get_weather", "arguments": "{\"city\": \"北京\", \"days\": 3, \"x\": [true, null]}"}}]});
    let json = json!({
        "tools": [{"type": "function", "function": {"name": "get_weather"}}],
        "messages": [{"role": "user", "content": "天气"}, call, {"role": "tool", "content": "22"}],
    });
    assert_eq!(
        prompt(Family::ChatGlm3, json),
        "[gMASK]sop<|system|>\nAnswer the following questions as best as you can. You have access to the following \
         tools:\n[\n    {\n        \"name\": \"get_weather\"\n    }\n]<|user|>\n天气<|assistant|>get_weather\n\
         ```python\ntool_call(city='北京', days=3, x=[True, None])\n```<|observation|>\n22<|assistant|>"
    );
}

#[test]
fn glm4_takes_openai_calls_and_tools() {
    let messages = json!([
        {"role": "system", "content": "S"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{\"x\":1}"}},
            {"id": "2", "type": "function", "function": {"name": "b", "arguments": {"y": "é", "z": 2.0}}}]},
        {"role": "tool", "tool_call_id": "1", "content": "ra"},
        {"role": "function", "content": [{"type": "text", "text": "rb"}]},
    ]);
    assert_eq!(
        prompt(Family::Glm4, messages.clone()),
        "[gMASK]<sop><|system|>\nS<|user|>\nq<|assistant|>a\n{\"x\":1}<|assistant|>b\n{\"y\": \"é\", \"z\": 2.0}\
         <|observation|>\nra<|observation|>\nrb<|assistant|>"
    );
    let with_tools =
        json!({"messages": messages, "tools": [{"type": "function", "function": {"name": "a"}}]});
    let text = prompt(Family::Glm4, with_tools.clone());
    assert!(text.starts_with("[gMASK]<sop><|system|>\n你是一个名为 GLM-4 的人工智能助手。"));
    assert!(text.contains("# 可用工具\n## a\n\n{\n    \"name\": \"a\"\n}\n在调用上述函数时，请使用 Json 格式表示调用的参数。<|system|>\nS"));
    let named = json!({"messages": with_tools["messages"], "tools": with_tools["tools"], "assistant_name": "ChatGLM"});
    assert!(prompt(Family::Glm4, named).contains("你是一个名为 ChatGLM 的"));
}

/// Whose a result is can be seen by its place alone.
#[test]
fn results_stand_in_the_order_of_their_calls() {
    let call = |id: &str| json!({"id": id, "function": {"name": format!("f{id}"), "arguments": "{}"}});
    let result = |id: Value, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let with = |results: Vec<Value>| {
        let asked = json!({"role": "assistant", "tool_calls": [call("1"), call("2"), call("3")]});
        let mut messages = vec![json!({"role": "user", "content": "q"}), asked];
        messages.extend(results);
        messages.push(json!({"role": "assistant", "content": "a"}));
        messages
    };
    let of = |ids: [&str; 3]| with(ids.iter().map(|id| result(json!(id), id)).collect());
    for format in [Family::ChatGlm3, Family::Glm4, Family::Glm40414, Family::Glm45, Family::Glm47] {
        let ordered = prompt(format, json!(of(["1", "2", "3"])));
        assert_eq!(prompt(format, json!(of(["3", "1", "2"]))), ordered, "{format}");
        assert_eq!(prompt(format, json!(of(["2", "3", "1"]))), ordered, "{format}");
        // Where an id is missing or nobody's, they stay as they came.
        for odd in [Value::Null, json!("9")] {
            let as_given = prompt(format, json!(with(vec![result(json!("3"), "three"), result(odd, "odd")])));
            assert!(as_given.find("three") < as_given.find("odd"), "{as_given}");
        }
    }
}

#[test]
fn glm4v() {
    let image = json!([{"role": "user", "content": [
        {"type": "text", "text": "描述这张图片"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    let rendered = ChatTemplate::native(Family::Glm4v).render(&read(image)).unwrap();
    assert_eq!(
        rendered.prompt(),
        "[gMASK]<sop><|user|>\n<|begin_of_image|><|endoftext|><|end_of_image|>描述这张图片<|assistant|>"
    );
    let two = json!([{"role": "user", "content": "a", "image": "x.png"}, {"role": "user", "content": "b", "image": "y.png"}]);
    assert!(matches!(
        ChatTemplate::native(Family::Glm4v).render(&read(two)),
        Err(ChatError::Message { index: 1, .. })
    ));
    let tools = json!([{"role": "system", "content": "", "tools": [{"type": "function", "function": {"name": "f"}}]}]);
    assert!(prompt(Family::Glm4v, tools).contains("支持。\n\n## f\n\n{"));
}

#[test]
fn rumination() {
    let json = json!({"messages": [{"role": "system", "content": "ignored"}, {"role": "user", "content": "q"}],
        "tools": [{"name": "ignored"}]});
    let text = prompt(Family::GlmZ1Rumination, json);
    assert!(text.starts_with("[gMASK]<sop><|system|>\n你是一个专业的深度研究助手，"));
    assert!(text.contains("今年是 2025 年。") && !text.contains("ignored"));
    assert!(text.ends_with("\"additionalProperties\": false}}]<|user|>\nq<|assistant|>"));
    let mut conversation = Conversation::new(vec![Message::new(Role::User, "q")]);
    conversation.year = Some(2026);
    let later = ChatTemplate::native(Family::GlmZ1Rumination).render(&conversation).unwrap().prompt();
    assert_eq!(later, text.replace("2025", "2026"));
}

/// What llama.cpp's tests expect of its built-in templates, from Jinja that says the same.
#[test]
fn llama_cpp_texts() {
    let messages = json!([
        {"role": "system", "content": "You are a helpful assistant"},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there"},
        {"role": "user", "content": "Who are you"},
        {"role": "assistant", "content": "   I am an assistant   "},
        {"role": "user", "content": "Another question"},
    ]);
    let roles = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}";
    let spaced = "{% for m in messages %}<|{{ m['role'] }}|>\n {{ m['content'] }}{% endfor %}";
    let end = "{% if add_generation_prompt %}<|assistant|>{% endif %}";
    for (source, text) in [
        (
            format!("{}{spaced}{end}", "{{ '[gMASK]' + 'sop' }}"),
            "[gMASK]sop<|system|>\n You are a helpful assistant<|user|>\n Hello<|assistant|>\n Hi there<|user|>\n Who are \
             you<|assistant|>\n    I am an assistant   <|user|>\n Another question<|assistant|>",
        ),
        (
            format!("[gMASK]<sop>{roles}{}", end.replace("|>{", "|>\n{")),
            "[gMASK]<sop><|system|>\nYou are a helpful assistant<|user|>\nHello<|assistant|>\nHi there<|user|>\nWho are \
             you<|assistant|>\n   I am an assistant   <|user|>\nAnother question<|assistant|>\n",
        ),
        (
            format!("{roles}{end}"),
            "<|system|>\nYou are a helpful assistant<|user|>\nHello<|assistant|>\nHi there<|user|>\nWho are \
             you<|assistant|>\n   I am an assistant   <|user|>\nAnother question<|assistant|>",
        ),
    ] {
        let template = ChatTemplate::jinja(&source).unwrap();
        assert_eq!(template.render(&read(messages.clone())).unwrap().prompt(), text, "{source}");
    }
}

#[test]
fn templates_are_recognised() {
    let evidence = Evidence::default();
    // The text that ChatGLM3's repository and llama.cpp carry stands for the message builder.
    let chatglm3 = "{% for m in messages %}{% if loop.first %}[gMASK]sop<|{{ m['role'] }}|>\n {{ m['content'] }}{% endif %}{% endfor %}";
    assert_eq!(ChatTemplate::detect(Some(chatglm3), &evidence).unwrap().format(), Some(Family::ChatGlm3));
    // One unlike any that is known is run as it is.
    let own =
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}{{ bos_token }}";
    let template = ChatTemplate::detect(Some(own), &evidence).unwrap();
    let template = template.with_special_tokens(&[("bos_token".into(), "<sop>".into())]);
    assert_eq!(template.format(), None);
    let rendered = template.render(&read(json!([{"role": "tool", "content": "x"}]))).unwrap();
    assert_eq!(rendered.prompt(), "[gMASK]<sop><|observation|>\nx<sop>");
    assert!(matches!(rendered.segments().last(), Some(Segment::Trusted(text)) if text == "<sop>"));
    // Without one, the names tell.
    let evidence = Evidence { names: vec!["THUDM/chatglm2-6b-int4".into()], ..Evidence::default() };
    assert_eq!(ChatTemplate::detect(None, &evidence).unwrap().format(), Some(Family::ChatGlm2));
    assert!(matches!(
        ChatTemplate::detect(Some(" "), &Evidence::default()),
        Err(ChatError::UnknownFormat { .. })
    ));
}

/// The demo model is trained on what its Jinja says; it is rendered natively as GLM-4.
#[test]
fn the_demo_models_template_says_what_glm4s_native_format_does() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tools/demo/chat_template.jinja");
    let source = std::fs::read_to_string(path).unwrap();
    let (native, jinja) = (
        ChatTemplate::detect(Some(&source), &Evidence::default()).unwrap(),
        ChatTemplate::jinja(&source).unwrap(),
    );
    assert_eq!((native.format(), jinja.format()), (Some(Family::Glm4), None));
    let tools = json!([{"type": "function", "function": {"name": "get_time", "description": "时间",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    let called = json!([
        {"role": "user", "content": "What time is it in Oslo?"},
        {"role": "assistant", "metadata": "get_time", "content": "{\"city\": \"Oslo\"}"},
        {"role": "observation", "content": "{\"time\": \"09:41\"}"},
        {"role": "assistant", "content": "It is 09:41 in Oslo."},
        {"role": "user", "content": "谢谢"}
    ]);
    for conversation in [
        json!([{"role": "user", "content": "你好"}]),
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]),
        json!({"messages": called, "tools": tools}),
        called.clone(),
    ] {
        let prompt = |template: &ChatTemplate| template.render(&read(conversation.clone())).unwrap().prompt();
        assert_eq!(prompt(&native), prompt(&jinja));
    }
}

#[test]
fn replies_end_at_every_token_that_any_source_names() {
    let glm4 = synthetic("glm4-hf");
    let id = |spelling: &str| glm4.special_id(spelling).unwrap();
    let mut own = vec![id("<|endoftext|>"), id("<|user|>"), id("<|observation|>")];
    own.sort_unstable();
    assert_eq!(stop_ids(Some(Family::Glm40414), &glm4, &[]), own);
    assert_eq!(stop_ids(None, &glm4, &[]), own);
    let all = stop_ids(Some(Family::Glm4), &glm4, &[own[0], 7, 5, 7]);
    assert_eq!(all, [vec![5, 7], own].concat());
    for (folder, format, spelling) in
        [("chatglm-6b", Family::ChatGlm6b, "<eop>"), ("chatglm2-6b", Family::ChatGlm2, "</s>")]
    {
        let tokenizer = synthetic(folder);
        assert_eq!(stop_ids(Some(format), &tokenizer, &[]), [tokenizer.special_id(spelling).unwrap()]);
    }
}

#[test]
fn what_is_written_as_json_is_read_again_as_the_same() {
    for json in [
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u", "metadata": "m"}]),
        json!({"history": ["q0", "a0", "q1", "a1"], "query": "q2", "language": "Rust", "year": 2026}),
        json!({
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "u"}}],
                 "image": "i"},
                {"role": "user", "content": "t", "image": "i"},
                {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}},
                    {"name": "b", "arguments": {"y": [2]}},
                    {"name": "c"},
                ]},
                {"role": "tool", "tool_call_id": "1", "content": "one"},
                {"role": "observation", "content": ["two", "three"]},
                {"role": "observation", "content": [{"name": "c", "output": 4}]},
                {"role": "system", "content": "", "tools": [{"name": "d"}]},
            ],
            "tools": [{"type": "function", "function": {"name": "a"}}],
            "add_generation_prompt": false,
            "assistant_name": "n",
            "chat_template_kwargs": {"enable_thinking": false, "other": 1},
            "clear_thinking": true,
        }),
    ] {
        let read: Conversation = serde_json::from_value(json).unwrap();
        assert_eq!(serde_json::from_value::<Conversation>(json!(read)).unwrap(), read);
    }
}

#[test]
fn what_is_no_conversation_is_refused_with_the_place() {
    for (json, message) in [
        (json!("text"), "an object with `messages`, or a list of messages"),
        (json!({"messages": "x"}), "`messages` is a list"),
        (json!([{"content": "x"}]), "message 0: `role` is missing"),
        (json!([{"role": "user", "content": "x"}, {"role": "robot"}]), "message 1: unknown role \"robot\""),
        (
            json!([{"role": "user", "content": 5}]),
            "message 0: `content` is a string, a list of parts or null",
        ),
        (
            json!([{"role": "user", "content": [{"type": "smell"}]}]),
            "message 0: a part of `content` has the unknown type \"smell\"",
        ),
        (json!([{"role": "assistant", "tool_calls": [{}]}]), "message 0: a tool call has no `name`"),
        (json!({"history": [["only one"]]}), "history 0: a round is a pair of strings, question and answer"),
        (json!({"messages": [], "enable_thinking": "yes"}), "`enable_thinking` is true or false"),
    ] {
        assert_eq!(serde_json::from_value::<Conversation>(json).unwrap_err().to_string(), message);
    }
    let long = "\u{1b}x\n".repeat(1 << 19);
    for json in [
        json!([{"role": long}]),
        json!([{"role": "user", "content": [{"type": long}]}]),
        json!([{"role": "assistant", "tool_calls": [{"name": long, "arguments": 5}]}]),
    ] {
        let message = serde_json::from_value::<Conversation>(json).unwrap_err().to_string();
        assert!(message.chars().count() <= 300 && !message.contains(char::is_control), "{message}");
    }
    let deep = format!("[{{\"role\": \"user\", \"content\": {}", "[".repeat(100_000));
    assert!(serde_json::from_str::<Conversation>(&deep).is_err());
}

/// What llama.cpp takes in a template's place: of the names in its `LLM_CHAT_TEMPLATES`, three are GLM's.
#[test]
fn a_templates_name_stands_for_its_format() {
    let evidence = |name: &str| Evidence { names: vec![name.into()], ..Evidence::default() };
    for (template, name, format) in [
        ("chatglm3", "", Family::ChatGlm3),
        ("chatglm4", "", Family::Glm4),
        ("chatglm4\n", "GLM 4 9B Chat", Family::Glm4),
        // One name for all that llama.cpp's architecture `chatglm` holds but ChatGLM3.
        ("chatglm4", "GLM Edge 1.5B Chat", Family::GlmEdge),
        ("chatglm4", "chatglm3-6b", Family::Glm4),
        ("glmedge", "", Family::GlmEdge),
    ] {
        let found = ChatTemplate::detect(Some(template), &evidence(name)).unwrap();
        assert_eq!(found.format(), Some(format), "{template} {name}");
    }
    let refused = |source: &str| ChatTemplate::detect(Some(source), &evidence("glm-4-9b")).unwrap_err();
    for name in ["chatml", "llama3", "x".repeat(1 << 20).as_str()] {
        let error = refused(name);
        assert!(matches!(error, ChatError::TemplateName { .. }), "{error}");
        assert!(
            error.to_string().chars().count() <= 300 && error.to_string().contains(&name[..5]),
            "{error}"
        );
    }
    for source in [
        "Say something nice. ",
        "{{ bos_token }}{% if add_generation_prompt %}x{% endif %}",
        "{% for message in conversation.messages %}{{ message }}{% endfor %}",
        "{{ dict(messages=1) }}",
        "{% set messages = [] %}",
    ] {
        assert!(matches!(refused(source), ChatError::NoMessages), "{source}");
    }
    for source in ["{% for m in messages %}{{ m }}{% endfor %}", "{{ (messages|last)['content'] }}"] {
        assert!(ChatTemplate::detect(Some(source), &evidence("")).is_ok(), "{source}");
    }
}

#[test]
fn conversations_with_tools_take_the_template_for_them() {
    let jinja = |source: &str| ChatTemplate::jinja(source).unwrap();
    let template =
        jinja("{{ messages[0].content }}").with_tool_use(jinja("{{ tools }}{{ messages[0].content }}"));
    let with = json!({"messages": [{"role": "user", "content": "q"}], "tools": [{"name": "f"}]});
    let without = json!({"messages": [{"role": "user", "content": "q"}], "tools": []});
    assert_eq!(template.render(&read(with)).unwrap().prompt(), "[{'name': 'f'}]q");
    assert_eq!(template.render(&read(without)).unwrap().prompt(), "q");
}

#[test]
fn what_the_prompt_does_not_show_is_named() {
    let question = json!([{"role": "user", "content": "q"}]);
    let tools = json!([{"type": "function", "function": {"name": "get_weather"}}]);
    let call = json!([{"role": "assistant", "content": "x", "tool_calls": [{"name": "get_weather"}]}]);
    let result = json!([{"role": "user", "content": "q"}, {"role": "tool", "content": "r"}]);
    let system = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]);
    let jinja = |source: &str| ChatTemplate::jinja(source).unwrap();
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let tests_tools = format!("{{% if tools is not defined %}}{{% set tools = none %}}{{% endif %}}{plain}");
    let counts_tools = format!("{{{{ tools|length }}}}{plain}");
    let shows = format!("{plain}{{{{ tools|tojson }}}}{{{{ documents }}}}");
    let native = ChatTemplate::native;
    for (template, conversation, ignored) in [
        (jinja(plain), json!({"messages": question}), &[][..]),
        (jinja(plain), json!({"messages": question, "tools": tools}), &["tools"]),
        (jinja(&tests_tools), json!({"messages": question, "tools": tools}), &["tools"]),
        (
            jinja(&format!("{{% set tools = 5 %}}{{{{ tools }}}}{plain}")),
            json!({"messages": question, "tools": [{"type": "retrieval"}]}),
            &["tools"],
        ),
        (jinja(&counts_tools), json!({"messages": question, "tools": tools}), &["tools"]),
        (jinja(&shows), json!({"messages": question, "tools": tools}), &[]),
        (jinja(plain), call.clone(), &["tool_calls"]),
        (jinja("{{ messages }}"), call.clone(), &[]),
        (jinja("hello"), question.clone(), &["messages"]),
        (
            jinja(plain),
            json!({"messages": question, "chat_template_kwargs": {"documents": [1], "enable_thinking": false}}),
            &["documents"],
        ),
        (jinja(&shows), json!({"messages": question, "chat_template_kwargs": {"documents": [1]}}), &[]),
        (jinja(plain), json!({"messages": question, "chat_template_kwargs": {"tools": [1]}}), &["tools"]),
        (native(Family::Glm4), json!({"messages": question, "tools": tools}), &[]),
        (native(Family::Glm4), json!({"messages": question, "chat_template_kwargs": {"x": 1}}), &["x"]),
        (native(Family::Glm45), json!({"messages": question, "enable_thinking": false}), &[]),
        (native(Family::GlmEdge), json!({"messages": question, "tools": tools}), &["tools"]),
        (native(Family::GlmEdge), call, &["tool_calls"]),
        (native(Family::GlmEdge), result, &["messages of tools"]),
        (
            native(Family::GlmZ1Rumination),
            json!({"messages": system, "tools": tools}),
            &["tools", "system messages"],
        ),
    ] {
        let rendered = template.render(&read(conversation.clone())).unwrap();
        assert_eq!(rendered.ignored(), ignored, "{conversation}");
        let complete = rendered.complete().map_err(|error| error.to_string());
        assert_eq!(complete.is_err(), !ignored.is_empty());
        if let Err(message) = complete {
            assert!(ignored.iter().all(|name| message.contains(name)) && message.len() <= 300, "{message}");
        }
    }
}

/// `reasoning_content`, else `reasoning`, else `thinking`, as transformers' GLM chat code has it.
#[test]
fn reasoning_has_three_names() {
    for (message, reasoning) in [
        (json!({"thinking": "t"}), Some("t")),
        (json!({"reasoning": "r", "thinking": "t"}), Some("r")),
        (json!({"thinking": "t", "reasoning_content": "c", "reasoning": "r"}), Some("c")),
        (json!({"reasoning_content": null, "reasoning": null, "thinking": "t"}), Some("t")),
        (json!({"reasoning_content": "", "thinking": "t"}), Some("")),
        (json!({}), None),
    ] {
        let mut fields = message.as_object().unwrap().clone();
        fields.insert("role".to_owned(), json!("assistant"));
        let message: Message = serde_json::from_value(Value::Object(fields)).unwrap();
        assert_eq!(message.reasoning.as_deref(), reasoning);
    }
}

/// A template without GLM's marks is told OpenAI's word for a tool's answer.
#[test]
fn the_role_of_a_tool_is_the_templates_word() {
    let result = json!([{"role": "observation", "content": "r"}]);
    for (source, prompt) in [
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}",
            "<|im_start|>tool\nr",
        ),
        ("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}", "<|observation|>r"),
        ("[gMASK]{{ messages[0].role }}", "[gMASK]observation"),
        ("{{ 'yes' if messages[0].role == \"tool\" }}{# observation #}", "yes"),
        ("{{ 'yes' if messages[0].role == 'observation' }}", "yes"),
    ] {
        let template = ChatTemplate::jinja(source).unwrap();
        assert_eq!(template.render(&read(result.clone())).unwrap().prompt(), prompt, "{source}");
    }
}

/// As CPython 3.11 writes `json.dumps(json.loads(text), ensure_ascii=False)`.
#[test]
fn numbers_keep_their_spelling() {
    let numbers = "[18446744073709551616, -9223372036854775809, 123456789012345678901234567890, \
                   1234567890123456789012345678901234567890123456789, -0, 0.10, 1E3, 1e400, 5, -1.50]";
    let written = "[18446744073709551616, -9223372036854775809, 123456789012345678901234567890, \
                   1234567890123456789012345678901234567890123456789, 0, 0.1, 1000.0, Infinity, 5, -1.5]";
    let text = format!(
        r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "", "tool_calls":
            [{{"name": "f", "arguments": {{"n": {numbers}}}}}]}}, {{"role": "assistant", "content": "", "tool_calls":
            [{{"name": "f", "arguments": "{{\"n\": {numbers}}}"}}]}}],
            "tools": [{{"type": "function", "function": {{"name": "f", "enum": {numbers}}}}}]}}"#
    );
    let conversation: Conversation = serde_json::from_str(&text).unwrap();
    let shown = |template: ChatTemplate| template.render(&conversation).unwrap().prompt();
    let expected = format!("\"enum\": {written}");
    assert!(shown(ChatTemplate::native(Family::Glm45)).contains(&expected));
    assert!(
        shown(ChatTemplate::native(Family::Glm45)).contains(&format!("<arg_value>{written}</arg_value>"))
    );
    let jinja =
        "{{ tools|tojson }}{% for m in messages %}{{ m.tool_calls|tojson if m.tool_calls }}{% endfor %}";
    let prompt = shown(ChatTemplate::jinja(jinja).unwrap());
    assert!(prompt.contains(&expected), "{prompt}");
    assert_eq!(prompt.matches(&format!("\"n\": {written}")).count(), 2, "{prompt}");
    // What is saved is read again as the same.
    let saved = serde_json::to_string(&conversation).unwrap();
    assert_eq!(serde_json::from_str::<Conversation>(&saved).unwrap(), conversation);
}
