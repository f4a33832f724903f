//! How a model is to be sampled: what its own files say, and what its generation was published with.

use serde_json::Value;

use crate::{Family, Quoted};

/// Settings of sampling that a GGUF can hold: `generation_config.json`'s names, and llama.cpp's below
/// `general.sampling`.
pub const GGUF_SAMPLING: [(&str, &str); 3] =
    [("temperature", "temp"), ("top_p", "top_p"), ("top_k", "top_k")];

/// Which numbers the settings of a `generation_config.json` may be, and how to say so.
#[allow(clippy::type_complexity, reason = "a column of the table is a condition")]
const RANGES: [(&str, fn(f64) -> bool, &str); 6] = [
    ("temperature", |x| x >= 0.0 && (x as f32).is_finite(), "0 or more"),
    ("top_p", |x| x as f32 > 0.0 && x <= 1.0, "over 0 and at most 1"),
    ("min_p", |x| (0.0..=1.0).contains(&x), "between 0 and 1"),
    ("repetition_penalty", |x| x as f32 > 0.0 && (x as f32).is_finite(), "over 0"),
    ("top_k", is_count, "a whole number, 0 or more"),
    ("max_length", is_count, "a whole number, 0 or more"),
];

fn is_count(x: f64) -> bool {
    x >= 0.0 && x.fract() == 0.0
}

/// How a model asks to be sampled; `None` where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// Whether to sample at all; otherwise the likeliest token is taken. See [`SamplingDefaults::temperature`].
    pub do_sample: Option<bool>,
    /// Softmax temperature as it is stated.
    pub stated_temperature: Option<f32>,
    /// At most this many candidates; 0 is all of them.
    pub top_k: Option<usize>,
    /// Nucleus: the smallest set of tokens with this much probability.
    pub top_p: Option<f32>,
    /// Leaves out tokens less likely than this share of the likeliest one.
    pub min_p: Option<f32>,
    /// Divides the logits of tokens already seen; 1 changes nothing.
    pub repetition_penalty: Option<f32>,
    /// Tokens of prompt and reply together, as the model's own `chat()` limits them.
    pub max_length: Option<usize>,
}

impl SamplingDefaults {
    /// What a `generation_config.json` sets, where it is a number that makes sense.
    pub fn of_generation_config(config: &Value) -> Self {
        let number = |name: &str| {
            let (_, accepts, _) = RANGES.iter().find(|(known, ..)| *known == name)?;
            config.get(name).and_then(Value::as_f64).filter(|&x| accepts(x))
        };
        let real = |name: &str| number(name).map(|x| x as f32);
        let count = |name: &str| number(name).map(|x| x as usize);
        SamplingDefaults {
            do_sample: config.get("do_sample").and_then(Value::as_bool),
            stated_temperature: real("temperature"),
            top_k: count("top_k"),
            top_p: real("top_p"),
            min_p: real("min_p"),
            repetition_penalty: real("repetition_penalty"),
            max_length: count("max_length"),
        }
    }

    /// What [`SamplingDefaults::of_generation_config`] leaves out because it makes no sense: one sentence each.
    pub(crate) fn left_out(config: &Value) -> Vec<String> {
        let wrong = |name: &str, fits: &dyn Fn(&Value) -> bool, wanted: &str| {
            let value = config.get(name).filter(|value| !value.is_null() && !fits(value))?;
            let value = value.to_string();
            Some(format!("{name} is {}; it must be {wanted} and is left out", Quoted(&value)))
        };
        let numbers = RANGES.iter().filter_map(|(name, accepts, wanted)| {
            wrong(name, &|value| value.as_f64().is_some_and(accepts), wanted)
        });
        numbers.chain(wrong("do_sample", &Value::is_boolean, "true or false")).collect()
    }

    /// The settings that a generation was published with.
    ///
    /// From each model's `chat()` or `generation_config.json`; where that file leaves sampling out (0414), or nothing is known
    /// (4.1V, OCR), the likeliest
    /// token is taken; where only the model card or the official demo speaks (Edge, GLM-4V, Z1, 4.5 and later), its
    /// advice.
    pub fn published(family: Family) -> Self {
        let sampled = |temperature, top_p| SamplingDefaults {
            do_sample: Some(true),
            stated_temperature: Some(temperature),
            top_p: Some(top_p),
            ..SamplingDefaults::default()
        };
        let greedy = SamplingDefaults { do_sample: Some(false), ..SamplingDefaults::default() };
        match family {
            Family::ChatGlm6b => SamplingDefaults { max_length: Some(2048), ..sampled(0.95, 0.7) },
            Family::ChatGlm2 | Family::ChatGlm3 => {
                SamplingDefaults { max_length: Some(8192), ..sampled(0.8, 0.8) }
            }
            Family::CodeGeex2 => SamplingDefaults { top_k: Some(1), ..greedy },
            Family::Glm4 => SamplingDefaults { max_length: Some(128_000), ..sampled(0.8, 0.8) },
            Family::Glm4v => SamplingDefaults { top_k: Some(1), ..sampled(0.8, 0.8) },
            Family::GlmEdge => SamplingDefaults {
                repetition_penalty: Some(1.2),
                max_length: Some(8192),
                ..sampled(0.6, 0.8)
            },
            Family::Glm40414 | Family::Glm41v | Family::GlmOcr => greedy,
            Family::GlmZ1 | Family::GlmZ1Rumination => {
                SamplingDefaults { top_k: Some(40), ..sampled(0.6, 0.95) }
            }
            Family::Glm45 => sampled(0.6, 0.95),
            Family::Glm47 => sampled(1.0, 0.95),
        }
    }

