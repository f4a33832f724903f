//! A checkpoint's chat template: a format known by heart, or Jinja of its own.

use crate::detect;
use crate::error::ChatError;
use crate::formats;
use crate::jinja::{Template, Variable};
use crate::message::Conversation;
use crate::rendered::{Prompt, Rendered};
use glimmer_config::{Evidence, Family};
use serde_json::Value;
use std::sync::Arc;

/// The name that GLM-4's tools block gives the model, where nothing else is said.
const GLM4_NAME: &str = "GLM-4";

/// Turns conversations into prompts. Cheap to clone and shared freely between threads.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Native { format: Family, name: String },
    Jinja(Arc<Jinja>),
}

#[derive(Debug)]
struct Jinja {
    template: Template,
    /// What the template calls the answer of a tool.
    tool_role: &'static str,
    /// `bos_token` and its like.
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// A format known by heart.
    pub fn native(format: Family) -> ChatTemplate {
        ChatTemplate { kind: Kind::Native { format, name: GLM4_NAME.to_owned() } }
    }

    /// A Jinja template, which is input from strangers: its source, its work, its memory and its depth are bounded.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line, or [`ChatError::Limit`].
    pub fn jinja(source: &str) -> Result<ChatTemplate, ChatError> {
        // OpenAI's word, if the template tests for it; else GLM's own.
        let tool_role =
            if source.contains("'tool'") || source.contains("\"tool\"") { "tool" } else { "observation" };
        let jinja = Jinja { template: Template::parse(source)?, tool_role, special_tokens: Vec::new() };
        Ok(ChatTemplate { kind: Kind::Jinja(Arc::new(jinja)) })
    }

    /// The template of a checkpoint: the native format whose template this is, or this one itself, or without one
    /// the format of the generation that the evidence tells. One that was only guessed by its architecture may not
    /// converse at all, or in a way of its own, and has none.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::jinja`], and [`ChatError::UnknownFormat`] if nothing tells the format.
    pub fn detect(template: Option<&str>, evidence: &Evidence) -> Result<ChatTemplate, ChatError> {
        let Some(source) = template.filter(|source| !source.trim().is_empty()) else {
            let decision = evidence.decide().filter(|decision| !decision.guessed);
            let decision = decision.ok_or_else(|| ChatError::UnknownFormat { known: Family::names() })?;
            return Ok(ChatTemplate::native(decision.family));
        };
        if let Some((format, name)) = detect::by_template(source) {
            let name = name.unwrap_or_else(|| GLM4_NAME.to_owned());
            return Ok(ChatTemplate { kind: Kind::Native { format, name } });
        }
        ChatTemplate::jinja(source)
    }

    /// Gives a Jinja template the spellings behind `bos_token`, `eos_token` and their like.
    #[must_use]
    pub fn with_special_tokens(mut self, tokens: &[(String, String)]) -> ChatTemplate {
        if let Kind::Jinja(jinja) = &mut self.kind
            && let Some(jinja) = Arc::get_mut(jinja)
        {
            jinja.special_tokens = tokens.to_vec();
        }
        self
    }

    /// The native format, if it is one.
    pub fn format(&self) -> Option<Family> {
        match &self.kind {
            Kind::Native { format, .. } => Some(*format),
            Kind::Jinja(_) => None,
        }
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// What the format or the template cannot say of it.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered, ChatError> {
        match &self.kind {
            Kind::Native { format, name } => {
                formats::render(*format, conversation, conversation.assistant_name.as_deref().unwrap_or(name))
            }
            Kind::Jinja(jinja) => jinja.render(conversation),
        }
    }
}

impl Jinja {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, ChatError> {
        let messages: Vec<Value> =
            conversation.messages.iter().map(|message| message.for_template(self.tool_role)).collect();
        let tools = Value::Array(conversation.tools.clone());
        let mut variables = vec![
            ("messages", Variable::Messages(&messages)),
            ("tools", if conversation.tools.is_empty() { Variable::None } else { Variable::Outside(&tools) }),
            ("documents", Variable::None),
            ("add_generation_prompt", Variable::Bool(conversation.add_generation_prompt)),
        ];
        for (name, spelling) in &self.special_tokens {
            variables.push((name, Variable::Trusted(spelling)));
        }
        for (name, switch) in [
            ("enable_thinking", conversation.enable_thinking),
            ("clear_thinking", conversation.clear_thinking),
        ] {
            variables.extend(switch.map(|switch| (name, Variable::Bool(switch))));
        }
        for (name, value) in &conversation.extra {
            if !variables.iter().any(|(known, _)| known == name) {
                variables.push((name, Variable::Outside(value)));
            }
        }
        let text = self.template.render(&variables)?;
        let mut prompt = Prompt::default();
        for (stretch, outside) in text.stretches() {
            if outside {
                prompt.user(stretch);
            } else {
                prompt.trusted(stretch.to_owned());
            }
        }
        Ok(Rendered::from_template(prompt))
    }
}
