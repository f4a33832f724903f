//! `preprocessor_config.json`, `processor_config.json` and `video_preprocessor_config.json` -> a [`Processor`].

use serde_json::Value;

use super::{CLIP, Colours, MOST_PATCH, MOST_SIDE, Processor, Recipe, Sizing, VideoRules};
use crate::resize::{Arithmetic, Filter};
use crate::video::Sampling;
use crate::{ProcessorError, TimeStyle};

/// The files that say how a model's pictures are prepared, as far as they are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessorFiles<'a> {
    /// `processor_config.json`. What it holds of a processor goes before the other files.
    pub processor: Option<&'a Value>,
    /// `preprocessor_config.json`.
    pub picture: Option<&'a Value>,
    /// `video_preprocessor_config.json`.
    pub video: Option<&'a Value>,
}

/// Whose defaults count, and which rules that no file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GLM-4.1V, GLM-4.5V.
    Glm4v,
    /// GLM-4.6V, GLM-OCR.
    Glm46V,
    /// GLM-5.3-Flash.
    Glm5Next,
    /// GLM-Edge-V: one tile, by default of its 672 pixels and with its mean and deviation.
    Mllama,
}

impl Kind {
    /// By the name of a class: of a processor of pictures, of videos or of both, whichever backend it is for.
    fn of(class: &str) -> Result<Self, ProcessorError> {
        let name = ["Fast", "Pil"].iter().find_map(|suffix| class.strip_suffix(suffix)).unwrap_or(class);
        let suffixes = ["ImageProcessor", "VideoProcessor", "Processor"];
        match suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)) {
            Some("Glm4v") => Ok(Kind::Glm4v),
            Some("Glm46V") => Ok(Kind::Glm46V),
            Some("Glm5Next") => Ok(Kind::Glm5Next),
            Some("Mllama") => Ok(Kind::Mllama),
            _ => Err(ProcessorError::Unknown(class.to_owned())),
        }
    }
}

/// Keys that say what is done here anyway, or where and how the reference does its work.
const MEANINGLESS: [&str; 19] = [
    "auto_map",
    "crop_size",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_center_crop",
    "do_pad",
    "do_sample_frames",
    "image_processor_type",
    "input_data_format",
    "max_image_size",
    "model_input_names",
    "num_frames",
    "pad_size",
    "processor_class",
    "return_metadata",
    "return_tensors",
    "video_processor_type",
];

impl Processor {
    /// What the classes' own defaults are (transformers 5.23.0).
    pub fn published(kind: Kind) -> Self {
        let none = Value::Null;
        Self::from_values(kind, kind, &none, &none).expect("defaults can be")
    }

    /// Reads what the files say, in the order in which transformers looks at them.
    ///
    /// # Errors
    /// When no file names a processor, it is not one of GLM's, or a value is none that it can have.
    pub fn read(files: ProcessorFiles) -> Result<Self, ProcessorError> {
        let nested = |key| files.processor.and_then(|value| value.get(key)).filter(|value| value.is_object());
        let picture = nested("image_processor").or(files.picture).ok_or(ProcessorError::Missing)?;
        let video = nested("video_processor").or(files.video).unwrap_or(picture);
        let class =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(Kind::of).transpose();
        let kind = match class(picture, "image_processor_type")? {
            Some(kind) => kind,
            None => class(picture, "processor_class")?.ok_or(ProcessorError::Missing)?,
        };
        let video_kind = class(video, "video_processor_type")?.unwrap_or(kind);
        Self::from_values(kind, video_kind, picture, video)
    }

    fn from_values(
        kind: Kind,
        video_kind: Kind,
        picture: &Value,
        video: &Value,
    ) -> Result<Self, ProcessorError> {
        let mut keys = Keys { value: picture, asked: Vec::new() };
        let recipe = keys.recipe(kind, false)?;
        let mut unread = keys.unread();
        let mut of_video = None;
        if video_kind != Kind::Mllama {
            let mut keys = Keys { value: video, asked: Vec::new() };
            let recipe = keys.recipe(video_kind, true)?;
            of_video = Some((recipe, keys.video_rules(video_kind)?));
            if !std::ptr::eq(picture, video) {
                unread.extend(keys.unread());
            }
        }
        Ok(Processor { picture: recipe, video: of_video, unread })
    }
}

/// The keys of one file, and which of them were asked for.
struct Keys<'a> {
    value: &'a Value,
    asked: Vec<&'static str>,
}

