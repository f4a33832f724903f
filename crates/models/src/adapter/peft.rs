//! LoRA as PEFT keeps it.
//!
//! Sources: PEFT 0.21.2, `tuners/lora/config.py` (settings), `tuners/lora/layer.py` (scaling), `tuners/lora/dora.py`,
//! `utils/other.py` (`get_pattern_key`), `utils/save_and_load.py` (names of tensors).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use glimmer_checkpoint::{Checkpoint, TensorInfo};
use glimmer_config::Quoted;
use serde_json::{Map, Value, json};

use super::low_rank::{LowRank, LowRankAdapter, Target, WeightAddress};
use super::{prefix, refused, values};
use crate::names::TensorNaming;
use crate::parts::MatrixPart;
use crate::{DecoderSpec, ModelError, WeightRole, export};

/// The file with the settings.
pub(super) const CONFIG: &str = "adapter_config.json";
/// The file with the weights, and what older versions wrote.
pub(super) const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// What PEFT's wrappers put before a model's own names.
const WRAPPERS: &str = "base_model.model.";

/// Patterns of ranks and alphas that are tried, at most.
const MOST_PATTERNS: usize = 1024;

/// Settings that change what an adapter computes and that nothing here knows: any value but these is refused.
const UNKNOWN_SETTINGS: [&str; 15] = [
    "fan_in_fan_out",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "velora_config",
    "corda_config",
    "lora_ga_config",
];

/// Initializations after which the base model's own weights were changed, so that the pairs alone say too little.
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// What `adapter_config.json` says.
struct Settings {
    rank: usize,
    alpha: f64,
    /// rsLoRA (Kalajdzievski, 2023): the product is divided by the root of the rank.
    by_root: bool,
    dora: bool,
    ranks: Patterns,
    alphas: Patterns,
    /// The modules that were trained, where they are listed.
    targets: Vec<String>,
}

/// Values for modules whose names match.
struct Patterns(Vec<(Regex, f64)>);

impl Patterns {
    fn read(config: &Value, key: &str) -> Result<Self, String> {
        let Some(Value::Object(entries)) = config.get(key) else { return Ok(Patterns(Vec::new())) };
        if entries.len() > MOST_PATTERNS {
            return Err(format!("{key} has {} entries; {MOST_PATTERNS} are read", entries.len()));
        }
        let entry = |(pattern, value): (&String, &Value)| {
            let regex = Regex::new(&format!(r"\A(?:.*\.)?(?:{pattern})\z"))
                .map_err(|_| format!("{key}: `{}` is no regular expression", Quoted(pattern)))?;
            let value = value.as_f64().filter(|value| value.is_finite());
            Ok((regex, value.ok_or_else(|| format!("{key}: `{}` has no number", Quoted(pattern)))?))
        };
        Ok(Patterns(entries.iter().map(entry).collect::<Result<_, String>>()?))
    }

    /// The value of the first pattern that a module's name ends with.
    fn of(&self, module: &str) -> Option<f64> {
        let matches = |(regex, _): &&(Regex, f64)| regex.is_match(module).unwrap_or(false);
        self.0.iter().find(matches).map(|(_, value)| *value)
    }
}

impl Settings {
    fn read(config: &Value) -> Result<Self, String> {
        let text = |key: &str| config.get(key).and_then(Value::as_str);
        let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        match text("peft_type") {
            Some("LORA") => {}
            other => {
                let found = other.unwrap_or("none");
                return Err(format!("peft_type is {}; LORA and PREFIX_TUNING are read", Quoted(found)));
            }
        }
        if let Some(bias) = text("bias").filter(|bias| *bias != "none") {
            return Err(format!(
                "bias is {}; only adapters that train no bias (none) are read",
                Quoted(bias)
            ));
        }
        let says_nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(all) => all.is_empty(),
            Value::Object(all) => all.is_empty(),
            _ => false,
        };
        let asks = |key: &str| config.get(key).is_some_and(|value| !says_nothing(value));
        if let Some(key) = UNKNOWN_SETTINGS.into_iter().find(|key| asks(key)) {
            return Err(format!("{key} is set, which is not supported"));
        }
        if let Some(init) = text("init_lora_weights")
            && CHANGES_BASE.iter().any(|known| init.to_lowercase().starts_with(known))
        {
            return Err(format!(
                "init_lora_weights is {}, which changed the base model's weights; convert it to plain LoRA with PEFT's \
                 path_initial_model_for_weight_conversion",
                Quoted(init)
            ));
        }
        let rank = config.get("r").and_then(Value::as_u64).filter(|r| (1..=1 << 16).contains(r));
        let alpha = config.get("lora_alpha").and_then(Value::as_f64).filter(|alpha| alpha.is_finite());
        let targets = config.get("target_modules").and_then(Value::as_array);
        let targets = targets.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Settings {
            rank: rank.ok_or("r is no rank between 1 and 65536")? as usize,
            alpha: alpha.ok_or("lora_alpha is no number")?,
            by_root: flag("use_rslora"),
            dora: flag("use_dora"),
            ranks: Patterns::read(config, "rank_pattern")?,
            alphas: Patterns::read(config, "alpha_pattern")?,
            targets,
        })
    }

    fn rank_of(&self, module: &str) -> usize {
        self.ranks.of(module).map_or(self.rank, |rank| rank as usize)
    }

    fn scale_of(&self, module: &str, rank: usize) -> f32 {
        let alpha = self.alphas.of(module).unwrap_or(self.alpha);
        let rank = rank as f64;
        (alpha / if self.by_root { rank.sqrt() } else { rank }) as f32
    }
}

