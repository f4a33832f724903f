//! What holds for every text and every sequence of ids.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

use std::path::Path;
use std::sync::OnceLock;

use glimmer_tokenizer::{TokenId, Tokenizer};
use proptest::prelude::*;

const NAMES: [&str; 6] = ["chatglm-6b", "chatglm2-6b", "glm4-tiktoken", "glm-edge", "glm45", "bert"];

fn all() -> &'static [Tokenizer] {
    static ALL: OnceLock<Vec<Tokenizer>> = OnceLock::new();
    ALL.get_or_init(|| {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        NAMES.iter().map(|name| Tokenizer::from_dir(&data.join(name)).unwrap()).collect()
    })
}

/// The byte-level tokenizers: tiktoken and both `tokenizer.json`.
fn byte_level() -> &'static [Tokenizer] {
    &all()[2..5]
}

fn text() -> impl Strategy<Value = String> {
    let bits = prop_oneof![
        "[a-zA-Z0-9 ,.'!?]{0,12}",
        "[ \t\r\n\u{a0}\u{3000}\u{85}]{0,90}",
        "[\u{4e00}-\u{9fff}，。！？]{0,12}",
        "\\PC{0,8}",
        Just("<|user|>".to_string()),
        Just("[gMASK]<sop>".to_string()),
        Just("<|blank_7|><n>".to_string()),
        Just("e\u{301}\u{1F468}\u{200D}\u{1F469}".to_string()),
    ];
    prop::collection::vec(bits, 0..6).prop_map(|bits| bits.concat())
}

fn ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![0..3200u32, 0..300u32, Just(u32::MAX)], 0..60)
}

fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut stream = tokenizer.stream();
    let mut texts: Vec<_> = ids.iter().map(|id| stream.push(*id)).collect();
    texts.push(stream.finish());
    texts
}

/// What an answer adds to a prompt's text: decoding both together, less decoding the prompt. `None` where the prompt ends
/// within a character, so that its own text changes with what follows.
fn added(
    tokenizer: &Tokenizer,
    prompt: &[TokenId],
    answer: &[TokenId],
    skip_special: bool,
) -> Option<String> {
    let decode = |ids: &[TokenId]| match skip_special {
        true => tokenizer.decode_skip_special(ids),
        false => tokenizer.decode(ids),
    };
    decode(&[prompt, answer].concat()).strip_prefix(&decode(prompt)).map(str::to_owned)
}

fn streamed_after(
    tokenizer: &Tokenizer,
    prompt: &[TokenId],
    answer: &[TokenId],
    skip_special: bool,
) -> String {
    let mut stream = tokenizer.stream_after(prompt, skip_special);
    let mut text: String = answer.iter().map(|id| stream.push(*id)).collect();
    text += &stream.finish();
    text
}

/// Whole characters, so that a prompt of them holds nothing back.
fn check_continuation(tokenizer: &Tokenizer, prompt: &str, answer: &str) -> Result<(), TestCaseError> {
    let (prefix, suffix) = tokenizer.wrap();
    let (plain, answer) = (tokenizer.encode(prompt), tokenizer.encode(answer));
    for prompt in [plain.clone(), [prefix, &plain, suffix].concat(), Vec::new(), prefix.to_vec()] {
        for skip_special in [false, true] {
            let wanted = added(tokenizer, &prompt, &answer, skip_special);
            if let Some(wanted) = wanted {
                let got = streamed_after(tokenizer, &prompt, &answer, skip_special);
                prop_assert_eq!(got, wanted, "{:?} after {:?}", answer, prompt);
            }
        }
    }
    Ok(())
}