impl<'a> Keys<'a> {
    /// A key's value; one that is null is not there.
    fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.push(key);
        self.value.get(key).filter(|value| !value.is_null())
    }

    /// The keys that nobody asked for, of a few.
    fn unread(&self) -> Vec<String> {
        let keys = self.value.as_object().into_iter().flat_map(|object| object.keys());
        let is_unread =
            |key: &&String| !self.asked.contains(&key.as_str()) && !MEANINGLESS.contains(&key.as_str());
        keys.filter(is_unread).take(16).cloned().collect()
    }

    fn whole(&mut self, key: &'static str, default: u64, most: u64) -> Result<u64, ProcessorError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        whole(key, value, most)
    }

    fn number(&mut self, key: &'static str, default: f64, most: f64) -> Result<f64, ProcessorError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|number| *number > 0.0 && *number <= most);
        number.ok_or_else(|| wrong(key, value, "a positive number"))
    }

    fn flag(&mut self, key: &'static str) -> Result<bool, ProcessorError> {
        let Some(value) = self.get(key) else { return Ok(true) };
        value.as_bool().ok_or_else(|| wrong(key, value, "true or false"))
    }

    /// Three numbers, or one for all channels.
    fn colour(
        &mut self,
        key: &'static str,
        default: [f64; 3],
        least: f64,
    ) -> Result<[f64; 3], ProcessorError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let list = value.as_array().map_or(vec![value; 3], |list| list.iter().collect());
        let numbers: Vec<f64> =
            list.iter().filter_map(|item| item.as_f64().filter(|x| (least..=1e3).contains(x))).collect();
        numbers.try_into().map_err(|_| wrong(key, value, "a list of three numbers"))
    }

    fn recipe(&mut self, kind: Kind, is_video: bool) -> Result<Recipe, ProcessorError> {
        // These are done by every processor of GLM's; one that does not is another.
        for key in ["do_resize", "do_convert_rgb"] {
            if !self.flag(key)? {
                return Err(wrong(key, &Value::Bool(false), "true"));
            }
        }
        let is_mllama = kind == Kind::Mllama;
        let default = if is_mllama { ([0.5; 3], [0.5; 3]) } else { CLIP };
        let scale = self.number("rescale_factor", 1.0 / 255.0, 1.0)?;
        let colours = Colours {
            arithmetic: if is_mllama { Arithmetic::Pillow } else { Arithmetic::Torch },
            mean: self.colour("image_mean", default.0, -1e3)?,
            std: self.colour("image_std", default.1, 1e-6)?,
            scale: self.flag("do_rescale")?.then_some(scale),
            is_normalized: self.flag("do_normalize")?,
        };
        let single = |value| if is_mllama { 1 } else { value };
        let recipe = Recipe {
            filter: self.filter(if is_mllama { Filter::Bilinear } else { Filter::Bicubic })?,
            colours,
            patch: self.whole("patch_size", 14, MOST_PATCH as u64)? as usize,
            merge: self.whole("merge_size", single(2), 8)? as usize,
            span: self.whole("temporal_patch_size", single(2), 8)? as usize,
            sizing: self.sizing(kind, is_video)?,
        };
        recipe.check()?;
        Ok(recipe)
    }

    /// Pillow's numbers of its filters.
    fn filter(&mut self, default: Filter) -> Result<Filter, ProcessorError> {
        let Some(value) = self.get("resample") else { return Ok(default) };
        match value.as_u64() {
            Some(1) => Ok(Filter::Lanczos),
            Some(2) => Ok(Filter::Bilinear),
            Some(3) => Ok(Filter::Bicubic),
            _ => Err(wrong("resample", value, "1 (Lanczos), 2 (bilinear) or 3 (bicubic)")),
        }
    }

    fn sizing(&mut self, kind: Kind, is_video: bool) -> Result<Sizing, ProcessorError> {
        const MOST_PIXELS: u64 = 1 << 40;
        match kind {
            Kind::Glm4v | Kind::Glm46V => {
                let size = self.get("size");
                let edge = |key: &'static str, default| match size {
                    None => Ok(default),
                    Some(size) => whole(key, size.get(key).unwrap_or(&Value::Null), MOST_PIXELS),
                };
                let most = if is_video { 28 * 28 * 2 * 30_000 } else { 28 * 28 * 15_000 };
                Ok(Sizing::Budget {
                    min: edge("shortest_edge", 112 * 112)?,
                    max: edge("longest_edge", most)?,
                })
            }
            Kind::Glm5Next => {
                const MOST_TOKENS: u64 = 1 << 24;
                // Its `size` says nothing: transformers notes that it is to be replaced.
                self.get("size");
                Ok(Sizing::Padded {
                    min: self.whole("min_image_tokens", 16, MOST_TOKENS)?,
                    max: self.whole(
                        "max_image_tokens",
                        if is_video { 240_000 } else { 8_000 },
                        MOST_TOKENS,
                    )?,
                    expand: self.whole("patch_expand_factor", 1, 8)? as usize,
                })
            }
            Kind::Mllama => {
                let size = self.get("size");
                let side = |key: &'static str| match size {
                    None => Ok(672),
                    Some(size) => whole(key, size.get(key).unwrap_or(&Value::Null), MOST_SIDE as u64),
                };
                let (width, height) = (side("width")?, side("height")?);
                if width != height {
                    return Err(wrong("size", size.unwrap_or(&Value::Null), "a square"));
                }
                if self.whole("max_image_tiles", 1, 1 << 20)? != 1 {
                    let found = self.get("max_image_tiles").unwrap_or(&Value::Null);
                    return Err(wrong("max_image_tiles", found, "1, as GLM-Edge-V has it,"));
                }
                Ok(Sizing::Fitted { side: side("width")? as usize })
            }
        }
    }

    fn video_rules(&mut self, kind: Kind) -> Result<VideoRules, ProcessorError> {
        const MOST_SECONDS: u64 = 1 << 20;
        let fps = self.number("fps", 2.0, 1_000.0)?;
        let seconds = self.get("max_duration").filter(|value| value.as_u64() != Some(0));
        let seconds = seconds.map(|value| whole("max_duration", value, MOST_SECONDS)).transpose()?;
        let most_frames = self.whole("max_frames", 2_048, 1 << 16)? as usize;
        Ok(match kind {
            Kind::Glm46V => VideoRules::new(Sampling::Tiered, TimeStyle::Tenths),
            Kind::Glm5Next => {
                let sampling = Sampling::Capped { fps, seconds, frames: most_frames };
                VideoRules::new(sampling, TimeStyle::Tenths)
            }
            _ => {
                let sampling = Sampling::Even { fps, seconds: seconds.unwrap_or(300) };
                VideoRules::new(sampling, TimeStyle::Seconds)
            }
        })
    }
}

