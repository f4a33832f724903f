//! A SentencePiece model, or a BERT `vocab.txt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| glimmer_tokenizer::fuzz_entry::sentencepiece(data));
