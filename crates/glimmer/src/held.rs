//! One answer, held to what is asked of it token by token.

use std::sync::Arc;

use glimmer_engine::{Constraint, ConstraintMaker, TokenMask};
use glimmer_grammar::{Beginning, Matcher};

use crate::AnswerForm;
use crate::answer_form::{CallsForm, TextForm};
use crate::calls::{HeldCalls, Seen};
use crate::thinking::{Stage, Thinking};

/// An answer: reasoning, which is followed and may have a budget, then what its form says.
pub(crate) struct Held {
    thinking: Thinking,
    body: Body,
}

/// What follows the reasoning.
enum Body {
    Free,
    Form(HeldForm),
    Calls(HeldCalls),
}

/// Makes what holds each answer to a request, which begins like this.
pub(crate) fn constraint(form: Option<AnswerForm>, thinking: Thinking, is_reply: bool) -> ConstraintMaker {
    ConstraintMaker::new(move || {
        let body = match form.clone() {
            None => Body::Free,
            Some(form) => match (&form.calls, &form.text) {
                (Some(calls), TextForm::Anything) => {
                    let calls = Arc::clone(calls);
                    Body::Calls(HeldCalls::new(form.compiler, calls))
                }
                _ => Body::Form(HeldForm::new(form, is_reply)),
            },
        };
        Box::new(Held { thinking: thinking.clone(), body })
    })
}

impl Constraint for Held {
    fn mask(&mut self) -> Result<TokenMask, String> {
        match (&mut self.body, self.thinking.stage()) {
            (Body::Free, _) | (Body::Calls(_), Stage::Inside) => Ok(TokenMask::All),
            (Body::Calls(calls), _) => calls.mask(),
            (Body::Form(form), Stage::Inside) => Ok(TokenMask::Only(form.thoughts(&self.thinking))),
            (Body::Form(form), _) => {
                let mut mask = form.mask()?;
                if let Some(id) = self.thinking.opening()
                    && let Some(word) = mask.get_mut(id as usize / 32)
                {
                    *word |= 1 << (id % 32);
                }
                Ok(TokenMask::Only(mask))
            }
        }
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        let before = self.thinking.stage();
        let text = self.thinking.take(id);
        let stage = self.thinking.stage();
        match &mut self.body {
            Body::Free => Ok(()),
            Body::Calls(_) if stage == Stage::Inside => Ok(()),
            Body::Calls(calls) => calls.accept(id, &text),
            Body::Form(form) => match (before, stage) {
                (Stage::Inside, Stage::Inside) => Ok(()),
                (Stage::Start, Stage::Inside) => {
                    form.restart();
                    Ok(())
                }
                (Stage::Inside, _) if text.trim_ascii().is_empty() => Ok(()),
                (Stage::Inside, _) => Err("the reasoning ends within a token".to_owned()),
                _ => form.accept(id),
            },
        }
    }

    fn forced(&mut self) -> Result<Vec<u32>, String> {
        Ok(match (&mut self.body, self.thinking.stage()) {
            (_, Stage::Start | Stage::Inside) => self.thinking.forced(),
            (Body::Free, Stage::Over) => Vec::new(),
            (Body::Form(form), Stage::Over) => form.forced(),
            (Body::Calls(calls), Stage::Over) => calls.forced(),
        })
    }
}

/// An answer that is held to its form from its first token: a text's, that of calls, or whichever of both it begins.
struct HeldForm {
    form: AnswerForm,
    is_reply: bool,
    /// What it may still become.
    left: Vec<Way>,
    /// Its text, while that is open.
    text: Vec<u8>,
    has_ended: bool,
}

/// What an answer may become.
struct Way {
    matcher: Matcher,
    is_calls: bool,
}

impl HeldForm {
    fn new(form: AnswerForm, is_reply: bool) -> Self {
        let mut held = HeldForm { form, is_reply, left: Vec::new(), text: Vec::new(), has_ended: false };
        held.restart();
        held
    }

