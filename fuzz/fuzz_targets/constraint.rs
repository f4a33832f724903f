//! A grammar of any kind, compiled, and an answer of random tokens in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_grammar::fuzz_entry::constraint(data));
