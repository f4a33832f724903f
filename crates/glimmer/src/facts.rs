//! What a model's files say of it, for whoever shows models: in the keys of GGUF, whatever the files are.

use std::collections::BTreeMap;

use glimmer_chat::reply::{CallStyle, THINK_TAGS, ThinkingStyle};
use glimmer_checkpoint::CheckpointFormat;
use glimmer_checkpoint::gguf::{Array, Metadata, Value as Stored};
use glimmer_models::export::{file_type_name, gguf_metadata};
use serde_json::{Map, Value, json};

use crate::{Chat, Error, ModelFiles, Sampling, vision};

/// What files say of a model. What they do not say is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFacts {
    /// `gguf`, `safetensors` or `pytorch`.
    pub format: &'static str,
    /// Whose conventions it follows.
    pub family: String,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Elements of its tensors.
    pub parameters: u64,
    /// The type of its weights, or the name of the mix of types.
    pub quantization: String,
    /// Tokens that it was trained for.
    pub context: usize,
    /// Elements of a token's vector.
    pub width: usize,
    /// The source of its own chat template.
    pub template: Option<String>,
    /// How tokens of its replies are chosen unless somebody says otherwise, where it reads conversations.
    pub chat_sampling: Option<Sampling>,
    /// Whether it may be given tools.
    pub calls: bool,
    /// Whether it may reason before it answers.
    pub thinks: bool,
    /// Whether it sees pictures.
    pub sees: bool,
    /// Keys of GGUF and their values: those of a GGUF as they are, but for long lists, of other files the like.
    pub keys: Map<String, Value>,
    /// Its tensors.
    pub tensors: Vec<Tensor>,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its type, such as `Q4_K`.
    pub kind: &'static str,
    /// Its shape, the outermost dimension first.
    pub shape: Vec<usize>,
}

/// Elements of a list that is shown.
const LISTED: usize = 5;

impl ModelFacts {
    /// What these files say. A part that cannot be read leaves its facts out.
    ///
    /// # Errors
    /// When there are no tensors to be found.
    pub fn read(files: &ModelFiles) -> Result<Self, Error> {
        let checkpoint = files.checkpoint()?;
        let tensors = checkpoint.tensors();
        let elements = |shape: &[usize]| shape.iter().map(|&n| n as u64).fold(1, u64::saturating_mul);
        let parameters = tensors.iter().map(|tensor| elements(&tensor.shape)).fold(0, u64::saturating_add);
        let metadata = files.metadata()?;
        let spec = files.spec().ok();
        let mut facts = ModelFacts {
            format: match checkpoint.kind() {
                CheckpointFormat::Gguf => "gguf",
                CheckpointFormat::PyTorch => "pytorch",
                CheckpointFormat::Safetensors => "safetensors",
                CheckpointFormat::None => "",
            },
            family: spec.map_or_else(String::new, |spec| spec.family.name().to_owned()),
            bytes: tensors.iter().map(|tensor| tensor.bytes as u64).sum(),
            parameters,
            quantization: quantization(files, metadata),
            context: spec.map_or(0, |spec| spec.context),
            width: spec.map_or(0, |spec| spec.hidden),
            template: files.configuration()?.chat_template().ok().flatten().map(|text| text.into_owned()),
            tensors: tensors
                .iter()
                .map(|tensor| Tensor {
                    name: tensor.name.clone(),
                    kind: tensor.dtype.name(),
                    shape: tensor.shape.clone(),
                })
                .collect(),
            ..ModelFacts::default()
        };
        facts.read_chat(files);
        facts.sees = vision::of(files).is_ok_and(|vision| vision.is_some());
        match (metadata, files.understood()) {
            (Some(metadata), _) => facts.keys = stored(metadata),
            (None, Ok(understood)) => {
                let metadata = gguf_metadata(checkpoint, understood, files.path(), 0)?;
                facts.keys = stored(&metadata);
                // Of files of another kind no number tells the types.
                facts.keys.shift_remove("general.file_type");
            }
            (None, Err(_)) => facts.read_encoder(files),
        }
        facts.keys.insert("general.parameter_count".to_owned(), parameters.into());
        Ok(facts)
    }

