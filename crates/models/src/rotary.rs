//! The rotary embedding that a configuration asks for: transformers' keys and llama.cpp's.
//!
//! Sources: transformers 5.24, `modeling_rope_utils.py` (`convert_rope_params_to_dict`, `standardize_rope_params`,
//! `_compute_linear_scaling_rope_parameters`, `_compute_yarn_parameters`) and `modeling_glm.py`; llama.cpp's
//! `ggml_rope_yarn_corr_dims` and `llama-model.cpp`.

use glimmer_checkpoint::gguf;
use glimmer_tensor::{Rope, RopePairs, RopeSection};
use serde_json::{Map, Value};

use crate::ModelError;
use crate::config::{Keys, quoted, shown};
use crate::rope::{self, Yarn, yarn_magnitude};

/// The most times that a context may be stretched: a thousand times what was ever published.
const MAX_FACTOR: f64 = 16_384.0;

/// What scaling changes, beside its frequencies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rotary {
    pub(crate) rope: Rope,
    /// Before any scaling.
    pub(crate) base: f64,
    /// Elements that the frequencies are made for: where that is odd, one more is rotated.
    pub(crate) dims: usize,
    /// What positions are divided by.
    pub(crate) divisor: f32,
    /// The parameters of YaRN, where the frequencies are YaRN's.
    pub(crate) yarn: Option<Yarn>,
}

/// How positions beyond the training are reached.
enum Scaling {
    None,
    Linear(f64),
    Yarn(Yarn),
}

/// The rotary embedding of transformers' Glm classes, and a warning where the file contradicts itself: in the hub's old
/// style (`rope_theta`, `rope_scaling`), the new (`rope_parameters`), or both. `share` of a head is rotated where nothing is said.
pub(crate) fn of_transformers(
    keys: &Keys<'_>,
    config: &Value,
    head_dim: usize,
    share: f64,
    context: usize,
) -> Result<(Rotary, Option<String>), ModelError> {
    let block = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(block)) => Ok(Some(block).filter(|block| !block.is_empty())),
        Some(other) => Err(keys.wrong(key, other, "an object with rope_type")),
    };
    let (old, new) = (block("rope_scaling")?, block("rope_parameters")?);
    let read = |block| Parameters { keys, config, block, share }.rotary(head_dim, context);
    let used = read(old.or(new))?;
    let warning = match (old, new) {
        (Some(_), Some(new)) if read(Some(new)).ok().as_ref() != Some(&used) => Some(format!(
            "rope_scaling and rope_parameters disagree: rope_scaling is followed, with rotary base {}, as in transformers; \
             remove the other from config.json",
            used.base
        )),
        _ => None,
    };
    Ok((used, warning))
}

/// One block of rotary parameters, and the keys beside it that stand in for some of its own.
struct Parameters<'a> {
    keys: &'a Keys<'a>,
    config: &'a Value,
    block: Option<&'a Map<String, Value>>,
    /// The share of a head that is rotated where nothing is said.
    share: f64,
}

impl Parameters<'_> {
    fn rotary(&self, head_dim: usize, context: usize) -> Result<Rotary, ModelError> {
        let nested = self.block.into_iter().flatten().find(|(_, value)| value.is_object());
        if let Some((name, _)) = nested {
            let name = quoted(name);
            return Err(self.keys.error(format!("rotary parameters for {name} alone are not supported")));
        }
        let base = self.number("rope_theta")?.or(self.keys.number("rope_theta")?).unwrap_or(10_000.0);
        let share = match (self.number("partial_rotary_factor")?, self.config.get("partial_rotary_factor")) {
            (Some(share), _) => share,
            (None, None) => self.share,
            // The classes' default goes away where something is said, and this says: all.
            (None, Some(Value::Null)) => 1.0,
            (None, Some(_)) => self.keys.float("partial_rotary_factor", self.share)?,
        };
        if !(share > 0.0 && share <= 1.0) {
            let range = "it must be over 0 and at most 1";
            return Err(self.keys.error(format!("partial_rotary_factor is {}; {range}", shown(share))));
        }
        self.keys.rotary(base, rotary_dims(head_dim, share), head_dim, self.scaling(context)?)
    }

    fn scaling(&self, context: usize) -> Result<Scaling, ModelError> {
        let kind = self.block.and_then(|block| block.get("rope_type").or_else(|| block.get("type")));
        let missing = || self.keys.error("the rotary scaling has no factor; add the one of the model's card");
        match kind {
            None => Ok(Scaling::None),
            Some(Value::String(kind)) => match kind.as_str() {
                "default" => Ok(Scaling::None),
                "linear" => Ok(Scaling::Linear(self.number("factor")?.ok_or_else(missing)?)),
                // One that is null follows from the contexts.
                "yarn" if self.block.is_some_and(|block| block.contains_key("factor")) => {
                    Ok(Scaling::Yarn(self.yarn(context as f64)?))
                }
                "yarn" => Err(missing()),
                other => {
                    let other = quoted(other);
                    Err(self
                        .keys
                        .error(format!("rope_type {other} is not supported; default, linear and yarn are")))
                }
            },
            Some(other) => Err(self.keys.wrong("rope_type", other, "default, linear or yarn")),
        }
    }

    fn yarn(&self, context: f64) -> Result<Yarn, ModelError> {
        let beside = self.keys.number("original_max_position_embeddings")?;
        let original_context = beside.or(self.number("original_max_position_embeddings")?).unwrap_or(context);
        let factor = self.number("factor")?.unwrap_or(context / original_context);
        let some = |key: &str| Ok::<_, ModelError>(self.number(key)?.filter(|number| *number != 0.0));
        let attention_factor =
            match (self.number("attention_factor")?, some("mscale")?, some("mscale_all_dim")?) {
                (Some(stated), _, _) => Some(stated),
                (None, Some(mscale), Some(all)) => {
                    Some(yarn_magnitude(factor, mscale) / yarn_magnitude(factor, all))
                }
                _ => None,
            };
        let truncate = match self.block.and_then(|block| block.get("truncate")) {
            None | Some(Value::Null) => true,
            Some(Value::Bool(truncate)) => *truncate,
            Some(other) => return Err(self.keys.wrong("truncate", other, "true or false")),
        };
        Ok(Yarn {
            factor,
            original_context,
            beta_fast: some("beta_fast")?.unwrap_or(32.0),
            beta_slow: some("beta_slow")?.unwrap_or(1.0),
            attention_factor,
            truncate,
        })
    }

    /// A number of the block itself.
    fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.block.and_then(|block| block.get(key)).map_or(Ok(None), |value| self.keys.number_in(key, value))
    }
}

