//! Scores of pairs of texts: `/v1/rerank` as Jina, Cohere, vLLM, llama.cpp and Xinference have it, and vLLM's `/score`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use glimmer::{EncodedPair, ModelKind, Reranker};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::openai::embeddings::TEXTS;
use crate::app::App;
use crate::clock::now;
use crate::error::ApiError;
use crate::http::params::Params;
use crate::http::response;
use crate::models::blocking::blocking;
use crate::models::encoder::Encoder;
use crate::record::entry::Entry;

/// The names that vLLM has for the two sides of pairs.
const SIDES: [(&str, &str); 4] =
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")];

/// Pairs that are to be scored, and how.
struct Pairs {
    model: Option<String>,
    /// As many as there are of `seconds`, or one that goes with all of them.
    firsts: Vec<String>,
    seconds: Vec<String>,
    cut: Cut,
    /// Whether scores go through the model's activation.
    activated: bool,
}

/// How many tokens are read at most; what is longer is cut at its end.
#[derive(Clone, Copy)]
struct Cut {
    pair: usize,
    first: usize,
    second: usize,
}

/// Scores, and what they took.
struct Scores {
    model: String,
    scores: Vec<f32>,
    /// The texts on the second side.
    seconds: Vec<String>,
    tokens: usize,
}

/// `POST /v1/rerank`, also as `/rerank` and `/v2/rerank`.
pub(crate) async fn rerank(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    // Xinference's client, of what it does not know.
    params.again("kwargs");
    let pairs = Pairs::take(&mut params, "query", "documents");
    if pairs.firsts.len() > 1 {
        params.wrong("query", "one text");
    }
    let wanted = Wanted::take(&mut params);
    params.done()?;
    let Scores { model, scores, seconds, tokens } = pairs.score(&app, &entry).await?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Documents of the same score stay in their order.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(wanted.most);
    let result = |index: usize| {
        let document = wanted.documents.then(|| Document { text: &seconds[index] });
        Ranked { index, relevance_score: scores[index].into(), document }
    };
    let value = Ranking {
        id: format!("rerank-{:016x}", app.random()),
        object: "list",
        model: &model,
        results: order.into_iter().map(result).collect(),
        usage: json!({"prompt_tokens": tokens, "total_tokens": tokens}),
        meta: json!({
            "api_version": null,
            "billed_units": null,
            "tokens": wanted.tokens.then(|| json!({"input_tokens": tokens, "output_tokens": 0})),
            "warnings": null,
        }),
    };
    Ok(response::json(StatusCode::OK, &value))
}

/// What is to be shown of a ranking.
struct Wanted {
    /// The best of the documents.
    most: usize,
    /// Their texts.
    documents: bool,
    /// Numbers of tokens in Cohere's place.
    tokens: bool,
}

impl Wanted {
    /// Takes the fields that say so, and those that a vendor's own models know.
    fn take(params: &mut Params) -> Self {
        if params.integer("max_chunks_per_doc", 1..=i64::MAX).is_some_and(|chunks| chunks > 1) {
            params.unsupported(
                "max_chunks_per_doc",
                "`max_chunks_per_doc` can only be 1: long documents are cut",
            );
        }
        if params.value("rank_fields").is_some_and(|fields| fields != json!(["text"])) {
            params.unsupported("rank_fields", "`rank_fields` can only be [\"text\"]");
        }
        params.object("relevant_spans", |spans| {
            if spans.word("mode", &["enabled", "disabled"]) == Some("enabled") {
                spans.unsupported("mode", "`relevant_spans` are not found by models of this kind");
            }
            for name in ["threshold", "max_spans"] {
                spans.ignore(name);
            }
        });
        let most = params.integer("top_n", 0..=i64::from(i32::MAX)).filter(|most| *most > 0);
        Wanted {
            most: most.map_or(usize::MAX, |most| most as usize),
            documents: params.boolean("return_documents").unwrap_or(true),
            tokens: params.boolean("return_len").unwrap_or(true),
        }
    }
}

/// What `POST /v1/rerank` returns.
#[derive(Serialize)]
struct Ranking<'a> {
    id: String,
    object: &'static str,
    model: &'a str,
    /// The best first.
    results: Vec<Ranked<'a>>,
    usage: Value,
    /// Cohere's and Xinference's.
    meta: Value,
}

/// A document's place among those of the request, and its score.
#[derive(Serialize)]
struct Ranked<'a> {
    index: usize,
    /// With all its digits.
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    text: &'a str,
}