/// Text of every kind after text of every kind, with the published tokenizers.
#[test]
fn published_tokenizers_continue_a_text_as_they_decode_the_whole() {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("GLIMMER_SHARED").map_or(default, Into::into).join("tokenizers");
    let mut checked = 0;
    for entry in std::fs::read_dir(&shared).into_iter().flatten() {
        let Ok(tokenizer) = Tokenizer::from_dir(&entry.unwrap().path()) else { continue };
        checked += 1;
        let texts = [
            "",
            "Hello",
            " wide  world",
            "你好，世界",
            "\u{a0}\t\n",
            "e\u{301}\u{1F468}\u{200D}\u{1F469}",
            "\u{10FFFF}",
        ];
        for prompt in texts {
            for answer in texts {
                check_continuation(&tokenizer, prompt, answer).unwrap();
            }
        }
        // The first blank of an answer is its own.
        if tokenizer.decode(&tokenizer.encode("Hello world")) == "Hello world" {
            let text = tokenizer.encode("Hello world");
            let (prompt, answer) = text.split_at(text.len() - 1);
            let whole = tokenizer.decode(prompt) + &streamed_after(&tokenizer, prompt, answer, true);
            assert_eq!(whole, "Hello world");
        }
    }
    if checked == 0 {
        println!("skipped: ../shared not present");
    }
}

proptest! {
    /// A continuation, streamed, is what decoding prompt and answer together gives beyond decoding the prompt.
    #[test]
    fn continuations_are_what_decoding_the_whole_adds(prompt in text(), answer in text()) {
        for tokenizer in all() {
            check_continuation(tokenizer, &prompt, &answer)?;
        }
    }

    /// The same for ids that no text becomes.
    #[test]
    fn continuations_of_any_ids_are_what_decoding_the_whole_adds(prompt in ids(), answer in ids()) {
        for tokenizer in all() {
            for skip_special in [false, true] {
                // A prompt's text that ends in the middle of a character may turn out as another.
                let Some(wanted) = added(tokenizer, &prompt, &answer, skip_special) else { continue };
                let held = tokenizer.decode(&prompt).ends_with('\u{FFFD}');
                prop_assume!(!held);
                prop_assert_eq!(streamed_after(tokenizer, &prompt, &answer, skip_special), wanted);
            }
        }
    }

    #[test]
    fn byte_level_decoding_is_the_inverse(text in text()) {
        for tokenizer in byte_level() {
            prop_assert_eq!(&tokenizer.decode(&tokenizer.encode(&text)), &text);
            prop_assert_eq!(&tokenizer.decode(&tokenizer.encode_parse_special(&text)), &text);
        }
    }

    #[test]
    fn byte_level_tokens_are_the_bytes_of_the_text(text in text()) {
        for tokenizer in byte_level() {
            let bytes = |ids: Vec<u32>| ids.iter().flat_map(|id| tokenizer.token_bytes(*id).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(bytes(tokenizer.encode(&text)), text.as_bytes());
        }
    }

    /// SentencePiece BPE with an identity normaliser loses nothing but what looks like its own space.
    #[test]
    fn chatglm2_decoding_is_the_inverse(text in text()) {
        prop_assume!(!text.contains('\u{2581}'));
        let chatglm2 = &all()[1];
        prop_assert_eq!(chatglm2.decode(&chatglm2.encode(&text)), text);
    }

    #[test]
    fn plain_encoding_never_yields_a_special_token(text in text()) {
        for tokenizer in &all()[..5] {
            prop_assert!(tokenizer.encode(&text).iter().all(|id| !tokenizer.is_special(*id)));
        }
    }

    #[test]
    fn streams_of_text_are_whole_characters(text in text()) {
        prop_assume!(!text.contains('\u{FFFD}'));
        for tokenizer in all() {
            let ids = tokenizer.encode(&text);
            let texts = stream(tokenizer, &ids);
            prop_assert_eq!(texts.concat(), tokenizer.decode(&ids));
            prop_assert!(texts.iter().all(|text| !text.contains('\u{FFFD}')), "{:?}", texts);
        }
    }

    #[test]
    fn streams_of_any_ids_concatenate_to_the_whole(ids in ids()) {
        for tokenizer in all() {
            prop_assert_eq!(stream(tokenizer, &ids).concat(), tokenizer.decode(&ids));
        }
    }

    /// What a stream has emitted is what decoding the ids so far begins with.
    #[test]
    fn streamed_text_is_final(ids in ids()) {
        for tokenizer in all() {
            let texts = stream(tokenizer, &ids);
            for end in 0..=ids.len() {
                prop_assert!(tokenizer.decode(&ids[..end]).starts_with(&texts[..end].concat()));
            }
        }
    }
}
