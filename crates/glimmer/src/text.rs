//! How a model turns text into ids and ids into text: its tokenizer, its chat format, what ends its answers, how its
//! tokens are chosen.

use std::sync::{Arc, OnceLock};

use glimmer_chat::reply::{CallStyle, Decoding, ReplyOptions, ReplyParser, ThinkingStyle};
use glimmer_chat::{ChatTemplate, Conversation, Rendered};
use glimmer_config::Configuration;
use glimmer_engine::{ConstraintMaker, PromptPicture, Sampling};
use glimmer_grammar::{Compiled, Compiler, Grammar, GrammarError, TokenTable};
use glimmer_tokenizer::{Encoding, Tokenizer};
use serde_json::Value;

use crate::answer_form::{CallsForm, TextForm};
use crate::calls::{self, Sign};
use crate::thinking::{Stage, Thinking};
use crate::vision::{self, View, Vision};
use crate::{AnswerForm, AnswerFormat, Error, GenerationParams, ModelFiles, held, sampling};

/// The part of a model that knows text.
pub struct ModelText {
    name: String,
    created: u64,
    tokenizer: Result<Tokenizer, Arc<Error>>,
    chat: Result<Chat, Arc<Error>>,
    continuation: Continuation,
    /// How it is shown pictures, where it sees.
    vision: Result<Option<Vision>, Arc<Error>>,
    /// What compiles formats of answers, once one was asked for.
    compiler: OnceLock<Result<Arc<Compiler>, GrammarError>>,
}

/// How a model converses.
#[derive(Clone, Debug)]
pub struct Chat {
    /// Conversations to prompts.
    pub template: ChatTemplate,
    /// The ids that end an answer.
    pub stop_ids: Vec<u32>,
    /// How tokens are chosen unless somebody says otherwise.
    pub sampling: Sampling,
}

/// How a model continues text.
#[derive(Clone, Debug)]
struct Continuation {
    stop_ids: Vec<u32>,
    sampling: Sampling,
}

/// What a model is to continue, and how the continuation is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// The ids; nothing is added to them.
    pub ids: Vec<u32>,
    /// The pictures in it: for each of their rows there is an id.
    pub pictures: Vec<PromptPicture>,
    picture_tokens: usize,
    reading: Reading,
}

/// How an answer's ids become text.
#[derive(Clone, Debug, PartialEq)]
enum Reading {
    /// As a reply in the model's chat format.
    Reply { reasoning: Reasoning, tools: Vec<Value> },
    /// As text that goes on where the prompt ends.
    Text { shows_special: bool },
    /// Not at all.
    Ids,
}

/// What a prompt has of its answer's reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reasoning {
    Nothing,
    Opened,
    Closed,
}

impl Prompt {
    /// Ids whose continuation is text.
    pub fn of_ids(ids: Vec<u32>) -> Self {
        let reading = Reading::Text { shows_special: false };
        Prompt { ids, pictures: Vec::new(), picture_tokens: 0, reading }
    }

    /// The same prompt, with special tokens shown as they are spelled in the text that continues it.
    #[must_use]
    pub fn showing_special(mut self) -> Self {
        if let Reading::Text { shows_special } = &mut self.reading {
            *shows_special = true;
        }
        self
    }

    /// The same prompt, of whose answer only the ids are wanted: no tokenizer is needed.
    #[must_use]
    pub fn answered_in_ids(mut self) -> Self {
        self.reading = Reading::Ids;
        self
    }

    /// How many of its tokens stand for rows of pictures.
    pub fn picture_tokens(&self) -> usize {
        self.picture_tokens
    }

    /// Whether the answer is a reply in a conversation.
    pub fn is_chat(&self) -> bool {
        matches!(self.reading, Reading::Reply { .. })
    }
}

impl ModelText {
    /// Reads what the files say of text. A tokenizer or a chat format that cannot be had is told to whoever asks for it.
    ///
    /// # Errors
    /// When the configuration cannot be read.
    pub fn read(files: &ModelFiles) -> Result<Self, Error> {
        let tokenizer = files.tokenizer().cloned().map_err(Arc::new);
        let configuration = files.configuration()?;
        let chat = match &tokenizer {
            Ok(_) => Chat::read(files, configuration).map_err(Arc::new),
            Err(error) => Err(Arc::clone(error)),
        };
        // A tokenizer that is broken knows no stop ids; the ones in the configuration still count.
        let stop_ids = files.stop_ids(None).unwrap_or_else(|_| configuration.stop_ids());
        let sampling = sampling::defaults(None, configuration);
        Ok(ModelText {
            name: files.source().name(),
            created: files.created(),
            tokenizer,
            chat,
            continuation: Continuation { stop_ids, sampling },
            vision: vision::of(files).map_err(Arc::new),
            compiler: OnceLock::new(),
        })
    }

    /// What to call the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When its files were made, in seconds since 1970.
    pub fn created(&self) -> u64 {
        self.created
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// When there is none, or it could not be read.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        self.tokenizer.as_ref().map_err(|error| Error::Earlier(Arc::clone(error)))
    }

