//! Answers that repeat themselves are ended where their last tokens are a pattern often enough, whatever the guesses and the
//! company, and not without being asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use glimmer_engine::{
    Constraint, ConstraintMaker, Finish, RepetitionDetection, Request, Speculation, TokenMask,
};
use support::{OPTIONS, at_rest, engine, hear, ids};

/// Tokens that come one after the other, again and again.
struct Round {
    ids: Vec<u32>,
    at: usize,
}

impl Constraint for Round {
    fn mask(&mut self) -> Result<TokenMask, String> {
        let id = self.ids[self.at % self.ids.len()];
        let mut words = vec![0; 10];
        words[id as usize / 32] |= 1 << (id % 32);
        Ok(TokenMask::Only(words))
    }

    fn accept(&mut self, id: u32) -> Result<(), String> {
        assert_eq!(id, self.ids[self.at % self.ids.len()]);
        self.at += 1;
        Ok(())
    }

    fn forced(&mut self) -> Result<Vec<u32>, String> {
        Ok(Vec::new())
    }
}

fn round(size: u32) -> Option<ConstraintMaker> {
    let ids: Vec<u32> = (0..size).map(|at| 40 + at).collect();
    Some(ConstraintMaker::new(move || Box::new(Round { ids: ids.clone(), at: 0 })))
}

#[test]
fn an_answer_ends_with_its_last_repetition() {
    let engine = engine("chatglm3-6b", OPTIONS);
    let prompt = ids("chatglm3-6b", "gen.input_ids");
    for speculation in [Speculation::Off, Speculation::Auto, Speculation::Always] {
        for (size, wanted, tokens) in [
            (1, (1, 4, 3), Some(3)),
            (3, (1, 4, 3), Some(9)),
            (3, (2, 8, 4), Some(12)),
            // Twice as long is a pattern, too.
            (3, (4, 8, 2), Some(12)),
            (5, (1, 4, 2), None),
            (7, (7, 7, 5), Some(35)),
        ] {
            let (least, most, count) = wanted;
            let request = Request {
                prompt: prompt.clone(),
                max_tokens: 40,
                speculation,
                constraint: round(size),
                repetition_detection: RepetitionDetection::new(least, most, count),
                ..Request::default()
            };
            let expected = tokens.map_or((40, Ok(Finish::Length)), |tokens| (tokens, Ok(Finish::Repetition)));
            for events in engine.answers(request.clone(), 3) {
                let heard = hear(&events);
                assert_eq!((heard.tokens.len(), heard.end), expected, "{size} {wanted:?}");
            }
            let off = hear(&engine.answer(Request { repetition_detection: None, ..request }));
            assert_eq!((off.tokens.len(), off.end), (40, Ok(Finish::Length)));
        }
    }
    at_rest(&engine);
}

#[test]
fn lengths_and_what_was_made_before_count() {
    let engine = engine("chatglm3-6b", OPTIONS);
    let prompt = ids("chatglm3-6b", "gen.input_ids");
    let ask = |request: Request| {
        let repetition_detection = RepetitionDetection::new(1, 4, 3);
        let heard = hear(&engine.answer(Request { repetition_detection, ..request }));
        (heard.tokens.len(), heard.end)
    };
    let request =
        Request { prompt: prompt.clone(), max_tokens: 40, constraint: round(2), ..Request::default() };
    assert_eq!(ask(request.clone()), (6, Ok(Finish::Repetition)));
    assert_eq!(ask(Request { min_tokens: 9, ..request.clone() }), (9, Ok(Finish::Repetition)));
    assert_eq!(ask(Request { max_tokens: 6, ..request.clone() }), (6, Ok(Finish::Length)));
    // Three tokens of it are there.
    let prompt = [prompt, vec![40, 41, 40]].concat();
    assert_eq!(ask(Request { prompt, continued: 3, ..request }), (3, Ok(Finish::Repetition)));
}
