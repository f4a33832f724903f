//! Reads an adapter for a model and writes it again, so that PEFT can be asked what it makes of it
//! (`tools/make_peft_references.py check`): `rewrite_adapter MODEL ADAPTER OUT`.

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use glimmer_models::{Adapter, PeftSettings, understand};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, adapter, out] = args.as_slice() else { return Err("MODEL ADAPTER OUT".into()) };
    let understood = understand(&Checkpoint::open(Path::new(model))?, None)?;
    let Adapter::LowRank(adapter) = Adapter::read(Path::new(adapter), &understood.spec)? else {
        return Err("a prefix is written by PrefixEncoder::write".into());
    };
    let settings =
        PeftSettings { naming: understood.naming, base: model.clone(), dropout: 0.0, use_rslora: false };
    adapter.write(Path::new(out), &understood.spec, &settings)?;
    Ok(())
}
