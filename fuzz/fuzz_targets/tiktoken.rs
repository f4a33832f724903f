//! A tiktoken rank file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_tokenizer::fuzz_entry::tiktoken(data));