/// Which tensor of a pair it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    A,
    B,
    Magnitude,
}

/// The module that a tensor belongs to, and which of its tensors it is. Older versions keep the adapter's name within
/// (`lora_A.default.weight`), newer ones leave it out.
fn module_of(name: &str) -> Option<(&str, Piece)> {
    let name = name.strip_prefix(WRAPPERS).unwrap_or(name);
    let (module, rest) = name.split_once(".lora_")?;
    let rest: Vec<&str> = rest.split('.').collect();
    let piece = match rest.as_slice() {
        ["A", "weight"] | ["A", _, "weight"] => Piece::A,
        ["B", "weight"] | ["B", _, "weight"] => Piece::B,
        ["magnitude_vector"] | ["magnitude_vector", _] | ["magnitude_vector", _, "weight"] => {
            Piece::Magnitude
        }
        _ => return None,
    };
    Some((module, piece))
}

/// Names of modules -> what they are in the model, and whether the layout has its rows head by head.
fn modules(spec: &DecoderSpec) -> HashMap<String, (Target, bool)> {
    let mut modules = HashMap::new();
    for target in Target::all(spec) {
        for naming in [TensorNaming::ChatGlm6b, TensorNaming::ChatGlm, TensorNaming::Hf] {
            let WeightAddress { layer, role } = target.address;
            if let Some(name) = naming.name(layer, role) {
                modules.insert(name, (target.clone(), naming.interleaves(role)));
            }
        }
    }
    modules
}

/// The file with the weights of a directory. A tensor of a type that nothing here knows is refused.
pub(super) fn open_weights(directory: &Path) -> Result<(PathBuf, Checkpoint), ModelError> {
    let Some(path) = WEIGHTS.iter().map(|name| directory.join(name)).find(|path| path.exists()) else {
        return Err(refused(directory, format!("holds neither {} nor {}", WEIGHTS[0], WEIGHTS[1])));
    };
    let checkpoint = Checkpoint::open(&path)?;
    if let Some(foreign) = checkpoint.foreign().next() {
        return Err(checkpoint.tensor(&foreign.name).err().map_or_else(|| refused(&path, ""), Into::into));
    }
    Ok((path, checkpoint))
}

/// Reads an adapter of PEFT's; `config` is its `adapter_config.json`.
pub(super) fn read(
    directory: &Path,
    config: &Value,
    spec: &DecoderSpec,
) -> Result<LowRankAdapter, ModelError> {
    let settings = Settings::read(config).map_err(|what| refused(&directory.join(CONFIG), what))?;
    let (path, checkpoint) = open_weights(directory)?;
    let modules = modules(spec);
    let mut found: BTreeMap<&str, BTreeMap<Piece, &TensorInfo>> = BTreeMap::new();
    for info in checkpoint.tensors() {
        let Some((module, piece)) = module_of(&info.name) else {
            let what = "is no tensor of a LoRA pair (lora_A.weight, lora_B.weight, lora_magnitude_vector)";
            return Err(refused(&path, format!("tensor `{}` {what}", Quoted(&info.name))));
        };
        if !modules.contains_key(module) {
            let what =
                format!("tensor `{}` is for a weight that the model does not have", Quoted(&info.name));
            return Err(refused(&path, what));
        }
        if let Some(other) = found.entry(module).or_default().insert(piece, info) {
            let what = format!("tensors `{}` and `{}` are the same", Quoted(&other.name), Quoted(&info.name));
            return Err(refused(&path, what));
        }
    }
    let is_target = |target: &String, module: &str| {
        module == target || module.strip_suffix(target.as_str()).is_some_and(|rest| rest.ends_with('.'))
    };
    let untrained =
        settings.targets.iter().find(|target| !found.keys().any(|module| is_target(target, module)));
    if let Some(target) = untrained {
        let what = format!("target_modules names {}, of which no tensor is there", Quoted(target));
        return Err(refused(&path, what));
    }
    let mut pairs = Vec::new();
    for (module, pieces) in found {
        let (target, interleaved) = &modules[module];
        let reader = PairReader { path: &path, checkpoint: &checkpoint, settings: &settings, module };
        pairs.push((target.address, reader.pair(&pieces, target, *interleaved)?));
    }
    if pairs.is_empty() {
        return Err(refused(&path, "holds no tensor"));
    }
    let order = |role: WeightRole| Target::all(spec).iter().position(|t| t.address.role == role);
    pairs.sort_by_cached_key(|(address, _)| (address.layer.unwrap_or(usize::MAX), order(address.role)));
    no_rows_twice(&path, &pairs)?;
    Ok(LowRankAdapter { pairs })
}

