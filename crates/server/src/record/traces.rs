//! Traces for an OpenTelemetry collector, by OTLP over HTTP: a span for each request, and within it one for what a
//! model computed. Names are those of OpenTelemetry's semantic conventions for HTTP and for generative AI; no text of prompts or
//! answers is in any of them.
//!
//! The SDK's own thread sends them in batches, so that a collector that is slow or away delays nobody. What it does not
//! take is lost, and counted. The SDK heeds its usual variables: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
//! `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_*`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{
    Event, Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};

use crate::error::ServerError;
use crate::record::usage::ModelUse;

/// Where spans go.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    lost: Arc<AtomicU64>,
}

/// A request that has been answered.
pub(crate) struct Answered<'a> {
    /// The caller's span, from [`Traces::caller`].
    pub(crate) caller: &'a Context,
    pub(crate) id: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// Why an answer broke off that had begun well.
    pub(crate) error: Option<&'static str>,
    pub(crate) start: Instant,
    pub(crate) model_use: Option<&'a ModelUse>,
}

impl Traces {
    /// Prepares to send to the collector at `base`, such as `http://localhost:4318`. Must not be called within a runtime.
    pub(crate) fn open(base: &str) -> Result<Self, ServerError> {
        let fault = |what: &str| ServerError::Option(format!("traces cannot be sent to {base:?}: {what}"));
        if !base.starts_with("http://") {
            return Err(fault("a collector is reached by http:// (encryption is another process's work)"));
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')))
            .build()
            .map_err(|error| fault(&error.to_string()))?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("glimmer");
        }
        let lost = Arc::new(AtomicU64::new(0));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(Counting { exporter, lost: lost.clone() })
            .build();
        Ok(Traces { tracer: provider.tracer("glimmer"), provider, lost })
    }

    /// The span that a request says it belongs to (W3C's `traceparent`).
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Context {
        TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
    }

    /// Hands on the spans of a request whose answer has just ended.
    pub(crate) fn answered(&self, request: &Answered<'_>) {
        let times = Times::now();
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method.to_owned()),
            KeyValue::new("http.route", request.path.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(request.status)),
            KeyValue::new("glimmer.request.id", request.id.to_owned()),
        ];
        let error = request.error.map(str::to_owned);
        let error = error.or_else(|| (request.status >= 500).then(|| request.status.to_string()));
        attributes.extend(error.clone().map(|error| KeyValue::new("error.type", error)));
        let mut span = self
            .tracer
            .span_builder(format!("{} {}", request.method, request.path))
            .with_kind(SpanKind::Server)
            .with_start_time(times.of(request.start))
            .with_attributes(attributes)
            .start_with_context(&self.tracer, request.caller);
        if error.is_some() {
            span.set_status(Status::error(""));
        }
        if let Some(model_use) = request.model_use {
            let within = Context::new().with_remote_span_context(span.span_context().clone());
            self.model_used(request.path, model_use, &within, &times);
        }
        span.end_with_timestamp(times.day);
    }

    fn model_used(&self, path: &str, model_use: &ModelUse, within: &Context, times: &Times) {
        let operation = operation(path);
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", operation),
            KeyValue::new("gen_ai.request.model", model_use.model.clone()),
            KeyValue::new("gen_ai.response.model", model_use.model.clone()),
            KeyValue::new("gen_ai.usage.input_tokens", model_use.usage.prompt as i64),
            KeyValue::new("gen_ai.usage.cache_read.input_tokens", model_use.usage.cached as i64),
            KeyValue::new("gen_ai.usage.output_tokens", model_use.usage.completion as i64),
        ];
        if !model_use.finishes.is_empty() {
            let finishes: Vec<StringValue> = model_use.finishes.iter().map(|&finish| finish.into()).collect();
            attributes
                .push(KeyValue::new("gen_ai.response.finish_reasons", Value::Array(Array::String(finishes))));
        }
        let first = model_use.first_token.map(|at| Event::new("first token", times.of(at), Vec::new(), 0));
        self.tracer
            .span_builder(format!("{operation} {}", model_use.model))
            .with_kind(SpanKind::Internal)
            .with_start_time(times.of(model_use.start))
            .with_attributes(attributes)
            .with_events(first.into_iter().collect())
            .start_with_context(&self.tracer, within)
            .end_with_timestamp(times.day);
    }

    /// Spans that no collector took.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sends what waits, for a few seconds at most. Must not be called within a runtime.
    pub(crate) fn close(&self) {
        let _ = self.provider.shutdown_with_timeout(Duration::from_secs(5));
    }
}

/// `gen_ai.operation.name` of a path that a model answers.
fn operation(path: &str) -> &'static str {
    if path.ends_with("embeddings") || path == "/embedding" {
        "embeddings"
    } else if path.ends_with("rerank") || path.ends_with("/score") {
        "rerank"
    } else if path == "/v1/completions" || path == "/completions" {
        "text_completion"
    } else {
        "chat"
    }
}

/// Both clocks, read once for all spans of a request: read again for every moment, the time that passes between the two
/// readings could turn around moments that lie close together.
struct Times {
    moment: Instant,
    day: SystemTime,
}

impl Times {
    fn now() -> Times {
        Times { moment: Instant::now(), day: SystemTime::now() }
    }

    /// The time of day of a moment that has been.
    fn of(&self, moment: Instant) -> SystemTime {
        self.day - self.moment.saturating_duration_since(moment)
    }
}

/// An exporter that counts what it could not send.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    lost: Arc<AtomicU64>,
}

impl opentelemetry_sdk::trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.exporter.export(batch).await;
        if result.is_err() {
            self.lost.fetch_add(spans, Ordering::Relaxed);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
