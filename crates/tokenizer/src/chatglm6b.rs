//! ChatGLM-6B's text preparation around SentencePiece, and the tokens its runtime appends.
//!
//! Line breaks, tabs and runs of blanks become user-defined symbols before encoding and turn back after
//! decoding (`SPTokenizer` in the model's `tokenization_chatglm.py`). The first release's file ends at piece
//! 130,000; the rest was appended when it was loaded, and 20,000 image tokens stood in front of every id.

use crate::TokenId;
use crate::model_proto::{ModelProto, Piece, PieceKind};

/// The image tokens in front of the first release's vocabulary.
pub(crate) const FIRST_RELEASE_IMAGE_TOKENS: u32 = 20_000;

const LONGEST_BLANK: usize = 80;
const NEWLINE: &str = "<n>";
const TAB: &str = "<|tab|>";

const CONTROL: [&str; 8] =
    ["[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>", "<ENC>", "<dBLOCK>"];

/// The spellings that the Hugging Face wrapper of this model recognises in text.
pub(crate) const RECOGNISED: [&str; 5] = ["<sop>", "<eop>", "<unk>", "<pad>", "[MASK]"];

/// Whether a model ends before the tokens that the runtime of the first release appended.
pub(crate) fn is_first_release(model: &ModelProto) -> bool {
    !model.pieces.iter().any(|piece| piece.text == "[gMASK]")
}

/// Appends what the runtime of the first release appended: masks, tab, blanks, bytes.
pub(crate) fn complete(model: &mut ModelProto) {
    let piece = |text: String, kind| Piece { text, score: 0.0, kind };
    let blanks = (2..=LONGEST_BLANK).map(blank);
    model.pieces.extend(CONTROL.map(|text| piece(text.into(), PieceKind::Control)));
    model.pieces.push(piece(TAB.into(), PieceKind::UserDefined));
    model.pieces.extend(blanks.map(|text| piece(text, PieceKind::UserDefined)));
    model.pieces.extend((0..=u8::MAX).map(|byte| piece(format!("<0x{byte:02X}>"), PieceKind::Byte)));
    model.byte_fallback = true;
}

/// Spells one of the image tokens in front of the first release's vocabulary.
pub(crate) fn image_token(id: TokenId) -> String {
    format!("<image_{id}>")
}

/// Line breaks, tabs and runs of blanks as the symbols that the vocabulary has for them. A run is cut into
/// eighties from the left; a single blank left over stays.
pub(crate) fn prepare(text: &str) -> String {
    let mut prepared = String::with_capacity(text.len() + text.len() / 4);
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\t', ' ']) {
        prepared.push_str(&rest[..at]);
        rest = &rest[at..];
        let blanks = rest.bytes().take(LONGEST_BLANK).take_while(|byte| *byte == b' ').count();
        match (rest.as_bytes()[0], blanks) {
            (b'\n', _) => prepared.push_str(NEWLINE),
            (b'\t', _) => prepared.push_str(TAB),
            (_, 1) => prepared.push(' '),
            (_, blanks) => prepared.push_str(&blank(blanks)),
        }
        rest = &rest[blanks.max(1)..];
    }
    prepared.push_str(rest);
    prepared
}

/// What the start of decoded text is with respect to the symbols of [`prepare`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    /// This many bytes of the text stand for this.
    Whole(usize, String),
    /// All of the text may be the beginning of one.
    Unfinished,
    /// It does not start with one.
    Not,
}

/// Looks for a symbol at the start of `text`.
pub(crate) fn symbol_at(text: &str) -> Symbol {
    for (symbol, meaning) in [(NEWLINE, "\n"), (TAB, "\t")] {
        if text.starts_with(symbol) {
            return Symbol::Whole(symbol.len(), meaning.into());
        }
        if symbol.starts_with(text) {
            return Symbol::Unfinished;
        }
    }
    const BLANK: &str = "<|blank_";
    let Some(rest) = text.strip_prefix(BLANK) else {
        return if BLANK.starts_with(text) { Symbol::Unfinished } else { Symbol::Not };
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, end) = rest.split_at(digits);
    let length = number.parse().ok().filter(|length| (1..=LONGEST_BLANK).contains(length));
    match length {
        _ if number.starts_with('0') => Symbol::Not,
        None if number.is_empty() && end.is_empty() => Symbol::Unfinished,
        Some(length) if length > 1 && end.starts_with("|>") => {
            Symbol::Whole(BLANK.len() + digits + 2, " ".repeat(length))
        }
        Some(length) if end.is_empty() || length > 1 && end == "|" => Symbol::Unfinished,
        _ => Symbol::Not,
    }
}

fn blank(length: usize) -> String {
    format!("<|blank_{length}|>")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of replacements in `tokenization_chatglm.py`.
    fn by_definition(text: &str) -> String {
        let mut text = text.replace('\n', NEWLINE).replace('\t', TAB);
        for length in (2..=LONGEST_BLANK).rev() {
            text = text.replace(&" ".repeat(length), &blank(length));
        }
        text
    }

    #[test]
    fn prepares_as_the_chain_of_replacements_does() {
        for blanks in 0..400 {
            let text = format!("a{}b\n\t{}", " ".repeat(blanks), " ".repeat(blanks / 3));
            assert_eq!(prepare(&text), by_definition(&text));
        }
    }

    #[test]
    fn finds_symbols_and_their_beginnings() {
        assert_eq!(symbol_at("<n>x"), Symbol::Whole(3, "\n".into()));
        assert_eq!(symbol_at("<|tab|>"), Symbol::Whole(7, "\t".into()));
        assert_eq!(symbol_at("<|blank_12|>"), Symbol::Whole(12, " ".repeat(12)));
        for unfinished in
            ["<", "<n", "<|", "<|t", "<|blank", "<|blank_", "<|blank_1", "<|blank_80", "<|blank_80|"]
        {
            assert_eq!(symbol_at(unfinished), Symbol::Unfinished, "{unfinished}");
        }
        for not in [
            "a",
            "<x",
            "<|blank_81",
            "<|blank_02|>",
            "<|blank_1|",
            "<|blank_1|>",
            "<|blank_x",
            "<|blank_2x",
            "<|blank_|",
        ] {
            assert_eq!(symbol_at(not), Symbol::Not, "{not}");
        }
    }
}
