//! SentencePiece's `ModelProto`, read from protobuf's wire format with nothing but bounds.
//!
//! Only the fields that encoding and decoding need are kept (`sentencepiece_model.proto`); training options
//! are skipped.

use crate::TokenizerError;

const FORMAT: &str = "SentencePiece model";
/// More pieces than any model has; the count is also bounded by the size of the file.
const PIECES_LIMIT: usize = crate::vocab::ID_LIMIT as usize;

#[derive(Clone, Debug)]
pub(crate) struct ModelProto {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) model_type: ModelType,
    pub(crate) byte_fallback: bool,
    pub(crate) treat_whitespace_as_suffix: bool,
    pub(crate) unk_surface: String,
    pub(crate) precompiled_charsmap: Vec<u8>,
    pub(crate) add_dummy_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) escape_whitespaces: bool,
    pub(crate) has_denormalizer: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) score: f32,
    pub(crate) kind: PieceKind,
}

/// The values are those of the protobuf enumeration and of GGUF's `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PieceKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelType {
    Unigram,
    Bpe,
}

impl PieceKind {
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

impl ModelProto {
    /// A model without pieces and with the defaults of the `.proto` file.
    pub(crate) fn empty() -> Self {
        Self {
            pieces: Vec::new(),
            model_type: ModelType::Unigram,
            byte_fallback: false,
            treat_whitespace_as_suffix: false,
            unk_surface: " \u{2047} ".into(),
            precompiled_charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
            has_denormalizer: false,
        }
    }

    pub(crate) fn parse(file: &[u8]) -> Result<Self, TokenizerError> {
        let mut model = Self::empty();
        let mut specs = [false; 2];
        let mut reader = Reader::new(file, 0);
        while let Some((field, value)) = reader.field()? {
            if let 2 | 3 = field {
                specs[field as usize - 2] = true;
            }
            match (field, value) {
                (1, Value::Bytes(bytes, offset)) => {
                    if model.pieces.len() >= PIECES_LIMIT {
                        return Err(TokenizerError::TooLarge {
                            what: "the number of pieces".into(),
                            size: model.pieces.len() as u64 + 1,
                            limit: PIECES_LIMIT as u64,
                        });
                    }
                    model.pieces.push(parse_piece(bytes, offset)?);
                }
                (2, Value::Bytes(bytes, offset)) => model.parse_trainer_spec(bytes, offset)?,
                (3, Value::Bytes(bytes, offset)) => model.parse_normalizer_spec(bytes, offset)?,
                (5, Value::Bytes(bytes, offset)) => model.parse_denormalizer_spec(bytes, offset)?,
                (1 | 2 | 3 | 5, _) => return Err(reader.wrong_type(field)),
                _ => {}
            }
        }
        // They follow the pieces: a file cut between two pieces would otherwise pass for another kind of
        // model.
        match specs {
            [true, true] => Ok(model),
            [false, _] => Err(reader.error("the file ends before its trainer_spec")),
            [true, false] => Err(reader.error("the file ends before its normalizer_spec")),
        }
    }

    fn parse_trainer_spec(&mut self, bytes: &[u8], offset: usize) -> Result<(), TokenizerError> {
        let mut reader = Reader::new(bytes, offset);
        while let Some((field, value)) = reader.field()? {
            match (field, value) {
                (3, Value::Varint(1)) => self.model_type = ModelType::Unigram,
                (3, Value::Varint(2)) => self.model_type = ModelType::Bpe,
                (3, Value::Varint(other)) => {
                    let component = format!("SentencePiece model_type {other}");
                    return Err(TokenizerError::unsupported(component, "1 (unigram), 2 (BPE)"));
                }
                (24, Value::Varint(flag)) => self.treat_whitespace_as_suffix = flag != 0,
                (35, Value::Varint(flag)) => self.byte_fallback = flag != 0,
                (44, Value::Bytes(text, offset)) => self.unk_surface = string(text, offset)?,
                (3 | 24 | 35 | 44, _) => return Err(reader.wrong_type(field)),
                _ => {}
            }
        }
        Ok(())
    }