    /// The way of conversing.
    ///
    /// # Errors
    /// When the model's template could not be read, or nothing tells its chat format.
    pub fn chat(&self) -> Result<&Chat, Error> {
        self.chat.as_ref().map_err(|error| Error::Earlier(Arc::clone(error)))
    }

    /// How the tokens of a text's continuation are chosen unless somebody says otherwise.
    pub fn text_sampling(&self) -> &Sampling {
        &self.continuation.sampling
    }

    /// How it is shown pictures.
    ///
    /// # Errors
    /// [`Error::Blind`] where it sees none, and what is wrong with what its files say of them.
    pub fn vision(&self) -> Result<&Vision, Error> {
        match &self.vision {
            Ok(Some(vision)) => Ok(vision),
            Ok(None) => Err(Error::Blind { model: self.name.clone() }),
            Err(error) => Err(Error::Earlier(Arc::clone(error))),
        }
    }

    /// A conversation as the model reads it. Nothing that a person wrote becomes a special token.
    ///
    /// # Errors
    /// What the format cannot say of the conversation, such as pictures.
    pub fn prompt(&self, conversation: &Conversation) -> Result<Prompt, Error> {
        self.prompt_seeing(conversation, &[])
    }

    /// The same of a conversation that shows something: a view for each of its [`Conversation::sights`], in their order.
    ///
    /// # Errors
    /// What the format cannot say of the conversation; [`Error::Blind`] where the model sees nothing.
    pub fn prompt_seeing(&self, conversation: &Conversation, views: &[View]) -> Result<Prompt, Error> {
        if conversation.sights().next().is_some() {
            self.vision()?;
        }
        let rendered = self.chat()?.template.render(conversation)?.complete()?;
        let seen: Vec<_> = views.iter().map(View::seen).collect();
        let (ids, placed) = rendered.ids_seeing(self.tokenizer()?, &seen)?;
        let mut prompt = Self::of_rendered(ids, &rendered, conversation);
        prompt.pictures = placed.into_iter().filter_map(|placed| View::placed(views, placed)).collect();
        prompt.picture_tokens = views.iter().map(View::rows).sum();
        Ok(prompt)
    }

    /// [`prompt`](ModelText::prompt) with the ids of the model's own code, in which a special token's spelling counts wherever it
    /// stands. It has no places for pictures.
    ///
    /// # Errors
    /// What the format cannot say of the conversation, and pictures.
    pub fn prompt_parse_special(&self, conversation: &Conversation) -> Result<Prompt, Error> {
        if conversation.sights().next().is_some() {
            return Err(Error::Spelt);
        }
        let rendered = self.chat()?.template.render(conversation)?.complete()?;
        let ids = rendered.ids_parse_special(self.tokenizer()?)?;
        Ok(Self::of_rendered(ids, &rendered, conversation))
    }

    fn of_rendered(ids: Vec<u32>, rendered: &Rendered, conversation: &Conversation) -> Prompt {
        let reasoning = match (rendered.opens_reasoning(), rendered.closes_reasoning()) {
            (true, _) => Reasoning::Opened,
            (_, true) => Reasoning::Closed,
            _ => Reasoning::Nothing,
        };
        let reading = Reading::Reply { reasoning, tools: conversation.tools.clone() };
        Prompt { ids, pictures: Vec::new(), picture_tokens: 0, reading }
    }

    /// A text to be continued as it is.
    ///
    /// # Errors
    /// When there is no tokenizer.
    pub fn continuation(&self, text: &str, encoding: Encoding) -> Result<Prompt, Error> {
        Ok(Prompt::of_ids(self.tokenizer()?.encode_as(text, encoding)))
    }

    /// How an answer to a prompt is read: up to the first of the strings `stop`, which is no part of it. `None` where only
    /// its ids are wanted.
    pub(crate) fn decoding(
        &self,
        prompt: &Prompt,
        params: &GenerationParams,
    ) -> Result<Option<Decoding>, Error> {
        let stop = params.stop.clone();
        let form = params.form.as_ref();
        Ok(Some(match &prompt.reading {
            Reading::Ids => return Ok(None),
            Reading::Reply { reasoning, tools } => {
                let may_call = form.is_none_or(|form| form.calls.is_some());
                let options = ReplyOptions {
                    tools: if may_call { tools.clone() } else { Vec::new() },
                    stop,
                    in_reasoning: *reasoning == Reasoning::Opened,
                };
                let parser = ReplyParser::new(&self.chat()?.template, self.tokenizer()?, options);
                let has_text = form.is_some_and(|form| matches!(form.text, TextForm::Form(_)));
                Decoding::Reply(Box::new(if has_text { parser.calls_first() } else { parser }))
            }
            Reading::Text { shows_special } => {
                let tokenizer = self.tokenizer()?;
                let stream = tokenizer.stream_after(&prompt.ids, !shows_special);
                Decoding::plain(stream, stop)
            }
        }))
    }

