#!/usr/bin/env bash
# jieba-rs 0.11.0 beside jieba 0.42.1, with the same dictionary: words of letters, digits and hyphens stay whole in jieba-rs
# (`ChatGLM-6B`, `GLM-4`), while jieba cuts them at the hyphen. What stands between two such words is cut alike. So ROUGE of
# Chinese texts that name models differs between a program in Rust and the Python scripts whose figures are published.
#
# Expected before: that the port cuts as the original does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "setuptools<81" jieba==0.42.1
mkdir -p "$folder/port/src"
cat >"$folder/port/Cargo.toml" <<'T'
[package]
name = "port"
version = "0.1.0"
edition = "2021"

[dependencies]
jieba-rs = { version = "=0.11.0", default-features = false }
T
cat >"$folder/port/src/main.rs" <<'R'
use std::io::BufReader;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut dictionary = BufReader::new(std::fs::File::open(&args[1]).unwrap());
    let jieba = jieba_rs::Jieba::with_dict(&mut dictionary).unwrap();
    for text in &args[2..] {
        let words: Vec<&str> = jieba.cut(text, true).into_iter().map(|word| word.word).collect();
        println!("{}", words.join("|"));
    }
}
R
dictionary=$("$folder/venv/bin/python" -W ignore -c 'import jieba, os; print(os.path.join(os.path.dirname(jieba.__file__), "dict.txt"))')
texts=("ChatGLM-6B和GLM-4都很好" "今天天气很好，我们去公园")
cargo run --quiet --manifest-path "$folder/port/Cargo.toml" -- "$dictionary" "${texts[@]}" >"$folder/rust"
"$folder/venv/bin/python" -W ignore - "${texts[@]}" >"$folder/python" 2>/dev/null <<'P'
import sys

import jieba

for text in sys.argv[1:]:
    print("|".join(jieba.cut(text)))
P
paste -d '\n' "$folder/rust" "$folder/python"
[[ $(sed -n 1p "$folder/rust") == 'ChatGLM-6B|和|GLM-4|都|很|好' ]] || { echo "jieba-rs has changed"; exit 1; }
[[ $(sed -n 1p "$folder/python") == 'ChatGLM|-|6B|和|GLM|-|4|都|很|好' ]] || { echo "jieba has changed"; exit 1; }
[[ $(sed -n 2p "$folder/rust") == $(sed -n 2p "$folder/python") ]] || { echo "other words have changed"; exit 1; }
