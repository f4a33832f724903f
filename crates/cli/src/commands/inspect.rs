//! `glimmer inspect`: what a model is, as this program understands it.

use std::collections::BTreeMap;

use glimmer::{DeviceKind, Error, Family, ModelFiles, step_tokens};
use glimmer_checkpoint::{Checkpoint, CheckpointFormat, Foreign, TensorInfo};
use glimmer_models::{
    Activation, Attention, DecoderSpec, FeedForward, Positions, Residual, Understood, WeightRole, memory,
    published_name,
};
use glimmer_tensor::{DType, KvType, NormKind};
use glimmer_tokenizer::{Tokenizer, TokenizerKind};
use serde::Serialize;

use crate::args::{InspectArgs, KV_TYPES};
use crate::model::{context, files};
use crate::output::{self, Lines, size};
use crate::terminal::Terminal;

/// Prints the report, whole or of what can be read; then the run fails by the first part that cannot.
pub(crate) fn run(args: &InspectArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let report = Report::of(&files(&args.model, None, terminal)?, args, terminal, &mut faults)?;
    if args.json {
        output::json(&report)?
    } else {
        report.lines().print()?
    }
    let mut faults = faults.into_iter();
    let first = faults.next();
    faults.for_each(|fault| terminal.warn(&fault.to_string()));
    first.map_or(Ok(()), |fault| Err(fault.into()))
}

/// Everything that is shown.
#[derive(Serialize)]
struct Report {
    path: String,
    format: &'static str,
    /// These four are missing in a directory that holds a tokenizer and nothing else.
    family: Option<&'static str>,
    /// The published model of this shape.
    published: Option<&'static str>,
    config: Option<Config>,
    memory: Option<Memory>,
    tokenizer: Option<Vocabulary>,
    /// A format known by heart, or `jinja` for a template of the model's own.
    chat_format: Option<&'static str>,
    stop_ids: Vec<StopId>,
    types: Vec<TypeTotal>,
    tensors: Vec<Tensor>,
    /// Those of types that nothing here computes with.
    unread: Vec<Unread>,
    warnings: Vec<String>,
}

/// Feed-forwards of which a token meets some.
#[derive(Clone, Copy, Serialize)]
struct ExpertsShown {
    count: usize,
    inner: usize,
    chosen: usize,
}

/// The decoder's facts.
#[derive(Serialize)]
struct Config {
    layers: usize,
    hidden: usize,
    ffn: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<ExpertsShown>,
    vocab: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    context: usize,
    norm: &'static str,
    eps: f32,
    mlp: &'static str,
    block: &'static str,
    rope_base: f64,
    /// Rotated elements of each head.
    rope_dims: usize,
    /// Divides positions (ChatGLM2-6B-32K).
    rope_divisor: f32,
    /// Multiplies cosines and sines (YaRN).
    rope_magnitude: f32,
    positions: &'static str,
    qkv_bias: bool,
    linear_bias: bool,
    head: &'static str,
}

/// Bytes by purpose, for one context.
#[derive(Serialize)]
struct Memory {
    context: usize,
    kv_type: &'static str,
    weights: u64,
    kv: u64,
    activations: u64,
    total: u64,
}

/// The tokenizer.
#[derive(Serialize)]
struct Vocabulary {
    kind: &'static str,
    tokens: usize,
    special_tokens: usize,
}

/// An id that ends an answer.
#[derive(Serialize)]
struct StopId {
    id: u32,
    token: Option<String>,
}

/// All tensors of one type.
#[derive(Serialize)]
struct TypeTotal {
    #[serde(rename = "type")]
    name: &'static str,
    tensors: usize,
    bytes: u64,
}

/// One tensor as stored.
#[derive(Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: usize,
    file: String,
    offset: u64,
}

/// A tensor of another type.
#[derive(Serialize)]
struct Unread {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    bytes: u64,
}