/// A whole number from 1 on.
fn whole(key: &'static str, value: &Value, most: u64) -> Result<u64, ProcessorError> {
    let number = value.as_u64().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| wrong(key, value, "a whole number of a size that is possible"))
}

fn wrong(key: &'static str, found: &Value, expected: &'static str) -> ProcessorError {
    ProcessorError::Value { key, found: found.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Processor, ProcessorError> {
        Processor::read(ProcessorFiles { picture: Some(value), ..ProcessorFiles::default() })
    }

    #[test]
    fn a_file_that_says_the_defaults_says_nothing_new() {
        let value = json!({
            "size": {"shortest_edge": 12544, "longest_edge": 11_760_000}, "do_rescale": true, "patch_size": 14,
            "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "image_processor_type": "Glm4vImageProcessorFast",
            "processor_class": "Glm4vProcessor", "resample": 3, "rescale_factor": 0.003_921_568_627_450_98,
        });
        let read = read(&value).unwrap();
        assert_eq!(read.picture, Processor::published(Kind::Glm4v).picture);
        assert_eq!(read.unread(), &[] as &[String]);
    }

    #[test]
    fn what_a_processor_holds_nested_goes_first() {
        let outer = json!({"image_processor_type": "Glm4vImageProcessor"});
        let nested =
            json!({"image_processor": {"image_processor_type": "Glm46VImageProcessor", "colour": 1}});
        let files = ProcessorFiles { processor: Some(&nested), picture: Some(&outer), video: None };
        let read = Processor::read(files).unwrap();
        assert_eq!(read.video(), Processor::published(Kind::Glm46V).video());
        assert_eq!(read.unread(), ["colour"]);
    }

    #[test]
    fn values_that_cannot_be_are_refused_by_their_key() {
        for (key, value) in [
            ("patch_size", json!(0)),
            ("patch_size", json!(1_u64 << 40)),
            ("merge_size", json!("2")),
            ("image_mean", json!([0.5, 0.5])),
            ("image_std", json!([0.0, 0.5, 0.5])),
            ("image_std", json!([1e300, 0.5, 0.5])),
            ("rescale_factor", json!(-1)),
            ("resample", json!(5)),
            ("do_resize", json!(false)),
            ("size", json!({"shortest_edge": 1})),
            ("size", json!({"shortest_edge": -4, "longest_edge": 2})),
            ("fps", json!(0)),
            ("max_duration", json!(-1)),
        ] {
            let mut file = json!({"image_processor_type": "Glm4vImageProcessor"});
            file[key] = value;
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains(key) || key == "size" && error.contains("edge"), "{error}");
            assert!(error.len() < 300 && !error.contains('\n'), "{error}");
        }
        let uneven = json!({
            "image_processor_type": "MllamaImageProcessor", "size": {"width": 42, "height": 42}, "merge_size": 2,
        });
        assert!(read(&uneven).unwrap_err().to_string().contains("multiple of the patch"));
        assert!(Processor::stretched(0, 14).is_err() && Processor::fitted(672, 0).is_err());
        let named = json!({"processor_class": "Glm46VProcessor"});
        assert_eq!(read(&named).unwrap().video(), Processor::published(Kind::Glm46V).video());
        assert!(matches!(read(&json!({})), Err(ProcessorError::Missing)));
        let other = json!({"image_processor_type": "CLIPImageProcessor\n"});
        assert!(!read(&other).unwrap_err().to_string().contains('\n'));
    }
}
