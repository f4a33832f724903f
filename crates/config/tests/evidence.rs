//! What tells the generation, and what it says.

#![allow(clippy::unwrap_used, reason = "test code outside a #[test] function")]

use std::path::Path;

use glimmer_config::{Configuration, Decision, Evidence, Family, GgufValues};
use serde_json::{Value, json};

fn tokens(list: &[(&str, u32)]) -> Evidence {
    Evidence::default().with_special_tokens(list.iter().copied())
}

fn family(evidence: &Evidence) -> Option<Family> {
    evidence.decide().map(|decision| decision.family)
}

/// What the files of a directory `model/` say.
fn of_files(config: Value, tokenizer_config: Option<Value>, directory: &str) -> Decision {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(directory);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("config.json"), config.to_string()).unwrap();
    if let Some(config) = tokenizer_config {
        std::fs::write(path.join("tokenizer_config.json"), config.to_string()).unwrap();
    }
    Configuration::read(&path).unwrap().evidence().decide().unwrap()
}

const GUESS: bool = true;
const SURE: bool = false;

#[test]
fn tokens_tell_what_names_do_not() {
    let with = |list: &[(&str, u32)], model_type: &str| Evidence {
        model_type: Some(model_type.to_owned()),
        ..tokens(list)
    };
    let glm4 =
        [("<|endoftext|>", 151_329), ("[gMASK]", 151_331), ("<sop>", 151_333), ("<|observation|>", 151_338)];
    let edge =
        [("<|endoftext|>", 59_246), ("[gMASK]", 59_248), ("<sop>", 59_250), ("<|observation|>", 59_255)];
    let chatglm2 = [("[gMASK]", 64_790), ("sop", 64_792)];
    let chatglm3 = [("[gMASK]", 64_790), ("sop", 64_792), ("<|observation|>", 64_797)];
    let chatglm = [("[gMASK]", 130_001), ("<sop>", 130_004), ("<eop>", 130_005)];
    let experts = [("<arg_key>", 151_352)];
    for (tokens, model_type, family) in [
        (&glm4[..], "chatglm", Family::Glm4),
        (&glm4, "glm", Family::Glm4),
        (&glm4, "glm4", Family::Glm40414),
        (&edge, "glm", Family::GlmEdge),
        (&edge, "chatglm", Family::GlmEdge),
        (&chatglm2, "chatglm", Family::ChatGlm2),
        (&chatglm3, "chatglm", Family::ChatGlm3),
        (&chatglm, "chatglm", Family::ChatGlm6b),
        (&experts, "glm4_moe", Family::Glm45),
        (&experts, "glm4_moe_lite", Family::Glm47),
        (&experts, "glm_moe_dsa", Family::Glm47),
        (&experts, "glm-dsa", Family::Glm47),
        (&experts, "deepseek2", Family::Glm47),
        (&experts, "", Family::Glm45),
    ] {
        let decision = with(tokens, model_type).decide().unwrap();
        assert_eq!(decision, Decision { family, guessed: SURE }, "{model_type} {tokens:?}");
    }
    let vision = Evidence { vision: true, ..with(&glm4, "chatglm") };
    assert_eq!(family(&vision), Some(Family::Glm4v));
    assert_eq!(Evidence::default().decide(), None);
    assert_eq!(with(&[("<s>", 1)], "llama").decide(), None);
}