impl Report {
    /// What can be told. What is wrong with tokenizer, template or configuration goes to `faults`.
    fn of(
        files: &ModelFiles,
        args: &InspectArgs,
        terminal: &Terminal,
        faults: &mut Vec<Error>,
    ) -> anyhow::Result<Self> {
        let checkpoint = files.checkpoint()?;
        let tokenizer = files.tokenizer_if_any().unwrap_or_else(|error| {
            faults.push(error);
            None
        });
        let sound = faults.is_empty();
        let only_tokenizer = checkpoint.kind() == CheckpointFormat::None
            && checkpoint.config().is_none()
            && tokenizer.is_some();
        let template = match files.chat_template() {
            Ok(template) => Some(template),
            // It cannot be told without the tokenizer, and that was said.
            Err(_) if !sound => None,
            Err(error) if error.is_unknown_format() => None,
            Err(error) => {
                terminal.warn(&error.to_string());
                None
            }
        };
        let stop_ids =
            if sound { files.stop_ids(template.as_ref())? } else { files.configuration()?.stop_ids() };
        let spelling = |id| tokenizer.map(|t| t.token_text(id)).filter(|text| !text.is_empty());
        let mut report = Report {
            path: files.path().display().to_string(),
            format: format_name(checkpoint.kind()),
            family: None,
            published: None,
            config: None,
            memory: None,
            tokenizer: tokenizer.map(Vocabulary::of),
            chat_format: template.map(|template| template.format().map_or("jinja", Family::name)),
            stop_ids: stop_ids.into_iter().map(|id| StopId { id, token: spelling(id) }).collect(),
            types: by_type(checkpoint.tensors()),
            tensors: checkpoint.tensors().iter().map(Tensor::of).collect(),
            unread: checkpoint.foreign().map(Unread::of).collect(),
            warnings: Vec::new(),
        };
        match files.understood() {
            _ if only_tokenizer => {}
            Err(error) => faults.push(error),
            Ok(understood) => report.understand(understood, checkpoint, args, terminal),
        }
        report.warnings.extend(faults.iter().map(Error::to_string));
        Ok(report)
    }

    fn understand(
        &mut self,
        understood: &Understood,
        checkpoint: &Checkpoint,
        args: &InspectArgs,
        terminal: &Terminal,
    ) {
        let spec = &understood.spec;
        understood.warnings.iter().for_each(|warning| terminal.warn(warning));
        self.family = Some(spec.family.name());
        self.published = published_name(spec);
        self.config = Some(Config::of(understood, checkpoint));
        let context = context(args.ctx, spec, terminal);
        self.memory = Some(Memory::of(checkpoint, spec, context, args.kv_type));
        self.warnings.clone_from(&understood.warnings);
    }
}

impl Report {
    fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        let out = &mut lines;
        out.add(format_args!("model      {} ({})", self.path, self.format));
        if let Some(family) = self.family {
            let published = self.published.map_or(String::new(), |name| format!(", shaped as {name}"));
            out.add(format_args!("family     {family}{published}"));
        }
        if let Some(config) = &self.config {
            config.lines(out);
        }
        if let Some(Vocabulary { kind, tokens, special_tokens }) = &self.tokenizer {
            out.add(format_args!("tokenizer  {tokens} tokens, {special_tokens} of them special, {kind}"));
        }
        out.add(format_args!("chat       {}", self.chat_format.unwrap_or("unknown format")));
        out.add(format_args!("stop ids   {}", list(&self.stop_ids)));
        if let Some(m) = &self.memory {
            out.add(format_args!(
                "memory     {} = weights {} + {} of cache for {} tokens in {} + activations {}",
                size(m.total),
                size(m.weights),
                size(m.kv),
                m.context,
                m.kv_type,
                size(m.activations)
            ));
        }
        for t in &self.types {
            out.add(format_args!("type       {:5} {:>5} tensors, {}", t.name, t.tensors, size(t.bytes)));
        }
        for folded in fold(&self.tensors) {
            out.add(format_args!(
                "tensor     {:5} {:16} {}",
                folded.dtype,
                format!("{:?}", folded.shape),
                folded.name
            ));
        }
        for Unread { name, type_name, bytes } in &self.unread {
            out.add(format_args!("not read   {type_name:5} {bytes:>11} bytes {name}"));
        }
        lines
    }
}

