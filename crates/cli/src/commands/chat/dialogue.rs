//! The conversation as it stands: what was said, what may be taken back, how it is stored.

use std::path::Path;

use anyhow::{Context, ensure};
use glimmer::{Conversation, Message, Reply, Role, ToolCall};
use serde_json::{Map, Value, json};

/// A conversation. Between two questions it ends with an answer; while one is being answered with a question, or with
/// the results of the tools that the model called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialogue {
    /// The standing instruction.
    pub(crate) system: Option<String>,
    /// What the model may call.
    pub(crate) tools: Vec<Value>,
    /// What the next question shows: parts of its message.
    shown: Vec<Value>,
    messages: Vec<Message>,
}

impl Dialogue {
    /// What the chat format renders.
    pub(crate) fn conversation(&self) -> Conversation {
        let system = self.system.iter().map(|text| Message::new(Role::System, text));
        let mut conversation = Conversation::new(system.chain(self.messages.iter().cloned()).collect());
        conversation.tools.clone_from(&self.tools);
        conversation
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Questions asked so far.
    pub(crate) fn rounds(&self) -> usize {
        self.messages.iter().filter(|message| message.role == Role::User).count()
    }

    /// The last question and what followed it.
    pub(crate) fn last_round(&self) -> &[Message] {
        let last = self.messages.iter().rposition(|message| message.role == Role::User);
        &self.messages[last.unwrap_or(0)..]
    }

    /// Shows a picture with the next question: a part of its message.
    pub(crate) fn show(&mut self, part: Value) {
        self.shown.push(part);
    }

    pub(crate) fn ask(&mut self, question: String) {
        let mut message = Message::new(Role::User, "");
        self.shown.drain(..).for_each(|part| message.show_part(part));
        message.say(&question);
        self.messages.push(message);
    }

    pub(crate) fn answer(&mut self, reply: Reply) {
        self.messages.push(reply.into());
    }

    /// What a tool came to.
    pub(crate) fn observe(&mut self, result: String) {
        self.messages.push(Message::new(Role::Observation, result));
    }

    /// The calls whose results are still to come, first call first.
    pub(crate) fn awaited(&self) -> &[ToolCall] {
        let results = self.messages.iter().rev().take_while(|m| m.role == Role::Observation).count();
        let last = self.messages.iter().rev().nth(results);
        last.and_then(|last| last.tool_calls.get(results..)).unwrap_or_default()
    }

    /// Takes the last question and everything after it back, and answers it. None when nothing was asked.
    pub(crate) fn undo(&mut self) -> Option<String> {
        let at = self.messages.iter().rposition(|message| message.role == Role::User)?;
        self.messages.drain(at..).next().map(|question| question.content)
    }

    /// Takes the last answer back. False when there is none.
    pub(crate) fn retract_answer(&mut self) -> bool {
        let Some(at) = self.messages.iter().rposition(|message| message.role == Role::User) else {
            return false;
        };
        let answered = self.messages.len() > at + 1;
        self.messages.truncate(at + 1);
        answered
    }

    /// Drops the oldest question and what belongs to it. False when only the last round is left.
    pub(crate) fn forget_oldest(&mut self) -> bool {
        let mut questions = self.messages.iter().enumerate().filter(|(_, m)| m.role == Role::User);
        let Some((second, _)) = questions.nth(1) else { return false };
        self.messages.drain(..second);
        true
    }

    pub(crate) fn clear(&mut self) {
        self.messages.clear();
        self.shown.clear();
    }

    /// As `glimmer template` and the OpenAI API read it.
    pub(crate) fn to_json(&self, model: &str) -> Value {
        let mut fields = Map::from_iter([("model".to_owned(), model.into())]);
        if let Value::Object(conversation) = json!(self.conversation()) {
            fields.extend(conversation);
        }
        Value::Object(fields)
    }

    /// Reads what [`Dialogue::to_json`] wrote, or any list of messages in that shape.
    pub(crate) fn from_json(text: &str, path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let conversation: Conversation = serde_json::from_str(text).with_context(name)?;
        let mut dialogue = Dialogue { tools: conversation.tools, ..Dialogue::default() };
        for message in conversation.messages {
            if message.role == Role::System && dialogue.messages.is_empty() && dialogue.system.is_none() {
                dialogue.system = Some(message.content);
            } else {
                dialogue.messages.push(message);
            }
        }
        let last = dialogue.messages.last().map(|message| message.role);
        ensure!(
            matches!(last, None | Some(Role::Assistant)),
            "{}: the last message is not an answer, so there is nothing to go on from",
            path.display()
        );
        Ok(dialogue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Reply {
        Reply { text: text.to_owned(), ..Reply::default() }
    }

    fn texts(dialogue: &Dialogue) -> Vec<String> {
        dialogue.conversation().messages.into_iter().map(|message| message.content).collect()
    }

    fn two_rounds() -> Dialogue {
        let mut dialogue = Dialogue { system: Some("be brief".to_owned()), ..Dialogue::default() };
        dialogue.ask("one".to_owned());
        dialogue.answer(said("1"));
        dialogue.ask("two".to_owned());
        dialogue.answer(said("2"));
        dialogue
    }

    #[test]
    fn rounds_are_taken_back_and_forgotten_whole() {
        let mut dialogue = two_rounds();
        assert!(dialogue.retract_answer());
        assert_eq!(texts(&dialogue), ["be brief", "one", "1", "two"]);
        assert!(!dialogue.retract_answer());
        assert_eq!(dialogue.undo().as_deref(), Some("two"));
        assert_eq!(dialogue.undo().as_deref(), Some("one"));
        assert_eq!((dialogue.undo(), texts(&dialogue)), (None, vec!["be brief".to_owned()]));

        let mut dialogue = two_rounds();
        assert!(dialogue.forget_oldest());
        assert_eq!(texts(&dialogue), ["be brief", "two", "2"]);
        assert!(!dialogue.forget_oldest());
    }

    #[test]
    fn a_picture_is_shown_with_the_next_question() {
        let mut dialogue = two_rounds();
        dialogue.show(json!({"type": "image_url", "image_url": {"url": "a.png"}}));
        dialogue.ask("what?".to_owned());
        dialogue.answer(said("3"));
        dialogue.ask("sure?".to_owned());
        let shown: Vec<usize> =
            dialogue.conversation().messages.iter().map(|message| message.sights().count()).collect();
        assert_eq!(shown, [0, 0, 0, 0, 0, 1, 0, 0]);
        dialogue.answer(said("4"));
        let stored = dialogue.to_json("demo").to_string();
        let read = Dialogue::from_json(&stored, Path::new("saved.json")).unwrap();
        assert_eq!(read.conversation(), dialogue.conversation());
    }

    #[test]
    fn results_of_tools_are_asked_for_in_order_and_belong_to_the_round() {
        let mut dialogue = two_rounds();
        dialogue.ask("three".to_owned());
        let call = |name: &str| ToolCall { id: None, name: name.to_owned(), arguments: "{}".into() };
        dialogue.answer(Reply { tool_calls: vec![call("a"), call("b")], ..Reply::default() });
        assert_eq!(dialogue.awaited(), [call("a"), call("b")]);
        dialogue.observe("A".to_owned());
        assert_eq!(dialogue.awaited(), [call("b")]);
        dialogue.observe("B".to_owned());
        assert!(dialogue.awaited().is_empty());
        dialogue.answer(said("3"));
        assert!(dialogue.awaited().is_empty());
        assert_eq!(dialogue.undo().as_deref(), Some("three"));
        assert_eq!(dialogue.rounds(), 2);
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let mut dialogue = two_rounds();
        dialogue.tools = vec![json!({"type": "function", "function": {"name": "a", "parameters": {}}})];
        dialogue.ask("三".to_owned());
        let call = ToolCall { id: None, name: "a".to_owned(), arguments: r#"{"x": 1}"#.into() };
        dialogue.answer(Reply { tool_calls: vec![call], ..Reply::default() });
        dialogue.observe("ok".to_owned());
        dialogue.answer(Reply { reasoning: "hm".to_owned(), ..said("3") });
        let stored = dialogue.to_json("demo").to_string();
        let read = Dialogue::from_json(&stored, Path::new("saved.json")).unwrap();
        assert_eq!(read.conversation(), dialogue.conversation());

        for wrong in ["", "{", "7", r#"{"messages": [{"role": "user", "content": "?"}]}"#] {
            let error = Dialogue::from_json(wrong, Path::new("saved.json")).unwrap_err();
            assert!(error.to_string().contains("saved.json"), "{error:#}");
        }
    }
}
