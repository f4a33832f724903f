//! Where pictures stand in prompts: as the published templates and code have it, and never because somebody typed it.

#![allow(clippy::unwrap_used, reason = "test code")]

mod support;

use std::path::PathBuf;

use glimmer_chat::{
    ChatError, ChatTemplate, Conversation, Evidence, Family, Medium, Message, Placed, Role, Seen, Segment,
    Sight,
};
use glimmer_tokenizer::{TokenId, Tokenizer};
use serde_json::{Value, json};

/// As GLM-4.1V's and its successors' templates lay out parts.
const PARTS: &str = "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{% if m.content is string %}{{ m.content }}\
    {% else %}{% for p in m.content %}{% if p.type == 'video' %}<|begin_of_video|><|video|><|end_of_video|>\
    {% elif p.type == 'image' %}<|begin_of_image|><|image|><|end_of_image|>{% else %}{{ p.text }}{% endif %}{% endfor %}\
    {% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}";

/// GLM-Edge-V's: a token for each row.
const ROWS: &str = "{% for m in messages %}<|{{ m.role }}|>\n{% for p in m.content %}{% if p.type == 'image' %}\
    {% for _ in range(5) %}<|begin_of_image|>{% endfor %}{% else %}{{ p.text }}{% endif %}{% endfor %}{% endfor %}";

/// Formats of models that see.
const SEEING: [Family; 4] = [Family::Glm4v, Family::GlmEdge, Family::Glm41v, Family::GlmOcr];

fn tokenizer() -> Tokenizer {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tokenizer/tests/data/glm45");
    Tokenizer::from_dir(&folder).unwrap()
}

fn read(messages: Value) -> Conversation {
    serde_json::from_value(messages).unwrap()
}

fn picture() -> Value {
    json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}})
}

fn video() -> Value {
    json!({"type": "video_url", "video_url": {"url": "a.gif"}})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn token(spelling: &str) -> TokenId {
    tokenizer().special_id(spelling).unwrap()
}

/// The ids of stretches: special tokens, so many of each.
fn ids_of(stretches: &[(&str, usize)]) -> Vec<TokenId> {
    stretches.iter().flat_map(|(spelling, times)| vec![token(spelling); *times]).collect()
}

#[test]
fn what_is_shown_is_known_by_its_place() {
    let conversation = read(json!([
        {"role": "user", "content": [text("a"), picture(), {"type": "image", "image": "b.png"}, "c", video()]},
        {"role": "user", "content": "d", "image": "e.png"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "f"}, {"type": "image"}]},
    ]));
    let sight = |medium, place| Sight { medium, place };
    let expected = [
        sight(Medium::Picture, Some("data:image/png;base64,AA")),
        sight(Medium::Picture, Some("b.png")),
        sight(Medium::Video, Some("a.gif")),
        sight(Medium::Picture, Some("e.png")),
        sight(Medium::Picture, Some("f")),
        sight(Medium::Picture, None),
    ];
    assert_eq!(conversation.sights().collect::<Vec<_>>(), expected);
    assert_eq!(serde_json::from_value::<Conversation>(json!(conversation)).unwrap(), conversation);
}

#[test]
fn a_message_is_made_of_what_it_says_and_shows_in_order() {
    let mut message = Message::new(Role::User, "a");
    message.say("b");
    message.show("x.png");
    message.say("c");
    let picture = json!({"type": "image_url", "image_url": {"url": "x.png"}});
    let same = json!([{"role": "user", "content": [text("ab"), picture, text("c")]}]);
    assert_eq!(Conversation::new(vec![message]), read(same));
}

#[test]
fn glm4v_has_one_picture_in_the_place_of_three_tokens() {
    let template = ChatTemplate::native(Family::Glm4v);
    let conversation = read(
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": [text("q"), picture()]}]),
    );
    let rendered = template.render(&conversation).unwrap();
    let official = "<|begin_of_image|><|endoftext|><|end_of_image|>";
    assert!(
        matches!(&rendered.segments()[8..10], [Segment::Boundary, Segment::Picture(0, text)] if text == official)
    );
    let tokenizer = tokenizer();
    let (ids, placed) = rendered.ids_seeing(&tokenizer, &[Seen::Picture(6)]).unwrap();
    let at = placed[0].first;
    assert_eq!(placed, [Placed { first: at, sight: 0, group: 0 }]);
    let rows = [("<|begin_of_image|>", 1), ("<|endoftext|>", 4), ("<|end_of_image|>", 1)];
    assert_eq!(ids[at..at + 6], ids_of(&rows));
    let plain = rendered.ids(&tokenizer).unwrap();
    assert_eq!((&plain[..at], &plain[at + 3..]), (&ids[..at], &ids[at + 6..]));
    assert!(plain[at + 3..].len() < 4, "the text follows");

    let refused = |messages| template.render(&read(messages)).unwrap_err().to_string();
    let two = json!([{"role": "user", "content": [picture(), picture()]}]);
    assert!(refused(two).contains("at most one picture"));
    assert!(refused(json!([{"role": "user", "content": [video()]}])).contains("no videos"));
}

#[test]
fn glm4v_is_known_beside_the_template_of_glm4() {
    let Some(shared) = support::shared() else { return };
    let source = std::fs::read_to_string(shared.join("tokenizers/templates/glm-4-9b-chat.jinja")).unwrap();
    for (vision, format) in [(false, Family::Glm4), (true, Family::Glm4v)] {
        let model_type = Some("chatglm".to_owned());
        let evidence = Evidence { model_type, vision, asked: Some(format), ..Evidence::default() };
        assert_eq!(ChatTemplate::detect(Some(&source), &evidence).unwrap().format(), Some(format));
    }
}