impl Config {
    fn of(understood: &Understood, checkpoint: &Checkpoint) -> Self {
        let spec = &understood.spec;
        // The published generations' layers are all alike.
        let layer = &spec.layers[0];
        let heads = layer.attention.heads();
        let (qkv_bias, out_bias) = match layer.attention {
            Attention::Heads { qkv_bias, out_bias, .. } => (qkv_bias, out_bias),
            Attention::Latent(_) => (false, false),
        };
        let (inner, activation) = match layer.feed_forward {
            FeedForward::Dense { inner, activation, .. } => (inner, activation),
            FeedForward::Experts { inner, .. } => (inner, Activation::SwiGlu),
        };
        let experts = spec.layers.iter().find_map(|layer| match layer.feed_forward {
            FeedForward::Experts { count, inner, routing, .. } => {
                Some(ExpertsShown { count, inner, chosen: routing.chosen })
            }
            FeedForward::Dense { .. } => None,
        });
        let (positions, divisor) = match spec.positions {
            Positions::Sequential { divisor } => ("in order", divisor),
            Positions::ChatGlm6b { .. } => ("two per token, context seen both ways", 1.0),
            Positions::SharedByPicture => ("in order, one for all of a picture", 1.0),
            Positions::OfGrid => ("in order, three in pictures", 1.0),
        };
        let stored_head = match checkpoint.kind() {
            CheckpointFormat::None => !spec.tied,
            _ => understood.stored(checkpoint, WeightRole::Head).is_some(),
        };
        Config {
            layers: spec.layers.len(),
            hidden: spec.hidden,
            ffn: inner,
            experts,
            vocab: spec.vocab,
            heads: heads.heads,
            kv_heads: heads.kv_heads,
            head_dim: heads.head_dim,
            context: spec.context,
            norm: match layer.norm.kind {
                NormKind::Rms => "RMSNorm",
                NormKind::Layer => "LayerNorm",
            },
            eps: layer.norm.eps,
            mlp: match activation {
                Activation::SwiGlu => "SwiGLU",
                Activation::Gelu => "GELU",
            },
            block: match layer.residual {
                Residual::PreNorm => "norm before each part",
                Residual::Sandwich => "norms before and after each part",
                Residual::ScaledNormed { .. } => "residual from the norm, scaled",
            },
            rope_base: spec.rope_base,
            rope_dims: spec.rope.sections.iter().map(|section| 2 * section.inv_freq.len()).sum(),
            rope_divisor: divisor,
            rope_magnitude: spec.rope.magnitude,
            positions,
            qkv_bias,
            linear_bias: out_bias,
            head: if stored_head { "stored" } else { "the embedding" },
        }
    }
}

impl Config {
    fn lines(&self, out: &mut Lines) {
        let c = self;
        out.add(format_args!(
            "decoder    {} layers, hidden {}, feed-forward {} ({}), vocabulary {}",
            c.layers, c.hidden, c.ffn, c.mlp, c.vocab
        ));
        if let Some(ExpertsShown { count, inner, chosen }) = c.experts {
            out.add(format_args!("experts    {chosen} of {count} a token, each {inner} wide"));
        }
        out.add(format_args!(
            "attention  {} heads of {}, {} of keys and values",
            c.heads, c.head_dim, c.kv_heads
        ));
        out.add(format_args!("block      {}, {} (eps {:e})", c.block, c.norm, c.eps));
        let divisor = if c.rope_divisor == 1.0 { String::new() } else { format!(" / {}", c.rope_divisor) };
        let scale =
            if c.rope_magnitude == 1.0 { String::new() } else { format!(", scaled by {}", c.rope_magnitude) };
        out.add(format_args!(
            "positions  {}{divisor}; rotary base {}, {} of {} elements{scale}",
            c.positions, c.rope_base, c.rope_dims, c.head_dim
        ));
        let bias = match (c.qkv_bias, c.linear_bias) {
            (_, true) => "on all linears",
            (true, false) => "on queries, keys and values",
            (false, false) => "none",
        };
        out.add(format_args!("biases     {bias}"));
        out.add(format_args!("head       {}", c.head));
        out.add(format_args!("trained    {} tokens of context", c.context));
    }
}

impl Memory {
    fn of(checkpoint: &Checkpoint, spec: &DecoderSpec, context: usize, kv_type: KvType) -> Self {
        let needed = memory(checkpoint, spec, context, kv_type, step_tokens(spec, DeviceKind::Cpu));
        Memory {
            context,
            kv_type: KV_TYPES.iter().find(|(kv, _)| *kv == kv_type).map_or("", |(_, name)| name),
            weights: needed.weights,
            kv: needed.kv,
            activations: needed.activations,
            total: needed.total(),
        }
    }
}

impl Vocabulary {
    fn of(tokenizer: &Tokenizer) -> Self {
        let kind = match tokenizer.kind() {
            TokenizerKind::Tiktoken => "tiktoken ranks",
            TokenizerKind::SentencePiece => "SentencePiece BPE",
            TokenizerKind::ChatGlm6b => "SentencePiece unigram of ChatGLM-6B",
            TokenizerKind::TokenizerJson => "tokenizer.json",
            TokenizerKind::Gguf => "from the GGUF",
            TokenizerKind::WordPiece => "WordPiece",
        };
        Vocabulary { kind, tokens: tokenizer.len(), special_tokens: tokenizer.special_tokens().count() }
    }
}