/// Positions of time, rows and columns, by transformers' `mrope_section`: so many of the frequencies follow each, in this
/// order (`apply_multimodal_rotary_pos_emb` of transformers' `modeling_glm4v.py`).
pub(crate) fn of_grid(keys: &Keys<'_>, config: &Value, rope: &Rope) -> Result<Rope, ModelError> {
    const KEY: &str = "mrope_section";
    let block = ["rope_scaling", "rope_parameters"].iter().find_map(|key| config.get(key)?.get(KEY));
    let block = block.ok_or_else(|| keys.error("mrope_section is missing; GLM-4.1V's is [8, 12, 12]"))?;
    let counts = block.as_array().and_then(|counts| {
        counts.iter().map(|count| count.as_u64().and_then(|count| usize::try_from(count).ok())).collect()
    });
    let counts: Vec<usize> = counts.ok_or_else(|| keys.wrong(KEY, block, "three whole numbers"))?;
    by_axes(&counts, rope)
        .ok_or_else(|| keys.wrong(KEY, block, &format!("three numbers that sum to {}", rope.pair_count())))
}

/// The same by llama.cpp's `rope.dimension_sections`, whose fourth number no GLM has. The first elements of all pairs of a head
/// come before the second ones: its converter puts the rows of queries and keys so (`Glm4Model.normal_to_neox` of
/// `conversion/glm.py`).
pub(crate) fn of_grid_gguf(keys: &Keys<'_>, sections: &[i32], rope: &Rope) -> Result<Rope, ModelError> {
    let counts: Option<Vec<usize>> = sections.iter().map(|n| usize::try_from(*n).ok()).collect();
    let across = Rope { pairs: RopePairs::Across, ..rope.clone() };
    let divided = match counts.as_deref() {
        Some([counts @ .., 0]) => by_axes(counts, &across),
        _ => None,
    };
    divided.ok_or_else(|| {
        let pairs = rope.pair_count();
        keys.error(format!("rope.dimension_sections are not three numbers that sum to {pairs}, and 0"))
    })
}

/// Gives so many of the frequencies to each axis, in order; `None` where they are not three that sum to all, or are given away
/// already.
fn by_axes(counts: &[usize], rope: &Rope) -> Option<Rope> {
    let [whole] = rope.sections.as_slice() else { return None };
    let sum = counts.iter().try_fold(0usize, |sum, &n| sum.checked_add(n))?;
    if counts.len() != 3 || sum != rope.pair_count() {
        return None;
    }
    let mut at = 0;
    let section = |(axis, &count): (usize, &usize)| {
        let inv_freq = whole.inv_freq[at..at + count].to_vec();
        let each = if rope.pairs == RopePairs::Across { 1 } else { 2 };
        let first_dim = whole.first_dim + each * at;
        at += count;
        RopeSection { axis, first_dim, inv_freq }
    };
    Some(Rope { sections: counts.iter().enumerate().map(section).collect(), ..rope.clone() })
}

