//! The figures and how they are shown: a table in Markdown, JSON, or lines of values separated by commas.

use glimmer::Escaped;
use serde::Serialize;

use super::rates::{self, Unit};
use crate::args::Figures;
use crate::output;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) types: String,
    pub(super) size_bytes: u64,
    pub(super) parameters: u64,
    pub(super) device: String,
    pub(super) threads: usize,
    pub(super) compute: &'static str,
    pub(super) kv_type: &'static str,
    /// Of the machine with the last layers.
    pub(super) limits: ShownRates,
    /// Where several share the layers, each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) machines: Vec<Machine>,
    pub(super) first_token: Seconds,
    pub(super) memory: Memory,
    pub(super) results: Vec<Row>,
}

/// One of several that share a model.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) device: String,
    /// The first of its layers, and how many it has.
    pub(super) first_layer: usize,
    pub(super) layers: usize,
    pub(super) limits: ShownRates,
}

/// What the machine does at most, in the same minutes.
#[derive(Debug, Serialize)]
pub(super) struct ShownRates {
    read_gb_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_gb_s: Option<f64>,
    int8_gop_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    f32_gflop_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bf16_gflop_s: Option<f64>,
}

impl From<&rates::MachineRates> for ShownRates {
    fn from(limits: &rates::MachineRates) -> Self {
        let floats = |unit| (limits.unit == unit).then_some(limits.float / 1e9);
        ShownRates {
            read_gb_s: limits.read / 1e9,
            copy_gb_s: limits.copy.map(|copy| copy / 1e9),
            int8_gop_s: limits.int8 / 1e9,
            f32_gflop_s: floats(Unit::F32),
            bf16_gflop_s: floats(Unit::Bf16),
        }
    }
}

impl ShownRates {
    /// For people.
    fn words(&self) -> String {
        let mut words = format!("memory {:.1} GB/s", self.read_gb_s);
        if let Some(copy) = self.copy_gb_s {
            words += &format!(" read, {copy:.1} GB/s copied");
        }
        words += &format!(", int8 {:.0} GOP/s", self.int8_gop_s);
        for (unit, rate) in [("f32", self.f32_gflop_s), ("bf16", self.bf16_gflop_s)] {
            words += &rate.map_or(String::new(), |rate| format!(", {unit} {rate:.0} GFLOP/s"));
        }
        words
    }
}

/// Bytes.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    /// The most that was resident at once; `None` where the system does not tell.
    pub(super) peak_bytes: Option<u64>,
    /// What the device holds: weights as packed,
    pub(super) weights_bytes: usize,
    /// the cache as planned,
    pub(super) kv_bytes: usize,
    /// activations and scratch.
    pub(super) buffers_bytes: usize,
}

/// Seconds from the start of a process to its first token.
#[derive(Debug, Serialize)]
pub(super) struct Seconds {
    pub(super) avg_s: f64,
    pub(super) best_s: f64,
    pub(super) samples_s: Vec<f64>,
}

/// One case, in tokens per second; the names are llama-bench's where it has one.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) test: String,
    pub(super) n_prompt: usize,
    pub(super) n_gen: usize,
    pub(super) n_depth: usize,
    pub(super) n_parallel: usize,
    pub(super) avg_ts: f64,
    pub(super) stddev_ts: f64,
    pub(super) best_ts: f64,
    /// What the floor of time allows.
    pub(super) floor_ts: f64,
    /// The best as a part of it.
    pub(super) percent_of_floor: f64,
    /// What binds at the floor: `memory` or `arithmetic`.
    pub(super) bound: &'static str,
    pub(super) samples_ts: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<PeerRow>,
}

/// The same case by the peer.
#[derive(Debug, Serialize)]
pub(super) struct PeerRow {
    pub(super) median_ts: f64,
    /// Our median over the peer's.
    pub(super) ratio: f64,
    pub(super) samples_ts: Vec<f64>,
}

impl Seconds {
    pub(super) fn of(samples: Vec<f64>) -> Self {
        let best_s = samples.iter().copied().fold(f64::INFINITY, f64::min);
        Seconds { avg_s: mean(&samples), best_s, samples_s: samples }
    }
}

pub(super) fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

/// The deviation of a sample; 0 for one value.
pub(super) fn deviation(samples: &[f64]) -> f64 {
    let mean = mean(samples);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (squares / (samples.len() as f64 - 1.0).max(1.0)).sqrt()
}

pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// A number in the larger unit where it has one of it, as llama-bench shows sizes and parameters.
fn in_units(number: u64, small: (u64, &str), large: (u64, &str)) -> String {
    let (unit, name) = if number < large.0 { small } else { large };
    format!("{:.2} {name}", number as f64 / unit as f64)
}

impl Report {
    /// Shows it on standard output.
    pub(super) fn print(&self, figures: Figures) -> anyhow::Result<()> {
        match figures {
            Figures::Json => output::json(self),
            Figures::Markdown => output::print(&self.markdown()),
            Figures::Csv => output::print(&self.csv()),
        }
    }

