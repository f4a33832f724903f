//! A request's JSON object, taken apart field by field: every field is used or refused, and all that is wrong is said at
//! once. Fields stay text until they are taken, so that each becomes what it is for and nothing larger on the way.

use std::fmt;
use std::ops::RangeInclusive;

use axum::body::Bytes;
use glimmer::json::{TreeError, room, tree};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::error::ApiError;

/// Fields of an object.
const FIELDS: usize = 256;

/// Fields not yet taken, and what was wrong with those that were. `null` stands for a field that is not there.
#[derive(Debug, Default)]
pub(crate) struct Params {
    /// Before the names of fields of an object within the request: `thinking.`.
    within: String,
    fields: Vec<(String, Bytes)>,
    faults: Vec<ApiError>,
    /// Where it is noted what is asked for, for the table of all fields.
    #[cfg(test)]
    asked: Option<tests::Asked>,
}

impl Params {
    /// Reads an object.
    pub(crate) fn parse(body: Bytes) -> Result<Self, ApiError> {
        let fault = |error: &dyn fmt::Display| {
            ApiError::invalid(format!("the request's body is no JSON: {error}")).coded("invalid_json")
        };
        let text = std::str::from_utf8(&body).map_err(|error| fault(&error))?;
        // Some clients send a file as it is, with its byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(first) = text.trim_ascii_start().chars().next()
            && first != '{'
        {
            serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| fault(&error))?;
            return Err(ApiError::invalid("the request's body is to be a JSON object"));
        }
        let fields = fields(&body, text).map_err(|error| fault(&error))?;
        Ok(Params { fields, ..Params::default() })
    }

    /// Whether the field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(other, text)| other == name && text.as_ref() != b"null")
    }

    /// Whether the field holds a string.
    pub(crate) fn is_string(&self, name: &str) -> bool {
        self.fields.iter().any(|(other, text)| other == name && text.starts_with(b"\""))
    }

    /// What the field holds, which is taken all the same: for those who say back what they were asked.
    pub(crate) fn copy(&self, name: &str) -> Option<Value> {
        let (_, text) = self.fields.iter().find(|(other, _)| other == name)?;
        let text = std::str::from_utf8(text).ok()?;
        tree(text, room(text)).ok().filter(|value| !value.is_null())
    }

    /// The field's text.
    fn take(&mut self, name: &str) -> Option<Bytes> {
        #[cfg(test)]
        self.note(name, tests::Use::Taken);
        let at = self.fields.iter().position(|(other, _)| other == name)?;
        let (_, text) = self.fields.remove(at);
        (text.as_ref() != b"null").then_some(text)
    }

    /// The field as a value that is made of all of its text.
    fn read<T: DeserializeOwned>(&mut self, name: &str, wanted: &str) -> Option<T> {
        let text = self.take(name)?;
        let value = serde_json::from_slice(&text).ok();
        if value.is_none() {
            self.wrong(name, wanted);
        }
        value
    }

    /// Puts a string in the field's place.
    pub(crate) fn put(&mut self, name: &str, text: &str) {
        self.take(name);
        self.fields.push((name.to_owned(), Value::from(text).to_string().into()));
    }

    /// Notes a complaint.
    pub(crate) fn refuse(&mut self, fault: ApiError) {
        self.faults.push(fault);
    }

    /// Notes that a field is of the wrong kind or size.
    pub(crate) fn wrong(&mut self, name: &str, wanted: &str) {
        let name = format!("{}{name}", self.within);
        self.refuse(wrong(&name, wanted));
    }

    /// Notes that a field asks for what this server does not do.
    pub(crate) fn unsupported(&mut self, name: &str, message: impl Into<String>) {
        let name = format!("{}{name}", self.within);
        self.refuse(ApiError::unsupported(&name, message));
    }

    /// A field that must be there.
    pub(crate) fn need(&mut self, name: &str) {
        if !self.has(name) {
            self.refuse(ApiError::parameter(name, format!("`{name}` is missing")));
        }
    }

    /// A string.
    pub(crate) fn string(&mut self, name: &str) -> Option<String> {
        self.read(name, "a string")
    }

    /// One of a few strings.
    pub(crate) fn word(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let given = self.string(name)?;
        let word = words.iter().copied().find(|&word| word == given);
        if word.is_none() {
            self.wrong(name, &format!("one of {}", words.join(", ")));
        }
        word
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.read(name, "true or false")
    }

    /// A number within bounds.
    pub(crate) fn number(&mut self, name: &str, bounds: RangeInclusive<f64>) -> Option<f64> {
        let text = self.take(name)?;
        let number = serde_json::from_slice(&text).ok().filter(|number| bounds.contains(number));
        if number.is_none() {
            self.wrong(name, &format!("a number from {} to {}", bounds.start(), bounds.end()));
        }
        number
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&mut self, name: &str, bounds: RangeInclusive<i64>) -> Option<i64> {
        let text = self.take(name)?;
        // Some clients write 5.0.
        let whole = serde_json::from_slice::<Number>(&text).ok().and_then(|number| {
            let float = || number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e15);
            number.as_i64().or_else(|| float().map(|x| x as i64))
        });
        let whole = whole.filter(|number| bounds.contains(number));
        if whole.is_none() {
            self.wrong(name, &format!("a whole number from {} to {}", bounds.start(), bounds.end()));
        }
        whole
    }

    /// Whatever it holds, as a tree.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        let text = self.take(name)?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        match tree(text, room(text)) {
            Ok(value) => Some(value),
            Err(error) => {
                let name = format!("{}{name}", self.within);
                self.refuse(not_a_tree(&name, &error));
                None
            }
        }
    }

    /// An object, to be taken apart in turn; what is left in it is refused.
    pub(crate) fn object<T>(&mut self, name: &str, mut read: impl FnMut(&mut Params) -> T) -> Option<T> {
        #[cfg(test)]
        self.note_object(name, &mut read);
        let text = self.take(name)?;
        let fields = std::str::from_utf8(&text).ok().and_then(|inner| fields(&text, inner).ok());
        let Some(fields) = fields else {
            self.wrong(name, "an object");
            return None;
        };
        let mut inner = self.within(name);
        inner.fields = fields;
        let value = read(&mut inner);
        inner.refuse_the_rest();
        self.faults.append(&mut inner.faults);
        Some(value)
    }

    /// An object within this one, without its fields.
    fn within(&self, name: &str) -> Params {
        Params {
            within: format!("{}{name}.", self.within),
            #[cfg(test)]
            asked: self.asked.clone(),
            ..Params::default()
        }
    }

    /// A list, element by element. Its elements together are not much larger than its text; the first that `read` refuses
    /// ends it.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        read: impl FnMut(usize, &str) -> Result<T, ApiError>,
    ) -> Option<Vec<T>> {
        let text = self.take(name)?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let most = room(text) / size_of::<T>().max(1);
        let mut fault = None;
        let elements = Elements { read, most, fault: &mut fault };
        match elements.deserialize(&mut serde_json::Deserializer::from_str(text)) {
            Ok(list) => Some(list),
            Err(_) => {
                let name = format!("{}{name}", self.within);
                self.refuse(match fault {
                    Some(Fault::Refused(error)) => *error,
                    Some(Fault::TooMany) => not_a_tree(&name, &TreeError::TooLarge),
                    None => wrong(&name, "a list"),
                });
                None
            }
        }
    }

    /// A list of ids below `vocab`.
    pub(crate) fn ids(&mut self, name: &str, vocab: usize) -> Option<Vec<u32>> {
        let fault = |text: &str| no_id(name, text, vocab);
        self.list(name, |_, text| {
            let id = serde_json::from_str(text).ok().filter(|&id: &u32| (id as usize) < vocab);
            id.ok_or_else(|| fault(text))
        })
    }

    /// A text, ids below `vocab`, or a list of at most `most` of either. None of an empty list.
    pub(crate) fn texts(&mut self, name: &str, most: usize, vocab: usize) -> Vec<TextOrIds> {
        let wanted = format!("a text, a list of token ids, or a list of at most {most} such");
        let Some(text) = self.take(name) else { return Vec::new() };
        let mut inner = Params { fields: vec![(name.to_owned(), text.clone())], ..Params::default() };
        let first = text.trim_ascii_start().first().copied();
        let second = text.get(1..).and_then(|rest| rest.trim_ascii_start().first()).copied();
        let texts = match (first, second) {
            (Some(b'"'), _) => inner.string(name).map(|text| vec![TextOrIds::Text(text)]),
            (Some(b'['), Some(b'0'..=b'9' | b'-')) => {
                inner.ids(name, vocab).map(|ids| vec![TextOrIds::Ids(ids)])
            }
            (Some(b'['), Some(b'"' | b'[')) => inner.list(name, |at, text| {
                let mut one =
                    Params { fields: vec![(name.to_owned(), text.to_owned().into())], ..Params::default() };
                let item = match text.as_bytes().first() {
                    _ if at >= most => None,
                    Some(b'"') => one.string(name).map(TextOrIds::Text),
                    Some(b'[') => one.ids(name, vocab).filter(|ids| !ids.is_empty()).map(TextOrIds::Ids),
                    _ => None,
                };
                let fault = |one: Params| one.faults.into_iter().next();
                item.ok_or_else(|| fault(one).unwrap_or_else(|| wrong(name, &wanted)))
            }),
            _ => None,
        };
        if texts.is_none() && inner.faults.is_empty() {
            self.wrong(name, &wanted);
        }
        self.faults.append(&mut inner.faults);
        texts.unwrap_or_default()
    }

    /// A text or an object that has nothing but `text`, or a list of at most `most` such. None of an empty list.
    pub(crate) fn documents(&mut self, name: &str, most: usize) -> Vec<String> {
        let wanted = format!("a text, an object with a `text`, or a list of at most {most} such");
        let fault = || wrong(name, &wanted);
        let one = |text: &str| {
            let mut one =
                Params { fields: vec![(name.to_owned(), text.to_owned().into())], ..Params::default() };
            let document = match text.as_bytes().first() {
                Some(b'"') => one.string(name),
                Some(b'{') => one.object(name, |inner| inner.string("text")).flatten(),
                _ => None,
            };
            match (document, one.faults.into_iter().next()) {
                (Some(document), None) => Ok(document),
                (_, other) => Err(other.unwrap_or_else(fault)),
            }
        };
        let Some(text) = self.take(name) else { return Vec::new() };
        let mut inner = Params { fields: vec![(name.to_owned(), text.clone())], ..Params::default() };
        let documents = if text.starts_with(b"[") {
            inner.list(name, |at, text| if at < most { one(text) } else { Err(fault()) })
        } else {
            match one(std::str::from_utf8(&text).unwrap_or_default()) {
                Ok(document) => Some(vec![document]),
                Err(error) => {
                    inner.refuse(error);
                    None
                }
            }
        };
        if documents.as_ref().is_some_and(Vec::is_empty) {
            inner.refuse(fault());
        }
        self.faults.append(&mut inner.faults);
        documents.unwrap_or_default()
    }

    /// The text of an object whose fields are fields here, too: some clients send what they do not know themselves twice.
    pub(crate) fn again(&mut self, name: &str) {
        let Some(text) = self.string(name) else { return };
        let Ok(inner) = Params::parse(text.into()) else {
            return self.wrong(name, "the text of a JSON object");
        };
        for (field, _) in &inner.fields {
            if inner.has(field) && !self.has(field) {
                self.refuse(ApiError::unknown(&format!("{name}.{field}")));
            }
        }
    }

    /// A switch of which only one position is implemented.
    pub(crate) fn only(&mut self, name: &str, position: bool) {
        let given = self.boolean(name);
        #[cfg(test)]
        self.note(name, tests::Use::Only(position));
        if given.is_some_and(|other| other != position) {
            self.unsupported(name, format!("`{name}` can only be {position} here"));
        }
    }

    /// A field that changes nothing about the answer, whatever it holds: notes of the client to itself.
    pub(crate) fn ignore(&mut self, name: &str) {
        self.take(name);
        #[cfg(test)]
        self.note(name, tests::Use::Ignored);
    }

    /// A field that asks for something that is not there yet, unless it is empty.
    pub(crate) fn not_yet(&mut self, name: &str) {
        let taken = self.take(name);
        #[cfg(test)]
        self.note(name, tests::Use::Refused);
        let Some(text) = taken else { return };
        let is_empty_list = text.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        let is_empty_list = is_empty_list.is_some_and(|inner| inner.trim_ascii().is_empty());
        if !is_empty_list && text.as_ref() != b"false" {
            self.unsupported(name, format!("`{name}` is not supported yet"));
        }
    }

    /// Whatever is left is a fault.
    fn refuse_the_rest(&mut self) {
        for (name, text) in std::mem::take(&mut self.fields) {
            if text.as_ref() != b"null" {
                self.refuse(ApiError::unknown(&format!("{}{name}", self.within)));
            }
        }
    }

    /// Nothing may be left, and nothing may have been wrong.
    pub(crate) fn done(mut self) -> Result<(), ApiError> {
        #[cfg(test)]
        if self.asked.is_some() {
            return Err(ApiError::internal("what is asked for was noted"));
        }
        self.refuse_the_rest();
        ApiError::first_of(self.faults).map_or(Ok(()), Err)
    }
}

