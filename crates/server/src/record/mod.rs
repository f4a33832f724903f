//! What is recorded: the log, figures, spans for a collector, and the entry of each request, which feeds the three. No text
//! of prompts or answers is in any of them.

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
        models: Option<&[metrics::ModelFigures]>,
        cards: &[glimmer::CardUse],
        vllm: bool,
    ) -> String {
        let lost_spans = self.traces.as_ref().map(traces::Traces::lost);
        self.metrics.text(models, cards, vllm, self.log.lost(), lost_spans)
    }

    /// Writes and sends what waits. Must not be called within a runtime.
    pub(crate) fn close(&self) {
        self.log.close();
        if let Some(traces) = &self.traces {
            traces.close();
        }
    }
}
