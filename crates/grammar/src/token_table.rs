//! The bytes of every id of a tokenizer.

use std::sync::Arc;

use glimmer_tokenizer::{TokenId, Tokenizer, TokenizerKind};
use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::GrammarError;
use crate::context::Context;
use crate::error::first_line;

/// Bytes of one token; a longer one is never in a mask.
const TOKEN_BYTES: usize = 1000;
/// Bytes of all tokens: a node of the tree each, of which there can be four million.
const ALL_BYTES: usize = 4_000_000;

/// The bytes of every id of a tokenizer, as a tree, with special tokens apart: no text spells one. Made once for a model
/// and the ids that end its answers.
pub struct TokenTable {
    pub(crate) factory: ParserFactory,
    tokens: Arc<Tokens>,
    /// Tokens of white space alone, which may stand before an answer where they are no part of it.
    pub(crate) blanks: Vec<TokenId>,
    /// Tokens that begin with a blank, and each without it.
    pub(crate) twins: Vec<Twin>,
    /// How to find the tokens of a text's part, where it cannot be encoded by itself.
    pub(crate) context: Option<Context>,
}

/// A token, and those that together are the same without its first blank.
type Twin = (TokenId, Box<[TokenId]>);

/// What llguidance asks of a tokenizer.
struct Tokens {
    trie: TokTrie,
    tokenizer: Tokenizer,
    /// Whether a text's tokens have exactly its bytes: a text's part can be encoded by itself. SentencePiece begins
    /// every text with a blank.
    is_exact: bool,
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        match std::str::from_utf8(bytes) {
            Ok(text) if self.is_exact => self.tokenizer.encode(text),
            _ => self.trie.greedy_tokenize(bytes),
        }
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.is_exact
    }
}

impl TokenTable {
    /// The table of a tokenizer, with the ids that end an answer.
    ///
    /// # Errors
    /// When the tokenizer writes no answers (BERT's), is larger than a table can be, or no id ends an answer.
    pub fn new(tokenizer: &Tokenizer, stop_ids: &[u32]) -> Result<Self, GrammarError> {
        if tokenizer.kind() == TokenizerKind::WordPiece {
            return Err(GrammarError::Tokenizer("it is one of encoders"));
        }
        let words: Vec<Vec<u8>> = (0..tokenizer.len() as TokenId).map(|id| word(tokenizer, id)).collect();
        if words.iter().map(Vec::len).sum::<usize>() > ALL_BYTES {
            return Err(GrammarError::Tokenizer("its tokens are too long"));
        }
        let ends: Vec<TokenId> = stop_ids.iter().copied().filter(|&id| (id as usize) < words.len()).collect();
        let Some(&end) = ends.first() else {
            return Err(GrammarError::Tokenizer("no token of it ends an answer"));
        };
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words).with_eos_tokens(&ends);
        let (blanks, twins) = before_answers(&words, &trie);
        let is_exact = ["{\"a b\": [1, 2]}\n", "a  b\n\n c", " a"]
            .iter()
            .all(|text| trie.decode_raw(&tokenizer.encode(text)) == text.as_bytes());
        let context = (!is_exact).then(|| Context::new(tokenizer, &words));
        let tokens = Arc::new(Tokens { trie, tokenizer: tokenizer.clone(), is_exact });
        let env: TokEnv = Arc::clone(&tokens) as TokEnv;
        let capabilities = InferenceCapabilities { ff_tokens: is_exact, ..InferenceCapabilities::default() };
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, capabilities, &slices)
            .map_err(|error| GrammarError::Failed(first_line(&error)))?;
        factory.quiet();
        Ok(TokenTable { factory, tokens, blanks, twins, context })
    }

    /// How many ids it has.
    #[allow(clippy::len_without_is_empty, reason = "a tokenizer without tokens cannot be loaded")]
    pub fn len(&self) -> usize {
        self.tokens.trie.vocab_size()
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        &self.tokens.tokenizer
    }

    /// Tokens that together are these bytes, if there are such.
    pub fn spell(&self, bytes: &[u8]) -> Option<Vec<TokenId>> {
        let tokens = self.tokens.trie.greedy_tokenize(bytes);
        (self.tokens.trie.decode_raw(&tokens) == bytes).then_some(tokens)
    }

    /// The text of an id; nothing where it is special or no text.
    pub fn bytes(&self, id: TokenId) -> &[u8] {
        let has = (id as usize) < self.len() && !self.tokens.trie.is_special_token(id);
        if has { self.tokens.trie.token(id) } else { &[] }
    }

    /// The ids that end an answer.
    pub fn ends(&self) -> &[TokenId] {
        self.tokens.trie.eos_tokens()
    }

    /// Whether a text's part can be encoded by itself.
    pub(crate) fn is_exact(&self) -> bool {
        self.tokens.is_exact
    }
}

/// The bytes that an id has in the tree: a special token's begin with one that no text has.
fn word(tokenizer: &Tokenizer, id: TokenId) -> Vec<u8> {
    let Some(bytes) = tokenizer.token_bytes(id) else { return Vec::new() };
    if tokenizer.is_special(id) {
        return [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes.as_slice()].concat();
    }
    let is_text = bytes.len() <= TOKEN_BYTES && !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER);
    if is_text { bytes } else { Vec::new() }
}

/// What may stand before an answer that is read without the white space around it: tokens of at most two blanks and line
/// breaks, and tokens of which a blank is the first character.
fn before_answers(words: &[Vec<u8>], trie: &TokTrie) -> (Vec<TokenId>, Vec<Twin>) {
    let numbered = || (0..).zip(words);
    let is_blank = |word: &Vec<u8>| (1..=2).contains(&word.len()) && word.iter().all(|b| b" \n".contains(b));
    let blanks = numbered().filter(|(_, word)| is_blank(word)).map(|(id, _)| id).collect();
    let twin = |(id, word): (TokenId, &Vec<u8>)| {
        let rest = word.strip_prefix(b" ").filter(|rest| !rest.is_empty())?;
        let tokens = trie.greedy_tokenize(rest);
        (trie.decode_raw(&tokens) == rest).then(|| (id, tokens.into()))
    };
    (blanks, numbered().filter_map(twin).collect())
}