    /// What the configuration of an encoder says.
    fn read_encoder(&mut self, files: &ModelFiles) {
        let Some(config) = files.configuration().ok().and_then(|configuration| configuration.config()) else {
            return;
        };
        let Some(family) = config["model_type"].as_str() else { return };
        let size = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
        self.family = family.to_owned();
        (self.context, self.width) = (size("max_position_embeddings"), size("hidden_size"));
        self.keys.insert("general.architecture".to_owned(), family.into());
        for (key, name) in [
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("block_count", "num_hidden_layers"),
            ("attention.head_count", "num_attention_heads"),
            ("feed_forward_length", "intermediate_size"),
        ] {
            self.keys.insert(format!("{family}.{key}"), size(name).into());
        }
    }

    fn read_chat(&mut self, files: &ModelFiles) {
        let Ok(Chat { template, sampling, .. }) =
            files.configuration().and_then(|configuration| Chat::read(files, configuration))
        else {
            return;
        };
        let own = self.template.as_deref().unwrap_or_default();
        self.chat_sampling = Some(sampling);
        self.calls = files.tokenizer().is_ok_and(|tokenizer| CallStyle::of(&template, tokenizer).is_some());
        // A template of its own may have no place for reasoning.
        self.thinks = ThinkingStyle::of(&template).is_some()
            && (template.format().is_some() || own.contains(THINK_TAGS[0]));
    }
}

/// The mix that a GGUF names, or the type that most bytes have.
fn quantization(files: &ModelFiles, metadata: Option<&Metadata>) -> String {
    let named = metadata.and_then(|metadata| metadata.get("general.file_type").ok().flatten());
    if let Some(name) = named.and_then(file_type_name) {
        return name.to_owned();
    }
    let mut bytes = BTreeMap::<&'static str, usize>::new();
    for tensor in files.checkpoint().into_iter().flat_map(|checkpoint| checkpoint.tensors()) {
        *bytes.entry(tensor.dtype.name()).or_default() += tensor.bytes;
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or_else(String::new, |(name, _)| name.to_owned())
}

/// A GGUF's own key/values. Its name and template have places of their own.
fn stored(metadata: &Metadata) -> Map<String, Value> {
    let is_shown = |key: &str| !["general.name", "tokenizer.chat_template"].contains(&key);
    metadata
        .iter()
        .filter(|(key, _)| is_shown(key))
        .map(|(key, value)| (key.to_owned(), shown(value)))
        .collect()
}

fn shown(value: &Stored) -> Value {
    fn list<T: Copy + Into<Value>>(all: &[T]) -> Value {
        let few = if all.len() > LISTED { &[] } else { all };
        few.iter().map(|&one| one.into()).collect()
    }
    match value {
        Stored::U8(x) => (*x).into(),
        Stored::I8(x) => (*x).into(),
        Stored::U16(x) => (*x).into(),
        Stored::I16(x) => (*x).into(),
        Stored::U32(x) => (*x).into(),
        Stored::I32(x) => (*x).into(),
        Stored::U64(x) => (*x).into(),
        Stored::I64(x) => (*x).into(),
        Stored::F32(x) => (*x).into(),
        Stored::F64(x) => (*x).into(),
        Stored::Bool(x) => (*x).into(),
        Stored::Str(x) => x.as_str().into(),
        Stored::Array(array) => match array {
            Array::U8(all) => list(all),
            Array::I8(all) => list(all),
            Array::U16(all) => list(all),
            Array::I16(all) => list(all),
            Array::U32(all) => list(all),
            Array::I32(all) => list(all),
            Array::U64(all) => list(all),
            Array::I64(all) => list(all),
            Array::F32(all) => list(all),
            Array::F64(all) => list(all),
            Array::Bool(all) => list(all),
            Array::Str(all) if all.len() > LISTED => json!([]),
            Array::Str(all) => all.iter().collect(),
        },
    }
}
