//! What holds for every text and every sequence of ids.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::sync::OnceLock;

use glimmer_tokenizer::Tokenizer;
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

proptest! {
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
