//! A `tokenizer.json`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_tokenizer::fuzz_entry::tokenizer_json(data));
