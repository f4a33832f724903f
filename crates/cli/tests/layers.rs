//! `--gpu-layers`: what is on cards and what on the processor, as it is told, and the same answer however it is split.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Ran, fixture, glimmer};

/// Runs a model of three layers with emulated cards of so many bytes each.
fn with_cards(memory: &str, flags: &[&str]) -> Ran {
    let mut command = glimmer();
    command.arg("run").arg(fixture("chatglm3-6b")).args(["--ids", "12,34,56", "--print-ids", "-n", "8"]);
    command.args(["--compute", "f32", "--threads", "1"]).args(flags);
    command.env("GLIMMER_EMULATED_MEMORY", memory).output().unwrap().into()
}

#[cfg(not(any(feature = "cuda", feature = "emulate")))]
#[test]
fn a_program_without_cards_says_so() {
    with_cards("", &["-ngl", "2"]).fails_saying(&["built without CUDA", "--features cuda"]);
    let auto = with_cards("", &["--device", "auto", "--gpu-layers", "auto"]);
    assert!(auto.stderr.starts_with("note: computing on the CPU"), "{}", auto.stderr);
    let on_processor = with_cards("", &["-ngl", "0"]).quiet_success();
    assert_eq!(on_processor, with_cards("", &[]).quiet_success());
}

#[cfg(feature = "emulate")]
mod emulated {
    use super::{Ran, fixture, glimmer, with_cards};

    /// The layers of each device, with the bytes that are told, in order.
    fn told(ran: &Ran) -> Vec<(String, usize)> {
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let notes = ran.stderr.lines().filter_map(|line| line.strip_prefix("note: layers "));
        notes
            .map(|note| {
                let (range, rest) = note.split_once(" on ").unwrap();
                let (first, last) = range.split_once(" to ").unwrap();
                let layers = last.parse::<usize>().unwrap() + 1 - first.parse::<usize>().unwrap();
                assert!(
                    rest.contains("weights ") && rest.contains("cache ") && rest.contains(" are free"),
                    "{note}"
                );
                (rest.split(&[',', ' '][..]).next().unwrap().to_owned(), layers)
            })
            .collect()
    }

    fn split(on_processor: usize, on_card: usize) -> Vec<(String, usize)> {
        let of = |name: &str, layers| (layers > 0).then(|| (name.to_owned(), layers));
        of("CPU", on_processor).into_iter().chain(of("an", on_card)).collect()
    }

    const PLENTY: &str = "1000000000";

    #[test]
    fn the_last_layers_are_on_the_card() {
        let expected = with_cards(PLENTY, &[]).quiet_success();
        for (wanted, on_card) in [("1", 1), ("2", 2), ("3", 3), ("99", 3), ("all", 3), ("auto", 3)] {
            for flags in [["--gpu-layers", wanted], ["-ngl", wanted], ["--n-gpu-layers", wanted]] {
                let ran = with_cards(PLENTY, &[&["--device", "cuda"], &flags[..]].concat());
                assert_eq!(told(&ran), split(3 - on_card, on_card), "{flags:?}");
                assert_eq!(ran.stdout, expected, "{flags:?}");
            }
        }
        let none = with_cards(PLENTY, &["--device", "cuda", "-ngl", "0"]);
        assert_eq!(none.quiet_success(), expected);
    }

