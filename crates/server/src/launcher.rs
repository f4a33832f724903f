//! What the server asks of whoever knows catalogue, hubs and files, so that clients can have models launched by name. What is
//! shown of models has the field names of Xinference.

use std::collections::BTreeMap;
use std::path::PathBuf;

use glimmer::KnownModel;
use serde::Serialize;
use serde_json::Value;

/// Kinds of models, as Xinference names those that run here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ModelType {
    /// Writes text.
    #[default]
    #[serde(rename = "LLM")]
    Llm,
    /// Makes vectors of texts.
    #[serde(rename = "embedding")]
    Embedding,
    /// Scores pairs of texts.
    #[serde(rename = "rerank")]
    Rerank,
}

impl ModelType {
    /// What models of it can do, in Xinference's words, where nothing more is known of one.
    pub fn ability(self) -> &'static str {
        match self {
            ModelType::Llm => "chat",
            ModelType::Embedding => "embed",
            ModelType::Rerank => "rerank",
        }
    }
}

/// How many cards a model is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gpus {
    /// As the operator said.
    #[default]
    Auto,
    /// So many; none is the processor.
    Count(usize),
}

/// A model that is asked for by name.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// Its kind.
    pub model_type: ModelType,
    /// The catalogue's name.
    pub name: String,
    /// The engine's name, every one of which means the one that is here.
    pub engine: Option<String>,
    /// Billions of parameters, such as `1_5`.
    pub size: Option<String>,
    /// `pytorch` or `ggufv2`.
    pub format: Option<String>,
    /// A quantization of that format.
    pub quantization: Option<String>,
    /// Conversations of full length that it is to have room for.
    pub replica: usize,
    /// Its cards.
    pub gpus: Gpus,
    /// Requests at once, waiting ones among them; more are refused.
    pub request_limits: Option<usize>,
    /// Tokens of a conversation.
    pub context: Option<usize>,
    /// `huggingface` or `modelscope`.
    pub hub: Option<String>,
    /// Its files, where they are on this machine already.
    pub path: Option<PathBuf>,
    /// Whether the client accepts the model's licence.
    pub accepts_licence: bool,
}

/// What is known of a model before it is opened. What nothing tells is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct ModelDescription {
    /// Its kind.
    pub model_type: ModelType,
    /// The catalogue's name.
    pub model_name: String,
    /// Languages.
    pub model_lang: Vec<String>,
    /// `chat`, `generate`, `embed`, `rerank` and others.
    pub model_ability: Vec<String>,
    /// A sentence about it.
    pub model_description: Option<String>,
    /// What kind of files it has.
    pub model_format: Option<String>,
    /// Billions of parameters: a whole number, or a text such as `1_5`.
    pub model_size_in_billions: Option<Value>,
    /// The page of the catalogue.
    pub model_family: Option<String>,
    /// The quantization of its files.
    pub quantization: Option<String>,
    /// The hub that its files are from, where only one is known to have them.
    pub model_hub: Option<String>,
    /// Their revision.
    pub revision: Option<String>,
    /// Tokens that it was trained for.
    pub context_length: Option<u64>,
    /// The engine, in the client's word.
    pub model_engine: Option<String>,
}

impl ModelDescription {
    /// Of a model of which nothing but this is known.
    pub fn unknown(model_type: ModelType, name: &str, abilities: &[&str]) -> Self {
        ModelDescription {
            model_type,
            model_name: name.to_owned(),
            model_lang: Vec::new(),
            model_ability: abilities.iter().map(|&ability| ability.to_owned()).collect(),
            model_description: None,
            model_format: None,
            model_size_in_billions: None,
            model_family: None,
            quantization: None,
            model_hub: None,
            revision: None,
            context_length: None,
            model_engine: None,
        }
    }
}

impl ModelDescription {
    /// What it is called among [`CachedModel`]s.
    pub fn version(&self) -> String {
        let word = |text: &Option<String>| text.as_deref().unwrap_or("none").to_owned();
        let size = match &self.model_size_in_billions {
            Some(Value::String(size)) => size.clone(),
            Some(size) => size.to_string(),
            None => String::new(),
        };
        format!("{}--{size}B--{}--{}", self.model_name, word(&self.model_format), word(&self.quantization))
    }
}

/// Whoever waits for a model.
pub trait LaunchWatch: Sync {
    /// How many bytes of all that are wanted are here.
    fn progress(&self, done: u64, total: u64);

    /// Something that the operator and the client should know.
    fn note(&self, text: &str);

    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// Why a model is not launched, or a question about models has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaunchError {
    /// What was asked for makes no sense, or is not there.
    #[error("{0}")]
    Invalid(String),
    /// Somebody has to accept a licence first.
    #[error("{0}")]
    Licence(String),
    /// It was tried and failed.
    #[error("{0}")]
    Failed(String),
    /// It was stopped.
    #[error("the launch was cancelled")]
    Cancelled,
}

