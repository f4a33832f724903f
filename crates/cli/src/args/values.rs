//! Values as typed: ids, contexts, numbers within bounds, names out of a list.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};
use glimmer::{ContextLength, Family, GpuLayers, RepetitionDetection};
use glimmer_models::export::WeightTypes;
use glimmer_models::published_names;
use glimmer_tensor::DType;

/// Token ids as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// On the command line.
    Given(Vec<u32>),
    /// On standard input.
    Stdin,
}

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "-" { Ok(Ids::Stdin) } else { parse_ids(text).map(Ids::Given) }
    }
}

/// Ids separated by commas or white space, perhaps in brackets as JSON has them.
pub(crate) fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let words = inner.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let shown: String = word.escape_debug().take(40).collect();
            word.parse().map_err(|_| format!("{shown:?} is no token id (a whole number below 4294967296)"))
        })
        .collect()
}

/// A number of tokens, or `max`: as many as the model was trained for.
pub(crate) fn context_length(text: &str) -> Result<ContextLength, String> {
    match text.parse() {
        _ if text == "max" => Ok(ContextLength::Trained),
        // 2^30 is more than any position a rotary table has.
        Ok(tokens) if (1..=1 << 30).contains(&tokens) => Ok(ContextLength::Tokens(tokens)),
        _ => Err("a number of tokens from 1 to 1073741824, or `max`".to_owned()),
    }
}

/// A number of layers, `all` or `auto`.
pub(super) fn gpu_layers(text: &str) -> Result<GpuLayers, String> {
    match text {
        "auto" => Ok(GpuLayers::Auto),
        "all" => Ok(GpuLayers::Last(usize::MAX)),
        _ => {
            let layers = text.parse().map(GpuLayers::Last);
            layers.map_err(|_| "a number of layers from 0 up, `all`, or `auto`: as many as fit".to_owned())
        }
    }
}

/// What [`gpu_layers`] reads as these.
pub(super) fn gpu_layers_name(layers: GpuLayers) -> String {
    match layers {
        GpuLayers::Auto => "auto".to_owned(),
        GpuLayers::Last(layers) => layers.to_string(),
    }
}

/// A parser of the names of chat formats.
pub(super) fn chat_format() -> impl TypedValueParser<Value = Family> {
    one_of(Family::NAMES)
}

/// A parser of one of the given names.
pub(super) fn one_of<T, const N: usize>(names: [(T, &'static str); N]) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let spellings = names.map(|(_, name)| name);
    PossibleValuesParser::new(spellings).map(move |given| {
        let found = names.iter().find(|(_, name)| *name == given);
        found.expect("clap has checked that it is one of the names").0
    })
}

pub(super) fn weight_types(text: &str) -> Result<WeightTypes, String> {
    WeightTypes::from_name(text).ok_or_else(|| {
        let names: Vec<_> = WeightTypes::names().collect();
        let why = if text.to_ascii_uppercase().starts_with("IQ") {
            "IQ types are read, but not written; "
        } else {
            ""
        };
        format!("{why}one of {}", names.join(", "))
    })
}

/// Types that have no encoder, but that random weights may have.
pub(super) fn any_weight_types(text: &str) -> Result<WeightTypes, String> {
    let others = [DType::IQ4_NL, DType::IQ4_XS, DType::RowI8, DType::RowI4];
    let other = others.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(text));
    let known = other.map(WeightTypes::One).or_else(|| WeightTypes::from_name(text));
    known.ok_or_else(|| {
        let names: Vec<_> = WeightTypes::names().chain(others.map(DType::name)).collect();
        format!("one of {}", names.join(", "))
    })
}

/// A parser of the names of published models, which are read when they are needed: this one is made for every command line.
#[derive(Clone)]
pub(super) struct PublishedName;

impl TypedValueParser for PublishedName {
    type Value = &'static str;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        given: &OsStr,
    ) -> Result<&'static str, clap::Error> {
        let names = PossibleValuesParser::new(published_names().collect::<Vec<_>>());
        let given = names.parse_ref(command, arg, given)?;
        Ok(published_names()
            .find(|name| *name == given)
            .expect("clap has checked that it is one of the names"))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(published_names().map(PossibleValue::new)))
    }
}