impl Unread {
    fn of(foreign: &Foreign) -> Self {
        let Foreign { name, type_name, bytes, .. } = foreign.clone();
        Unread { name, type_name, bytes }
    }
}

impl Tensor {
    fn of(info: &TensorInfo) -> Self {
        let file = info.file.file_name().map(|name| name.to_string_lossy().into_owned());
        Tensor {
            name: info.name.clone(),
            dtype: info.dtype.name(),
            shape: info.shape.clone(),
            bytes: info.bytes,
            file: file.unwrap_or_default(),
            offset: info.offset,
        }
    }
}

fn format_name(kind: CheckpointFormat) -> &'static str {
    match kind {
        CheckpointFormat::Safetensors => "safetensors",
        CheckpointFormat::PyTorch => "PyTorch",
        CheckpointFormat::Gguf => "GGUF",
        CheckpointFormat::None => "no weights",
    }
}

fn by_type(tensors: &[TensorInfo]) -> Vec<TypeTotal> {
    let mut totals: BTreeMap<DType, TypeTotal> = BTreeMap::new();
    for tensor in tensors {
        let total = totals.entry(tensor.dtype).or_insert(TypeTotal {
            name: tensor.dtype.name(),
            tensors: 0,
            bytes: 0,
        });
        total.tensors += 1;
        total.bytes += tensor.bytes as u64;
    }
    totals.into_values().collect()
}

/// Tensors that differ in nothing but the layer.
struct Folded<'a> {
    name: String,
    dtype: &'a str,
    shape: &'a [usize],
}

/// One line for each kind of tensor: `model.layers.{0-39}.mlp.down_proj.weight`.
fn fold(tensors: &[Tensor]) -> Vec<Folded<'_>> {
    let mut order = Vec::new();
    let mut layers: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for tensor in tensors {
        let (before, layer, after) = split_layer(&tensor.name);
        let key = (before, after, tensor.dtype, tensor.shape.as_slice());
        let found = layers.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        found.extend(layer);
    }
    let name = |key: &(&str, &str, _, _)| match layers[key].as_slice() {
        [] => key.0.to_owned(),
        numbers => format!("{}{{{}}}{}", key.0, ranges(numbers), key.1),
    };
    order.iter().map(|key| Folded { name: name(key), dtype: key.2, shape: key.3 }).collect()
}

/// A tensor's name around its first whole number between dots, which is the layer.
fn split_layer(name: &str) -> (&str, Option<usize>, &str) {
    let mut start = 0;
    for part in name.split('.') {
        let end = start + part.len();
        // Written as it would be printed, so that no two names fold into one.
        if let Some(layer) = part.parse::<usize>().ok().filter(|n| n.to_string() == part) {
            return (&name[..start], Some(layer), &name[end..]);
        }
        start = end + 1;
    }
    (name, None, "")
}

/// `[0, 1, 2, 5]` as `0-2,5`.
fn ranges(numbers: &[usize]) -> String {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[usize]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

fn list(stop_ids: &[StopId]) -> String {
    let shown = stop_ids.iter().map(|StopId { id, token }| match token {
        Some(token) => format!("{id} {token}"),
        None => id.to_string(),
    });
    if stop_ids.is_empty() { "none".to_owned() } else { shown.collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_fold() {
        assert_eq!(split_layer("a.12.b"), ("a.", Some(12), ".b"));
        assert_eq!(split_layer("a.b2.c"), ("a.b2.c", None, ""));
        assert_eq!(split_layer("a.007.c"), ("a.007.c", None, ""));
        assert_eq!(ranges(&[5, 0, 1, 2]), "0-2,5");
        let tensor = |name: &str, dtype| Tensor {
            name: name.to_owned(),
            dtype,
            shape: vec![2],
            bytes: 4,
            file: String::new(),
            offset: 0,
        };
        let tensors =
            [tensor("e", "F16"), tensor("l.0.w", "Q4_K"), tensor("l.1.w", "Q6_K"), tensor("l.2.w", "Q4_K")];
        let names: Vec<String> = fold(&tensors).into_iter().map(|folded| folded.name).collect();
        assert_eq!(names, ["e", "l.{0,2}.w", "l.{1}.w"]);
    }
}
