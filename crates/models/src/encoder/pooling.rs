//! From the states of a text's tokens to one vector: sentence-transformers' `Pooling` (`sentence_transformer/modules/
//! pooling.py` of release 6.2.0).

use serde_json::{Map, Value};

use super::modules::shown;

/// One way to make a vector of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The first token's.
    Cls,
    /// The greatest of each element.
    Max,
    /// The mean.
    Mean,
    /// The sum divided by the square root of the tokens' number.
    MeanSqrtLength,
    /// The mean weighted by position, from 1. Without the prompt, a token keeps the position that it has after it.
    WeightedMean,
    /// The last token's.
    LastToken,
}

/// Every mode, its name, and the flag that older files have in its place. Vectors of several flags stand behind each
/// other in this order, those of a list of names in the list's.
const MODES: [(Mode, &str, &str); 6] = [
    (Mode::Cls, "cls", "pooling_mode_cls_token"),
    (Mode::Max, "max", "pooling_mode_max_tokens"),
    (Mode::Mean, "mean", "pooling_mode_mean_tokens"),
    (Mode::MeanSqrtLength, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    (Mode::WeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"),
    (Mode::LastToken, "lasttoken", "pooling_mode_lasttoken"),
];

/// How a vector is made of states.
#[derive(Debug)]
pub(super) struct Pooling {
    modes: Vec<Mode>,
    include_prompt: bool,
    /// Length of a state, where the file says it.
    hidden: Option<u64>,
}

impl Default for Pooling {
    /// What sentence-transformers does to a model that has no modules.
    fn default() -> Self {
        Pooling { modes: vec![Mode::Mean], include_prompt: true, hidden: None }
    }
}

impl Pooling {
    /// Reads `1_Pooling/config.json`.
    pub(super) fn read(config: &Map<String, Value>) -> Result<Self, String> {
        let mut pooling = Pooling::default();
        let mut flags = Vec::new();
        for (key, value) in config {
            let flag = || value.as_bool().ok_or_else(|| format!("{} must be true or false", shown(key)));
            match key.as_str() {
                "embedding_dimension" | "word_embedding_dimension" => {
                    let said = value.as_u64().ok_or_else(|| format!("{} must be a number", shown(key)))?;
                    pooling.hidden = Some(said);
                }
                "include_prompt" => pooling.include_prompt = flag()?,
                "pooling_mode" => pooling.modes = modes(value)?,
                legacy => match MODES.iter().find(|(.., name)| *name == legacy) {
                    Some(&(mode, ..)) if flag()? => flags.push(mode),
                    Some(_) => {}
                    None => return Err(format!("{} is not known in a Pooling", shown(key))),
                },
            }
        }
        if !config.contains_key("pooling_mode") && !flags.is_empty() {
            pooling.modes =
                MODES.iter().map(|&(mode, ..)| mode).filter(|mode| flags.contains(mode)).collect();
        }
        Ok(pooling)
    }

    /// Length of the vector of states of `hidden` elements.
    pub(super) fn width(&self, hidden: usize) -> Result<usize, String> {
        match self.hidden {
            Some(said) if said != hidden as u64 => {
                Err(format!("the Pooling is of states of {said} elements, and the encoder's have {hidden}"))
            }
            _ => Ok(self.modes.len() * hidden),
        }
    }

    /// Appends the vector, `[width]`, of a text with these states, `[tokens, hidden]`, of which the first `prompt`
    /// belong to a prompt and at least one does not.
    pub(super) fn pool(&self, states: &[f32], hidden: usize, prompt: usize, out: &mut Vec<f32>) {
        let skipped = if self.include_prompt { 0 } else { prompt };
        let states = &states[skipped * hidden..];
        let count = (states.len() / hidden) as f64;
        let position = |row: usize| (skipped + row + 1) as f64;
        for mode in &self.modes {
            match mode {
                Mode::Cls => out.extend(&states[..hidden]),
                Mode::LastToken => out.extend(&states[states.len() - hidden..]),
                Mode::Max => {
                    out.extend((0..hidden).map(|i| {
                        states[i..].iter().step_by(hidden).copied().fold(f32::NEG_INFINITY, f32::max)
                    }))
                }
                Mode::Mean => out.extend(mean(states, hidden, |_| 1.0, count)),
                Mode::MeanSqrtLength => out.extend(mean(states, hidden, |_| 1.0, count.sqrt())),
                Mode::WeightedMean => {
                    let total = (0..states.len() / hidden).map(position).sum();
                    out.extend(mean(states, hidden, position, total));
                }
            }
        }
    }
}

/// The weighted sum of rows, divided.
fn mean(rows: &[f32], width: usize, weight: impl Fn(usize) -> f64, by: f64) -> impl Iterator<Item = f32> {
    let mut sums = vec![0.0f64; width];
    for (number, row) in rows.chunks_exact(width).enumerate() {
        let weight = weight(number);
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += weight * f64::from(v));
    }
    sums.into_iter().map(move |sum| (sum / by) as f32)
}

/// A name or a list of names.
fn modes(value: &Value) -> Result<Vec<Mode>, String> {
    let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut modes = Vec::new();
    for name in names {
        let name = name.as_str().ok_or("pooling_mode must be a name or a list of names")?;
        let known = MODES.iter().find(|(_, known, _)| *known == name);
        let (mode, ..) = *known.ok_or_else(|| format!("pooling_mode {} is not known", shown(name)))?;
        if modes.contains(&mode) {
            return Err(format!("pooling_mode names {name} twice"));
        }
        modes.push(mode);
    }
    if modes.is_empty() { Err("pooling_mode names none".to_owned()) } else { Ok(modes) }
}
