//! Figures of the server and of each model, in Prometheus' text format (version 0.0.4).
//!
//! The names are our own; `--metrics-compat vllm` writes the same figures under the names that dashboards for vLLM ask
//! for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use glimmer::{CardUse, ModelKind, ModelState, ModelStatus, PlannedMemory, Statistics, Usage};

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, n: i64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often a figure was below each of a few bounds.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    held: Mutex<Held>,
}

#[derive(Clone, Debug, Default)]
struct Held {
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

const SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0,
];
const TOKENS: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0];

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Histogram { bounds, held: Mutex::new(Held { counts: vec![0; bounds.len()], sum: 0.0, count: 0 }) }
    }

    pub(crate) fn observe(&self, value: f64) {
        let mut held = locked(&self.held);
        if let Some(at) = self.bounds.iter().position(|&bound| value <= bound) {
            held.counts[at] += 1;
        }
        held.sum += value;
        held.count += 1;
    }

    fn mean(&self) -> f64 {
        let held = locked(&self.held);
        if held.count == 0 { 0.0 } else { held.sum / held.count as f64 }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    Stop,
    Length,
    Repetition,
    /// The client went away, or it failed.
    Abort,
}

const ENDS: [&str; 4] = ["stop", "length", "repetition", "abort"];

/// A model's figures.
#[derive(Debug)]
pub(crate) struct ModelMetrics {
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
    whole: Histogram,
    prompt_lengths: Histogram,
    answer_lengths: Histogram,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    answer_tokens: AtomicU64,
    departures: AtomicU64,
    ends: [AtomicU64; ENDS.len()],
}

impl Default for ModelMetrics {
    fn default() -> Self {
        ModelMetrics {
            first_token: Histogram::new(SECONDS),
            between_tokens: Histogram::new(SECONDS),
            whole: Histogram::new(SECONDS),
            prompt_lengths: Histogram::new(TOKENS),
            answer_lengths: Histogram::new(TOKENS),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            answer_tokens: AtomicU64::new(0),
            departures: AtomicU64::new(0),
            ends: Default::default(),
        }
    }
}

impl ModelMetrics {
    /// An answer ended after so many seconds.
    pub(crate) fn ended(&self, why: Ended, seconds: f64) {
        self.ends[why as usize].fetch_add(1, Ordering::Relaxed);
        self.whole.observe(seconds);
    }

    /// A request's tokens.
    pub(crate) fn used(&self, usage: Usage) {
        self.prompt_tokens.fetch_add(usage.prompt as u64, Ordering::Relaxed);
        self.cached_tokens.fetch_add(usage.cached as u64, Ordering::Relaxed);
        self.answer_tokens.fetch_add(usage.completion as u64, Ordering::Relaxed);
        self.prompt_lengths.observe(usage.prompt as f64);
        self.answer_lengths.observe(usage.completion as f64);
    }

    /// A conversation's prompt departed from what was computed for the turn before.
    pub(crate) fn departed(&self) {
        self.departures.fetch_add(1, Ordering::Relaxed);
    }

    /// Seconds after which somebody who found the queue full may find room: what an answer takes on average.
    pub(crate) fn retry_after(&self) -> u64 {
        (self.whole.mean().ceil() as u64).clamp(1, 60)
    }
}

/// What the page shows of all models.
pub(crate) struct RegistryFigures {
    pub(crate) models: Vec<ModelFigures>,
    pub(crate) memory: PlannedMemory,
}

/// What the page shows of one model.
pub(crate) struct ModelFigures {
    pub(crate) status: ModelStatus,
    pub(crate) metrics: Arc<ModelMetrics>,
}

impl ModelFigures {
    fn name(&self) -> &str {
        self.status.names.first().map_or("model", String::as_str)
    }
}

/// The server's figures.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests by path and status.
    answers: Mutex<BTreeMap<(String, u16), u64>>,
    pub(crate) connections: Gauge,
}

impl Metrics {
    /// A request to a path of ours was answered.
    pub(crate) fn answered(&self, path: &str, status: u16) {
        *locked(&self.answers).entry((path.to_owned(), status)).or_default() += 1;
    }

