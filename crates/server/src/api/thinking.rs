//! Whether a model is to think before it answers, and how long: in the words of the OpenAI API, Z.ai's, Anthropic's,
//! OpenRouter's, vLLM's and Qwen's.

use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::http::params::{Params, wrong};

/// `reasoning_effort` as the OpenAI API and Z.ai's have it.
const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The variable of chat templates that says how long.
const VARIABLE: &str = "thinking_budget";

/// Tokens that may be thought.
const MOST: i64 = i32::MAX as i64;

/// What a request says of thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thinking {
    /// Whether the model is to think; `None` leaves it to the model's own way.
    pub(crate) enabled: Option<bool>,
    /// Whether the thoughts of earlier turns are left out of the prompt.
    pub(crate) clear: Option<bool>,
    /// Tokens after which the reasoning is closed.
    pub(crate) budget: Option<usize>,
    /// Whether the answer shows it.
    pub(crate) is_shown: bool,
}

/// Takes every field that says something of thinking. What templates may read goes to `variables`, which may have it itself.
pub(crate) fn take(params: &mut Params, variables: &mut Map<String, Value>) -> Thinking {
    let mut budgets = Vec::new();
    let direct = params.boolean("enable_thinking");
    let (kind, clear, omitted) = thinking(params, &mut budgets);
    let reasoning = reasoning(params, &mut budgets);
    let effort = params.word("reasoning_effort", &EFFORTS).or(reasoning.effort);
    for name in [VARIABLE, "thinking_token_budget"] {
        budgets.extend(params.integer(name, 0..=MOST).map(|tokens| (name, tokens)));
    }
    budgets
        .extend(variable(params, variables).map(|tokens| ("chat_template_kwargs.thinking_budget", tokens)));
    if let Some((first, tokens)) = budgets.first()
        && let Some((second, _)) = budgets.iter().find(|(_, other)| other != tokens)
    {
        let message = format!("`{first}` and `{second}` both say how long the model may think");
        params.refuse(ApiError::parameter(second, message));
    }
    let budget = budgets.first().map(|&(_, tokens)| tokens as usize);
    if let Some(effort) = effort {
        variables.entry("reasoning_effort").or_insert_with(|| effort.into());
    }
    if let Some(budget) = budget {
        variables.entry(VARIABLE).or_insert_with(|| budget.into());
    }
    let none = effort.filter(|&effort| effort == "none").map(|_| false);
    // Nothing may be thought: the template is to open nothing.
    let nothing = budget.filter(|&budget| budget == 0).map(|_| false);
    Thinking {
        enabled: nothing.or(direct).or(kind).or(reasoning.enabled).or(none),
        clear: clear.or(reasoning.clear),
        budget,
        is_shown: params.boolean("include_reasoning").unwrap_or(true) && !reasoning.exclude && !omitted,
    }
}

/// `thinking` of Z.ai's API and Anthropic's: whether it is on, whether earlier thoughts are left out, and whether the answer's are.
fn thinking(
    params: &mut Params,
    budgets: &mut Vec<(&'static str, i64)>,
) -> (Option<bool>, Option<bool>, bool) {
    let thinking = params.object("thinking", |thinking| {
        thinking.need("type");
        let kind = thinking.word("type", &["enabled", "disabled", "adaptive"]);
        let tokens = thinking.integer("budget_tokens", 0..=MOST);
        if kind == Some("disabled") && tokens.is_some_and(|tokens| tokens > 0) {
            thinking.wrong("budget_tokens", "left out where `type` is disabled");
        }
        budgets.extend(tokens.map(|tokens| ("thinking.budget_tokens", tokens)));
        // Adaptive leaves it to the model's own way. What would be a summary is what was thought.
        let enabled = kind.filter(|&kind| kind != "adaptive").map(|kind| kind == "enabled");
        let display = thinking.word("display", &["summarized", "omitted"]);
        (enabled, thinking.boolean("clear_thinking"), display == Some("omitted"))
    });
    thinking.unwrap_or_default()
}

/// What `reasoning` says.
#[derive(Default)]
struct Reasoning {
    enabled: Option<bool>,
    effort: Option<&'static str>,
    exclude: bool,
    clear: Option<bool>,
}

/// `reasoning` of OpenRouter's API and of OpenAI's Responses: whether it is on, how much, whether it is left out of the answer,
/// and which earlier thoughts are left out of the prompt.
fn reasoning(params: &mut Params, budgets: &mut Vec<(&'static str, i64)>) -> Reasoning {
    let reasoning = params.object("reasoning", |reasoning| {
        let tokens = reasoning.integer("max_tokens", 0..=MOST);
        budgets.extend(tokens.map(|tokens| ("reasoning.max_tokens", tokens)));
        // OpenAI's models show summaries in place of their thoughts. Here these are shown themselves, however short they were to be.
        for name in ["summary", "generate_summary"] {
            reasoning.word(name, &["auto", "concise", "detailed"]);
        }
        reasoning.word("mode", &["standard"]);
        let context = reasoning.word("context", &["auto", "current_turn", "all_turns"]);
        Reasoning {
            enabled: reasoning.boolean("enabled"),
            effort: reasoning.word("effort", &EFFORTS),
            exclude: reasoning.boolean("exclude").unwrap_or(false),
            clear: context.filter(|&context| context != "auto").map(|context| context == "current_turn"),
        }
    });
    reasoning.unwrap_or_default()
}

/// The budget among the variables of a template, where Qwen's clients put it.
fn variable(params: &mut Params, variables: &Map<String, Value>) -> Option<i64> {
    let value = variables.get(VARIABLE).filter(|value| !value.is_null())?;
    let tokens = value.as_i64().filter(|tokens| (0..=MOST).contains(tokens));
    if tokens.is_none() {
        let name = format!("chat_template_kwargs.{VARIABLE}");
        params.refuse(wrong(&name, &format!("a whole number from 0 to {MOST}")));
    }
    tokens
}
