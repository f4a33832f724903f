//! Rows to learn from: a byte that says which kind of file, then the file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_train::fuzz_entry::data(data));
