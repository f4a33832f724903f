//! `glimmer synth`: a model of random weights with the shapes, types and files of a published one, to measure with.
//!
//! What is written follows from the published configuration as `convert` would have it of the published weights:
//! names, shapes, choice of types and key/values are the same code. The bytes depend on the seed and the tensor's name
//! alone.

mod blocks;
mod vocabulary;

use std::num::NonZero;
use std::path::Path;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use glimmer_checkpoint::gguf::GgufWriter;
use glimmer_checkpoint::{Checkpoint, CheckpointError, NewTensor};
use glimmer_models::export::{
    Mix, Outgoing, TensorKind, WeightTypes, config_json, directory_naming, gguf_metadata, promised,
};
use glimmer_models::names::TensorNaming;
use glimmer_models::{FeedForward, Residual, Understood, published_config, understand};
use glimmer_tensor::DType;
use glimmer_tokenizer::{GgufVocab, Tokenizer};
use serde_json::{Map, Value};

use super::convert::clear_leftovers;
use super::convert::directory::{begin, pretty, refuse_precious};
use super::convert::tokenizer_json::{tokenizer_config, tokenizer_json};
use super::convert::vocabulary::{set_ends, set_keys};
use crate::WrongUsage;
use crate::args::SynthArgs;
use crate::interrupt::Interrupt;
use crate::random::Random;
use crate::terminal::Terminal;
use blocks::{Values, fill};

/// Bytes that are made at a time, about: enough to hand over, few enough for the caches.
const PIECE: usize = 1 << 20;

/// Room on the disk for what is not weights: headers and a vocabulary.
const SPARE: u64 = 64 << 20;

/// Writes OUT.
pub(crate) fn run(args: &SynthArgs, terminal: &Terminal) -> anyhow::Result<()> {
    let begun = Instant::now();
    let checkpoint = Checkpoint::without_weights(&args.output, configuration(args)?);
    let understood = understand(&checkpoint, None)?;
    clear_leftovers(&args.output, terminal);
    let interrupt = Interrupt::listen()?;
    let job = Job { args, checkpoint: &checkpoint, understood: &understood, interrupt, terminal };
    let is_gguf = args.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let bytes = if is_gguf { job.write_gguf()? } else { job.write_directory()? };
    let (seconds, shown) = (begun.elapsed().as_secs_f64(), args.output.display());
    let rate = bytes as f64 / 1e6 / seconds;
    terminal.note(&format!("{shown}: {bytes} bytes of random weights in {seconds:.1} s, {rate:.0} MB/s"));
    Ok(())
}

/// The published configuration under a name that says what this is, with as many layers as were asked for.
fn configuration(args: &SynthArgs) -> anyhow::Result<Value> {
    let mut config = published_config(args.name).context("no model of this name was published")?;
    config["_name_or_path"] = format!("{}-random", args.name).into();
    if let Some(layers) = args.layers {
        let key = if config.get("num_layers").is_some() { "num_layers" } else { "num_hidden_layers" };
        let most = config[key].as_u64().unwrap_or(0);
        if layers as u64 > most {
            bail!(WrongUsage(format!("--layers {layers}: {} has {most}", args.name)));
        }
        let dense = config["first_k_dense_replace"].as_u64().unwrap_or(0);
        if layers as u64 <= dense && dense < most {
            let shown =
                format!("--layers {layers}: the first {dense} of {} have no experts; take more", args.name);
            bail!(WrongUsage(shown));
        }
        config[key] = layers.into();
    }
    Ok(config)
}

/// What both formats are made from.
struct Job<'a> {
    args: &'a SynthArgs,
    checkpoint: &'a Checkpoint,
    understood: &'a Understood,
    interrupt: Interrupt,
    terminal: &'a Terminal,
}

