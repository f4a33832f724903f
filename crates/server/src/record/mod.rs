//! What is recorded: the log, figures, spans for a collector, and the entry of each request, which feeds the three. No text
//! of prompts or answers is in any of them.

use glimmer::Change;
use serde_json::Map;

use crate::error::ServerError;
use crate::options::Options;

pub(crate) mod entry;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod traces;
pub(crate) mod usage;

/// Where the server records.
pub(crate) struct Record {
    pub(crate) log: log::Log,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) traces: Option<traces::Traces>,
}

impl Record {
    /// Opens what the options ask for. Must not be called within a runtime.
    pub(crate) fn open(options: &Options) -> Result<Self, ServerError> {
        Ok(Record {
            log: log::Log::open(options)?,
            metrics: metrics::Metrics::default(),
            traces: options.otlp_endpoint.as_deref().map(traces::Traces::open).transpose()?,
        })
    }

    /// The page of figures; no `models` while they are loaded.
    pub(crate) fn figures(
        &self,
        models: Option<&metrics::RegistryFigures>,
        cards: &[glimmer::CardUse],
        vllm: bool,
    ) -> String {
        let lost_spans = self.traces.as_ref().map(traces::Traces::lost);
        self.metrics.text(models, cards, vllm, self.log.lost(), lost_spans)
    }

    /// Notes what happens to a model.
    pub(crate) fn model(&self, name: &str, change: &Change<'_>) {
        let mut line = Map::new();
        line.insert("model".to_owned(), name.into());
        let event = match change {
            Change::Loading => "loading",
            Change::Loaded { time, memory } => {
                line.insert("seconds".to_owned(), ((time.as_secs_f64() * 1000.0).round() / 1000.0).into());
                line.insert("bytes".to_owned(), (*memory).into());
                "loaded"
            }
            Change::Failed { why } => {
                line.insert("error".to_owned(), (*why).into());
                "not loaded"
            }
            Change::Unloaded => "unloaded",
        };
        self.log.line(event, line);
    }

    /// Writes and sends what waits. Must not be called within a runtime.
    pub(crate) fn close(&self) {
        self.log.close();
        if let Some(traces) = &self.traces {
            traces.close();
        }
    }
}
