//! A checkpoint's chat template: a format known by heart, or Jinja of its own.

use crate::detect;
use crate::error::ChatError;
use crate::formats;
use crate::jinja::{Template, Variable};
use crate::message::Conversation;
use crate::rendered::{FRAME, Prompt, Rendered, VIDEO};
use crate::sight::Medium;
use glimmer_config::{Evidence, Family};
use serde_json::Value;
use std::sync::Arc;

/// What errors call a template of a checkpoint's own.
pub(crate) const TEMPLATE: &str = "the chat template";

/// The name that GLM-4's tools block gives the model, where nothing else is said.
const GLM4_NAME: &str = "GLM-4";

/// Variables that are fields of a conversation.
pub(crate) const SWITCHES: [&str; 3] = ["enable_thinking", "clear_thinking", "add_generation_prompt"];

/// Variables that say how much a model is to think: a wish that loses nothing where no template reads it.
pub(crate) const WISHES: [&str; 2] = ["reasoning_effort", "thinking_budget"];

/// Turns conversations into prompts. Cheap to clone and shared freely between threads.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    kind: Kind,
    /// What is rendered in its place when there are tools.
    tool_use: Option<Arc<ChatTemplate>>,
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
        Kind::Native { format, name: GLM4_NAME.to_owned() }.into()
    }

    /// A Jinja template, which is input from strangers: its source, its work, its memory and its depth are bounded.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line, or [`ChatError::Limit`].
    pub fn jinja(source: &str) -> Result<ChatTemplate, ChatError> {
        let tool_role = tool_role(source);
        let jinja = Jinja { template: Template::parse(source)?, tool_role, special_tokens: Vec::new() };
        Ok(Kind::Jinja(Arc::new(jinja)).into())
    }

    /// The template of a checkpoint: the native format whose template this is, or this one itself, or without one
    /// the format of the generation that the evidence tells. One that was only guessed by its architecture may not
    /// converse at all, or in a way of its own, and has none.
    ///
    /// # Errors
    /// Those of [`ChatTemplate::jinja`], [`ChatError::UnknownFormat`] if nothing tells the format, and
    /// [`ChatError::TemplateName`] or [`ChatError::NoMessages`] if the template is none.
    pub fn detect(template: Option<&str>, evidence: &Evidence) -> Result<ChatTemplate, ChatError> {
        let Some(source) = template.filter(|source| !source.trim().is_empty()) else {
            let decision = evidence.decide().filter(|decision| !decision.guessed);
            let decision = decision.ok_or_else(|| ChatError::UnknownFormat { known: Family::names() })?;
            return Ok(ChatTemplate::native(decision.family));
        };
        if let Some((format, name)) = detect::by_template(source) {
            // GLM-4V's files have GLM-4's template; what it is given pictures with is its own code.
            let sees = || evidence.decide().is_some_and(|decision| decision.family == Family::Glm4v);
            let format = if format == Family::Glm4 && sees() { Family::Glm4v } else { format };
            let name = name.unwrap_or_else(|| GLM4_NAME.to_owned());
            return Ok(Kind::Native { format, name }.into());
        }
        if let Some(format) = detect::by_template_name(source, evidence) {
            return Ok(ChatTemplate::native(format?));
        }
        let template = ChatTemplate::jinja(source)?;
        match &template.kind {
            Kind::Jinja(jinja) if !jinja.template.reads_messages() => Err(ChatError::NoMessages),
            _ => Ok(template),
        }
    }

    /// The same, with a template for conversations that have tools (`tool_use` among a checkpoint's named templates).
    #[must_use]
    pub fn with_tool_use(mut self, tool_use: ChatTemplate) -> ChatTemplate {
        self.tool_use = Some(Arc::new(tool_use));
        self
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
        let conversation = conversation.in_call_order();
        let conversation = conversation.as_ref();
        if let Some(tool_use) = self.tool_use.as_ref().filter(|_| !conversation.tools.is_empty()) {
            return tool_use.render(conversation);
        }
        match &self.kind {
            Kind::Native { format, name } => {
                formats::render(*format, conversation, conversation.assistant_name.as_deref().unwrap_or(name))
            }
            Kind::Jinja(jinja) => jinja.render(conversation),
        }
    }
}

impl From<Kind> for ChatTemplate {
    fn from(kind: Kind) -> ChatTemplate {
        ChatTemplate { kind, tool_use: None }
    }
}

/// What a template calls the answer of a tool: OpenAI's word, unless it is one of GLM's that does not know that.
fn tool_role(source: &str) -> &'static str {
    let has = |part| source.contains(part);
    let glm = has("observation") || has("[gMASK]") || has("<|{{");
    if has("'tool'") || has("\"tool\"") || !glm { "tool" } else { "observation" }
}