/// The rotary embedding of the original layout, of half a head: `rope_ratio` divides ChatGLM2's positions and multiplies
/// the others' base.
pub(crate) fn of_ratio(
    keys: &Keys<'_>,
    ratio: f64,
    divides: bool,
    head_dim: usize,
) -> Result<Rotary, ModelError> {
    let (base, scaling) =
        if divides { (10_000.0, Scaling::Linear(ratio)) } else { (10_000.0 * ratio, Scaling::None) };
    keys.rotary(base, head_dim / 2, head_dim, scaling)
}

/// Rotated elements of a head: Python's `int(head_dim * factor)`.
pub(crate) fn rotary_dims(head_dim: usize, factor: f64) -> usize {
    (head_dim as f64 * factor) as usize
}

/// The rotary embedding of a GGUF by llama.cpp's keys. `key` puts the architecture before a name.
pub(crate) fn of_gguf(
    keys: &Keys<'_>,
    metadata: &gguf::Metadata,
    key: &dyn Fn(&str) -> String,
    head_dim: usize,
    context: usize,
) -> Result<Rotary, ModelError> {
    let base = keys.float(&key("rope.freq_base"), 10_000.0)?;
    let dims = keys.optional(&key("rope.dimension_count"))?.unwrap_or(head_dim);
    let factor = keys.float(&key("rope.scaling.factor"), 1.0)?;
    let scaling = match metadata.get::<&str>(&key("rope.scaling.type"))? {
        None | Some("none") => Scaling::None,
        Some("linear") => Scaling::Linear(factor),
        Some("yarn") => Scaling::Yarn(Yarn {
            factor,
            original_context: keys.float(&key("rope.scaling.original_context_length"), context as f64)?,
            beta_fast: keys.float(&key("rope.scaling.yarn_beta_fast"), 32.0)?,
            beta_slow: keys.float(&key("rope.scaling.yarn_beta_slow"), 1.0)?,
            // llama.cpp multiplies its own factor by this one, where transformers' replaces it.
            attention_factor: keys
                .number(&key("rope.scaling.attn_factor"))?
                .map(|extra| f64::from(yarn_magnitude(factor, 1.0) as f32 * extra as f32)),
            truncate: true,
        }),
        Some(kind) => {
            let kind = quoted(kind);
            return Err(
                keys.error(format!("rope scaling {kind} is not supported; none, linear and yarn are"))
            );
        }
    };
    keys.rotary(base, dims, head_dim, scaling)
}

impl Keys<'_> {
    /// Frequencies for `dims` elements of a head, after a look at everything that they are made from.
    fn rotary(
        &self,
        base: f64,
        dims: usize,
        head_dim: usize,
        scaling: Scaling,
    ) -> Result<Rotary, ModelError> {
        if dims == 0 || dims.next_multiple_of(2) > head_dim {
            return Err(self.error(format!("the rotary embedding has {dims} elements, a head {head_dim}")));
        }
        let possible = |what: &str, number: f64, fits: bool, range: &str| {
            if fits { Ok(()) } else { Err(self.error(format!("{what} is {}; {range}", shown(number)))) }
        };
        let range = "between 1 and 1e12 is possible";
        possible("the rotary base", base, (1.0..=1e12).contains(&base), range)?;
        let stretch = |factor: f64| {
            let fits = factor > 0.0 && factor <= MAX_FACTOR;
            let range = format!("it must be over 0 and at most {MAX_FACTOR}");
            possible("the factor of the rotary scaling", factor, fits, &range)
        };
        let plain = || rope::interleaved(rope::inv_freq(base, dims), 1.0);
        let (rope, divisor, yarn) = match scaling {
            Scaling::None => (plain(), 1.0, None),
            Scaling::Linear(factor) => {
                stretch(factor)?;
                (plain(), factor as f32, None)
            }
            Scaling::Yarn(yarn) => {
                // transformers makes frequencies of two lengths for an odd number, and fails.
                possible(
                    "the number of elements that YaRN rotates",
                    dims as f64,
                    dims.is_multiple_of(2),
                    "it must be even",
                )?;
                let Yarn {
                    factor, original_context: trained, beta_fast, beta_slow, attention_factor, ..
                } = yarn;
                stretch(factor)?;
                let range = "between 1 and 2^30 is possible";
                let fits = (1.0..=f64::from(1 << 30)).contains(&trained);
                possible("YaRN's original context", trained, fits, range)?;
                possible("YaRN's rotary base", base, base > 1.0, "it must be over 1")?;
                let range = "it must be over 0 and at most 1e6";
                for (what, number) in [
                    ("YaRN's beta_fast", beta_fast),
                    ("YaRN's beta_slow", beta_slow),
                    ("YaRN's attention factor", attention_factor.unwrap_or(1.0)),
                ] {
                    possible(what, number, number > 0.0 && number <= 1e6, range)?;
                }
                let (inv_freq, magnitude) = rope::yarn(base, dims, &yarn);
                (rope::interleaved(inv_freq, magnitude), 1.0, Some(yarn))
            }
        };
        Ok(Rotary { rope, base, dims, divisor, yarn })
    }
}