    /// Everything, as text.
    pub(crate) fn text(
        &self,
        models: Option<&RegistryFigures>,
        cards: &[CardUse],
        vllm: bool,
        lost_lines: u64,
        lost_spans: Option<u64>,
    ) -> String {
        let mut page = Page { text: String::new(), vllm };
        page.head("glimmer_http_requests_total", "counter", "Requests answered, by path and status.");
        for ((path, status), count) in locked(&self.answers).iter() {
            page.line("glimmer_http_requests_total", &format!("path={path:?},status=\"{status}\""), count);
        }
        page.head("glimmer_connections", "gauge", "Open connections.");
        page.line("glimmer_connections", "", &self.connections.get());
        page.head("glimmer_log_lines_lost_total", "counter", "Log lines that could not be written.");
        page.line("glimmer_log_lines_lost_total", "", &lost_lines);
        if let Some(lost) = lost_spans {
            page.head("glimmer_spans_lost_total", "counter", "Spans of traces that no collector took.");
            page.line("glimmer_spans_lost_total", "", &lost);
        }
        page.cards(cards);
        if let Some(figures) = models {
            page.registry(figures);
            let writers = figures.models.iter().filter(|model| model.status.kind == ModelKind::Text);
            page.models(&writers.collect::<Vec<_>>());
        }
        page.text
    }
}

/// The page being written.
struct Page {
    text: String,
    vllm: bool,
}

/// A simple figure: our name, vLLM's where it has one, its kind, what it is, where it comes from.
type Figure =
    (&'static str, Option<&'static str>, &'static str, &'static str, fn(&ModelMetrics, &Statistics) -> f64);
