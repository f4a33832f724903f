//! How alike two texts are: `cargo run --release --example embed -- ENCODER 'one text' 'another'`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print")]

use glimmer::Embedder;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [encoder, one, other] = arguments.as_slice() else {
        return Err("an encoder and two texts are needed".into());
    };
    let vectors = Embedder::open(encoder.as_str())?.embed(&[one, other])?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let (a, b) = (&vectors[0], &vectors[1]);
    println!("{:.4}", dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
    Ok(())
}
