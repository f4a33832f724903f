//! A linear layer after the pooling: sentence-transformers' `Dense` (`base/modules/dense.py` of release 6.2.0).

use std::path::Path;

use glimmer_checkpoint::Checkpoint;
use serde::Deserialize;

use super::activation::{Activation, KNOWN};
use super::linear::{Linear, Threads, Weights, add};
use super::modules::{SENTENCE, shown, wrong};
use crate::ModelError;

/// The keys of its `config.json`.
#[derive(Deserialize)]
struct Config {
    in_features: usize,
    out_features: usize,
    #[serde(default = "Config::yes")]
    bias: bool,
    #[serde(default = "Config::tanh")]
    activation_function: String,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

impl Config {
    fn yes() -> bool {
        true
    }

    fn tanh() -> String {
        "torch.nn.modules.activation.Tanh".to_owned()
    }
}

/// What is added to a [`Dense`]'s result.
enum Residual {
    None,
    /// The input.
    Input,
    /// The input, brought to the result's length.
    Projected(Linear),
}

/// `y = f(x W^T + b)`, and perhaps a residual.
pub(super) struct Dense {
    inputs: usize,
    linear: Linear,
    activation: Activation,
    residual: Residual,
}

impl Dense {
    /// Loads the module in a directory: `config.json` and `model.safetensors` or `pytorch_model.bin`.
    pub(super) fn load(directory: &Path) -> Result<Self, ModelError> {
        let file = directory.join("config.json");
        let checkpoint = Checkpoint::open(directory)?;
        let config = checkpoint.config().ok_or_else(|| wrong(&file, "not found"))?;
        let config = Config::deserialize(config).map_err(|error| wrong(&file, error))?;
        let names = [&config.module_input_name, &config.module_output_name];
        if let Some(name) = names.into_iter().flatten().find(|name| *name != SENTENCE) {
            return Err(wrong(
                &file,
                format!("a Dense of {} is not supported, only of {SENTENCE}", shown(name)),
            ));
        }
        let (inputs, outputs) = (config.in_features, config.out_features);
        if inputs == 0 || outputs == 0 {
            return Err(wrong(&file, format!("in_features is {inputs}, out_features {outputs}")));
        }
        let activation = Activation::of(&config.activation_function).ok_or_else(|| {
            let class = shown(&config.activation_function);
            wrong(&file, format!("activation_function {class} is not supported; {KNOWN} are"))
        })?;
        let weights = Weights { checkpoint: &checkpoint, prefix: "" };
        let names = ["linear".to_owned()];
        let linear = if config.bias {
            weights.linear(&names, outputs, inputs)?
        } else {
            weights.linear_without_bias(&names, outputs, inputs)?
        };
        let residual = match config.use_residual {
            false => Residual::None,
            true if inputs == outputs => Residual::Input,
            true => {
                Residual::Projected(weights.linear_without_bias(&["residual".to_owned()], outputs, inputs)?)
            }
        };
        Ok(Dense { inputs, linear, activation, residual })
    }

    /// Length of an input.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// Length of a result.
    pub(super) fn outputs(&self) -> usize {
        self.linear.outputs()
    }

    /// `[texts, inputs]` to `[texts, outputs]`.
    pub(super) fn apply(&self, x: &[f32], threads: Threads) -> Vec<f32> {
        let mut out = self.linear.apply(x, threads);
        out.iter_mut().for_each(|v| *v = self.activation.apply(*v));
        match &self.residual {
            Residual::None => {}
            Residual::Input => add(&mut out, x),
            Residual::Projected(linear) => add(&mut out, &linear.apply(x, threads)),
        }
        out
    }
}