impl Job<'_> {
    /// Answers the bytes of all tensors.
    fn write_gguf(&self) -> anyhow::Result<u64> {
        let (path, spec) = (&self.args.output, &self.understood.spec);
        ensure!(self.args.force || !path.is_file(), "{}: exists; --force replaces it", path.display());
        let types = self.args.types.unwrap_or(WeightTypes::Mix(Mix::Q4_K_M));
        if let WeightTypes::One(DType::RowI8 | DType::RowI4) = types {
            bail!(WrongUsage(
                "INT8 and INT4 are types of ChatGLM-6B's own layout: let OUT be a directory".to_owned()
            ));
        }
        let promised = promised(self.understood, TensorNaming::Gguf)?;
        let chosen = types.choose(spec, &promised);
        let tensors = plan(&promised, &chosen);
        let bytes = self.check_room(&tensors)?;

        let file_type = types.file_type(&promised, &chosen);
        let mut metadata = gguf_metadata(self.checkpoint, self.understood, path, file_type)?;
        metadata.set("general.description", self.description());
        let mut vocab = match self.vocabulary()? {
            Some(vocab) => vocab,
            // llama.cpp's word for a file without a vocabulary.
            None => GgufVocab { model: "none".to_owned(), ..GgufVocab::default() },
        };
        if !vocab.tokens.is_empty() {
            // llama.cpp counts tokens to know the embedding's rows.
            vocab.pad_to(spec.vocab);
        }
        set_ends(&mut vocab, &self.stop_ids(), spec.vocab);
        set_keys(&mut metadata, vocab);
        let mut file = GgufWriter::create(path, &metadata, &announced(&tensors))?;
        self.stream(&tensors, bytes, |name, bytes| file.write(name, bytes))?;
        file.finish()?;
        Ok(bytes)
    }

    /// Answers the bytes of all tensors.
    fn write_directory(&self) -> anyhow::Result<u64> {
        let (args, spec) = (self.args, &self.understood.spec);
        if spec.layers.iter().any(|layer| matches!(layer.feed_forward, FeedForward::Experts { .. })) {
            bail!(WrongUsage(
                "models with experts are written as GGUF alone: let OUT end in .gguf".to_owned()
            ));
        }
        let original = matches!(spec.layers[0].residual, Residual::ScaledNormed { .. });
        let published = if original { DType::F16 } else { DType::BF16 };
        let dtype = match args.types.unwrap_or(WeightTypes::One(published)) {
            WeightTypes::One(dtype @ (DType::F32 | DType::F16 | DType::BF16)) => dtype,
            WeightTypes::One(dtype @ (DType::RowI8 | DType::RowI4)) if original => dtype,
            _ => bail!(WrongUsage(
                "a directory holds weights as F32, F16 or BF16, and of chatglm-6b as INT8 or INT4; for other types let \
                 OUT end in .gguf"
                    .to_owned()
            )),
        };
        let replaces = refuse_precious(&args.output, args.force)?;
        let promised = promised(self.understood, directory_naming(spec))?;
        // Of the packed models' tensors, only the blocks' matrices are packed.
        let floats = if matches!(dtype, DType::RowI8 | DType::RowI4) { published } else { dtype };
        let chosen: Vec<DType> = promised.iter().map(|t| if packable(t) { dtype } else { floats }).collect();
        let tensors = plan(&promised, &chosen);
        let bytes = self.check_room(&tensors)?;

        let mut directory = begin(&args.output, &announced(&tensors), replaces)?;
        let mut config = config_json(self.checkpoint, self.understood, &promised, floats);
        if let DType::RowI8 | DType::RowI4 = dtype {
            config["quantization_bit"] = if dtype == DType::RowI8 { 8 } else { 4 }.into();
            config["quantization_embeddings"] = false.into();
        }
        directory.add_file("config.json", &pretty(&config))?;
        let ends: Map<String, Value> = ["eos_token_id", "pad_token_id"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), config.get(key)?.clone())))
            .collect();
        directory.add_file("generation_config.json", &pretty(&ends.into()))?;
        directory.add_file("README.md", format!("{}\n", self.description()).as_bytes())?;
        if let Some(vocab) = self.vocabulary()? {
            let tokenizer = Tokenizer::from_gguf(&vocab)?;
            if let Some(json) = tokenizer_json(&vocab, tokenizer.wrap().0) {
                directory.add_file("tokenizer.json", json.to_string().as_bytes())?;
                let config = tokenizer_config(&vocab, spec.context);
                directory.add_file("tokenizer_config.json", &pretty(&config))?;
            }
        }
        self.stream(&tensors, bytes, |name, bytes| directory.write(name, bytes))?;
        directory.finish()?;
        Ok(bytes)
    }

    fn description(&self) -> String {
        let SynthArgs { name, seed, .. } = self.args;
        format!(
            "Random weights (seed {seed}) in the shapes of {name}: for measurements, it has learnt nothing."
        )
    }

    fn vocabulary(&self) -> anyhow::Result<Option<GgufVocab<'static>>> {
        let family = self.understood.spec.family;
        let vocab = vocabulary::of(family)?;
        if vocab.is_none() {
            let name = family.name();
            self.terminal.note(&format!(
                "no vocabulary of {name} is at hand: the model will take token ids, but no text"
            ));
        }
        Ok(vocab)
    }

    fn stop_ids(&self) -> Vec<u32> {
        let ids = self.checkpoint.config().and_then(|config| config.get("eos_token_id"));
        let ids = ids.map_or(&[][..], |ids| ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice));
        ids.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()).collect()
    }

    /// The bytes of all tensors, which the disk must have room for.
    fn check_room(&self, tensors: &[Tensor]) -> anyhow::Result<u64> {
        let bytes: u64 = tensors.iter().map(|tensor| tensor.bytes() as u64).sum();
        let out = &self.args.output;
        let parent = out.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        let room = fs4::available_space(parent).with_context(|| parent.display().to_string())?;
        ensure!(
            bytes + SPARE <= room,
            "{}: {bytes} bytes are to be written, but its disk has room for {room} only",
            out.display()
        );
        Ok(bytes)
    }

    /// Makes tensor after tensor, several pieces at once, and hands the bytes to `write`.
    fn stream(
        &self,
        tensors: &[Tensor],
        total: u64,
        mut write: impl FnMut(&str, &[u8]) -> Result<(), CheckpointError>,
    ) -> anyhow::Result<()> {
        let threads =
            self.args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
        let (pieces, seed) = (pieces(tensors), self.args.seed);
        let bar = self.terminal.bytes_bar("writing", total);
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..threads)
                .map(|first| {
                    let (sender, receiver) = mpsc::sync_channel(1);
                    let mut mine = pieces.iter().skip(first).step_by(threads);
                    // When the receiver is gone, writing has failed.
                    scope.spawn(move || mine.all(|piece| sender.send(piece.make(seed)).is_ok()));
                    receiver
                })
                .collect();
            for (piece, maker) in pieces.iter().zip(makers.iter().cycle()) {
                let bytes = maker.recv().context("a thread that makes weights has ended early")?;
                self.interrupt.check().with_context(|| self.args.output.display().to_string())?;
                write(&piece.tensor.announced.name, &bytes)?;
                bar.inc(bytes.len() as u64);
            }
            anyhow::Ok(())
        })?;
        bar.finish_and_clear();
        Ok(())
    }
}