    /// The temperature that is meant, 0 for the likeliest token. Sampling without a temperature is sampling at 1
    /// (transformers' GenerationConfig).
    pub fn temperature(&self) -> Option<f32> {
        match self.do_sample {
            Some(false) => Some(0.0),
            Some(true) => Some(self.stated_temperature.unwrap_or(1.0)),
            None => self.stated_temperature,
        }
    }

    /// These settings, and those of `other` where these say nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let decides = if self.temperature().is_some() { self } else { other };
        SamplingDefaults {
            do_sample: decides.do_sample,
            stated_temperature: decides.stated_temperature,
            top_k: self.top_k.or(other.top_k),
            top_p: self.top_p.or(other.top_p),
            min_p: self.min_p.or(other.min_p),
            repetition_penalty: self.repetition_penalty.or(other.repetition_penalty),
            max_length: self.max_length.or(other.max_length),
        }
    }
}

/// The shortest decimal that is this f32, as an f64: 1.5625e-07, not 1.5624999868669329e-07.
pub fn shortest_decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(family: Option<Family>, config: &Value) -> (f32, f32, usize, f32) {
        let published = family.map(SamplingDefaults::published).unwrap_or_default();
        let settings = SamplingDefaults::of_generation_config(config).or(published);
        (
            settings.temperature().unwrap_or(0.0),
            settings.top_p.unwrap_or(1.0),
            settings.top_k.unwrap_or(0),
            settings.repetition_penalty.unwrap_or(1.0),
        )
    }

    #[test]
    fn the_file_goes_before_the_family_and_the_family_before_greedy() {
        let nothing = json!({});
        assert_eq!(of(None, &nothing), (0.0, 1.0, 0, 1.0));
        assert_eq!(of(Some(Family::Glm4), &nothing), (0.8, 0.8, 0, 1.0));
        assert_eq!(of(Some(Family::Glm40414), &nothing), (0.0, 1.0, 0, 1.0));
        assert_eq!(of(Some(Family::GlmEdge), &nothing), (0.6, 0.8, 0, 1.2));
        let config = json!({"do_sample": true, "temperature": 0.5, "top_k": 3});
        assert_eq!(of(Some(Family::Glm4), &config), (0.5, 0.8, 3, 1.0));
        assert_eq!(of(None, &json!({"do_sample": true})), (1.0, 1.0, 0, 1.0));
        assert_eq!(of(Some(Family::Glm40414), &json!({"temperature": 0.5})).0, 0.5);
        assert_eq!(of(Some(Family::Glm4), &json!({"do_sample": false, "temperature": 0.5})).0, 0.0);
        // What makes no sense is left out.
        let wrong = json!({"temperature": "hot", "top_p": 7, "top_k": -1, "repetition_penalty": 0});
        assert_eq!(of(Some(Family::Glm4), &wrong), (0.8, 0.8, 0, 1.0));
    }

    #[test]
    fn published_defaults() {
        let shown = |family: Family| {
            let d = SamplingDefaults::published(family);
            (d.do_sample, d.stated_temperature, d.top_p, d.top_k, d.repetition_penalty, d.max_length)
        };
        let sampled = Some(true);
        assert_eq!(shown(Family::ChatGlm6b), (sampled, Some(0.95), Some(0.7), None, None, Some(2048)));
        assert_eq!(shown(Family::ChatGlm3), (sampled, Some(0.8), Some(0.8), None, None, Some(8192)));
        assert_eq!(shown(Family::Glm4), (sampled, Some(0.8), Some(0.8), None, None, Some(128_000)));
        assert_eq!(shown(Family::GlmEdge), (sampled, Some(0.6), Some(0.8), None, Some(1.2), Some(8192)));
        assert_eq!(shown(Family::Glm40414).0, Some(false));
    }
}
