//! How fast tokenizers load, encode and decode, in processor time (Linux): `cargo run --release --example speed -- MODEL_DIR TEXT_FILE...`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for the terminal")]

use std::time::Duration;

use glimmer_tokenizer::Tokenizer;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("usage: speed MODEL_DIR TEXT_FILE...");
    let (loading, tokenizer) = best(|| Tokenizer::from_dir(dir.as_ref()).unwrap());
    println!("{dir}: loaded in {:.0} ms", loading.as_secs_f64() * 1e3);
    for path in arguments {
        let text = std::fs::read_to_string(&path).unwrap();
        let (encoding, ids) = best(|| tokenizer.encode(&text));
        let (decoding, _) = best(|| tokenizer.decode(&ids));
        let megabytes = |time: Duration| text.len() as f64 / 1e6 / time.as_secs_f64();
        println!(
            "{path}: {} bytes, {} tokens, encoded at {:.1} MB/s, decoded at {:.1} MB/s",
            text.len(),
            ids.len(),
            megabytes(encoding),
            megabytes(decoding)
        );
    }
}

/// What the scheduler says this thread has run for, which a busy machine does not distort.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// The best of five runs.
fn best<T>(run: impl Fn() -> T) -> (Duration, T) {
    let timed = (0..5).map(|_| {
        let start = processor_time();
        let result = run();
        (processor_time() - start, result)
    });
    timed.min_by_key(|(time, _)| *time).unwrap()
}
