//! A grammar: a JSON schema, or llama.cpp's notation.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_grammar::fuzz_entry::grammar(data));
