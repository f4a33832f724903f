//! What becomes of conversations: the ids of serving, and the tokens that are learned.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::io::Write;
use std::path::PathBuf;

use glimmer_chat::{ChatTemplate, Conversation, Family, Message, Role, stop_ids};
use glimmer_tokenizer::Tokenizer;
use glimmer_train::Example;
use glimmer_train::data::{Columns, DataFile, Dataset, Limits, Renderer, Row};
use serde_json::json;

const FAMILIES: [(Family, &str); 11] = [
    (Family::ChatGlm6b, "chatglm-6b"),
    (Family::ChatGlm6b, "chatglm-6b-image20000"),
    (Family::ChatGlm2, "chatglm2-6b"),
    (Family::ChatGlm3, "chatglm3-6b"),
    (Family::Glm4, "glm-4-9b-chat"),
    (Family::Glm4, "glm-4-9b-chat-hf"),
    (Family::Glm40414, "glm-4-0414"),
    (Family::GlmZ1, "glm-4-0414"),
    (Family::Glm45, "glm-4.5"),
    (Family::Glm47, "glm-4.5"),
    (Family::GlmEdge, "synthetic/synthetic-glm-edge-tokenizer-json"),
];

fn tokenizer(name: &str) -> Option<Tokenizer> {
    let shared = std::env::var_os("GLIMMER_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let folder = shared.join("tokenizers").join(name);
    if !folder.is_dir() {
        println!("skipped: ../shared not present");
        return None;
    }
    Some(Tokenizer::from_dir(&folder).unwrap())
}

fn limits() -> Limits {
    Limits::of_conversations(4096, 4096)
}

fn renderer<'t>(family: Family, tokenizer: &'t Tokenizer, limits: Limits) -> Renderer<'t> {
    let stops = stop_ids(Some(family), tokenizer, &[]);
    Renderer::of_template(ChatTemplate::native(family), tokenizer, &stops, limits).unwrap()
}

fn conversation(messages: serde_json::Value) -> Conversation {
    serde_json::from_value(json!({"messages": messages})).unwrap()
}

