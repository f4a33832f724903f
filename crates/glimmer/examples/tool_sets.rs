//! Whether sets of tools can be shown to a model and its calls be held to them:
//! `cargo run --release --example tool_sets -- MODEL FAMILY < sets.jsonl`, a line `{"tools": [...]}` each. No weights are needed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print")]

use glimmer::{AnswerForm, AnswerFormat, Conversation, Family, ModelFiles, ModelText, Overrides};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, family] = arguments.as_slice() else { return Err("MODEL and FAMILY are needed".into()) };
    let family = Family::NAMES.iter().find(|(_, name)| name == family).map(|(family, _)| *family);
    let overrides = Overrides { family, chat_format: family, ..Overrides::default() };
    let text = ModelText::read(&ModelFiles::new(model.as_str(), overrides))?;
    for line in std::io::stdin().lines() {
        println!("{}", check(&text, &serde_json::from_str(&line?)?));
    }
    Ok(())
}

/// The tokens of a prompt with the tools, and what of their schemas calls are not held to; or why that cannot be had.
fn check(text: &ModelText, set: &Value) -> Value {
    let mut conversation = Conversation::of_user("Hello!");
    conversation.tools = set["tools"].as_array().cloned().unwrap_or_default();
    let mut answer = match text.prompt(&conversation) {
        Ok(prompt) => json!({"tokens": prompt.ids.len()}),
        Err(error) => return json!({"error": error.to_string()}),
    };
    let format = AnswerFormat::Calls { tools: conversation.tools, required: true, single: false };
    match text.form(&format) {
        Ok(form) => {
            let unmasked = form.iter().flat_map(AnswerForm::unmasked);
            answer["unmasked"] = unmasked.map(|one| format!("{} at {}", one.keyword, one.at)).collect();
        }
        Err(error) => answer["error"] = error.to_string().into(),
    }
    answer
}