/// Whether a name begins as one of a published model does, such as `glm-` or `chatglm3-`.
pub(super) fn is_like_published(name: &str) -> bool {
    let series = published_names().filter_map(|name| name.split_inclusive('-').next());
    series.into_iter().any(|series| name.starts_with(series))
}

/// A number of tokens that memory can hold at all.
pub(super) fn tokens() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(..=1 << 24).map(|n| n as usize)
}

/// Bytes of memory: 16G, 16GiB, 500M, in units of 1024 but for GB, MB and TB.
pub(super) fn memory_bytes(text: &str) -> Result<u64, String> {
    let read = || {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) =
            (text[..digits].parse::<f64>().ok()?, text[digits..].trim().to_ascii_lowercase());
        let base: f64 = if unit.len() == 2 { 1000.0 } else { 1024.0 };
        let power = match unit.as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 2,
            "g" | "gb" | "gib" => 3,
            "t" | "tb" | "tib" => 4,
            _ => return None,
        };
        let bytes = number * base.powi(power);
        (1.0..=f64::from(1 << 20) * f64::from(1 << 30)).contains(&bytes).then_some(bytes as u64)
    };
    read().ok_or_else(|| "a number of bytes, such as 16G or 500M".to_owned())
}

/// How long a model stays that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAlive {
    /// So long.
    For(Duration),
    /// Until another needs its room.
    Always,
}

/// A time as Ollama has it: seconds, or a number with its unit; below 0 for ever.
pub(super) fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    let read = || {
        let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = (text[..digits].parse::<f64>().ok()?, &text[digits..]);
        let seconds = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        if number < 0.0 {
            return Some(KeepAlive::Always);
        }
        // A century.
        let seconds = Some(number * seconds).filter(|seconds| *seconds <= 3.2e9)?;
        Duration::try_from_secs_f64(seconds).ok().map(KeepAlive::For)
    };
    read().ok_or_else(|| "a time such as 300, 5m or 1h, 0, or -1 for no end".to_owned())
}

/// A number of rows of one step.
pub(super) fn sequences() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..=1 << 14).map(|n| n as usize)
}

pub(super) fn positive() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..).map(|n| n as usize)
}

/// A number that `accepts` takes.
fn number(text: &str, accepts: impl Fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    text.parse().ok().filter(|x: &f32| x.is_finite() && accepts(*x)).ok_or_else(|| wanted.to_owned())
}

pub(crate) fn from_zero(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0, "a number from 0 up")
}

pub(crate) fn above_zero(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

pub(crate) fn finite(text: &str) -> Result<f32, String> {
    number(text, |_| true, "a number")
}

/// A probability that leaves at least one token.
pub(crate) fn top_p(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0 && x <= 1.0, "a number above 0, at most 1")
}

pub(crate) fn share(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}

/// `ID=X`
pub(super) fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let wrong = || "a token id, `=`, and what is added to its logit, such as 151336=-100".to_owned();
    let (id, bias) = text.split_once('=').ok_or_else(wrong)?;
    Ok((id.trim().parse().map_err(|_| wrong())?, finite(bias.trim()).map_err(|_| wrong())?))
}

/// `[MIN-]MAX,COUNT`
pub(super) fn repetition_detection(text: &str) -> Result<RepetitionDetection, String> {
    let read = || {
        let (sizes, count) = text.split_once(',')?;
        let (least, most) = sizes.split_once('-').unwrap_or(("1", sizes));
        RepetitionDetection::new(least.parse().ok()?, most.parse().ok()?, count.trim().parse().ok()?)
    };
    let bounds = RepetitionDetection::BOUNDS;
    read().ok_or_else(|| format!("sizes and a count, such as 64,4 or 2-64,4: {bounds}"))
}

/// `NAME=PROGRAM`
pub(super) fn tool_command(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, program)) if !name.is_empty() && !program.is_empty() => {
            Ok((name.to_owned(), program.into()))
        }
        _ => Err("a tool's name, `=`, and a program, such as get_weather=./weather.py".to_owned()),
    }
}

