//! What `train` takes: a configuration, or names with values. They are read by the library, because files have them, too.

use clap::{Arg, Args, Command, ValueHint};

/// The names that the help shows, which complete and have variables as every flag has. Further ones, those of the old
/// scripts, are taken without.
const NAMES: [&str; 40] = [
    "data",
    "eval-data",
    "max-length",
    "combine",
    "skip-bad-rows",
    "dry-run",
    "lora-rank",
    "lora-alpha",
    "lora-dropout",
    "target",
    "rslora",
    "dora",
    "prefix",
    "prefix-projection",
    "full",
    "from-scratch",
    "quantize",
    "start",
    "learning-rate",
    "epochs",
    "steps",
    "batch-size",
    "batch-tokens",
    "accumulate",
    "schedule",
    "warmup",
    "clip",
    "weight-decay",
    "eight-bit",
    "seed",
    "output",
    "save-every",
    "keep",
    "eval-every",
    "patience",
    "resume",
    "threads",
    "fast",
    "gradient-checkpointing",
    "reference",
];

/// The definition of `train` with its names as flags, for what is made of definitions; to be read they are words.
pub(super) fn with_names(command: Command) -> Command {
    let hint = |name| match name {
        "data" | "eval-data" => ValueHint::FilePath,
        "output" | "start" => ValueHint::DirPath,
        _ => ValueHint::Unknown,
    };
    command.args(NAMES.map(|name| Arg::new(name).long(name).num_args(0..=1).value_hint(hint(name))))
}

impl TrainArgs {
    /// The words with those that variables stand in for: `GLIMMER_LORA_RANK` for `--lora-rank` where that is not said.
    pub(crate) fn with_variables(&self, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let said = |name: &str| {
            self.words.iter().filter_map(|word| word.strip_prefix("--")).any(|word| {
                let word = word.split_once('=').map_or(word, |(word, _)| word);
                word.replace('_', "-") == name
            })
        };
        let unsaid = NAMES.into_iter().filter(|name| !said(name));
        let values = unsaid.filter_map(|name| {
            let value = variable(&super::variable_of(name)).filter(|value| !value.is_empty())?;
            Some(format!("--{name}={value}"))
        });
        self.words.iter().cloned().chain(values).collect()
    }
}

/// Train an adapter for a model, or all of its weights
#[derive(Debug, Args)]
#[command(override_usage = "glimmer train MODEL --data FILE [--NAME VALUE]...
       glimmer train CONFIG [--NAME VALUE]...
       glimmer train DATA_DIR MODEL CONFIG.yaml [yes|no|STEP]")]
#[command(after_help = "\
MODEL is what every verb takes. CONFIG is a .toml file of the names below, or a .yaml file of GLM-4's finetune_demo; the \
flags of ChatGLM-6B's ptuning scripts are taken, too. What is about several cards or DeepSpeed is named and has no effect.

Data:
  --data FILE           learn from .json or .jsonl (messages; or prompt, response, history), .csv or .txt
  --eval-data FILE      evaluate with this and never learn from it; the best state is what comes out
  --max-length N        cut longer examples [1024]
  --combine             learn only the last answer of a conversation
  --skip-bad-rows       leave out rows that cannot be learned from
  --dry-run             train nothing; show examples, what is learned of them, and figures
What is trained:
  --lora-rank N, --lora-alpha X, --lora-dropout P       a low-rank adapter [8, twice the rank, 0]
  --target NAME,...     last words of the names of weights, or all-linear [the attention's queries, keys and values]
  --rslora, --dora      divide alpha by the root of the rank; train the magnitudes of rows, too
  --prefix N, --prefix-projection       P-Tuning v2 in place of LoRA
  --full                all weights, in f32; with --from-scratch, which begin with random values
  --quantize 4|8        quantize the frozen weights while they are loaded
  --start DIR           begin with the values of an adapter that there is (also --ptuning-checkpoint)
Steps:
  --learning-rate X     [2e-4; of a prefix 1e-2; of all weights 1e-5]
  --epochs X, --steps N [3 epochs]
  --batch-size N, --batch-tokens N, --accumulate N      what makes a step [2048 tokens]
  --schedule constant|linear|cosine, --warmup X         [cosine; a share of 0.03, or steps]
  --clip X, --weight-decay X, --eight-bit, --seed N     [1, 0, moments in f32, 42]
States and evaluations:
  --output DIR          where everything is written [output]
  --save-every N, --keep N      [after each epoch; 2]
  --eval-every N, --patience N  [after each epoch; to the end]
  --resume auto|STEP    go on as if nobody had stopped
Computation:
  --threads N
  --fast                8 bits forward through quantized weights, bfloat16 back through frozen ones: gradients differ by some hundredths
  --gradient-checkpointing      compute every layer again in backward, where memory is short
  --reference           plain loops, slowly

First the memory is told that it takes, and whether that fits. DIR gets the adapter in PEFT's format (a prefix: in ChatGLM's; \
all weights: a model), metrics.jsonl, files for TensorBoard, loss.svg, and states as checkpoint-N. Ctrl-C saves one and ends.

Examples:
  glimmer train demo --data town.jsonl --lora-rank 32 --target all-linear --learning-rate 3e-3 --epochs 8 --output town
  glimmer train glm-4-9b-chat --data train.jsonl --quantize 4 --batch-tokens 1024 --accumulate 8 --resume auto
  glimmer train data/ glm-4-9b-chat configs/lora.yaml")]
pub(crate) struct TrainArgs {
    /// A model or a configuration, and names with values: see below
    #[arg(value_name = "WORD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_help() {
        let help = TrainArgs::augment_args(Command::new("train")).get_after_help().unwrap().to_string();
        let (names, _) = help.split_once("Examples:").unwrap();
        let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
        let shown = names.split("--").skip(1).map(|rest| rest.split(|c| !is_name(c)).next().unwrap());
        let mut shown: Vec<&str> = shown.filter(|name| *name != "ptuning-checkpoint").collect();
        shown.sort_unstable();
        shown.dedup();
        let mut known = NAMES.to_vec();
        known.sort_unstable();
        assert_eq!(shown, known);
    }

    #[test]
    fn variables_stand_in_for_what_is_not_said() {
        let args = TrainArgs { words: ["demo", "--lora_rank", "4", "--steps=3"].map(str::to_owned).to_vec() };
        let all = args.with_variables(|name| match name {
            "GLIMMER_LORA_RANK" | "GLIMMER_STEPS" | "GLIMMER_DATA" => Some("7".to_owned()),
            "GLIMMER_SEED" => Some(String::new()),
            _ => None,
        });
        assert_eq!(all, ["demo", "--lora_rank", "4", "--steps=3", "--data=7"]);
    }
}