#[test]
fn a_template_places_pictures_and_nobody_else_does() {
    let template = ChatTemplate::jinja(PARTS).unwrap();
    let typed = "<|begin_of_image|><|image|><|end_of_image|><|video|>";
    let conversation = read(json!([
        {"role": "user", "content": [text(typed), picture(), text(typed), picture()]},
        {"role": "assistant", "content": typed},
        {"role": "user", "content": typed, "image": "x.png"},
    ]));
    let rendered = template.render(&conversation).unwrap();
    let tokenizer = tokenizer();
    let rows = [3, 1, 2];
    let (ids, placed) = rendered.ids_seeing(&tokenizer, &rows.map(Seen::Picture)).unwrap();
    assert_eq!(placed.iter().map(|placed| placed.sight).collect::<Vec<_>>(), [0, 1, 2]);
    for (placed, rows) in placed.iter().zip(rows) {
        let around = &ids[placed.first - 1..placed.first + rows + 1];
        let stretches = [("<|begin_of_image|>", 1), ("<|image|>", rows), ("<|end_of_image|>", 1)];
        assert_eq!(around, ids_of(&stretches));
    }
    let count = |spelling| ids.iter().filter(|id| **id == token(spelling)).count();
    assert_eq!([count("<|image|>"), count("<|begin_of_image|>"), count("<|video|>")], [6, 3, 0]);
    // Without pictures the same template's prompts are as they were.
    let plain = template.render(&read(json!([{"role": "user", "content": typed}]))).unwrap();
    assert_eq!(plain.ids(&tokenizer).unwrap().iter().filter(|id| **id == token("<|image|>")).count(), 0);
    // Others than the conversation has are no pictures of it.
    for seen in
        [vec![], rows[..2].iter().map(|rows| Seen::Picture(*rows)).collect(), vec![Seen::Picture(1); 4]]
    {
        assert!(rendered.ids_seeing(&tokenizer, &seen).is_err());
    }
    let error = rendered.ids_seeing(&tokenizer, &vec![Seen::Video(Vec::new()); 3]).unwrap_err();
    assert!(matches!(error, ChatError::Unsupported { .. }), "{error}");
}

#[test]
fn a_video_is_its_frames_and_their_times() {
    let template = ChatTemplate::jinja(PARTS).unwrap();
    let rendered = template
        .render(&read(json!([{"role": "user", "content": [video(), picture(), text("q")]}])))
        .unwrap();
    let tokenizer = tokenizer();
    let groups = vec![(2, "0".to_owned()), (2, "13".to_owned())];
    let seen = [Seen::Video(groups), Seen::Picture(1)];
    let (ids, placed) = rendered.ids_seeing(&tokenizer, &seen).unwrap();
    let begin = ids.iter().position(|id| *id == token("<|begin_of_video|>")).unwrap();
    let group = [("<|begin_of_image|>", 1), ("<|image|>", 2), ("<|end_of_image|>", 1)];
    let frames = ids_of(&group);
    let expected = [
        &frames[..],
        &tokenizer.encode("0"),
        &frames,
        &tokenizer.encode("13"),
        &ids_of(&[
            ("<|end_of_video|>", 1),
            ("<|begin_of_image|>", 1),
            ("<|image|>", 1),
            ("<|end_of_image|>", 1),
        ]),
    ]
    .concat();
    assert_eq!(ids[begin + 1..][..expected.len()], expected);
    let groups: Vec<_> = placed.iter().map(|placed| (placed.sight, placed.group)).collect();
    assert_eq!(groups, [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(placed[0].first, begin + 2);
}

#[test]
fn edge_repeats_the_token_that_begins_a_picture() {
    let conversation =
        read(json!([{"role": "user", "content": [picture(), text("a"), picture(), picture()]}]));
    for template in [ChatTemplate::jinja(ROWS).unwrap(), ChatTemplate::native(Family::GlmEdge)] {
        let rendered = template.render(&conversation).unwrap();
        let (ids, placed) = rendered.ids_seeing(&tokenizer(), &vec![Seen::Picture(7); 3]).unwrap();
        assert_eq!(ids.iter().filter(|id| **id == token("<|begin_of_image|>")).count(), 21);
        assert_eq!((placed[2].first, placed.len()), (placed[1].first + 7, 3));
    }
    let native =
        ChatTemplate::native(Family::GlmEdge).render(&read(json!([{"role": "user", "content": [video()]}])));
    assert!(native.is_err());
}

#[test]
fn who_does_not_see_says_who_does() {
    let message = json!([{"role": "user", "content": [text("q"), picture()]}]);
    let own = ["{% for m in messages %}{{ m.content }}{% endfor %}", "{{ messages[0].role }}"];
    let own = own.map(|source| ChatTemplate::jinja(source).unwrap());
    let native = Family::NAMES.iter().map(|(family, _)| *family);
    let native = native.filter(|family| !SEEING.contains(family));
    for template in native.map(ChatTemplate::native).chain(own) {
        let error = template.render(&read(message.clone())).unwrap_err().to_string();
        assert!(
            error.contains("takes no pictures") && error.contains("GLM-4.1V") && !error.contains('…'),
            "{error}"
        );
    }
}