/// A text or the ids of one.
#[derive(Debug, PartialEq)]
pub(crate) enum TextOrIds {
    Text(String),
    Ids(Vec<u32>),
}

/// The complaint about a field of the wrong kind or size.
pub(crate) fn wrong(name: &str, wanted: &str) -> ApiError {
    ApiError::parameter(name, format!("`{name}` is to be {wanted}"))
}

/// The complaint about what does not become a tree.
pub(crate) fn not_a_tree(name: &str, error: &TreeError) -> ApiError {
    match error {
        TreeError::TooLarge => ApiError::too_dense(name),
        TreeError::Syntax(error) => ApiError::parameter(name, format!("`{name}`: {error}")),
    }
}

/// The first of an object's fields that is none of these and not `null`, shortened.
pub(crate) fn unknown_field(object: &Value, known: &[&str]) -> Option<String> {
    let is_unknown = |(name, value): &(&String, &Value)| !known.contains(&name.as_str()) && !value.is_null();
    let (name, _) = object.as_object()?.iter().find(is_unknown)?;
    Some(name.chars().take(40).collect())
}

fn no_id(name: &str, text: &str, vocab: usize) -> ApiError {
    let shown: String = text.chars().take(24).collect();
    ApiError::parameter(name, format!("`{name}`: {shown} is no token id below {vocab}"))
}