    /// With more memory there are never fewer layers on the card, and what was planned could be had each time.
    #[test]
    fn as_many_as_fit() {
        let expected = with_cards(PLENTY, &[]).quiet_success();
        let flags = ["--device", "cuda", "--gpu-layers", "auto"];
        let mut seen = Vec::new();
        for memory in (0..24).map(|i| 50_000 * i) {
            let ran = with_cards(&memory.to_string(), &flags);
            let on_card =
                told(&ran).into_iter().find(|(device, _)| device == "an").map_or(0, |(_, layers)| layers);
            assert_eq!(ran.stdout, expected, "{memory}");
            seen.push(on_card);
        }
        assert!(seen.is_sorted(), "{seen:?}");
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 3]);
    }

    /// What is quantized on its way takes less room, which is known before it is read, and is shared like any other.
    #[test]
    fn more_layers_fit_that_are_quantized() {
        let quantized = ["--quantize", "4-bit"];
        let expected = with_cards(PLENTY, &quantized).quiet_success();
        let flags = ["--device", "cuda", "--gpu-layers", "auto"];
        let on_card = |memory: usize, more: &[&str]| {
            let ran = with_cards(&memory.to_string(), &[&flags[..], more].concat());
            let layers =
                told(&ran).into_iter().find(|(device, _)| device == "an").map_or(0, |(_, layers)| layers);
            (layers, ran.stdout)
        };
        let mut gained = 0;
        for memory in (0..24).map(|i| 50_000 * i) {
            let (stored, (layers, stdout)) = (on_card(memory, &[]).0, on_card(memory, &quantized));
            assert!(layers >= stored && stdout == expected, "{memory}: {layers} of {stored}");
            gained += layers - stored;
        }
        assert!(gained > 0);
    }

    #[test]
    fn two_cards_share_what_one_cannot_hold() {
        let expected = with_cards(PLENTY, &[]).quiet_success();
        let flags = ["--device", "cuda", "--gpu-layers"];
        // Enough for one layer with the head, and for one without.
        let auto = |memory: &usize| with_cards(&memory.to_string(), &[&flags[..], &["auto"]].concat());
        let one = (0..24).map(|i| 50_000 * i).find(|memory| told(&auto(memory)).len() == 2);
        let sizes = format!("{0},{0}", one.unwrap());
        let ran = with_cards(&sizes, &[&flags[..], &["auto"]].concat());
        let cards: Vec<_> = told(&ran).into_iter().filter(|(device, _)| device == "an").collect();
        assert_eq!((cards.len(), ran.stdout), (2, expected), "{}", ran.stderr);
        let ran = with_cards(&format!("{PLENTY},{PLENTY}"), &[&flags[..], &["all"]].concat());
        assert_eq!(told(&ran), split(0, 3), "one card is enough");
    }

    #[test]
    fn what_cannot_be_is_told() {
        let cuda = ["--device", "cuda", "--gpu-layers", "3"];
        with_cards("100000", &cuda).fails_saying(&["3 layers do not fit", "room for 0", "--gpu-layers auto"]);
        with_cards(PLENTY, &["--device", "cpu", "-ngl", "2"]).fails_saying(&["--device cuda"]);
        with_cards(PLENTY, &["-ngl", "some"]).refuses_usage(&["--gpu-layers", "auto"]);
    }

    /// Each machine is held to its own limits.
    #[test]
    fn what_is_shared_is_measured() {
        let flags =
            ["-p", "5", "-n", "2", "-r", "1", "-t", "1", "--device", "cuda", "-ngl", "2", "-o", "json"];
        let ran = Ran::from(glimmer().arg("bench").arg(fixture("chatglm3-6b")).args(flags).output().unwrap());
        assert_eq!((ran.status, told(&ran)), (0, split(1, 2)), "{}", ran.stderr);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let machines = report["machines"].as_array().unwrap();
        let layers: Vec<_> = machines.iter().map(|m| (&m["first_layer"], &m["layers"])).collect();
        assert_eq!(serde_json::json!(layers), serde_json::json!([[0, 1], [1, 2]]));
        assert!(machines[0]["limits"]["f32_gflop_s"].as_f64() > Some(0.0), "{report}");
        assert!(machines[1]["limits"]["bf16_gflop_s"].as_f64() > Some(0.0), "{report}");
        assert_eq!(machines[1]["limits"], report["limits"]);
        assert!(report["results"].as_array().unwrap().iter().all(|row| row["floor_ts"].as_f64() > Some(0.0)));
    }

    /// The first layer that differs is found on several devices, too.
    #[test]
    fn a_split_model_verifies() {
        let mut command = glimmer();
        command.arg("verify").arg(fixture("glm4-9b-0414")).args([
            "--device",
            "cuda",
            "-ngl",
            "2",
            "--threads",
            "1",
        ]);
        let ran = Ran::from(command.output().unwrap());
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        assert!(
            ran.stdout.contains("1 of the layers on CPU")
                && ran.stdout.contains("2 of the layers on an NVIDIA")
        );
    }
}