#[test]
fn files_tell_the_family() {
    let chatglm = |more: Value| {
        let mut config = json!({"architectures": ["ChatGLMModel"], "model_type": "chatglm"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    let glm =
        |vocab: u64| json!({"architectures": ["GlmForCausalLM"], "model_type": "glm", "vocab_size": vocab});
    let glm4 = || json!({"architectures": ["Glm4ForCausalLM"], "model_type": "glm4", "vocab_size": 151_552});
    let named = |name: &str| chatglm(json!({"_name_or_path": name, "padded_vocab_size": 65_024}));
    let class = |name: &str| Some(json!({"tokenizer_class": name}));
    for (config, tokenizer_config, directory, family, guessed) in [
        // By class and configuration alone.
        (chatglm(json!({"position_encoding_2d": true})), None, "x", Family::ChatGlm6b, SURE),
        (chatglm(json!({"inner_hidden_size": 16_384})), None, "glm-4", Family::ChatGlm6b, SURE),
        (chatglm(json!({"padded_vocab_size": 65_024})), None, "x", Family::ChatGlm3, GUESS),
        (json!({"model_type": "chatglm"}), None, "x", Family::ChatGlm3, GUESS),
        (chatglm(json!({"padded_vocab_size": 151_552})), None, "x", Family::Glm4, SURE),
        (chatglm(json!({"layernorm_epsilon": 1.5625e-07})), None, "x", Family::Glm4, SURE),
        (chatglm(json!({})), class("ChatGLM4Tokenizer"), "x", Family::Glm4, SURE),
        (chatglm(json!({"vision_config": {}})), class("ChatGLM4Tokenizer"), "x", Family::Glm4v, SURE),
        (glm(151_552), None, "x", Family::Glm4, SURE),
        (glm(320), None, "x", Family::Glm4, GUESS),
        (glm(59_264), None, "x", Family::GlmEdge, SURE),
        (glm(59_264), None, "glm-4-like", Family::GlmEdge, SURE),
        (glm4(), None, "x", Family::Glm40414, GUESS),
        (json!({"model_type": "glm4_moe"}), None, "x", Family::Glm45, GUESS),
        (json!({"model_type": "glm4_moe_lite"}), None, "x", Family::Glm47, SURE),
        // By name: the model's own first, then the tokenizer's, then the directory's; of a path any part, the last first.
        (named("THUDM/chatglm2-6b-32k"), None, "chatglm3-6b", Family::ChatGlm2, SURE),
        (named("THUDM/codegeex2-6b"), None, "x", Family::CodeGeex2, SURE),
        (named("THUDM/chatglm3-6b"), None, "x", Family::ChatGlm3, SURE),
        (named("codegeex4-all-9b"), None, "x", Family::Glm4, SURE),
        (named("LongCite-9b"), None, "x", Family::Glm4, SURE),
        (named("glm-4v-9b"), None, "x", Family::Glm4v, SURE),
        (named("/data/chatglm2-6b/checkpoint-500"), None, "x", Family::ChatGlm2, SURE),
        (named("./output"), Some(json!({"name_or_path": "THUDM/chatglm2-6b"})), "x", Family::ChatGlm2, SURE),
        (named("./output"), None, "My_ChatGLM2", Family::ChatGlm2, SURE),
        (named("THUDM/chatglm3-6b"), class("ChatGLM4Tokenizer"), "x", Family::Glm4, SURE),
        (glm(65_024), None, "chatglm3-hf", Family::ChatGlm3, SURE),
        (glm4(), None, "GLM-Z1-9B-0414", Family::GlmZ1, SURE),
        (glm4(), None, "GLM-Z1-Rumination-32B-0414", Family::GlmZ1Rumination, SURE),
        (json!({"model_type": "glm4_moe"}), None, "GLM-4.7", Family::Glm47, SURE),
        // A name that the class cannot have says nothing.
        (glm4(), None, "glm-4-9b", Family::Glm40414, GUESS),
        (named("glm-4-9b-0414"), None, "x", Family::ChatGlm3, GUESS),
        (named("chatglm-6b"), None, "x", Family::ChatGlm3, GUESS),
        // By what tokenizer_config.json lists or mentions.
        (
            chatglm(json!({"padded_vocab_size": 65_024})),
            Some(json!({"chat_template": "<|observation|>"})),
            "x",
            Family::ChatGlm3,
            SURE,
        ),
        (
            chatglm(json!({})),
            Some(
                json!({"added_tokens_decoder": {"1": {"content": "<sop>"}, "2": {"content": "<|observation|>"}}}),
            ),
            "x",
            Family::Glm4,
            SURE,
        ),
        (
            glm(300),
            Some(json!({"additional_special_tokens": ["[gMASK]", "<sop>", {"content": "<|observation|>"}],
                "added_tokens_decoder": {"59246": {"content": "<|endoftext|>"}}})),
            "x",
            Family::GlmEdge,
            SURE,
        ),
    ] {
        let found = of_files(config.clone(), tokenizer_config.clone(), directory);
        assert_eq!(found, Decision { family, guessed }, "{config} {tokenizer_config:?} {directory}");
    }
}

#[test]
fn a_ggufs_keys_tell_the_family() {
    let gguf = |architecture: &str, names: &[&str], tokenizer: Option<&str>, vocabulary: u64, file: &str| {
        let values = GgufValues {
            architecture: Some(architecture.to_owned()),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            tokenizer: tokenizer.map(str::to_owned),
            ..GgufValues::default()
        };
        let evidence = Configuration::of_gguf(Path::new(file), values).evidence();
        Evidence { vocabulary: Some(vocabulary), ..evidence }.decide().unwrap()
    };
    let (bpe, pieces) = (Some("gpt2"), Some("llama"));
    for (found, family, guessed) in [
        (gguf("chatglm-6b", &["glm-4"], pieces, 130_528, "x.gguf"), Family::ChatGlm6b, SURE),
        (gguf("chatglm", &["chatglm2", "chatglm3-6b"], pieces, 65_024, "x.gguf"), Family::ChatGlm2, SURE),
        (gguf("chatglm", &["Chatglm3 6b"], pieces, 65_024, "x.gguf"), Family::ChatGlm3, SURE),
        (gguf("chatglm", &["codegeex2-6b"], pieces, 65_024, "x.gguf"), Family::CodeGeex2, SURE),
        (gguf("chatglm", &[], pieces, 65_024, "x.gguf"), Family::ChatGlm3, GUESS),
        (gguf("chatglm", &[], pieces, 65_024, "ChatGLM2-6B-Q4_0.gguf"), Family::ChatGlm2, SURE),
        (gguf("chatglm", &[], bpe, 59_264, "x.gguf"), Family::GlmEdge, SURE),
        (gguf("chatglm", &["GLM Edge 1.5B Chat"], bpe, 300, "x.gguf"), Family::GlmEdge, SURE),
        (gguf("chatglm", &[], bpe, 151_552, "x.gguf"), Family::Glm4, SURE),
        (gguf("chatglm", &[], bpe, 320, "x.gguf"), Family::Glm4, GUESS),
        (gguf("chatglm", &[], None, 320, "x.gguf"), Family::Glm4, GUESS),
        (gguf("glm4", &["GLM-4", "GLM 4 9B 0414"], bpe, 151_552, "x.gguf"), Family::Glm40414, SURE),
        (gguf("glm4", &["GLM-Z1", "GLM Z1 9B 0414"], bpe, 151_552, "x.gguf"), Family::GlmZ1, SURE),
        (gguf("glm4", &[], bpe, 151_552, "x.gguf"), Family::Glm40414, GUESS),
        (gguf("glm4moe", &["GLM-4.6"], bpe, 151_552, "x.gguf"), Family::Glm45, SURE),
        (gguf("deepseek2", &["GLM-4.7-Flash"], bpe, 154_880, "x.gguf"), Family::Glm47, SURE),
    ] {
        assert_eq!(found, Decision { family, guessed });
    }
}

#[test]
fn what_the_user_says_goes_before_everything() {
    let evidence = Evidence {
        asked: Some(Family::ChatGlm2),
        model_type: Some("chatglm".to_owned()),
        names: vec!["chatglm3-6b".to_owned()],
        ..Evidence::default()
    };
    assert_eq!(evidence.decide(), Some(Decision { family: Family::ChatGlm2, guessed: SURE }));
}

#[test]
fn only_a_guess_between_chatglm2_and_3_is_warned_of() {
    let guess = |family| Decision { family, guessed: GUESS };
    assert!(guess(Family::ChatGlm3).warning().unwrap().starts_with("ChatGLM2 and ChatGLM3 both fit"));
    assert_eq!(guess(Family::Glm4).warning(), None);
    assert_eq!(Decision { family: Family::ChatGlm3, guessed: SURE }.warning(), None);
}
