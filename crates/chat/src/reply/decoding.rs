//! What becomes of an answer's ids: a reply in a chat format, or text as it is.

use super::filters::StopStrings;
use super::{ReplyParser, ReplyPart};
use glimmer_tokenizer::{DecodeStream, TokenId};

/// Turns ids into events, up to a stop string.
#[derive(Debug)]
pub enum Decoding {
    /// The answer in a chat format.
    Reply(Box<ReplyParser>),
    /// Text, up to a stop string: see [`Decoding::plain`].
    Plain(Box<Plain>),
}

/// A text on its way.
#[derive(Debug)]
pub struct Plain {
    stream: DecodeStream,
    stop: StopStrings,
}

impl Decoding {
    /// Text without a chat format, which ends before any of the strings `stop`.
    pub fn plain(stream: DecodeStream, stop: Vec<String>) -> Decoding {
        Decoding::Plain(Box::new(Plain { stream, stop: StopStrings::new(stop) }))
    }

    /// Takes the next id.
    pub fn push(&mut self, id: TokenId) -> Vec<ReplyPart> {
        match self {
            Decoding::Reply(parser) => parser.push(id),
            Decoding::Plain(plain) => vec![ReplyPart::Text(plain.stop.feed(&plain.stream.push(id)))],
        }
    }

    /// The stop string that ended the answer, if one did.
    pub fn stopped(&self) -> Option<&str> {
        match self {
            Decoding::Reply(parser) => parser.stopped(),
            Decoding::Plain(plain) => plain.stop.found(),
        }
    }

    /// What was held back, and the stop string that ended the answer, if one did. `is_whole` says that the model ended
    /// it: see [`ReplyParser::finish_whole`].
    pub fn finish(self, is_whole: bool) -> (Vec<ReplyPart>, Option<String>) {
        match self {
            Decoding::Reply(parser) => parser.end(is_whole),
            Decoding::Plain(plain) => {
                let Plain { stream, mut stop } = *plain;
                let last = stop.feed(&stream.finish());
                let rest = stop.finish();
                (vec![ReplyPart::Text(last), ReplyPart::Text(rest)], stop.found().map(str::to_owned))
            }
        }
    }
}
