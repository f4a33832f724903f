//! A safetensors file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_checkpoint::fuzz_entry::safetensors(data));
