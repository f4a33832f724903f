//! How long a model stays when nobody uses it, as Ollama's clients say it.

use std::time::Duration;

use serde_json::Value;

use crate::http::params::Params;

/// Seconds of a century: more is no end.
const CENTURY: f64 = 3.2e9;

/// How long a model is to stay; `Some(None)` is without an end, and `None` as it would.
pub(crate) type KeepAlive = Option<Option<Duration>>;

/// Takes `keep_alive`: seconds, or a text such as `5m`; 0 is not at all, and anything negative without an end.
pub(crate) fn take(params: &mut Params) -> KeepAlive {
    let seconds = match params.value("keep_alive")? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => seconds(&text),
        _ => None,
    };
    if seconds.is_none() {
        params.wrong("keep_alive", "seconds, or a text such as 5m or 1h30m; 0, or -1 for no end");
    }
    let seconds = seconds?;
    Some((0.0..CENTURY).contains(&seconds).then(|| Duration::from_secs_f64(seconds)))
}

/// The seconds of a duration as Go writes it: numbers with units, after one sign.
fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    // Clients of other languages send a number as a text.
    if let Ok(number) = rest.parse::<u32>() {
        return Some(sign * f64::from(number));
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number * scale;
        rest = &rest[unit.len()..];
    }
    Some(sign * sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let of = |text: &str| {
            let mut params = Params::parse(format!("{{\"keep_alive\": {text}}}").into()).unwrap();
            let time = take(&mut params);
            params.done().map(|()| time).ok()
        };
        let time = |seconds: f64| Some(Some(Some(Duration::from_secs_f64(seconds))));
        for (text, seconds) in [
            ("300", 300.0),
            ("0", 0.0),
            ("1.5", 1.5),
            ("\"5m\"", 300.0),
            ("\"5m0s\"", 300.0),
            ("\"1h30m\"", 5400.0),
            ("\"1.5h\"", 5400.0),
            ("\"300ms\"", 0.3),
            ("\"10\"", 10.0),
            ("\"0\"", 0.0),
        ] {
            assert_eq!(of(text), time(seconds), "{text}");
        }
        for endless in ["-1", "\"-1m\"", "\"-1\"", "1e12", "-0.5"] {
            assert_eq!(of(endless), Some(Some(None)), "{endless}");
        }
        assert_eq!(of("null"), Some(None));
        for wrong in ["\"\"", "\"m\"", "\"5x\"", "\"5m3\"", "\"1..5s\"", "true", "[]", "\"5m \"", "\"é\""] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
