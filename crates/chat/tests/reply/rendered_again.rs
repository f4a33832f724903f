//! A turn that is rendered as the next one's history is made of the tokens that the model wrote, so that what is
//! remembered of them counts; and where a generation's template does not allow that, which turns these are.

use glimmer_chat::reply::{Reply, ReplyOptions};
use glimmer_chat::{ChatTemplate, Conversation, Family, Message, Role};

use super::{events, ids, tokenizer, tools};

/// Why a turn is not rendered as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lost {
    /// The template leaves reasoning out of what came before.
    Reasoning,
    /// The template writes JSON its own way.
    Json,
    /// White space around a name or a text says nothing.
    Blanks,
    /// The prompt's end is no beginning of the next one's.
    Prompt,
}

/// What follows the turn.
#[derive(Clone, Copy)]
enum Next {
    Question,
    Results,
}

use Lost::{Blanks, Json, Prompt, Reasoning};
use Next::{Question, Results};

/// A reply as the model writes it after its prompt, what follows, and what is lost if anything is.
type Turn = (&'static str, Next, Option<Lost>);

const TEXT_FORM: [Turn; 8] = [
    ("\nHello, 你好.", Question, None),
    ("\nA list:\n\n- one\n- two", Question, None),
    ("get_weather\n{\"city\": \"北京\", \"days\": 3}", Results, None),
    ("get_weather\n{\"city\":\"北京\",\"days\":[1,2.50]}", Results, None),
    ("\nLet me see.<|assistant|>add\n{}", Results, None),
    ("add\n{\"a\": 1}<|assistant|>bare\n{}", Results, None),
    ("add \n{\"a\": 1}", Results, Some(Blanks)),
    ("\nHello.\n", Question, Some(Blanks)),
];

const SPACED: [Turn; 7] = [
    ("\n<think></think>\nHello, 你好.", Question, None),
    ("\n<think>Hm.</think>\nHello.", Question, Some(Reasoning)),
    (
        "\n<think>Hm.</think>\nI look.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>北京 \"x\"</arg_value>\n<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
        Results,
        None,
    ),
    ("\n<think></think>\n<tool_call>add\n</tool_call>\n<tool_call>bare\n</tool_call>", Results, None),
    (
        "\n<think></think>\n<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>[1, {\"k\": null}]</arg_value>\n</tool_call>",
        Results,
        None,
    ),
    (
        "\n<think></think>\n<tool_call>add\n<arg_key>a</arg_key>\n<arg_value>[1,2]</arg_value>\n</tool_call>",
        Results,
        Some(Json),
    ),
    ("\n<think></think>\n\nHello.", Question, Some(Blanks)),
];

const TIGHT: [Turn; 6] = [
    ("Hm.</think>Hello.", Question, Some(Reasoning)),
    (
        "Hm.</think>I look.<tool_call>get_weather<arg_key>city</arg_key><arg_value>北京 \"x\"</arg_value><arg_key>days</arg_key><arg_value>3</arg_value></tool_call>",
        Results,
        None,
    ),
    ("Hm.</think><tool_call>add</tool_call><tool_call>bare</tool_call>", Results, None),
    (
        "Hm.</think><tool_call>add<arg_key>a</arg_key><arg_value>[1,2]</arg_value></tool_call>",
        Results,
        Some(Json),
    ),
    ("</think>Hello.", Question, Some(Reasoning)),
    (" Hm. </think>Hello.", Question, Some(Reasoning)),
];

/// The ids of a reply; the first line and the rest are encoded apart where the generation does so.
fn reply_ids(format: Family, text: &str) -> Vec<u32> {
    match (format, text.split_once('\n')) {
        (Family::ChatGlm3, Some((line, rest))) => {
            [tokenizer(format).encode(&format!("{line}\n")), tokenizer(format).encode(rest)].concat()
        }
        // What goes on is no beginning: SentencePiece's blank is not there.
        (Family::ChatGlm2 | Family::ChatGlm6b, _) => tokenizer(format).encode(text)[1..].to_vec(),
        _ => ids(format, text, false),
    }
}

/// Whether the prompt and the reply are the beginning of the next turn's prompt.
fn is_rendered_again(format: Family, keeps_thinking: bool, (text, next, _): Turn) -> bool {
    let (template, tokenizer) = (ChatTemplate::native(format), tokenizer(format));
    let mut conversation = Conversation::of_user("A question");
    if let Next::Results = next {
        conversation.tools = tools()[..3].to_vec();
    }
    conversation.clear_thinking = keeps_thinking.then_some(false);
    let rendered = template.render(&conversation).unwrap();
    let mut all = rendered.ids(tokenizer).unwrap();
    let written = reply_ids(format, text);
    let options = ReplyOptions {
        tools: conversation.tools.clone(),
        in_reasoning: rendered.opens_reasoning(),
        ..ReplyOptions::default()
    };
    let reply: Reply = events(format, options, &written).into_iter().collect();
    let calls = reply.tool_calls.len();
    assert_eq!(calls > 0, matches!(next, Next::Results), "{format}: {text:?}");
    all.extend(&written);
    conversation.messages.push(reply.into());
    match next {
        Next::Question => conversation.messages.push(Message::new(Role::User, "Another")),
        Next::Results => {
            conversation.messages.extend((0..calls).map(|_| Message::new(Role::Observation, "22")));
        }
    }
    template.render(&conversation).unwrap().ids(tokenizer).unwrap().starts_with(&all)
}

#[test]
fn turns_are_rendered_as_they_were_written() {
    let chatglm3: Vec<Turn> = vec![
        ("\nHello, 你好.", Question, None),
        ("get_weather\n```python\ntool_call(city='北京', days=3)\n```", Results, None),
        ("add\n```python\ntool_call()\n```", Results, None),
        ("get_weather\n```python\ntool_call(city=\"北京\")\n```", Results, Some(Json)),
    ];
    let z1: Vec<Turn> = vec![
        ("Hm.</think>\nHello.", Question, Some(Reasoning)),
        ("Hm.</think>\nadd\n{}", Results, Some(Reasoning)),
    ];
    let edge: Vec<Turn> = vec![("Hello, 你好.", Question, None), ("Hello.\n", Question, Some(Blanks))];
    let mut lost = std::collections::BTreeMap::new();
    let mut turns = 0;
    for (format, keeps_thinking, list) in [
        (Family::ChatGlm6b, false, vec![("你好", Question, Some(Prompt))]),
        (Family::ChatGlm2, false, vec![("你好", Question, None)]),
        (Family::ChatGlm3, false, chatglm3),
        (Family::Glm4, false, TEXT_FORM.to_vec()),
        (Family::Glm4v, false, TEXT_FORM.to_vec()),
        (Family::Glm40414, false, TEXT_FORM.to_vec()),
        (Family::GlmZ1, false, z1),
        (Family::GlmEdge, false, edge),
        (Family::Glm45, false, SPACED.to_vec()),
        (Family::Glm47, false, TIGHT.to_vec()),
        // Where the template is asked to keep it, reasoning is lost only if it says nothing.
        (
            Family::Glm47,
            true,
            vec![("Hm.</think>Hello.", Question, None), ("</think>Hello.", Question, Some(Reasoning))],
        ),
    ] {
        for turn in list {
            assert_eq!(
                is_rendered_again(format, keeps_thinking, turn),
                turn.2.is_none(),
                "{format}: {:?}",
                turn.0
            );
            turns += 1;
            if let Some(why) = turn.2 {
                *lost.entry(why).or_insert(0) += 1;
            }
        }
    }
    println!("{turns} turns, of which not rendered as written: {lost:?}");
}
