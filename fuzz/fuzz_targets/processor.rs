//! A preprocessor_config.json.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_picture::fuzz_entry::processor(data));
