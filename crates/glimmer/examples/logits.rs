//! The likeliest next token after each of a prompt: `cargo run --release --example logits -- MODEL 12,34,56`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples print")]

use glimmer::{Compute, DeviceOptions, Error, Model, ModelFiles, Overrides, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let files = ModelFiles::new(arguments.next().ok_or("no model")?.as_str(), Overrides::default());
    let ids = arguments.next().ok_or("no ids")?;
    let ids = ids.split(',').map(str::parse).collect::<Result<Vec<u32>, _>>()?;

    let device = DeviceOptions::default().open(Compute::F32, &mut |_| {})?;
    let placement = device.place(&files, Session::capacity(ids.len(), 64, 64), &mut |_| {})?;
    let mut sequence = Model::load(&files, placement, &mut |_| {})?.session(ids.len(), 64, 64)?;
    let vocab = files.spec()?.vocab;
    sequence.logits(&ids, &mut |rows| -> Result<(), Error> {
        for logits in rows.chunks(vocab) {
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            println!("{best:?}");
        }
        Ok(())
    })?;
    Ok(())
}
