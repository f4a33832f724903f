//! A PyTorch archive: zip and pickle.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_checkpoint::fuzz_entry::pickle(data));