/// `PATH`, or `PATH:WEIGHT` where what follows the last colon is a number
pub(super) fn weighted_path(text: &str) -> Result<(PathBuf, f32), String> {
    let weight = text.rsplit_once(':').and_then(|(path, weight)| Some((path, weight.parse::<f32>().ok()?)));
    match weight {
        Some((path, weight)) if !path.is_empty() && weight.is_finite() => Ok((path.into(), weight)),
        _ if !text.is_empty() => Ok((text.into(), 1.0)),
        _ => Err("a directory, and perhaps `:` and a number".to_owned()),
    }
}

/// `NAME=PATH`
pub(super) fn named_adapter(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("what requests call it, `=`, and a directory, such as sql=./sql-lora".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_every_form() {
        let given = |ids: &[u32]| Ok(Ids::Given(ids.to_vec()));
        assert_eq!("1,2,3".parse(), given(&[1, 2, 3]));
        assert_eq!(" [1, 2,\n3]\n".parse(), given(&[1, 2, 3]));
        assert_eq!("1 2\t3".parse(), given(&[1, 2, 3]));
        assert_eq!("".parse(), given(&[]));
        assert_eq!("-".parse(), Ok(Ids::Stdin));
        for wrong in ["x", "-1", "1,-2", "4294967296", "1.5", "1;2"] {
            assert!(wrong.parse::<Ids>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn layers_on_cards() {
        assert_eq!(gpu_layers("auto"), Ok(GpuLayers::Auto));
        assert_eq!(gpu_layers("all"), Ok(GpuLayers::Last(usize::MAX)));
        assert_eq!(gpu_layers("99"), Ok(GpuLayers::Last(99)));
        for layers in [GpuLayers::Auto, GpuLayers::Last(7), GpuLayers::Last(usize::MAX)] {
            assert_eq!(gpu_layers(&gpu_layers_name(layers)), Ok(layers));
        }
        for wrong in ["-1", "", "1.5", "ALL", "1e2"] {
            assert!(gpu_layers(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_of_memory() {
        for (text, bytes) in
            [("16G", 16 << 30), ("1.5GiB", 3 << 29), ("500m", 500 << 20), ("8GB", 8_000_000_000)]
        {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
        assert_eq!(memory_bytes("4096"), Ok(4096));
        for wrong in ["", "G", "-1G", "0", "1e9", "16X", "9999999T", "1.2.3G", "16 G B", "１G"] {
            assert!(memory_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_to_stay() {
        let after = |seconds| Ok(KeepAlive::For(Duration::from_secs_f64(seconds)));
        for (text, seconds) in [("300", 300.0), ("5m", 300.0), ("0", 0.0), ("1.5h", 5400.0), ("20ms", 0.02)] {
            assert_eq!(keep_alive(text), after(seconds), "{text}");
        }
        assert_eq!(keep_alive("-1"), Ok(KeepAlive::Always));
        assert_eq!(keep_alive("-1m"), Ok(KeepAlive::Always));
        for wrong in ["", "m", "5 m", "5d", "1e99", "inf", "nan", "５m"] {
            assert!(keep_alive(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn repetitions() {
        assert_eq!(repetition_detection("64,4"), Ok(RepetitionDetection::new(1, 64, 4).unwrap()));
        assert_eq!(repetition_detection("2-64,4"), Ok(RepetitionDetection::new(2, 64, 4).unwrap()));
        for wrong in ["", "64", "64,1", "0,2", "5-4,2", "4097,2", "a,b", "1-2-3,4", "-1,2"] {
            assert!(repetition_detection(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn context_lengths() {
        assert_eq!(context_length("max"), Ok(ContextLength::Trained));
        assert_eq!(context_length("4096"), Ok(ContextLength::Tokens(4096)));
        for wrong in ["0", "-1", "1e6", "", "1073741825"] {
            assert!(context_length(wrong).is_err(), "{wrong}");
        }
    }
}