/// The runs of learned ids of an example.
fn learned(example: &Example) -> Vec<Vec<u32>> {
    let mut runs = vec![Vec::new()];
    for (id, label) in example.ids.iter().zip(&example.labels) {
        match label {
            Some(label) => {
                assert_eq!(label, id);
                runs.last_mut().unwrap().push(*id);
            }
            None if runs.last().unwrap().is_empty() => {}
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

/// Before every answer stand the ids that the server computes for the history; the answers follow, each with its end.
#[test]
fn every_answer_follows_the_servers_prompt() {
    let messages = json!([
        {"role": "system", "content": "回答要简短。"},
        {"role": "user", "content": "你好\n"},
        {"role": "assistant", "content": "Hello <|user|> </think>x"},
        {"role": "user", "content": "Name a prime."},
        {"role": "assistant", "content": "  \n7"},
        {"role": "user", "content": "and another"},
        {"role": "assistant", "content": "11, thirteen"},
    ]);
    let conversation = conversation(messages);
    for (family, name) in FAMILIES {
        let Some(tokenizer) = tokenizer(name) else { return };
        let template = ChatTemplate::native(family);
        let stops = stop_ids(Some(family), &tokenizer, &[]);
        let rendered =
            renderer(family, &tokenizer, limits()).render(&Row::Conversation(Box::new(conversation.clone())));
        let rendered = rendered.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(rendered.cut, 0);
        let answers = [2, 4, 6];
        for at in answers {
            let history = Conversation::new(conversation.messages[..at].to_vec());
            let prompt = template.render(&history).unwrap().ids(&tokenizer).unwrap();
            let of = |example: &&Example| {
                example.ids.starts_with(&prompt) && example.labels[prompt.len()].is_some()
            };
            let example = rendered.examples.iter().find(of);
            let example =
                example.unwrap_or_else(|| panic!("{family:?} {name}: no example goes on from prompt {at}"));
            let reply: Vec<u32> = example.labels[prompt.len()..].iter().map_while(|label| *label).collect();
            let (end, text) = reply.split_last().unwrap();
            assert!(stops.contains(end), "{family:?} {name}: {end} ends no answer");
            let text = tokenizer.decode(text);
            assert!(text.contains(["Hello", "7", "thirteen"][at / 2 - 1]), "{family:?} {name}: {text:?}");
        }
        for example in &rendered.examples {
            assert!(learned(example).iter().all(|run| stops.contains(run.last().unwrap())));
        }
    }
}

/// GLM-4's `finetune.py` learns from the token after `<|assistant|>` to the next role token, and `<|user|>` at the end.
#[test]
fn glm4_learns_what_its_script_learns() {
    let Some(tokenizer) = tokenizer("glm-4-9b-chat") else { return };
    let row = Row::Conversation(Box::new(conversation(json!([
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "你好👋！很高兴见到你"},
        {"role": "user", "content": "北京的天气"},
        {"role": "assistant", "metadata": "get_weather", "content": "{\"city\": \"北京\"}"},
        {"role": "observation", "content": "{\"temperature\": 22}"},
        {"role": "assistant", "content": "22"},
    ]))));
    let rendered = renderer(Family::Glm4, &tokenizer, limits()).render(&row).unwrap();
    let [example] = rendered.examples.as_slice() else { panic!("{} examples", rendered.examples.len()) };
    let mut expected = Vec::new();
    let mut labels = Vec::new();
    let mut push = |ids: &[u32], counts: bool| {
        expected.extend_from_slice(ids);
        labels.extend(ids.iter().map(|id| counts.then_some(*id)));
    };
    let text = |text: &str| tokenizer.encode(text);
    push(&[151331, 151333, 151336], false);
    push(&text("\n你好"), false);
    push(&[151337], false);
    push(&text("\n你好👋！很高兴见到你"), true);
    push(&[151336], true);
    push(&text("\n北京的天气"), false);
    push(&[151337], false);
    push(&text("get_weather\n{\"city\": \"北京\"}"), true);
    push(&[151338], true);
    push(&text("\n{\"temperature\": 22}"), false);
    push(&[151337], false);
    push(&text("\n22"), true);
    push(&[151336], true);
    assert_eq!(example.ids, expected);
    assert_eq!(example.labels, labels);

    let combined = Limits { last_answer: true, ..limits() };
    let rendered = renderer(Family::Glm4, &tokenizer, combined).render(&row).unwrap();
    assert_eq!(rendered.examples[0].ids, expected);
    assert_eq!(learned(&rendered.examples[0]), [[text("\n22"), vec![151336]].concat()]);

    // Cut behind `max_input_length + max_output_length + 1`, and refused where no answer is left.
    let short = Limits::of_conversations(5, 4);
    let rendered = renderer(Family::Glm4, &tokenizer, short).render(&row).unwrap();
    assert_eq!((rendered.examples[0].ids.len(), rendered.cut), (10, expected.len() - 10));
    assert_eq!(rendered.examples[0].ids, expected[..10]);
    let error = renderer(Family::Glm4, &tokenizer, Limits::of_conversations(2, 2)).render(&row).unwrap_err();
    assert!(error.contains("the first 5 tokens hold no answer"), "{error}");
}

/// ChatGLM-6B's `ptuning/main.py`: question and answer cut to one and two less than their limits, `<sop>` is learned.
#[test]
fn chatglm_6b_learns_what_its_script_learns() {
    let Some(tokenizer) = tokenizer("chatglm-6b") else { return };
    let limits = Limits { source: 8, target: 7, ..limits() };
    let renderer = renderer(Family::ChatGlm6b, &tokenizer, limits);
    let pair = |question: &str, answer: &str| {
        let row = Row::Pair(Box::new(Conversation::of_user(question)), answer.to_owned());
        let rendered = renderer.render(&row).unwrap();
        let [example] = rendered.examples.as_slice() else { panic!() };
        (example.clone(), rendered.cut)
    };
    let (example, cut) = pair("你好", "您好");
    let answer = tokenizer.encode("您好");
    assert_eq!(example.ids, [&[5, 74874, 130001, 130004], answer.as_slice(), &[130005]].concat());
    assert_eq!(learned(&example), [[&[130004], answer.as_slice(), &[130005]].concat()]);
    assert_eq!(cut, 0);

    let (question, answer) =
        ("类型#裤*版型#宽松*风格#性感*图案#线条", "宽松的阔腿裤这两年真的吸粉不少，明星时尚达人的心头爱。");
    let (a, b) = (tokenizer.encode(question), tokenizer.encode(answer));
    let (example, cut) = pair(question, answer);
    assert_eq!(example.ids, [&a[..7], &[130001, 130004], &b[..5], &[130005]].concat());
    assert_eq!(cut, a.len() - 7 + b.len() - 5);
    assert_eq!(example.ids.len(), 15);

    // With rounds before it, as `build_prompt` writes them.
    let history = vec![
        Message::new(Role::User, "一"),
        Message::new(Role::Assistant, "二"),
        Message::new(Role::User, "三"),
    ];
    let row = Row::Pair(Box::new(Conversation::new(history)), "四".to_owned());
    let whole = Limits { source: 100, target: 100, ..limits };
    let rendered = self::renderer(Family::ChatGlm6b, &tokenizer, whole).render(&row).unwrap();
    let prompt = tokenizer.encode("[Round 0]\n问：一\n答：二\n[Round 1]\n问：三\n答：");
    assert!(rendered.examples[0].ids.starts_with(&[prompt.as_slice(), &[130001, 130004]].concat()));
}

/// What is trained with reasoning and without is what a prompt that lets the model reason would have it write.
#[test]
fn reasoning_is_learned_where_the_prompt_opens_it() {
    let Some(tokenizer) = tokenizer("glm-4.5") else { return };
    let row = |message: serde_json::Value| {
        Row::Conversation(Box::new(conversation(json!([{"role": "user", "content": "2+2?"}, message]))))
    };
    let thinking = row(json!({"role": "assistant", "reasoning_content": "easy", "content": "4"}));
    let plain = row(json!({"role": "assistant", "content": "4"}));
    let call = row(
        json!({"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2}}}]}),
    );
    let cases = [
        (Family::Glm45, &thinking, "\n<think>easy</think>\n4<|user|>"),
        (Family::Glm45, &plain, "\n<think></think>\n4<|user|>"),
        (Family::Glm47, &thinking, "easy</think>4<|user|>"),
        (Family::Glm47, &plain, "</think>4<|user|>"),
        (
            Family::Glm47,
            &call,
            "</think><tool_call>add<arg_key>a</arg_key><arg_value>2</arg_value></tool_call><|observation|>",
        ),
        (Family::GlmZ1, &plain, "\n</think>\n4<|user|>"),
        (Family::GlmZ1, &thinking, "\neasy\n</think>\n4<|user|>"),
    ];
    for (family, row, expected) in cases {
        let rendered = renderer(family, &tokenizer, limits()).render(row).unwrap();
        let [run] = learned(&rendered.examples[0]).try_into().unwrap();
        assert_eq!(tokenizer.decode(&run), expected, "{family:?}");
    }
}

#[test]
fn a_text_is_learned_whole_in_pieces() {
    let Some(tokenizer) = tokenizer("glm-4-9b-chat") else { return };
    let text = "one two three four five six seven eight nine ten";
    let limits = Limits { whole: 6, ..limits() };
    let rendered = renderer(Family::Glm4, &tokenizer, limits).render(&Row::Text(text.to_owned())).unwrap();
    let ids: Vec<u32> = rendered.examples.iter().flat_map(learned).flatten().collect();
    assert_eq!(ids, [tokenizer.encode(text), vec![151329]].concat());
    assert!(rendered.examples.iter().all(|e| e.ids.len() <= 6 && e.ids[..2] == [151331, 151333]));
}

/// AdvertiseGen as it comes, in JSON lines and as a table, and the chat data with its history.
#[test]
fn files_of_the_old_scripts() {
    let Some(tokenizer) = tokenizer("chatglm-6b") else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        DataFile::open(&path, Columns::default()).unwrap()
    };
    let renderer = renderer(Family::ChatGlm6b, &tokenizer, limits());
    let examples = |file: DataFile| {
        let data = Dataset::new(file, renderer.clone());
        (0..data.file().len()).flat_map(|row| data.render(row).unwrap().examples).collect::<Vec<_>>()
    };
    let lines = examples(file(
        "a.json",
        "{\"content\": \"类型#裤\", \"summary\": \"宽松, \\\"好\\\"\\n看\"}\n\n{\"content\": \"b\", \"summary\": \"c\"}\n",
    ));
    let table =
        examples(file("a.csv", "\u{feff}content,summary\r\n类型#裤,\"宽松, \"\"好\"\"\n看\"\r\nb,c\r\n"));
    let list = examples(file(
        "b.json",
        "[\n {\"content\": \"类型#裤\",\n  \"summary\": \"宽松, \\\"好\\\"\\n看\"},\n {\"content\": \"b\", \"summary\": \"c\"}]\n",
    ));
    assert_eq!(lines.len(), 2);
    assert_eq!(lines, table);
    assert_eq!(lines, list);
    let chat = examples(file(
        "chat.json",
        "{\"prompt\": \"三\", \"response\": \"四\", \"history\": [[\"一\", \"二\"]]}\n{\"prompt\": \"一\", \"response\": \"二\", \"history\": []}",
    ));
    let table =
        examples(file("chat.csv", "prompt,response,history\n三,四,\"[[\"\"一\"\", \"\"二\"\"]]\"\n一,二,\n"));
    assert_eq!(chat, table);
    assert!(tokenizer.decode(&chat[0].ids).starts_with("[Round 0]\n问:一\n答:二\n[Round 1]\n问:三\n答:"));
}
