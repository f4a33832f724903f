//! What the tests of calls share: a generation's parts, and tokens that are chosen at random.

use std::path::Path;
use std::sync::Arc;

use glimmer_chat::reply::{CallStyle, ReplyOptions, ReplyParser, ReplyPart};
use glimmer_chat::{ChatTemplate, Family};
use glimmer_grammar::{Compiler, TokenTable};
use glimmer_tokenizer::{CHATGLM3_SPECIAL_TOKENS, Tokenizer};
use serde_json::Value;

/// A generation's template, tokenizer and compiler.
pub(super) struct Kit {
    pub(super) family: Family,
    pub(super) template: ChatTemplate,
    pub(super) tokenizer: Tokenizer,
    pub(super) compiler: Arc<Compiler>,
    pub(super) ends: Vec<u32>,
    pub(super) style: CallStyle,
}

impl Kit {
    pub(super) fn new(family: Family) -> Self {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data");
        let tokenizer = match family {
            Family::ChatGlm3 => {
                let file = std::fs::read(data.join("chatglm2-6b/tokenizer.model")).unwrap();
                Tokenizer::from_sentencepiece(&file, CHATGLM3_SPECIAL_TOKENS).unwrap()
            }
            Family::Glm45 | Family::Glm47 => Tokenizer::from_dir(&data.join("glm45")).unwrap(),
            _ => Tokenizer::from_dir(&data.join("glm4-hf")).unwrap(),
        };
        let template = ChatTemplate::native(family);
        let ends = glimmer_chat::stop_ids(Some(family), &tokenizer, &[]);
        let compiler = Arc::new(Compiler::new(TokenTable::new(&tokenizer, &ends).unwrap()));
        let style = CallStyle::of(&template, &tokenizer).unwrap();
        Kit { family, template, tokenizer, compiler, ends, style }
    }

    /// A token that the mask allows; the more are written, the likelier one that ends something.
    pub(super) fn choose(&self, mask: &[u32], dice: &mut Dice, written: usize) -> u32 {
        let is_allowed = |id: &u32| mask[*id as usize / 32] >> (id % 32) & 1 == 1;
        let allowed: Vec<u32> = (0..mask.len() as u32 * 32).filter(is_allowed).collect();
        let closes = |id: &&u32| {
            let bytes = self.compiler.table().bytes(**id);
            bytes.is_empty() || bytes.iter().any(|byte| b"\"'}])<`\n".contains(byte))
        };
        let closing: Vec<&u32> = allowed.iter().filter(closes).collect();
        if !closing.is_empty() && dice.below(100) < 20 + written.min(70) {
            return **dice.pick(&closing);
        }
        *dice.pick(&allowed)
    }

    pub(super) fn parser(&self, tools: &[Value]) -> ReplyParser {
        let options = ReplyOptions { tools: tools.to_vec(), ..ReplyOptions::default() };
        ReplyParser::new(&self.template, &self.tokenizer, options)
    }

    pub(super) fn read(&self, tools: &[Value], ids: &[u32]) -> Vec<ReplyPart> {
        let mut parser = self.parser(tools);
        let mut parts: Vec<_> = ids.iter().flat_map(|&id| parser.push(id)).collect();
        parts.extend(parser.finish_whole());
        parts
    }
}

/// Numbers that are random enough.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    pub(super) fn pick<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }
}