/// A tensor as it goes to the file.
struct Tensor {
    announced: NewTensor,
    values: Values,
}

impl Tensor {
    fn bytes(&self) -> usize {
        self.announced.dtype.bytes_for(self.announced.shape.iter().product()).unwrap_or(0)
    }
}

/// The tensors of the file: one for each that is promised, and the row scales of packed ones.
fn plan(promised: &[Outgoing<'_>], types: &[DType]) -> Vec<Tensor> {
    let mut tensors = Vec::with_capacity(promised.len());
    for (tensor, &dtype) in promised.iter().zip(types) {
        let name = tensor.name.clone();
        let rows = tensor.shape[0];
        let (bytes_per_row, integers, scales) = match dtype {
            DType::RowI8 => (tensor.width(), Values::Bytes, Values::ScalesOfBytes),
            DType::RowI4 => (tensor.width() / 2, Values::Nibbles, Values::ScalesOfNibbles),
            _ => {
                let is_scale = tensor.kind == TensorKind::Scale;
                let values = if is_scale { Values::NearOne } else { Values::Weights };
                tensors.push(Tensor { announced: tensor.announce(dtype), values });
                continue;
            }
        };
        let scale = NewTensor { name: format!("{name}_scale"), dtype: DType::F16, shape: vec![rows] };
        let packed = NewTensor { name, dtype: DType::I8, shape: vec![rows, bytes_per_row] };
        tensors.push(Tensor { announced: packed, values: integers });
        tensors.push(Tensor { announced: scale, values: scales });
    }
    tensors
}

fn announced(tensors: &[Tensor]) -> Vec<NewTensor> {
    tensors.iter().map(|tensor| tensor.announced.clone()).collect()
}

/// Whether ChatGLM's INT8 and INT4 pack this tensor.
fn packable(tensor: &Outgoing<'_>) -> bool {
    tensor.kind == TensorKind::Matrix && tensor.layer.is_some()
}

/// Some bytes of a tensor.
struct Piece<'a> {
    tensor: &'a Tensor,
    /// Which one of the tensor's pieces.
    index: u64,
    bytes: usize,
}

fn pieces(tensors: &[Tensor]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for tensor in tensors {
        let block = tensor.announced.dtype.block_bytes();
        let (step, total) = (PIECE / block * block, tensor.bytes());
        let sizes = (0..total).step_by(step).map(|begin| step.min(total - begin));
        pieces.extend((0..).zip(sizes).map(|(index, bytes)| Piece { tensor, index, bytes }));
    }
    pieces
}

impl Piece<'_> {
    fn make(&self, seed: u64) -> Vec<u8> {
        let Tensor { announced, values } = self.tensor;
        // FNV-1a: what a tensor holds does not depend on the tensors beside it.
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let name = announced.name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        let mut bytes = vec![0; self.bytes];
        fill(announced.dtype, *values, &mut Random::new(&[seed, name, self.index]), &mut bytes);
        bytes
    }
}
