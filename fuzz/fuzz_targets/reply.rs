//! A reply: what a model wrote, cut into tokens at any place.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_chat::fuzz_entry::reply(data));