/// Refuses a pair beside a fused matrix and another beside a section of it.
fn no_rows_twice(path: &Path, pairs: &[(WeightAddress, LowRank)]) -> Result<(), ModelError> {
    let sections = [WeightRole::Queries, WeightRole::Keys, WeightRole::Values];
    let has = |layer, role| pairs.iter().any(|(address, _)| *address == WeightAddress { layer, role });
    for (address, _) in pairs.iter().filter(|(address, _)| address.role == WeightRole::Qkv) {
        if sections.into_iter().any(|role| has(address.layer, role)) {
            let layer = address.layer.unwrap_or(0);
            let what = format!("layer {layer} has pairs for query_key_value and for a section of it");
            return Err(refused(path, what));
        }
    }
    Ok(())
}

/// What a module's pair is read with.
struct PairReader<'a> {
    path: &'a Path,
    checkpoint: &'a Checkpoint,
    settings: &'a Settings,
    module: &'a str,
}

impl PairReader<'_> {
    fn pair(
        &self,
        pieces: &BTreeMap<Piece, &TensorInfo>,
        target: &Target,
        interleaved: bool,
    ) -> Result<LowRank, ModelError> {
        let PairReader { path, checkpoint, settings, module } = *self;
        let need = |piece, name: &str| {
            let missing = || refused(path, format!("`{}` has no {name}", Quoted(module)));
            pieces.get(&piece).copied().ok_or_else(missing)
        };
        let (rows, cols) = (target.rows.len(), target.matrix.cols);
        let rank = settings.rank_of(module);
        if rank == 0 {
            return Err(refused(path, format!("`{}` has rank 0", Quoted(module))));
        }
        let a = values(checkpoint, need(Piece::A, "lora_A")?, &[rank, cols])?;
        let mut b = values(checkpoint, need(Piece::B, "lora_B")?, &[rows, rank])?;
        let mut magnitude = match (settings.dora, pieces.get(&Piece::Magnitude)) {
            (true, _) => Some(values(checkpoint, need(Piece::Magnitude, "lora_magnitude_vector")?, &[rows])?),
            (false, None) => None,
            (false, Some(info)) => {
                let what = format!("tensor `{}` is DoRA's, and use_dora is not set", Quoted(&info.name));
                return Err(refused(path, what));
            }
        };
        if interleaved {
            b = sectioned(&target.matrix, &b);
            magnitude = magnitude.map(|magnitude| sectioned(&target.matrix, &magnitude));
        }
        Ok(LowRank { rank, a, b, scale: settings.scale_of(module, rank), magnitude })
    }
}

/// The rows of a matrix that lie head by head, section after section.
fn sectioned(matrix: &MatrixPart, values: &[f32]) -> Vec<f32> {
    let width = values.len() / matrix.rows();
    let rows = matrix.fused_rows(true).concat();
    rows.iter().flat_map(|rows| &values[rows.start * width..rows.end * width]).copied().collect()
}

/// The other way.
fn interleaved(matrix: &MatrixPart, values: &[f32]) -> Vec<f32> {
    let width = values.len() / matrix.rows();
    let mut out = vec![0.0; values.len()];
    let mut rest = values;
    for rows in matrix.fused_rows(true).concat() {
        let (mine, others) = rest.split_at(rows.len() * width);
        out[rows.start * width..rows.end * width].copy_from_slice(mine);
        rest = others;
    }
    out
}