impl Jinja {
    fn render(&self, conversation: &Conversation) -> Result<Rendered, ChatError> {
        let messages: Vec<Value> =
            conversation.messages.iter().map(|message| message.for_template(self.tool_role)).collect();
        let tools = Value::Array(conversation.tools.clone());
        let mut given = Vec::from_iter((!messages.is_empty()).then_some("messages"));
        given.extend((!conversation.tools.is_empty()).then_some("tools"));
        let mut variables = vec![
            ("messages", Variable::Messages(&messages)),
            ("tools", if conversation.tools.is_empty() { Variable::None } else { Variable::Outside(&tools) }),
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
        let mut ignored = Vec::new();
        for (name, value) in &conversation.extra {
            if SWITCHES.contains(&name.as_str()) {
                continue;
            }
            if variables.iter().any(|(known, _)| known == name) {
                ignored.push(name.clone());
            } else {
                variables.push((name, Variable::Outside(value)));
                given.push(name);
            }
        }
        if !variables.iter().any(|(name, _)| *name == "documents") {
            variables.push(("documents", Variable::None));
        }
        let (text, unread) = self.template.render(&variables)?;
        let lost = |name: &&str| unread.contains(name) && !WISHES.contains(name);
        ignored.extend(given.into_iter().filter(lost).map(str::to_owned));
        let mut prompt = Prompt::default();
        let mut places = Places::of(conversation, text.stretches())?;
        for (stretch, outside) in text.stretches() {
            if outside {
                prompt.user(stretch);
            } else {
                places.write(&mut prompt, stretch);
            }
        }
        let shows = |name: &str| !is_plain(name) || text.as_str().contains(name);
        let named = |tool: &Value| {
            tool["function"]["name"].as_str().or_else(|| tool["name"].as_str()).is_none_or(shows)
        };
        if !ignored.iter().any(|name| name == "tools") && !conversation.tools.iter().all(named) {
            ignored.push("tools".to_owned());
        }
        let mut calls = conversation.messages.iter().flat_map(|message| &message.tool_calls);
        if !calls.all(|call| shows(&call.name)) {
            ignored.push("tool_calls".to_owned());
        }
        Ok(Rendered::from_template(prompt, ignored))
    }
}

/// Where a template has put the pictures and videos of a conversation: the tokens for them that it wrote itself, in order. What
/// somebody typed is none of them.
struct Places {
    media: Vec<Medium>,
    /// The token that stands for a picture.
    picture: &'static str,
    /// How many of them follow each other for one.
    repeated: usize,
    /// Those that were written.
    written: usize,
}

impl Places {
    fn of<'t>(
        conversation: &Conversation,
        stretches: impl Iterator<Item = (&'t str, bool)>,
    ) -> Result<Self, ChatError> {
        let media: Vec<Medium> = conversation.sights().map(|sight| sight.medium).collect();
        let own: Vec<&str> = stretches.filter(|(_, outside)| !outside).map(|(text, _)| text).collect();
        let count = |token: &str| own.iter().map(|text| text.matches(token).count()).sum::<usize>();
        let pictures = media.iter().filter(|medium| **medium == Medium::Picture).count();
        // GLM-Edge-V's writes the first of the three as often as a picture has rows.
        let picture = if count(FRAME[1]) > 0 { FRAME[1] } else { FRAME[0] };
        let found = count(picture);
        let repeated = if picture == FRAME[1] { 1 } else { found / pictures.max(1) };
        let shows_pictures = pictures == 0 || repeated > 0 && found == repeated * pictures;
        let shows_all = media.is_empty() || shows_pictures && count(VIDEO) == media.len() - pictures;
        if !shows_all {
            return Err(ChatError::no_pictures(TEMPLATE));
        }
        Ok(Places { media, picture, repeated, written: 0 })
    }

    /// Writes the template's own text, with a place for each of them.
    fn write(&mut self, prompt: &mut Prompt, mut text: &str) {
        while let Some(medium) = self.media.get(self.written) {
            let (token, times) = match medium {
                Medium::Picture => (self.picture, self.repeated),
                Medium::Video => (VIDEO, 1),
            };
            let spelling = token.repeat(times);
            let Some((before, after)) = text.split_once(&spelling) else { break };
            prompt.trusted(before.to_owned());
            prompt.picture(self.written, spelling);
            self.written += 1;
            text = after;
        }
        prompt.trusted(text.to_owned());
    }
}

/// Whether a name looks the same however a template writes it.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
}
