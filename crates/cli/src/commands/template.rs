//! `glimmer template`: a conversation to a prompt.

use std::path::Path;

use anyhow::Context;
use glimmer::{ChatTemplate, Conversation, Tokenizer};
use serde::Serialize;
use serde_json::Value;

use crate::args::TemplateArgs;
use crate::model::{files, tools, with_advice};
use crate::terminal::Terminal;
use crate::{input, jsonl, output};

/// What `--json` and `--jsonl` answer.
#[derive(Serialize)]
struct RenderedPrompt {
    prompt: String,
    ids: Vec<u32>,
}

/// Renders and prints.
pub(crate) fn run(args: &TemplateArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let files = files(&args.model, args.chat_format, terminal)?;
    let file = args.conversation.as_deref();
    let tools = tools(args.tools.as_deref())?;
    let template = with_advice(files.chat_template())?;
    if !args.format.json && !args.format.jsonl {
        let rendered = template.render(&with_tools(read_conversation(file)?, &tools))?.complete()?;
        return output::model_text(&format!("{}\n", rendered.prompt()));
    }
    let tokenizer = files.tokenizer()?;
    if args.format.jsonl {
        return jsonl::answer(file, |conversation| {
            answer(args, &template, tokenizer, with_tools(conversation, &tools))
        });
    }
    output::json_line(&answer(args, &template, tokenizer, with_tools(read_conversation(file)?, &tools))?)
}

fn answer(
    args: &TemplateArgs,
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    conversation: Conversation,
) -> anyhow::Result<RenderedPrompt> {
    let rendered = template.render(&conversation)?.complete()?;
    let ids =
        if args.parse_special { rendered.ids_parse_special(tokenizer)? } else { rendered.ids(tokenizer)? };
    Ok(RenderedPrompt { prompt: rendered.prompt(), ids })
}

fn with_tools(mut conversation: Conversation, tools: &[Value]) -> Conversation {
    if conversation.tools.is_empty() {
        conversation.tools = tools.to_vec();
    }
    conversation
}

fn read_conversation(file: Option<&Path>) -> anyhow::Result<Conversation> {
    let (name, text) = match file {
        Some(path) if path != Path::new("-") => (path.display().to_string(), input::small_json(path)?),
        _ => {
            let text = input::text(None, "the conversation")?;
            ("standard input".to_owned(), input::without_mark(&text).to_owned())
        }
    };
    serde_json::from_str(&text).context(name)
}