/// What `adapter_config.json` says beside the pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftSettings {
    /// Whose names the tensors get: those of the base model's layout. [`TensorNaming::Gguf`] stands for the layout of the
    /// model's own directory.
    pub naming: TensorNaming,
    /// `base_model_name_or_path`.
    pub base: String,
    /// `lora_dropout`, of the training.
    pub dropout: f64,
    /// Whether scales are told as rsLoRA's.
    pub use_rslora: bool,
}

/// A pair as PEFT names it.
struct Named {
    module: String,
    pair: LowRank,
}

impl LowRankAdapter {
    /// Writes `adapter_config.json` and `adapter_model.safetensors` into a directory, which is made where it is not there.
    /// A pair beside a fused matrix becomes one for each section where the layout keeps them apart.
    ///
    /// # Errors
    /// When the layout has no name for a weight, or the system refuses.
    pub fn write(
        &self,
        directory: &Path,
        spec: &DecoderSpec,
        settings: &PeftSettings,
    ) -> Result<(), ModelError> {
        let naming = match settings.naming {
            naming if naming.is_gguf() => export::directory_naming(spec),
            naming => naming,
        };
        let targets = Target::all(spec);
        let mut named = Vec::new();
        for (address, pair) in &self.pairs {
            let target = targets.iter().find(|target| target.address == *address);
            let target =
                target.ok_or_else(|| refused(directory, format!("{address:?} is no weight of the model")))?;
            named.extend(name_pair(naming, target, pair)?);
        }
        let mut tensors = Vec::new();
        for Named { module, pair } in &named {
            let name = |piece: &str| format!("{WRAPPERS}{module}.lora_{piece}");
            tensors.push((name("A.weight"), pair.a.as_slice(), vec![pair.rank, pair.cols()]));
            tensors.push((name("B.weight"), pair.b.as_slice(), vec![pair.rows(), pair.rank]));
            if let Some(magnitude) = &pair.magnitude {
                tensors.push((name("magnitude_vector"), magnitude.as_slice(), vec![pair.rows()]));
            }
        }
        let config = config(&named, settings);
        prefix::write(directory, (WEIGHTS[0], tensors), (CONFIG, &config))
    }
}

/// A pair under the names of a layout.
fn name_pair(naming: TensorNaming, target: &Target, pair: &LowRank) -> Result<Vec<Named>, ModelError> {
    let WeightAddress { layer, role } = target.address;
    let matrix = &target.matrix;
    if naming != TensorNaming::Hf || role != WeightRole::Qkv {
        let mut pair = pair.clone();
        if naming.interleaves(role) {
            pair.b = interleaved(matrix, &pair.b);
            pair.magnitude = pair.magnitude.map(|magnitude| interleaved(matrix, &magnitude));
        }
        return Ok(vec![Named { module: naming.need(layer, role)?, pair }]);
    }
    let mut first = 0;
    let section = |&(role, rows): &(WeightRole, usize)| {
        let range = first..first + rows;
        first += rows;
        Ok(Named {
            module: naming.need(layer, role)?,
            pair: LowRank {
                b: pair.b[range.start * pair.rank..range.end * pair.rank].to_vec(),
                magnitude: pair.magnitude.as_ref().map(|all| all[range].to_vec()),
                ..pair.clone()
            },
        })
    };
    matrix.sections.iter().map(section).collect()
}

fn config(named: &[Named], settings: &PeftSettings) -> Value {
    let alpha = |pair: &LowRank| {
        let rank = pair.rank as f64;
        f64::from(pair.scale) * if settings.use_rslora { rank.sqrt() } else { rank }
    };
    // PEFT's alphas are whole numbers where they can be.
    let number = |value: f64| {
        let whole = value.round();
        if (value - whole).abs() < 1e-5 * whole.abs().max(1.0) { json!(whole as i64) } else { json!(value) }
    };
    let common = named.iter().max_by_key(|one| one.pair.rank).map(|one| &one.pair);
    let (rank, common_alpha) = common.map_or((1, json!(1)), |pair| (pair.rank, number(alpha(pair))));
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for Named { module, pair } in named {
        if pair.rank != rank {
            ranks.insert(fancy_regex::escape(module).into_owned(), pair.rank.into());
        }
        if number(alpha(pair)) != common_alpha {
            alphas.insert(fancy_regex::escape(module).into_owned(), number(alpha(pair)));
        }
    }
    let mut targets: Vec<&str> =
        named.iter().map(|one| one.module.rsplit('.').next().unwrap_or(&one.module)).collect();
    targets.sort_unstable();
    targets.dedup();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": settings.base,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": common_alpha,
        "lora_dropout": settings.dropout,
        "use_rslora": settings.use_rslora,
        "use_dora": named.iter().any(|one| one.pair.magnitude.is_some()),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "modules_to_save": null,
    })
}
