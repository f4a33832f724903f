//! What names lead to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use glimmer_catalogue::{Catalogue, Format, HubKind};

#[test]
fn a_model_has_many_names() {
    let catalogue = Catalogue::published();
    for (name, entry, model) in [
        ("glm-edge-chat", "glm-edge-chat", None),
        ("GLM-Edge-Chat", "glm-edge-chat", None),
        ("glm-edge", "glm-edge-chat", None),
        ("glm-edge-1.5b-chat", "glm-edge-chat", Some("glm-edge-1.5b-chat")),
        ("GLM_Edge_4B Chat", "glm-edge-chat", Some("glm-edge-4b-chat")),
        ("glm-edge-chat:1.5b", "glm-edge-chat", Some("glm-edge-1.5b-chat")),
        ("glm-edge-chat:1_5", "glm-edge-chat", Some("glm-edge-1.5b-chat")),
        ("glm-4-9b-chat", "glm4-chat", Some("glm-4-9b-chat")),
        ("glm4-chat", "glm4-chat", Some("glm-4-9b-chat")),
        ("THUDM/glm-4-9b-chat", "glm4-chat", Some("glm-4-9b-chat")),
        ("zai-org/glm-4-9b-chat", "glm4-chat", Some("glm-4-9b-chat")),
        ("thudm/GLM-4-9B-chat-hf", "glm4-chat", Some("glm-4-9b-chat")),
        ("ZhipuAI/glm-4-9b-chat-1m", "glm4-chat-1m", Some("glm-4-9b-chat-1m")),
        ("legraphista/glm-4-9b-chat-GGUF", "glm4-chat", Some("glm-4-9b-chat")),
        ("THUDM/chatglm-6b-int4-qe", "chatglm-6b", Some("chatglm-6b")),
        ("zai-org/GLM-Z1-32B-0414", "glm-z1-0414", Some("glm-z1-32b-0414")),
        ("GLM-4.5-Air", "glm-4.5", Some("glm-4.5-air")),
    ] {
        let member = catalogue.member(name).unwrap();
        let found = (member.entry.name.as_str(), member.model.map(|model| model.name.as_str()));
        assert_eq!(found, (entry, model), "{name}");
    }
}

#[test]
fn a_quantization_stands_behind_a_colon() {
    let catalogue = Catalogue::published();
    for name in
        ["glm-edge-1.5b-chat:Q4_K_M", "glm-edge-chat:1.5b:q4_k_m", "THUDM/glm-edge-1.5b-chat-gguf:Q4_k_m"]
    {
        let member = catalogue.member(name).unwrap();
        assert_eq!(member.quantization, Some("Q4_K_M"), "{name}");
        let published = member.published.unwrap();
        assert_eq!((published.format, published.size.spelt()), (Format::Ggufv2, "1_5"), "{name}");
        assert_eq!(published.file("Q4_K_M").unwrap(), "ggml-model-Q4_K_M.gguf");
        let hubs: Vec<_> = published.repositories.iter().map(|r| (r.hub, r.id.as_str())).collect();
        assert_eq!(
            hubs,
            [
                (HubKind::HuggingFace, "zai-org/glm-edge-1.5b-chat-gguf"),
                (HubKind::ModelScope, "ZhipuAI/glm-edge-1.5b-chat-gguf")
            ]
        );
    }
    // Half precision has a pattern of its own.
    let member = catalogue.member("zai-org/glm-edge-1.5b-chat-gguf:f16").unwrap();
    assert_eq!(member.published.unwrap().file("F16").unwrap(), "glm-edge-1.5B-chat-F16.gguf");
    // To llama.cpp, and to whoever published these, it is one quantization.
    let member = catalogue.member("glm-4-9b-chat:Q4_K_M").unwrap();
    assert_eq!(member.quantization, Some("Q4_K"));
    let member = catalogue.member("chatglm-6b:int4").unwrap();
    assert_eq!(member.published.unwrap().repositories[0].id, "zai-org/chatglm-6b-int4");
    // Without one the model as it was published.
    assert_eq!(catalogue.member("glm-edge-4b-chat").unwrap().published.unwrap().format, Format::Pytorch);
}

#[test]
fn a_miss_says_what_may_have_been_meant() {
    let catalogue = Catalogue::published();
    let error = |name: &str| catalogue.member(name).unwrap_err().to_string();
    assert_eq!(
        error("glm-4-9b-chta"),
        "no model is called glm-4-9b-chta; did you mean glm-4-9b-chat or glm4-9b-chat?; `glimmer list` shows all"
    );
    assert_eq!(error("llama"), "no model is called llama; `glimmer list` shows all");
    assert_eq!(
        error("glm-edge-chat:7b"),
        "glm-edge-chat has no 7b; there are 1.5B, 4B, none, Q4_0, Q4_1, Q4_K, Q4_K_M, Q4_K_S, Q5_0, Q5_1, Q5_K, Q5_K_M \
         and others"
    );
    assert!(error("glm-edge-1.5b-chat:4b").starts_with("glm-edge-1.5b-chat has no 4b; there are none, Q4_0"));
    assert!(error("glm-4-9b:Q4_K_M").starts_with("glm-4-9b has no Q4_K_M; there is none"));
    for name in ["", ":", "a:b:c:d", "/", "\u{1b}[2J\n", &"x".repeat(1 << 20)] {
        let error = error(name);
        assert!(!error.contains(['\n', '\u{1b}']) && error.chars().count() <= 300, "{error}");
    }
    assert!(catalogue.find("nobody/glm-4-9b-chat").is_none());
}