/// The fields of the object that `text` is, each as its part of `body`, which holds the text.
fn fields(body: &Bytes, text: &str) -> serde_json::Result<Vec<(String, Bytes)>> {
    struct Fields<'a>(&'a Bytes);

    impl<'de> Visitor<'de> for Fields<'_> {
        type Value = Vec<(String, Bytes)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut fields: Vec<(String, Bytes)> = Vec::new();
            while let Some(name) = entries.next_key::<String>()? {
                let text = self.0.slice_ref(entries.next_value::<&RawValue>()?.get().as_bytes());
                match fields.iter().position(|(other, _)| *other == name) {
                    // As everywhere, the last of a name is meant.
                    Some(at) => fields[at].1 = text,
                    None if fields.len() == FIELDS => {
                        return Err(A::Error::custom(format!("an object has more than {FIELDS} fields")));
                    }
                    None => fields.push((name, text)),
                }
            }
            Ok(fields)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Fields(body))?;
    deserializer.end()?;
    Ok(fields)
}

/// Why a list was not read to its end.
enum Fault {
    Refused(Box<ApiError>),
    TooMany,
}

struct Elements<'a, F> {
    read: F,
    most: usize,
    fault: &'a mut Option<Fault>,
}

impl<'de, T, F: FnMut(usize, &str) -> Result<T, ApiError>> DeserializeSeed<'de> for Elements<'_, F> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T, F: FnMut(usize, &str) -> Result<T, ApiError>> Visitor<'de> for Elements<'_, F> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(text) = items.next_element::<&RawValue>()? {
            let fault = match (self.read)(list.len(), text.get()) {
                Ok(_) if list.len() == self.most => Fault::TooMany,
                Ok(element) => {
                    list.push(element);
                    continue;
                }
                Err(error) => Fault::Refused(Box::new(error)),
            };
            *self.fault = Some(fault);
            return Err(A::Error::custom("refused"));
        }
        Ok(list)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What becomes of a field.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Use {
        Taken,
        Ignored,
        Refused,
        Only(bool),
    }

    /// The fields that were asked for, by their whole names.
    pub(crate) type Asked = Arc<Mutex<BTreeMap<String, Use>>>;

    impl Params {
        /// The same, which notes what is asked for.
        pub(crate) fn noting(mut self, asked: Option<Asked>) -> Self {
            self.asked = asked;
            self
        }

        pub(super) fn note(&self, name: &str, becomes: Use) {
            if let Some(asked) = &self.asked {
                asked.lock().unwrap().insert(format!("{}{name}", self.within), becomes);
            }
        }

        /// Notes what is asked for in an object, whether it is there or not.
        pub(super) fn note_object<T>(&self, name: &str, read: &mut impl FnMut(&mut Params) -> T) {
            if self.asked.is_some() && !self.has(name) {
                read(&mut self.within(name));
            }
        }
    }

    fn params(text: &str) -> Params {
        Params::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn refused(params: Params) -> Value {
        params.done().unwrap_err().json()["error"].clone()
    }

    #[test]
    fn what_is_not_taken_is_refused() {
        let mut p = params(r#"{"a": 1, "b": null, "c": "x"}"#);
        assert_eq!(p.integer("a", 0..=5), Some(1));
        assert_eq!(p.string("c").as_deref(), Some("x"));
        assert!(p.done().is_ok());
        assert_eq!(refused(params(r#"{"top_pp": 1}"#))["param"], "top_pp");
        let mut p = params(r#"{"thinking": {"type": "enabled", "mood": 1}}"#);
        assert_eq!(p.object("thinking", |inner| inner.string("type")), Some(Some("enabled".to_owned())));
        assert_eq!(refused(p)["param"], "thinking.mood");
    }

    #[test]
    fn bounds_and_kinds_hold() {
        let is_refused = |text: &str, take: &dyn Fn(&mut Params)| {
            let mut params = params(text);
            take(&mut params);
            params.done().is_err()
        };
        assert!(is_refused(r#"{"t": 3}"#, &|p| {
            p.number("t", 0.0..=2.0);
        }));
        assert!(is_refused(r#"{"t": "1"}"#, &|p| {
            p.number("t", 0.0..=2.0);
        }));
        assert_eq!(params(r#"{"n": 2.0}"#).integer("n", 0..=9), Some(2));
        assert!(is_refused(r#"{"n": 2.5}"#, &|p| {
            p.integer("n", 0..=9);
        }));
        assert!(Params::parse("[1]".into()).is_err());
        assert!(!is_refused(r#"{"tools": [ ]}"#, &|p| p.not_yet("tools")));
        assert!(is_refused(r#"{"tools": [1]}"#, &|p| p.not_yet("tools")));
        assert!(is_refused(r#"{"s": "\ud800"}"#, &|p| {
            p.string("s");
        }));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let mut p = params(r#"{"tools": [1], "n": 0, "what": 1}"#);
        p.not_yet("tools");
        p.integer("n", 1..=9);
        let error = refused(p);
        assert_eq!((&error["param"], &error["code"]), (&"tools".into(), &"unsupported_parameter".into()));
        let message = error["message"].as_str().unwrap();
        assert!(["`tools`", "`n`", "`what`"].iter().all(|name| message.contains(name)), "{message}");
        // As many as there may be still make a message of 300 characters.
        let many: Vec<String> = (0..200).map(|at| format!("\"an_unknown_field_{at}\": {at}")).collect();
        let error = refused(params(&format!("{{{}}}", many.join(","))));
        let message = error["message"].as_str().unwrap();
        assert!(message.chars().count() <= 300 && message.contains("an_unknown_field_1`"), "{message}");
    }

    #[test]
    fn texts_and_ids() {
        let texts = |text: &str| {
            let mut params = params(&format!("{{\"x\": {text}}}"));
            let texts = params.texts("x", 3, 100);
            params.done().map(|()| texts).map_err(|error| error.json()["error"]["message"].clone())
        };
        let text = |text: &str| TextOrIds::Text(text.to_owned());
        assert_eq!(texts("\"a\\n\"").unwrap(), [text("a\n")]);
        assert_eq!(texts("[ 1, 2 ]").unwrap(), [TextOrIds::Ids(vec![1, 2])]);
        assert_eq!(texts("[ \"a\", [5], \"\"]").unwrap(), [text("a"), TextOrIds::Ids(vec![5]), text("")]);
        for bad in
            ["[]", "{}", "5", "[[]]", "[100]", "[-1]", "[1.5]", "[1, \"a\"]", "[\"a\", 1]", "[null]", "[{}]"]
        {
            assert!(texts(bad).is_err(), "{bad}");
        }
        assert!(texts(r#"["a", "b", "c", "d"]"#).is_err());
        assert!(texts("[1, 100]").unwrap_err().as_str().unwrap().contains("100 is no token id below 100"));
    }

    #[test]
    fn documents_are_texts_and_objects_of_one() {
        let documents = |text: &str| {
            let mut params = params(&format!("{{\"x\": {text}}}"));
            let documents = params.documents("x", 3);
            params.done().map(|()| documents).map_err(|error| error.json()["error"].clone())
        };
        assert_eq!(documents("\"a\\n\"").unwrap(), ["a\n"]);
        assert_eq!(documents("{\"text\": \"a\"}").unwrap(), ["a"]);
        assert_eq!(documents("[ \"a\", { \"text\": \"\", \"b\": null } ]").unwrap(), ["a", ""]);
        for bad in [
            "[]",
            "5",
            "[1]",
            "{}",
            "[{\"text\": 1}]",
            "[[\"a\"]]",
            "[\"a\", null]",
            "[\"1\", \"2\", \"3\", \"4\"]",
        ] {
            assert_eq!(documents(bad).unwrap_err()["code"], "invalid_value", "{bad}");
        }
        let error = documents("[{\"text\": \"a\", \"image\": \"b\"}]").unwrap_err();
        assert_eq!((&error["param"], &error["code"]), (&"x.image".into(), &"unknown_parameter".into()));
    }

    #[test]
    fn what_is_sent_twice_is_there_twice() {
        let refused = |text: &str| {
            let mut params = params(text);
            params.again("kwargs");
            params.ignore("a");
            params.done().err().map(|error| error.json()["error"]["param"].clone())
        };
        assert_eq!(refused(r#"{"kwargs": "{}"}"#), None);
        assert_eq!(refused(r#"{"kwargs": "{\"a\": 1, \"b\": null}", "a": 1}"#), None);
        assert_eq!(refused(r#"{"kwargs": "{\"a\": 1}"}"#), Some("kwargs.a".into()));
        assert_eq!(refused(r#"{"kwargs": "[]"}"#), Some("kwargs".into()));
        assert_eq!(refused(r#"{"kwargs": {}}"#), Some("kwargs".into()));
    }
}
