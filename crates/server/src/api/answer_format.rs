//! What an answer must look like, in the words of the OpenAI API, vLLM and llama.cpp.

use glimmer::AnswerFormat;
use glimmer::json::{room, tree};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::http::params::Params;
use crate::models::blocking::blocking;
use crate::models::generation::End;
use crate::models::served::Model;
use crate::record::entry::Entry;

/// A format, and the field that asks for it.
pub(crate) type Asked = (String, AnswerFormat);

/// Takes every field that asks for a format, of which there may be one.
pub(crate) fn take(params: &mut Params) -> Option<Asked> {
    let mut asked = Vec::new();
    asked.extend(response_format(params));
    let structured = params.object("structured_outputs", |inner| {
        let asked = vllm(inner, ["json", "regex", "choice", "grammar"]);
        let any_object = inner.boolean("json_object") == Some(true);
        // What is written between the tokens of JSON is the same for all here.
        inner.only("disable_any_whitespace", false);
        inner.only("disable_fallback", true);
        (asked, any_object)
    });
    if let Some((inner, any_object)) = structured {
        let within = |(name, format)| (format!("structured_outputs.{name}"), format);
        asked.extend(inner.into_iter().map(within));
        asked.extend(any_object.then(|| ("structured_outputs.json_object".to_owned(), AnswerFormat::Json)));
    }
    asked.extend(vllm(params, ["guided_json", "guided_regex", "guided_choice", "guided_grammar"]));
    asked.extend(schema(params, "json_schema", false));
    asked.extend(params.string("grammar").map(|source| ("grammar".to_owned(), AnswerFormat::Gbnf(source))));
    if let [(first, _), (second, _), ..] = asked.as_slice() {
        let message = format!("`{first}` and `{second}` both say what the answer is to be");
        params.refuse(ApiError::parameter(second, message));
    }
    asked.into_iter().next()
}

/// `response_format` of the OpenAI API; with a `schema` beside `json_object`, as other servers have it.
fn response_format(params: &mut Params) -> Option<Asked> {
    let name = |format| ("response_format".to_owned(), format);
    let format = params.object("response_format", |inner| {
        inner.need("type");
        match inner.word("type", &["text", "json_object", "json_schema"])? {
            "json_object" => {
                let schema = schema(inner, "schema", false);
                Some(schema.map_or(AnswerFormat::Json, |(_, schema)| schema))
            }
            "json_schema" => {
                inner.need("json_schema");
                inner.object("json_schema", |inner| {
                    // What it is called, and for what: OpenAI's models read that, GLM's know no place for it.
                    inner.ignore("name");
                    inner.ignore("description");
                    let strict = inner.boolean("strict").unwrap_or(false);
                    inner.need("schema");
                    schema(inner, "schema", strict).map(|(_, schema)| schema)
                })?
            }
            _ => None,
        }
    });
    format.flatten().map(name)
}

/// The four ways of vLLM, by their names.
fn vllm(params: &mut Params, [json, regex, choice, grammar]: [&str; 4]) -> Vec<Asked> {
    let mut asked = Vec::new();
    asked.extend(schema(params, json, false));
    asked.extend(params.string(regex).map(|source| (regex.to_owned(), AnswerFormat::Regex(source))));
    let texts = params.list(choice, |_, text| {
        serde_json::from_str::<String>(text)
            .map_err(|_| ApiError::parameter(choice, format!("`{choice}` is to be a list of texts")))
    });
    asked.extend(texts.map(|texts| (choice.to_owned(), AnswerFormat::Choice(texts))));
    // vLLM takes both notations here, and tells them apart by this sign, too.
    let notation = |source: String| match source.contains("::=") {
        true => AnswerFormat::Gbnf(source),
        false => AnswerFormat::Lark(source),
    };
    asked.extend(params.string(grammar).map(|source| (grammar.to_owned(), notation(source))));
    asked
}

/// A schema, or the text of one.
pub(crate) fn schema(params: &mut Params, name: &str, strict: bool) -> Option<Asked> {
    let schema = match params.value(name)? {
        Value::String(text) => match tree(&text, room(&text)) {
            Ok(schema) => schema,
            Err(_) => {
                params.wrong(name, "a JSON schema");
                return None;
            }
        },
        schema => schema,
    };
    Some((name.to_owned(), AnswerFormat::JsonSchema { schema, strict }))
}

/// Makes the form of an answer, where others do not wait for it.
pub(crate) async fn form(
    entry: &Entry,
    model: &Model,
    asked: Option<Asked>,
) -> Result<Option<glimmer::AnswerForm>, ApiError> {
    let Some((name, format)) = asked else { return Ok(None) };
    let model = model.clone();
    let compile = move || {
        let form = model.engine().text().form(&format);
        form.map_err(|error| ApiError::parameter(&name, format!("`{name}`: {error}")))
    };
    blocking(entry, compile).await
}

/// Shows with an answer what the API's own reason for its end does not tell: that it repeats itself, in vLLM's words, and
/// whether it has its form, where it was not held to all of it while it was made.
pub(crate) fn show_end(choice: &mut Value, end: &End) {
    if end.repeats {
        choice["stop_reason"] = "repetition_detected".into();
    }
    choice["schema_check"] = match &end.check {
        None => return,
        Some(Ok(())) => json!({"valid": true}),
        Some(Err(error)) => json!({"valid": false, "error": error}),
    };
}