    /// Begins anew.
    fn restart(&mut self) {
        let (compiler, is_reply) = (&self.form.compiler, self.is_reply);
        let way = |compiled, beginning, is_calls| {
            let beginning = if is_reply { beginning } else { Beginning::Exact };
            Way { matcher: compiler.matcher(compiled, beginning), is_calls }
        };
        let calls = self.form.calls.as_deref();
        let calls = calls.map(|calls: &CallsForm| way(&calls.compiled, calls.beginning(), true));
        let text = match &self.form.text {
            TextForm::Form(compiled) => Some(way(compiled, Beginning::Trimmed, false)),
            TextForm::Nothing | TextForm::Anything => None,
        };
        self.left = calls.into_iter().chain(text).collect();
        self.text.clear();
    }

    /// Whatever may come while the model thinks: no end of the answer, and nothing but white space in the token that ends the
    /// reasoning.
    fn thoughts(&self, thinking: &Thinking) -> Vec<u32> {
        let table = self.form.compiler.table();
        let mut mask = vec![u32::MAX; table.len().div_ceil(32)];
        let mut forbid = |id: u32| mask[id as usize / 32] &= !(1 << (id % 32));
        self.form.ends().iter().copied().for_each(&mut forbid);
        let (begun, rest) = thinking.closing();
        if !begun.is_empty() {
            let tells_more = |id: &u32| {
                let rest = table.bytes(*id).strip_prefix(rest);
                rest.is_some_and(|rest| !rest.trim_ascii().is_empty())
            };
            (0..table.len() as u32).filter(tells_more).for_each(forbid);
        }
        mask
    }

    fn mask(&mut self) -> Result<Vec<u32>, String> {
        let mut all = Vec::new();
        for way in &mut self.left {
            let mask = way.matcher.mask().map_err(|error| error.to_string())?;
            all.resize(mask.len(), 0);
            all.iter_mut().zip(mask).for_each(|(word, more): (&mut u32, u32)| *word |= more);
        }
        Ok(all)
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        let mut refusal = None;
        self.left.retain_mut(|way| match way.matcher.accept(id) {
            Ok(()) => true,
            Err(error) => {
                refusal = Some(error.to_string());
                false
            }
        });
        if let (true, Some(refusal)) = (self.left.is_empty(), refusal) {
            return Err(refusal);
        }
        if let (2.., Some(calls)) = (self.left.len(), &self.form.calls) {
            self.text.extend(self.form.compiler.table().bytes(id));
            // What is read as a call is one, and nothing else that begins like it.
            if matches!(calls.sign.look(&self.text), Seen::Call(_)) {
                self.left.retain(|way| way.is_calls);
            }
        }
        self.has_ended = self.form.ends().contains(&id);
        Ok(())
    }

