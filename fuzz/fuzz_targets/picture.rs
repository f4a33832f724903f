//! A picture or an animation.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_picture::fuzz_entry::picture(data));