/// The same of a histogram.
type Spread = (&'static str, &'static str, &'static str, fn(&ModelMetrics) -> &Histogram);

fn count(value: &AtomicU64) -> f64 {
    value.load(Ordering::Relaxed) as f64
}

const FIGURES: [Figure; 16] = [
    (
        "glimmer_requests_running",
        Some("vllm:num_requests_running"),
        "gauge",
        "Answers being made.",
        |_, s| s.running as f64,
    ),
    (
        "glimmer_requests_waiting",
        Some("vllm:num_requests_waiting"),
        "gauge",
        "Answers that wait for room.",
        |_, s| s.waiting as f64,
    ),
    ("glimmer_cache_pages", None, "gauge", "Pages of the cache.", |_, s| s.pages as f64),
    ("glimmer_cache_pages_used", None, "gauge", "Pages that answers hold.", |_, s| s.pages_used as f64),
    (
        "glimmer_cache_used_ratio",
        Some("vllm:kv_cache_usage_perc"),
        "gauge",
        "The share of the cache that answers hold.",
        |_, s| s.pages_used as f64 / s.pages.max(1) as f64,
    ),
    (
        "glimmer_prompt_tokens_total",
        Some("vllm:prompt_tokens_total"),
        "counter",
        "Tokens of prompts.",
        |m, _| count(&m.prompt_tokens),
    ),
    (
        "glimmer_cached_tokens_total",
        Some("vllm:prefix_cache_hits_total"),
        "counter",
        "Tokens of prompts that were remembered.",
        |m, _| count(&m.cached_tokens),
    ),
    ("glimmer_pictures_total", None, "counter", "Pictures that the tower has seen.", |_, s| {
        s.pictures as f64
    }),
    ("glimmer_pictures_cached_total", None, "counter", "Pictures whose features were remembered.", |_, s| {
        s.pictures_kept as f64
    }),
    (
        "glimmer_answer_tokens_total",
        Some("vllm:generation_tokens_total"),
        "counter",
        "Tokens of answers.",
        |m, _| count(&m.answer_tokens),
    ),
    (
        "glimmer_prefix_breaks_total",
        None,
        "counter",
        "Conversations whose prompt departed from what was computed for the turn before.",
        |m, _| count(&m.departures),
    ),
    (
        "glimmer_preemptions_total",
        Some("vllm:num_preemptions_total"),
        "counter",
        "Answers that gave their pages back and were begun again.",
        |_, s| s.preemptions as f64,
    ),
    (
        "glimmer_guessed_tokens_total",
        Some("vllm:spec_decode_num_draft_tokens_total"),
        "counter",
        "Tokens guessed ahead.",
        |_, s| s.drafted_tokens as f64,
    ),
    (
        "glimmer_guessed_right_tokens_total",
        Some("vllm:spec_decode_num_accepted_tokens_total"),
        "counter",
        "Tokens guessed ahead and right.",
        |_, s| s.accepted_tokens as f64,
    ),
    ("glimmer_model_seconds_total", None, "counter", "Time in the model.", |_, s| s.forward.as_secs_f64()),
    (
        "glimmer_outside_model_seconds_total",
        None,
        "counter",
        "Time of the engine's steps outside the model.",
        |_, s| s.outside.as_secs_f64(),
    ),
];

/// A figure of where a model is: its name, its kind, what it is, where it comes from.
type LoadFigure = (&'static str, &'static str, &'static str, fn(&ModelStatus) -> f64);

const LOADS: [LoadFigure; 7] = [
    ("glimmer_model_loaded", "gauge", "1 where the model is loaded.", |s| {
        f64::from(u8::from(s.state == ModelState::Loaded))
    }),
    ("glimmer_model_memory_bytes", "gauge", "Memory that the model holds or is going to.", |s| {
        s.memory as f64
    }),
    ("glimmer_model_requests_waiting", "gauge", "Requests that wait for the model to be loaded.", |s| {
        s.waiting as f64
    }),
    ("glimmer_model_loads_total", "counter", "How often the model was loaded.", |s| s.loads as f64),
    ("glimmer_model_unloads_total", "counter", "How often it was let go of.", |s| s.unloads as f64),
    ("glimmer_model_load_failures_total", "counter", "How often it could not be loaded.", |s| {
        s.failures as f64
    }),
    ("glimmer_model_load_seconds_total", "counter", "Time of all its loads.", |s| s.load_time.as_secs_f64()),
];

const SPREADS: [Spread; 5] = [
    (
        "glimmer_first_token_seconds",
        "vllm:time_to_first_token_seconds",
        "From a request to its first token.",
        |m| &m.first_token,
    ),
    (
        "glimmer_between_tokens_seconds",
        "vllm:inter_token_latency_seconds",
        "From a token to the next.",
        |m| &m.between_tokens,
    ),
    (
        "glimmer_answer_seconds",
        "vllm:e2e_request_latency_seconds",
        "From a request to the end of its answer.",
        |m| &m.whole,
    ),
    ("glimmer_prompt_length", "vllm:request_prompt_tokens", "Tokens of a request's prompts.", |m| {
        &m.prompt_lengths
    }),
    ("glimmer_answer_length", "vllm:request_generation_tokens", "Tokens of a request's answers.", |m| {
        &m.answer_lengths
    }),
];

/// A figure of a card: its name, what it is, where it comes from.
type CardFigure = (&'static str, &'static str, fn(&CardUse) -> Option<f64>);

/// A label's value.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: &dyn std::fmt::Display) {
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {value}")
        } else {
            writeln!(self.text, "{name}{{{labels}}} {value}")
        };
    }

    /// The machine's cards, where there are some; how busy they are, where they tell.
    fn cards(&mut self, cards: &[CardUse]) {
        let figures: [CardFigure; 3] = [
            ("glimmer_card_memory_used_bytes", "Memory of an NVIDIA card that is in use.", |card| {
                Some(card.memory_used as f64)
            }),
            ("glimmer_card_memory_bytes", "Memory of an NVIDIA card.", |card| Some(card.memory_total as f64)),
            (
                "glimmer_card_busy_ratio",
                "The share of the last second in which an NVIDIA card computed.",
                |card| Some(f64::from(card.busy?) / 100.0),
            ),
        ];
        for (name, help, value) in figures {
            let told: Vec<_> = cards.iter().filter_map(|card| Some((card, value(card)?))).collect();
            if told.is_empty() {
                continue;
            }
            self.head(name, "gauge", help);
            for (card, value) in told {
                self.line(
                    name,
                    &format!("name=\"{}\",uuid=\"{}\"", quoted(&card.name), quoted(&card.uuid)),
                    &value,
                );
            }
        }
    }

    fn label(&self, name: &str) -> String {
        let name = quoted(name);
        if self.vllm { format!("model_name=\"{name}\",engine=\"0\"") } else { format!("model=\"{name}\"") }
    }

    /// Where models are, and what that took.
    fn registry(&mut self, figures: &RegistryFigures) {
        for (name, kind, help, value) in LOADS {
            self.head(name, kind, help);
            for model in &figures.models {
                self.line(name, &format!("model=\"{}\"", quoted(model.name())), &value(&model.status));
            }
        }
        let PlannedMemory { held, limit } = figures.memory;
        self.head("glimmer_models_memory_bytes", "gauge", "Memory that all models hold or are going to.");
        self.line("glimmer_models_memory_bytes", "", &held);
        if limit < u64::MAX {
            self.head("glimmer_models_memory_limit_bytes", "gauge", "Memory that they may hold together.");
            self.line("glimmer_models_memory_limit_bytes", "", &limit);
        }
    }

    fn models(&mut self, models: &[&ModelFigures]) {
        for (own, theirs, kind, help, value) in FIGURES {
            let Some(name) = (if self.vllm { theirs } else { Some(own) }) else { continue };
            self.head(name, kind, help);
            for model in models {
                let value = value(&model.metrics, &model.status.statistics);
                self.line(name, &self.label(model.name()), &value);
            }
        }
        let (name, label) = if self.vllm {
            ("vllm:request_success_total", "finished_reason")
        } else {
            ("glimmer_answers_total", "end")
        };
        self.head(name, "counter", "Answers, by why they ended.");
        for model in models {
            for (end, ended) in ENDS.iter().zip(&model.metrics.ends) {
                let labels = format!("{},{label}=\"{end}\"", self.label(model.name()));
                self.line(name, &labels, &count(ended));
            }
        }
        for (own, theirs, help, histogram) in SPREADS {
            let name = if self.vllm { theirs } else { own };
            self.head(name, "histogram", help);
            for model in models {
                self.histogram(name, &self.label(model.name()), histogram(&model.metrics));
            }
        }
    }

    fn histogram(&mut self, name: &str, label: &str, histogram: &Histogram) {
        let held = locked(&histogram.held).clone();
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&held.counts) {
            below += count;
            self.line(&format!("{name}_bucket"), &format!("{label},le=\"{bound}\""), &below);
        }
        self.line(&format!("{name}_bucket"), &format!("{label},le=\"+Inf\""), &held.count);
        self.line(&format!("{name}_sum"), label, &held.sum);
        self.line(&format!("{name}_count"), label, &held.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_told_of_where_there_are_some() {
        let metrics = Metrics::default();
        let without = metrics.text(None, &[], false, 0, None);
        assert!(!without.contains("card"), "{without}");
        let card = |uuid: &str, busy| CardUse {
            name: "NVIDIA \"X\"".to_owned(),
            uuid: uuid.to_owned(),
            memory_used: 3 << 30,
            memory_total: 24 << 30,
            busy,
        };
        let text = metrics.text(None, &[card("GPU-1", Some(37)), card("GPU-2", None)], true, 0, None);
        for line in [
            "# TYPE glimmer_card_memory_used_bytes gauge",
            r#"glimmer_card_memory_used_bytes{name="NVIDIA \"X\"",uuid="GPU-1"} 3221225472"#,
            r#"glimmer_card_memory_bytes{name="NVIDIA \"X\"",uuid="GPU-2"} 25769803776"#,
            r#"glimmer_card_busy_ratio{name="NVIDIA \"X\"",uuid="GPU-1"} 0.37"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(
            !text.contains(r#"busy_ratio{name="NVIDIA \"X\"",uuid="GPU-2""#),
            "what is not told is not shown"
        );
    }
}
