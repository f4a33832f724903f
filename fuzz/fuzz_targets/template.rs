//! Hostile Jinja source with messages.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_chat::fuzz_entry::template(data));