    fn parse_normalizer_spec(&mut self, bytes: &[u8], offset: usize) -> Result<(), TokenizerError> {
        let mut reader = Reader::new(bytes, offset);
        while let Some((field, value)) = reader.field()? {
            match (field, value) {
                (2, Value::Bytes(blob, _)) => self.precompiled_charsmap = blob.into(),
                (3, Value::Varint(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Value::Varint(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Value::Varint(flag)) => self.escape_whitespaces = flag != 0,
                (2..=5, _) => return Err(reader.wrong_type(field)),
                _ => {}
            }
        }
        Ok(())
    }

    fn parse_denormalizer_spec(&mut self, bytes: &[u8], offset: usize) -> Result<(), TokenizerError> {
        let mut reader = Reader::new(bytes, offset);
        while let Some((field, value)) = reader.field()? {
            if let (2, Value::Bytes(blob, _)) = (field, value) {
                self.has_denormalizer = !blob.is_empty();
            }
        }
        Ok(())
    }
}

fn parse_piece(bytes: &[u8], offset: usize) -> Result<Piece, TokenizerError> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    let mut reader = Reader::new(bytes, offset);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Value::Bytes(text, offset)) => piece.text = string(text, offset)?,
            (2, Value::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Value::Varint(number)) => {
                let kind = i64::try_from(number).ok().and_then(PieceKind::from_number);
                let what = || TokenizerError::malformed(FORMAT, format!("a piece of type {number}"));
                piece.kind = kind.ok_or_else(what)?;
            }
            (1..=3, _) => return Err(reader.wrong_type(field)),
            _ => {}
        }
    }
    Ok(piece)
}

fn string(bytes: &[u8], offset: usize) -> Result<String, TokenizerError> {
    let text = std::str::from_utf8(bytes).map(str::to_string);
    text.map_err(|_| TokenizerError::malformed(FORMAT, format!("byte {offset}: a string is not UTF-8")))
}

/// Whether a file starts as a serialised `ModelProto` does: with a length-delimited piece that fits.
pub(crate) fn looks_like_model(file: &[u8]) -> bool {
    let mut reader = Reader::new(file, 0);
    matches!(reader.field(), Ok(Some((1, Value::Bytes(..)))))
}

enum Value<'b> {
    Varint(u64),
    Fixed64,
    /// The bytes and their offset in the file.
    Bytes(&'b [u8], usize),
    Fixed32(u32),
}

struct Reader<'b> {
    rest: &'b [u8],
    /// Where `rest` starts in the file.
    offset: usize,
}

impl<'b> Reader<'b> {
    fn new(bytes: &'b [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    /// The next field's number and value; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value<'b>)>, TokenizerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let len = self.varint()?;
                let start = self.offset;
                let len = usize::try_from(len).map_err(|_| self.error("a length is too large"))?;
                Value::Bytes(self.take(len)?, start)
            }
            5 => {
                let bytes = self.take(4)?;
                Value::Fixed32(bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
            }
            _ => return Err(self.error("a field has an unknown wire type")),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, TokenizerError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { break };
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("a number has more than 10 bytes"))
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], TokenizerError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            let what = format!("{len} bytes are announced, {} are left", self.rest.len());
            return Err(self.error(&what));
        };
        self.rest = rest;
        self.offset += len;
        Ok(taken)
    }

    fn error(&self, what: &str) -> TokenizerError {
        TokenizerError::malformed(FORMAT, format!("byte {}: {what}", self.offset))
    }

    fn wrong_type(&self, field: u64) -> TokenizerError {
        self.error(&format!("field {field} has the wrong wire type"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pieces_and_specs() {
        let file = [
            &[0x0A, 10][..],
            &[0x0A, 1, b'a', 0x15, 0, 0, 0x80, 0xBF, 0x18, 4],
            &[0x12, 4, 0x18, 2, 0x98, 0x02],
        ];
        // The trainer spec above is cut short: its last field has no value.
        assert!(ModelProto::parse(&file.concat()).is_err());
        let file = [&file.concat()[..12], &[0x12, 5, 0x18, 2, 0x98, 0x02, 1, 0x1A, 2, 0x18, 0]].concat();
        let model = ModelProto::parse(&file).unwrap();
        assert_eq!(model.pieces[0].text, "a");
        assert_eq!(model.pieces[0].score, -1.0);
        assert_eq!(model.pieces[0].kind, PieceKind::UserDefined);
        assert_eq!(model.model_type, ModelType::Bpe);
        assert!(model.byte_fallback && !model.add_dummy_prefix && model.remove_extra_whitespaces);
    }

    #[test]
    fn lengths_beyond_the_end_are_refused_with_their_offset() {
        let error = ModelProto::parse(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).unwrap_err().to_string();
        assert!(error.contains("byte 6"), "{error}");
        assert!(ModelProto::parse(&[0xFF; 12]).is_err());
        assert!(ModelProto::parse(&[0x0B]).is_err());
    }
}