    /// A format of answers, ready for [`crate::GenerationParams`]; none where anything will do. A large schema takes some
    /// 100 ms, and the first of a model as long: not for a thread that must not wait.
    ///
    /// # Errors
    /// When it is not valid, cannot be satisfied, is beyond the limits, or there is no tokenizer.
    pub fn form(&self, format: &AnswerFormat) -> Result<Option<AnswerForm>, Error> {
        if let AnswerFormat::Calls { tools, required, single } = format {
            return self.calls(tools, *required, *single);
        }
        let Some(grammar) = format.grammar() else { return Ok(None) };
        let (compiler, compiled) = self.compiled(&grammar)?;
        Ok(Some(AnswerForm { compiler, calls: None, text: TextForm::Form(compiled) }))
    }

    /// The form of calls. Where they are not required, tools of which no grammar can be made are left to the model, unless one
    /// is strict.
    fn calls(&self, tools: &[Value], required: bool, single: bool) -> Result<Option<AnswerForm>, Error> {
        let (template, tokenizer) = (&self.chat()?.template, self.tokenizer()?);
        let Some(style) = CallStyle::of(template, tokenizer).filter(|_| !tools.is_empty()) else {
            return Ok(None);
        };
        let (compiler, compiled) = match self.compiled(&calls::grammar(tools, style, single || !required)) {
            Err(_) if !required && !tools.iter().any(calls::is_strict) => return Ok(None),
            compiled => compiled?,
        };
        let calls = CallsForm { compiled, style, sign: Sign::new(tools, style, tokenizer) };
        let text = if required { TextForm::Nothing } else { TextForm::Anything };
        Ok(Some(AnswerForm { compiler, calls: Some(Arc::new(calls)), text }))
    }

    /// Holds the calls that answers to a prompt may make, where nothing else is asked of them.
    pub(crate) fn with_calls(&self, prompt: &Prompt, mut params: GenerationParams) -> GenerationParams {
        if let (None, Reading::Reply { tools, .. }) = (&params.form, &prompt.reading) {
            params.form = self.calls(tools, false, false).unwrap_or_default();
        }
        params
    }

    fn compiled(&self, grammar: &Grammar) -> Result<(Arc<Compiler>, Arc<Compiled>), Error> {
        let tokenizer = self.tokenizer()?;
        let compiler = self.compiler.get_or_init(|| {
            let chat = self.chat.as_ref().map_or(&[][..], |chat| &chat.stop_ids);
            let ends = [chat, &self.continuation.stop_ids].concat();
            Ok(Arc::new(Compiler::new(TokenTable::new(tokenizer, &ends)?)))
        });
        let compiler = Arc::clone(compiler.as_ref().map_err(GrammarError::clone)?);
        let compiled = compiler.compile(grammar)?;
        Ok((compiler, compiled))
    }

    /// Holds answers to a prompt to a form and to a budget of reasoning, where there is one of them.
    pub(crate) fn constraint(&self, prompt: &Prompt, params: &GenerationParams) -> Option<ConstraintMaker> {
        let thinking = self.thinking(prompt)?.within(params.thinking_budget);
        let has_budget = params.thinking_budget.is_some() && thinking.stage() != Stage::Over;
        let is_held = params.form.is_some() || has_budget;
        is_held.then(|| held::constraint(params.form.clone(), thinking, prompt.is_chat()))
    }

    /// What answers to a prompt may think.
    fn thinking(&self, prompt: &Prompt) -> Option<Thinking> {
        let tokenizer = self.tokenizer.as_ref().ok()?;
        let style = self.chat.as_ref().ok().and_then(|chat| ThinkingStyle::of(&chat.template));
        Some(match (&prompt.reading, style) {
            (Reading::Reply { reasoning, .. }, Some(style)) => match reasoning {
                Reasoning::Nothing => Thinking::free(style, tokenizer),
                Reasoning::Opened => Thinking::opened(style, tokenizer),
                Reasoning::Closed => Thinking::closed(style, tokenizer),
            },
            _ => Thinking::none(tokenizer),
        })
    }

    /// The ids that end an answer to a prompt.
    pub(crate) fn stop_ids(&self, prompt: &Prompt) -> &[u32] {
        match &self.chat {
            Ok(chat) if prompt.is_chat() => &chat.stop_ids,
            _ => &self.continuation.stop_ids,
        }
    }

    /// How the tokens of answers to a prompt are chosen unless somebody says otherwise, with a new seed each time.
    pub(crate) fn sampling(&self, prompt: &Prompt) -> Sampling {
        let sampling = match &self.chat {
            Ok(chat) if prompt.is_chat() => &chat.sampling,
            _ => &self.continuation.sampling,
        };
        Sampling { seed: sampling::new_seed(), ..sampling.clone() }
    }
}

impl Chat {
    pub(crate) fn read(files: &ModelFiles, configuration: &Configuration) -> Result<Self, Error> {
        let template = files.chat_template()?;
        let stop_ids = files.stop_ids(Some(&template))?;
        let sampling = sampling::defaults(template.format(), configuration);
        Ok(Chat { template, stop_ids, sampling })
    }
}