    fn markdown(&self) -> String {
        let compared = self.results.iter().any(|row| row.peer.is_some());
        let mut out = String::new();
        let mut line = |cells: &[String]| out.push_str(&format!("| {} |\n", Escaped(&cells.join(" | "))));
        let names =
            ["model", "size", "params", "threads", "test", "t/s", "best", "floor", "of floor", "bound by"];
        let mut heads: Vec<String> = names.map(str::to_owned).into();
        if compared {
            heads.extend(["median".to_owned(), "peer median".to_owned(), "ratio".to_owned()]);
        }
        line(&heads);
        line(
            &heads
                .iter()
                .map(|name| if is_number(name) { "---:" } else { "---" }.to_owned())
                .collect::<Vec<_>>(),
        );
        for row in &self.results {
            let mut cells = vec![
                format!("{} {}", self.model, self.types),
                in_units(self.size_bytes, (1 << 20, "MiB"), (1 << 30, "GiB")),
                in_units(self.parameters, (1_000_000, "M"), (1_000_000_000, "B")),
                self.threads.to_string(),
                row.test.clone(),
                format!("{:.2} ± {:.2}", row.avg_ts, row.stddev_ts),
                format!("{:.2}", row.best_ts),
                format!("{:.2}", row.floor_ts),
                format!("{:.0}%", row.percent_of_floor),
                row.bound.to_owned(),
            ];
            if compared {
                cells.push(format!("{:.2}", median(&row.samples_ts)));
                let peer = row.peer.as_ref();
                cells.push(peer.map_or(String::new(), |peer| format!("{:.2}", peer.median_ts)));
                cells.push(peer.map_or(String::new(), |peer| format!("{:.2}", peer.ratio)));
            }
            line(&cells);
        }
        let Report { device, compute, kv_type, .. } = self;
        out.push_str(&format!("\n{device}; {compute}, cache in {kv_type}\n"));
        for Machine { first_layer, layers, limits, .. } in &self.machines {
            let last = first_layer + layers - 1;
            out.push_str(&format!("limits of layers {first_layer} to {last}: {}\n", limits.words()));
        }
        if self.machines.is_empty() {
            out.push_str(&format!("limits: {}\n", self.limits.words()));
        }
        let Seconds { best_s, avg_s, .. } = self.first_token;
        out.push_str(&format!(
            "start to first token (prompt of 20): {best_s:.2} s, on average {avg_s:.2} s\n"
        ));
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let Memory { peak_bytes, weights_bytes, kv_bytes, buffers_bytes } = self.memory;
        let [weights, cache, buffers] =
            [weights_bytes, kv_bytes, buffers_bytes].map(|bytes| mib(bytes as f64));
        if let Some(bytes) = peak_bytes {
            out.push_str(&format!("peak resident memory: {:.0} MiB; ", mib(bytes as f64)));
        }
        out.push_str(&format!("weights {weights:.0}, cache {cache:.0}, buffers {buffers:.0} MiB\n"));
        out
    }

    fn csv(&self) -> String {
        let mut out = "model,types,size_bytes,parameters,device,threads,compute,kv_type,test,n_prompt,n_gen,n_depth,\
                       n_parallel,avg_ts,stddev_ts,best_ts,floor_ts,percent_of_floor,bound,peer_median_ts,peer_ratio,\
                       first_token_s,peak_memory_bytes,weights_bytes,kv_bytes,read_gb_s,int8_gop_s,f32_gflop_s,bf16_gflop_s,copy_gb_s\n"
            .to_owned();
        let optional = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        for row in &self.results {
            let cells = [
                quoted(&self.model),
                quoted(&self.types),
                self.size_bytes.to_string(),
                self.parameters.to_string(),
                quoted(&self.device),
                self.threads.to_string(),
                self.compute.to_owned(),
                self.kv_type.to_owned(),
                quoted(&row.test),
                row.n_prompt.to_string(),
                row.n_gen.to_string(),
                row.n_depth.to_string(),
                row.n_parallel.to_string(),
                row.avg_ts.to_string(),
                row.stddev_ts.to_string(),
                row.best_ts.to_string(),
                row.floor_ts.to_string(),
                row.percent_of_floor.to_string(),
                row.bound.to_owned(),
                optional(row.peer.as_ref().map(|peer| peer.median_ts)),
                optional(row.peer.as_ref().map(|peer| peer.ratio)),
                self.first_token.best_s.to_string(),
                self.memory.peak_bytes.map_or(String::new(), |bytes| bytes.to_string()),
                self.memory.weights_bytes.to_string(),
                self.memory.kv_bytes.to_string(),
                self.limits.read_gb_s.to_string(),
                self.limits.int8_gop_s.to_string(),
                optional(self.limits.f32_gflop_s),
                optional(self.limits.bf16_gflop_s),
                optional(self.limits.copy_gb_s),
            ];
            out.push_str(&(cells.join(",") + "\n"));
        }
        out
    }
}

/// Whether a column is aligned to the right.
fn is_number(name: &str) -> bool {
    !["model", "test", "bound by"].contains(&name)
}

/// As RFC 4180 has it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", Escaped(&text.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        assert_eq!((mean(&[1.0, 2.0, 6.0]), median(&[6.0, 1.0, 2.0]), median(&[4.0, 1.0])), (3.0, 2.0, 2.5));
        assert_eq!((deviation(&[1.0, 3.0]), deviation(&[5.0])), (2f64.sqrt(), 0.0));
        let seconds = Seconds::of(vec![2.0, 1.0]);
        assert_eq!((seconds.avg_s, seconds.best_s), (1.5, 1.0));
    }

    #[test]
    fn small_models_have_a_size() {
        let size = |bytes| in_units(bytes, (1 << 20, "MiB"), (1 << 30, "GiB"));
        assert_eq!(
            [0, 4 << 20, (1 << 30) - 1, 3 << 29].map(size),
            ["0.00 MiB", "4.00 MiB", "1024.00 MiB", "1.50 GiB"]
        );
    }
}