    fn forced(&mut self) -> Vec<u32> {
        match self.left.as_mut_slice() {
            [way] if !self.has_ended && way.matcher.is_complete() => {
                self.form.ends().iter().take(1).copied().collect()
            }
            [way] if !self.has_ended => way.matcher.forced(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use glimmer_chat::reply::{CallStyle, ThinkingStyle};
    use glimmer_grammar::{Compiler, Grammar, TokenTable};
    use glimmer_tokenizer::Tokenizer;
    use serde_json::json;

    use super::*;
    use crate::calls::{self, Sign};

    const STYLE: ThinkingStyle = ThinkingStyle { gap: "\n" };

    /// GLM-4.5's tokenizer, a compiler for it, and the id that ends answers.
    struct Kit {
        tokenizer: Tokenizer,
        compiler: Arc<Compiler>,
        end: u32,
    }

    impl Kit {
        fn new() -> Self {
            let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data/glm45");
            let tokenizer = Tokenizer::from_dir(&data).unwrap();
            let end = tokenizer.special_id("<|user|>").unwrap();
            let compiler = Arc::new(Compiler::new(TokenTable::new(&tokenizer, &[end]).unwrap()));
            Kit { tokenizer, compiler, end }
        }

        fn special(&self, spelling: &str) -> u32 {
            self.tokenizer.special_id(spelling).unwrap()
        }

        fn form(&self, texts: &[&str]) -> AnswerForm {
            let texts = texts.iter().map(|&text| text.to_owned()).collect();
            let compiled = self.compiler.compile(&Grammar::Choice(texts)).unwrap();
            AnswerForm { compiler: Arc::clone(&self.compiler), calls: None, text: TextForm::Form(compiled) }
        }

        fn calls(&self, text: TextForm, style: CallStyle) -> AnswerForm {
            let tools = [json!({"name": "get"}), json!({"name": "put"})];
            let compiled = self.compiler.compile(&calls::grammar(&tools, style, false)).unwrap();
            let sign = Sign::new(&tools, style, &self.tokenizer);
            let calls = Some(Arc::new(CallsForm { compiled, style, sign }));
            AnswerForm { compiler: Arc::clone(&self.compiler), calls, text }
        }

        fn opened(&self) -> Thinking {
            Thinking::opened(STYLE, &self.tokenizer)
        }

        fn free(&self) -> Thinking {
            Thinking::free(STYLE, &self.tokenizer)
        }

        /// A reply that is yes or no.
        fn held(&self, thinking: Thinking) -> Box<dyn Constraint> {
            constraint(Some(self.form(&["yes", "no"])), thinking, true).make()
        }
    }

    fn allows(held: &mut dyn Constraint, id: u32) -> bool {
        let TokenMask::Only(mask) = held.mask().unwrap() else { return true };
        mask[id as usize / 32] >> (id % 32) & 1 == 1
    }

    /// Takes all of these ids, which must be allowed.
    fn take(held: &mut dyn Constraint, ids: &[u32]) {
        for &id in ids {
            assert!(allows(held, id), "{id} of {ids:?}");
            held.accept(id).unwrap();
        }
    }

    /// Takes what is forced, as the engine does, and returns it.
    fn force(held: &mut dyn Constraint) -> Vec<u32> {
        let forced = held.forced().unwrap();
        forced.iter().for_each(|&id| held.accept(id).unwrap());
        forced
    }

    #[test]
    fn a_constraint_sleeps_while_the_model_thinks() {
        let kit = Kit::new();
        for (opened, close) in [(false, None), (true, None), (true, Some("</think>\n\n"))] {
            let mut held = kit.held(if opened { kit.opened() } else { kit.free() });
            if !opened {
                let begun = [kit.tokenizer.encode("\n"), vec![kit.special("<think>")]].concat();
                take(&mut *held, &begun);
            }
            take(&mut *held, &kit.tokenizer.encode("\nIs it? A <b>no</b> < or </thin> a yes\n"));
            assert!(!allows(&mut *held, kit.end), "thoughts are no answer");
            assert!(held.forced().unwrap().is_empty());
            // As a token, or spelt by tokens of text.
            let close =
                close.map_or_else(|| vec![kit.special("</think>")], |text| kit.tokenizer.encode(text));
            take(&mut *held, &close);
            assert!(!allows(&mut *held, kit.tokenizer.encode("maybe")[0]) && !allows(&mut *held, kit.end));
            take(&mut *held, &kit.tokenizer.encode("\n"));
            take(&mut *held, &kit.tokenizer.encode("no"));
            assert_eq!(held.forced(), Ok(vec![kit.end]), "it can only end");
            held.accept(kit.end).unwrap();
            assert!(held.forced().unwrap().is_empty());
        }
    }

    #[test]
    fn a_model_need_not_think_and_cannot_twice() {
        let kit = Kit::new();
        let think = kit.special("<think>");
        let mut may = kit.held(kit.free());
        take(&mut *may, &kit.tokenizer.encode("yes")[..1]);
        assert!(!allows(&mut *may, think));
        for thinking in [Thinking::closed(STYLE, &kit.tokenizer), Thinking::none(&kit.tokenizer)] {
            assert!(!allows(&mut *kit.held(thinking), think));
        }
    }

    /// The closing tag comes when the budget is spent, whatever of it the model has begun to spell, and not again.
    #[test]
    fn a_budget_closes_the_reasoning() {
        let kit = Kit::new();
        let closing = [vec![kit.special("</think>")], kit.tokenizer.encode("\n")].concat();
        let thoughts = kit.tokenizer.encode("So the answer is to be found.");
        for budget in 0..thoughts.len() {
            for form in
                [None, Some(kit.form(&["yes", "no"])), Some(kit.calls(TextForm::Anything, CallStyle::Lines))]
            {
                let is_form = form.as_ref().is_some_and(|form| form.calls.is_none());
                let mut held = constraint(form, kit.opened().within(Some(budget)), true).make();
                for &id in &thoughts[..budget] {
                    assert_eq!(held.forced(), Ok(Vec::new()));
                    take(&mut *held, &[id]);
                }
                assert_eq!(force(&mut *held), closing, "{budget}");
                assert!(held.forced().unwrap().is_empty());
                assert_eq!(allows(&mut *held, thoughts[0]), !is_form);
                take(&mut *held, &kit.tokenizer.encode("yes"));
            }
        }
        for (begun, rest) in [("a </", "think>\n"), ("a </think", ">\n"), ("a <b", "</think>\n")] {
            let begun = kit.tokenizer.encode(begun);
            let mut held = constraint(None, kit.opened().within(Some(begun.len())), true).make();
            take(&mut *held, &begun);
            assert_eq!(force(&mut *held), kit.tokenizer.encode_parse_special(rest));
            assert!(held.forced().unwrap().is_empty());
        }
    }

    /// The tokens before the reasoning count, and a reply that does not think has nothing to be closed.
    #[test]
    fn a_budget_is_for_reasoning_alone() {
        let kit = Kit::new();
        let mut held = constraint(None, kit.free().within(Some(2)), true).make();
        take(&mut *held, &[kit.tokenizer.encode("\n"), vec![kit.special("<think>")]].concat());
        assert_eq!(force(&mut *held)[0], kit.special("</think>"));
        for thinking in [kit.free(), Thinking::closed(STYLE, &kit.tokenizer), Thinking::none(&kit.tokenizer)]
        {
            let mut held = constraint(None, thinking.within(Some(0)), true).make();
            for id in kit.tokenizer.encode("\nHello! I do not think, but <b>write</b>.") {
                assert_eq!((held.mask(), held.forced()), (Ok(TokenMask::All), Ok(Vec::new())));
                held.accept(id).unwrap();
            }
        }
        // Where the prompt left nothing to think, what is thought all the same is closed at once.
        let mut held = constraint(None, Thinking::closed(STYLE, &kit.tokenizer).within(Some(0)), true).make();
        take(&mut *held, &[kit.special("<think>")]);
        assert_eq!(force(&mut *held)[0], kit.special("</think>"));
    }

    /// An answer is calls or a text of the form, whichever it begins, and then nothing else.
    #[test]
    fn calls_or_a_text() {
        let kit = Kit::new();
        let encode = |text: &str| kit.tokenizer.encode_parse_special(text);
        for style in [CallStyle::Lines, CallStyle::Tagged { gap: "\n" }] {
            let is_lines = style == CallStyle::Lines;
            let form = || kit.calls(TextForm::Nothing, style).or(kit.form(&["get it", "get\nnow", "yes"]));
            let start = || constraint(Some(form()), kit.opened(), true).make();
            let text = |held: &mut dyn Constraint, text: &str| {
                take(held, &encode(&format!("get? yes</think>{text}")));
            };
            let mut yes = start();
            text(&mut *yes, "\nyes");
            assert_eq!(yes.forced(), Ok(vec![kit.end]));
            let mut no_call = start();
            text(&mut *no_call, "get it");
            assert_eq!(no_call.forced(), Ok(vec![kit.end]));
            let mut call = start();
            text(&mut *call, if is_lines { "get\n{" } else { "<tool_call>get\n" });
            assert!(!allows(&mut *call, encode(" it")[0]) && !allows(&mut *call, encode("now")[0]));
            take(&mut *call, &encode(if is_lines { "}" } else { "</tool_call>" }));
            assert!(allows(&mut *call, kit.end));
            // Another one, and nothing else.
            take(&mut *call, &encode(if is_lines { "<|assistant|>put\n{}" } else { "\n<tool_call>put" }));
            assert!(!allows(&mut *call, encode("yes")[0]));
        }
    }
}