/// `POST /score`, also as `/v1/score`.
pub(crate) async fn score(
    State(app): State<Arc<App>>,
    Extension(entry): Extension<Entry>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let given = SIDES.into_iter().find(|(first, second)| params.has(first) && params.has(second));
    let (first, second) = given.unwrap_or(SIDES[0]);
    let pairs = Pairs::take(&mut params, first, second);
    if pairs.firsts.len() > 1 && pairs.firsts.len() != pairs.seconds.len() {
        params.wrong(first, &format!("one text, or as many as `{second}` has"));
    }
    params.done()?;
    let Scores { model, scores, tokens, .. } = pairs.score(&app, &entry).await?;
    let score = |(index, score)| json!({"index": index, "object": "score", "score": f64::from(score)});
    let value = json!({
        "id": format!("score-{:016x}", app.random()),
        "object": "list",
        "created": now(),
        "model": model,
        "data": scores.into_iter().enumerate().map(score).collect::<Vec<Value>>(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(response::json(StatusCode::OK, &value))
}

impl Pairs {
    /// Takes the fields that all these paths have.
    fn take(params: &mut Params, first: &str, second: &str) -> Self {
        params.need(first);
        params.need(second);
        let fewest = Reranker::FEWEST_TOKENS as i64;
        let most = i64::from(i32::MAX);
        // As vLLM has it: -1 is the most that the model reads.
        let pair = params.integer("truncate_prompt_tokens", -1..=most);
        if pair.is_some_and(|pair| (0..fewest).contains(&pair)) {
            params.wrong("truncate_prompt_tokens", &format!("-1 or at least {fewest}"));
        }
        // 0 is no limit.
        let mut limit = |name| params.integer(name, 0..=most).filter(|most| *most > 0);
        let [query, document] = ["max_tokens_per_query", "max_tokens_per_doc"].map(&mut limit);
        let or_all = |limit: Option<i64>| limit.map_or(usize::MAX, |limit| limit as usize);
        let cut = Cut {
            pair: or_all(pair.filter(|pair| *pair > 0)),
            first: or_all(query),
            second: or_all(document),
        };
        if params.word("truncation_side", &["left", "right"]) == Some("left") {
            params.unsupported("truncation_side", "`truncation_side` can only be right here");
        }
        if params.integer("priority", i64::MIN..=i64::MAX).is_some_and(|priority| priority != 0) {
            params.unsupported("priority", "`priority` can only be 0 here");
        }
        // Notes of the client to itself.
        for name in ["user", "request_id"] {
            params.ignore(name);
        }
        Pairs {
            model: params.string("model"),
            firsts: params.documents(first, TEXTS),
            seconds: params.documents(second, TEXTS),
            cut,
            activated: params.boolean("use_activation").unwrap_or(true),
        }
    }

    async fn score(self, app: &App, entry: &Entry) -> Result<Scores, ApiError> {
        let encoder = app.models()?.encoder(ModelKind::Scores, self.model.as_deref()).await?;
        let Pairs { model, firsts, seconds, cut, activated } = self;
        let own = encoder.clone();
        let encode = move || Ok((encoded(own.reranker(), &firsts, &seconds, cut), seconds));
        let (pairs, seconds) = blocking(entry, encode).await?;
        let tokens = pairs.iter().map(|pair| pair.ids.len()).sum();
        let work = move |own: &Encoder| {
            let mut scores = own.reranker().scores(&pairs)?;
            if activated {
                scores.iter_mut().for_each(|score| *score = own.reranker().activate(*score));
            }
            Ok(scores)
        };
        let scores = encoder.compute(entry, tokens, app.options.limits.answer_time, work).await?;
        Ok(Scores { model: model.unwrap_or_else(|| encoder.name().to_owned()), scores, seconds, tokens })
    }
}

/// Pairs as ids: each of `firsts`, or the only one, with each of `seconds`.
fn encoded(reranker: &Reranker, firsts: &[String], seconds: &[String], cut: Cut) -> Vec<EncodedPair> {
    let ids = |text: &String, most: usize| {
        let mut ids = reranker.encode(text);
        ids.truncate(most);
        ids
    };
    let firsts: Vec<Vec<u32>> = firsts.iter().map(|text| ids(text, cut.first)).collect();
    let most = cut.pair.min(reranker.max_tokens());
    let pair = |(first, second): (&Vec<u32>, &String)| reranker.pair(first, &ids(second, cut.second), most);
    match firsts.as_slice() {
        [first] => seconds.iter().map(|second| pair((first, second))).collect(),
        _ => firsts.iter().zip(seconds).map(pair).collect(),
    }
}
