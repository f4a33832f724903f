//! A rendered prompt: pieces that remember where they came from, and the ids that they become.
//!
//! Two roads lead from a prompt to ids. The official one renders everything to one text and tokenises that, so
//! that a person who types `<|assistant|>` speaks with the model's voice. Ours takes special tokens from the
//! format alone and encodes everything a person wrote as plain text; whatever spells no special token comes out
//! with the same ids on both roads, because text between two special tokens is always encoded as a whole.

use crate::error::ChatError;
use crate::format::Tokenising;
use crate::message::Message;
use crate::python;
use crate::reply::THINK_TAGS;
use crate::sight::{Placed, Seen};
use crate::template::TEMPLATE;
use glimmer_config::Family;
use glimmer_tokenizer::{TokenId, Tokenizer};
use std::borrow::Cow;

/// What stands for a video before its frames are known.
pub(crate) const VIDEO: &str = "<|video|>";
/// What stands for a picture, between the two that it is always between.
pub(crate) const FRAME: [&str; 3] = ["<|begin_of_image|>", "<|image|>", "<|end_of_image|>"];

/// A piece of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A special token that the format needs, by its spelling.
    Special(Cow<'static, str>),
    /// A special token that the model's tokenizer class adds by itself: not part of the prompt's text.
    Affix(&'static str),
    /// Text of the format's own. Spellings of special tokens in it are meant.
    Trusted(Cow<'static, str>),
    /// Text that came from outside: messages, tool definitions, tool results. Never a special token.
    User(String),
    /// Where the conversation's picture or video of this number stands, and the special tokens that the format has there
    /// before it is known how many rows take their place.
    Picture(usize, Cow<'static, str>),
    /// The text before and after is encoded apart.
    Boundary,
}

/// A prompt in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    segments: Vec<Segment>,
    tokenising: Tokenising,
    format: &'static str,
    ignored: Vec<String>,
}

impl Rendered {
    pub(crate) fn new(prompt: Prompt, format: Family, ignored: Vec<String>) -> Rendered {
        let (tokenising, format) = (Tokenising::of(format), format.name());
        Rendered { segments: prompt.segments, tokenising, format, ignored }
    }

    pub(crate) fn from_template(prompt: Prompt, ignored: Vec<String>) -> Rendered {
        let format = TEMPLATE;
        Rendered { segments: prompt.segments, tokenising: Tokenising::Rendered, format, ignored }
    }

    /// What the conversation holds and the prompt does not show: `tools`, `documents`, further variables. The model's own
    /// code leaves these out without a word.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// The prompt, if it shows all that the conversation holds.
    ///
    /// # Errors
    /// [`ChatError::Ignored`] names what it does not.
    pub fn complete(self) -> Result<Rendered, ChatError> {
        if self.ignored.is_empty() {
            return Ok(self);
        }
        let what = self.ignored.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(ChatError::Ignored { format: self.format, what })
    }

    /// The pieces, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The prompt's text, as the model's own code renders it.
    pub fn prompt(&self) -> String {
        self.segments
            .iter()
            .map(|segment| match segment {
                Segment::Special(text) | Segment::Trusted(text) | Segment::Picture(_, text) => text,
                Segment::User(text) => text.as_str(),
                Segment::Affix(_) | Segment::Boundary => "",
            })
            .collect()
    }

    /// Whether the prompt ends inside the reasoning that it opens: the reply begins there.
    pub fn opens_reasoning(&self) -> bool {
        self.ends_with(THINK_TAGS[0])
    }

    /// Whether the prompt ends where reasoning does: the reply has none.
    pub fn closes_reasoning(&self) -> bool {
        self.ends_with(THINK_TAGS[1])
    }

    /// What a model writes after this prompt to say `message`, where the history of a conversation does not show it as it was
    /// written: the text alone, or where the prompt opens the reasoning, its rest, its end and the text.
    pub fn reply(&self, message: &Message) -> Rendered {
        let mut reply = Prompt::default();
        let [open, close] = THINK_TAGS;
        let content = message.content.as_str();
        if self.opens_reasoning() {
            let (reasoning, text) = match (&message.reasoning, content.rsplit_once(close)) {
                (Some(reasoning), _) => (format!("\n{}\n", python::strip(reasoning)), content),
                (None, Some((before, after))) => (python::strip(before).replacen(open, "", 1), after),
                (None, None) => ("\n".to_owned(), content),
            };
            reply.user(&reasoning);
            reply.trusted(close);
            reply.trusted("\n");
            reply.user(python::strip(text));
        } else {
            reply.user(content);
        }
        Rendered { segments: reply.segments, ignored: Vec::new(), ..*self }
    }

    /// Whether the format's own text ends with a tag, white space aside.
    fn ends_with(&self, tag: &str) -> bool {
        matches!(self.segments.last(), Some(Segment::Trusted(text)) if python::strip(text).ends_with(tag))
    }

    /// The prompt's ids, with special tokens from the format alone. Pictures have the format's tokens for any picture.
    ///
    /// # Errors
    /// [`ChatError::MissingToken`] if the tokenizer lacks a token that the format needs.
    pub fn ids(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, ChatError> {
        self.ids_around(tokenizer, |_, tokens, ids| {
            ids.extend(tokens);
            Ok(())
        })
    }

    /// The same with what the conversation shows in its place: an id for each row of its features, which are the format's
    /// tokens, the middle one again and again. Also where each of them begins.
    ///
    /// # Errors
    /// [`ChatError::MissingToken`], and [`ChatError::Unsupported`] when a video is shown to a format that has no place for
    /// one, or there are others than the conversation has.
    pub fn ids_seeing(
        &self,
        tokenizer: &Tokenizer,
        sights: &[Seen],
    ) -> Result<(Vec<TokenId>, Vec<Placed>), ChatError> {
        let mut placed = Vec::new();
        let video = tokenizer.special_id(VIDEO);
        let ids = self.ids_around(tokenizer, |sight, tokens, ids| {
            let mut place = |group, tokens: &[TokenId], rows: usize, ids: &mut Vec<TokenId>| {
                placed.push(Placed { first: ids.len(), sight, group });
                ids.extend((0..rows).map(|row| match row {
                    0 => tokens[0],
                    row if row + 1 == rows => tokens[tokens.len() - 1],
                    _ => tokens[tokens.len() / 2],
                }));
            };
            match sights.get(sight) {
                Some(Seen::Picture(rows)) if video != Some(tokens[0]) => place(0, &tokens, *rows, ids),
                Some(Seen::Video(groups)) if video == Some(tokens[0]) => {
                    let [begin, image, end] = FRAME;
                    let image = [self.special_id(image, tokenizer)?];
                    for (group, (rows, time)) in groups.iter().enumerate() {
                        ids.push(self.special_id(begin, tokenizer)?);
                        place(group, &image, *rows, ids);
                        ids.push(self.special_id(end, tokenizer)?);
                        ids.extend(tokenizer.encode(time));
                    }
                }
                _ => return Err(self.cannot("was given other pictures or videos than the conversation has")),
            }
            Ok(())
        })?;
        let shown = placed.iter().filter(|placed| placed.group == 0).count();
        if shown != sights.len() {
            return Err(self.cannot("does not show the model all pictures"));
        }
        Ok((ids, placed))
    }

    fn cannot(&self, what: &str) -> ChatError {
        ChatError::Unsupported { format: self.format, what: what.to_owned() }
    }

    /// The ids, with those of a picture or a video as `show` has them: it is given its number and the format's tokens.
    fn ids_around(
        &self,
        tokenizer: &Tokenizer,
        mut show: impl FnMut(usize, Vec<TokenId>, &mut Vec<TokenId>) -> Result<(), ChatError>,
    ) -> Result<Vec<TokenId>, ChatError> {
        let mut ids = Vec::new();
        let mut gap = Gap::default();
        for segment in &self.segments {
            match segment {
                Segment::Special(spelling) => {
                    gap.encode_into(&mut ids, tokenizer);
                    ids.push(self.special_id(spelling, tokenizer)?);
                }
                Segment::Affix(spelling) => {
                    gap.encode_into(&mut ids, tokenizer);
                    ids.push(self.special_id(spelling, tokenizer)?);
                }
                Segment::Trusted(text) => gap.push_trusted(text),
                Segment::User(text) => gap.push_user(text),
                Segment::Picture(number, spelling) => {
                    gap.encode_into(&mut ids, tokenizer);
                    let tokens: Vec<TokenId> =
                        spelled_tokens(spelling, tokenizer).into_iter().map(|(.., id)| id).collect();
                    if tokens.is_empty() {
                        return Err(self.missing(spelling));
                    }
                    show(*number, tokens, &mut ids)?;
                }
                Segment::Boundary => gap.encode_into(&mut ids, tokenizer),
            }
        }
        gap.encode_into(&mut ids, tokenizer);
        Ok(ids)
    }

    /// The prompt's ids exactly as the model's own code makes them, which in most formats takes the spelling of a
    /// special token for that token wherever it stands.
    ///
    /// # Errors
    /// [`ChatError::MissingToken`] if the tokenizer lacks a token that the format needs.
    pub fn ids_parse_special(&self, tokenizer: &Tokenizer) -> Result<Vec<TokenId>, ChatError> {
        if self.tokenising == Tokenising::ByMessage {
            return self.ids(tokenizer);
        }
        let affix = |segment: &Segment| match segment {
            Segment::Affix(spelling) => Some(*spelling),
            _ => None,
        };
        let mut ids = Vec::new();
        for spelling in self.segments.iter().map_while(affix) {
            ids.push(self.special_id(spelling, tokenizer)?);
        }
        ids.extend(tokenizer.encode_parse_special(&self.prompt()));
        for spelling in self.segments.iter().skip_while(|s| affix(s).is_some()).filter_map(affix) {
            ids.push(self.special_id(spelling, tokenizer)?);
        }
        Ok(ids)
    }

    fn special_id(&self, spelling: &str, tokenizer: &Tokenizer) -> Result<TokenId, ChatError> {
        tokenizer.special_id(spelling).ok_or_else(|| self.missing(spelling))
    }

    fn missing(&self, spelling: &str) -> ChatError {
        ChatError::MissingToken { spelling: spelling.to_owned(), format: self.format }
    }
}

/// The pieces of a prompt as a format writes them.
#[derive(Debug, Default)]
pub(crate) struct Prompt {
    segments: Vec<Segment>,
}

impl Prompt {
    pub(crate) fn special(&mut self, spelling: &'static str) {
        self.segments.push(Segment::Special(Cow::Borrowed(spelling)));
    }

    pub(crate) fn affix(&mut self, spelling: &'static str) {
        self.segments.push(Segment::Affix(spelling));
    }

    pub(crate) fn trusted(&mut self, text: impl Into<Cow<'static, str>>) {
        let text = text.into();
        match self.segments.last_mut() {
            _ if text.is_empty() => {}
            Some(Segment::Trusted(before)) => before.to_mut().push_str(&text),
            _ => self.segments.push(Segment::Trusted(text)),
        }
    }

    pub(crate) fn user(&mut self, text: &str) {
        match self.segments.last_mut() {
            _ if text.is_empty() => {}
            Some(Segment::User(before)) => before.push_str(text),
            _ => self.segments.push(Segment::User(text.to_owned())),
        }
    }

    pub(crate) fn picture(&mut self, number: usize, spelling: impl Into<Cow<'static, str>>) {
        self.segments.push(Segment::Picture(number, spelling.into()));
    }

    pub(crate) fn boundary(&mut self) {
        self.segments.push(Segment::Boundary);
    }
}

/// The text between two special tokens, which is encoded as a whole so that merges run across its pieces.
#[derive(Default)]
struct Gap {
    text: String,
    /// Byte ranges of the format's own text, apart from one another.
    trusted: Vec<std::ops::Range<usize>>,
}

impl Gap {
    fn push_trusted(&mut self, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        match self.trusted.last_mut() {
            Some(last) if last.end == start => last.end = self.text.len(),
            _ => self.trusted.push(start..self.text.len()),
        }
    }

    fn push_user(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Encodes the gap, with the special tokens that the format's own text spells, and empties it.
    fn encode_into(&mut self, ids: &mut Vec<TokenId>, tokenizer: &Tokenizer) {
        let mut plain_from = 0;
        for range in self.trusted.drain(..) {
            for (start, end, id) in spelled_tokens(&self.text[range.clone()], tokenizer) {
                let (start, end) = (range.start + start, range.start + end);
                if plain_from < start {
                    ids.extend(tokenizer.encode(&self.text[plain_from..start]));
                }
                ids.push(id);
                plain_from = end;
            }
        }
        if plain_from < self.text.len() {
            ids.extend(tokenizer.encode(&self.text[plain_from..]));
        }
        self.text.clear();
    }
}

/// The special tokens that `text` spells, as the tokenizer itself finds them: (start, end, id) in bytes.
fn spelled_tokens(text: &str, tokenizer: &Tokenizer) -> Vec<(usize, usize, TokenId)> {
    let mut found = Vec::new();
    let mut from = 0;
    for id in tokenizer.encode_parse_special(text).into_iter().filter(|id| tokenizer.is_special(*id)) {
        let spelling =
            tokenizer.token_bytes(id).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        if let Some(at) = text[from..].find(&spelling) {
            found.push((from + at, from + at + spelling.len(), id));
            from += at + spelling.len();
        }
    }
    found
}