/// Turns names into models, and knows which names there are.
pub trait Launcher: Send + Sync {
    /// The one model that is meant. Asks nobody and opens nothing large.
    ///
    /// # Errors
    /// When there is no such model, or it cannot be run here.
    fn resolve(&self, spec: LaunchSpec) -> Result<Box<dyn Launch>, LaunchError>;

    /// All models of a kind that can be launched by name.
    ///
    /// # Errors
    /// When they cannot be read.
    fn registrations(&self, kind: ModelType) -> Result<Vec<Registration>, LaunchError>;

    /// Adds a model in Xinference's custom JSON, for as long as the server runs or, with `persist`, for good.
    ///
    /// # Errors
    /// When it makes no sense, its name is taken, or it cannot be written down.
    fn register(&self, kind: ModelType, model: &str, persist: bool) -> Result<(), LaunchError>;

    /// Removes a model that was added.
    ///
    /// # Errors
    /// When there is none of this name, or it was not added.
    fn unregister(&self, kind: ModelType, name: &str) -> Result<(), LaunchError>;

    /// By engine, the forms in which a model runs.
    ///
    /// # Errors
    /// When there is no such model.
    fn engines(&self, kind: ModelType, name: &str) -> Result<BTreeMap<String, Vec<EngineForm>>, LaunchError>;

    /// The models whose files are here, or those of one name.
    ///
    /// # Errors
    /// When a cache cannot be read.
    fn cached(&self, name: Option<&str>) -> Result<Vec<CachedModel>, LaunchError>;

    /// Removes the files of a [`CachedModel::model_version`]; returns whether there were any.
    ///
    /// # Errors
    /// When one cannot be removed.
    fn remove_cached(&self, version: &str) -> Result<bool, LaunchError>;
}

/// A model that was found, and whose files are to be had.
pub trait Launch: Send {
    /// What is known of it.
    fn description(&self) -> ModelDescription;

    /// The model, if all its files are on this machine; nobody is asked.
    fn here(&self, names: Vec<String>) -> Option<KnownModel>;

    /// Fetches what is missing; the model is loaded by whoever is given it.
    ///
    /// # Errors
    /// When the files cannot be had, or it is stopped.
    fn fetch(&self, names: Vec<String>, watch: &dyn LaunchWatch) -> Result<KnownModel, LaunchError>;
}

/// A model that can be launched by name.
#[derive(Clone, Debug, Serialize)]
pub struct Registration {
    /// The version of this form.
    pub version: u32,
    /// Its name.
    pub model_name: String,
    /// Whether Glimmer brings it along.
    pub is_builtin: bool,
    /// Tokens that it was trained for.
    pub context_length: Option<u64>,
    /// Languages.
    pub model_lang: Vec<String>,
    /// `chat`, `generate` and others.
    pub model_ability: Vec<String>,
    /// A sentence about it.
    pub model_description: String,
    /// Whose conventions it follows.
    pub model_family: String,
    /// Its forms, of which those that do not run here have no engine.
    pub model_specs: Vec<RegisteredForm>,
    /// Ids that end an answer.
    pub stop_token_ids: Vec<u32>,
    /// The class that its configuration names.
    pub architectures: Vec<String>,
    /// Elements of the vectors that it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<usize>,
    /// Tokens of a text that it makes a vector of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Languages, as Xinference calls them there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub language: Vec<String>,
}

/// One quantization of one form of a model on one hub.
#[derive(Clone, Debug, Serialize)]
pub struct RegisteredForm {
    /// What kind of files.
    pub model_format: String,
    /// Billions of parameters.
    pub model_size_in_billions: Option<Value>,
    /// Those that work on a token, where they are fewer.
    pub activated_size_in_billions: Option<Value>,
    /// The quantization.
    pub quantization: String,
    /// The hub.
    pub model_hub: Option<String>,
    /// The repository.
    pub model_id: Option<String>,
    /// Its revision.
    pub model_revision: Option<String>,
    /// Where the files are, if on no hub.
    pub model_uri: Option<String>,
    /// A file's name, with `{quantization}` in it.
    pub model_file_name_template: Option<String>,
    /// Whether its files are all on this machine.
    pub cache_status: bool,
}

/// One form of a model in which an engine runs it.
#[derive(Clone, Debug, Serialize)]
pub struct EngineForm {
    /// The model.
    pub model_name: String,
    /// What kind of files.
    pub model_format: String,
    /// Billions of parameters.
    pub model_size_in_billions: Value,
    /// The quantizations that run.
    pub quantizations: Vec<String>,
}

/// A model whose files are on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct CachedModel {
    /// Its name.
    pub model_name: String,
    /// Billions of parameters.
    pub model_size_in_billions: Value,
    /// What kind of files.
    pub model_format: String,
    /// The quantization.
    pub quantization: String,
    /// All of these in one word.
    pub model_version: String,
    /// The model's folder or file.
    pub path: PathBuf,
}
