//! The command line as typed: verbs, flags, their help.
//!
//! Nothing is decided here beyond syntax. What a flag means for a model is said in `model.rs` and
//! `commands/`; completions and man pages are generated from these definitions.

mod answer;
mod catalogue;
mod eval;
mod files;
mod hub;
mod measure;
mod ocr;
mod serve;
mod text;
mod train;
pub(crate) mod values;
mod xinference;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use glimmer::{Compute, DeviceKind, DeviceOptions, Family, GpuLayers, KvType, Quantization};

pub(crate) use answer::{ChatArgs, OnFull, RunArgs, SamplingArgs};
pub(crate) use catalogue::{FitArgs, ListArgs, ShowArgs};
pub(crate) use eval::{EvalArgs, Evaluation, GenerationArgs};
pub(crate) use files::{ConvertArgs, FuseArgs, InspectArgs, SynthArgs};
pub(crate) use hub::{CacheArgs, HubArgs, PullArgs, RmArgs};
pub(crate) use measure::{BenchArgs, Figures, LogitsArgs, VerifyArgs};
pub(crate) use ocr::OcrArgs;
pub(crate) use serve::{BatchArgs, HealthArgs, LocalArgs, ServeArgs, ServedArgs, ServerArgs};
pub(crate) use text::{DetokenizeArgs, TemplateArgs, TokenizeArgs};
pub(crate) use train::TrainArgs;
pub(crate) use values::{Ids, KeepAlive, parse_ids};
use values::{gpu_layers, one_of, positive};
pub(crate) use xinference::{
    CachedArgs, CalModelMemArgs, EndpointArgs, EngineArgs, ForeignArgs, LaunchArgs, RegisterArgs,
    RegistrationsArgs, RemoveCacheArgs, TerminateArgs, UnregisterArgs,
};

/// Run the GLM family of language models.
#[derive(Debug, Parser)]
#[command(name = "glimmer", version, max_term_width = 110)]
#[command(after_help = "\
MODEL is a directory in Hugging Face layout, a .gguf file, `demo`, the small model inside this program, or a hub's \
OWNER/NAME[:QUANTIZATION], which is fetched where it is not here yet. Results go to standard output, everything else to standard error. Exit status: 0 success, 1 failure, 2 wrong usage.

Every flag has an environment variable that stands in for it: GLIMMER_MAX_TOKENS for --max-tokens.")]
pub(crate) struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: Verb,

    /// No progress bars and no notes; warnings and errors stay
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Chat(ChatArgs),
    Run(RunArgs),
    Ocr(OcrArgs),
    Serve(ServeArgs),
    Local(LocalArgs),
    Health(HealthArgs),
    Batch(BatchArgs),
    Launch(LaunchArgs),
    Terminate(TerminateArgs),
    Engine(EngineArgs),
    Registrations(RegistrationsArgs),
    Register(RegisterArgs),
    Unregister(UnregisterArgs),
    Cached(CachedArgs),
    RemoveCache(RemoveCacheArgs),
    CalModelMem(CalModelMemArgs),
    Pull(PullArgs),
    Rm(RmArgs),
    Cache(CacheArgs),
    Tokenize(TokenizeArgs),
    Detokenize(DetokenizeArgs),
    Template(TemplateArgs),
    Logits(LogitsArgs),
    Train(TrainArgs),
    Eval(EvalArgs),
    List(ListArgs),
    Show(ShowArgs),
    Fit(FitArgs),
    Inspect(InspectArgs),
    Verify(VerifyArgs),
    Convert(ConvertArgs),
    Fuse(FuseArgs),
    Synth(SynthArgs),
    Bench(BenchArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A directory in Hugging Face layout, a .gguf file, `demo`, or a hub's OWNER/NAME[:QUANTIZATION]
    #[arg(value_name = "MODEL")]
    pub(crate) path: PathBuf,

    /// The model's generation, where its files leave it open or are wrong
    #[arg(long, value_name = "NAME", value_parser = one_of(Family::NAMES))]
    pub(crate) family: Option<Family>,
}

/// On what and how precisely to compute.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Computation")]
pub(crate) struct DeviceArgs {
    /// What computes: `cuda` is an NVIDIA card, `auto` that where there is one and otherwise the CPU; `reference` is slow
    /// and plain, what the others are measured against
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DEVICE, value_parser = one_of(DEVICES))]
    pub(crate) device: DeviceKind,

    /// Threads to compute with [default: one per physical core]
    #[arg(long, short = 't', value_name = "N", value_parser = positive())]
    pub(crate) threads: Option<usize>,

    /// Numeric mode: `f32` decodes weights exactly and keeps all activations in f32; `auto` is fast
    #[arg(long, value_name = "MODE", value_parser = one_of(COMPUTES))]
    pub(crate) compute: Option<Compute>,

    /// Precision of the key/value cache [default: f32 with `--compute f32`, otherwise f16]
    #[arg(long, value_name = "TYPE", value_parser = one_of(KV_TYPES))]
    pub(crate) kv_type: Option<KvType>,

    /// Keep the model's last N layers and its head on NVIDIA cards and the others on the CPU: `auto` as many as fit, `all`.
    /// Also written -ngl [default: one device has all]
    #[arg(long, alias = "n-gpu-layers", value_name = "N", value_parser = gpu_layers)]
    pub(crate) gpu_layers: Option<GpuLayers>,

    /// Quantize the weights while they are loaded: `4-bit` is what `convert --type Q4_K` makes of them (Q5_0 where a width is
    /// no multiple of 256), `8-bit` is Q8_0 [default: as they are stored]
    #[arg(long, value_name = "BITS", value_parser = one_of(Quantization::NAMES))]
    pub(crate) quantize: Option<Quantization>,
}

impl DeviceArgs {
    /// As the library is told.
    pub(crate) fn options(&self) -> DeviceOptions {
        DeviceOptions {
            kind: self.device,
            threads: self.threads,
            compute: self.compute,
            kv_type: self.kv_type,
            gpu_layers: self.gpu_layers,
            quantize: self.quantize,
        }
    }

    /// The flags that say the same.
    pub(crate) fn as_flags(&self) -> Vec<String> {
        fn name<T: PartialEq>(names: &[(T, &'static str)], value: T) -> String {
            names
                .iter()
                .find(|(other, _)| *other == value)
                .map_or(String::new(), |(_, name)| (*name).to_owned())
        }
        let optional = [
            ("--threads", self.threads.map(|threads| threads.to_string())),
            ("--compute", self.compute.map(|compute| name(&COMPUTES, compute))),
            ("--kv-type", self.kv_type.map(|kv_type| name(&KV_TYPES, kv_type))),
            ("--gpu-layers", self.gpu_layers.map(values::gpu_layers_name)),
            ("--quantize", self.quantize.map(|to| name(&Quantization::NAMES, to))),
        ];
        let given = optional.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
        given.flatten().chain(["--device".to_owned(), name(&DEVICES, self.device)]).collect()
    }
}

/// The command line with llama.cpp's `-ngl` as the flag that it stands for (to clap it would be `-n gl`), and with what
/// Xinference spells in its own way.
pub(crate) fn spelled_out(typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut is_flag = true;
    let words = typed.map(|word| {
        is_flag &= word != "--";
        if is_flag && word == "-ngl" { "--gpu-layers".into() } else { word }
    });
    xinference::spelled_out(words.collect())
}

/// The definition of the whole command line, with a variable for every flag: `GLIMMER_MAX_TOKENS` for
/// `--max-tokens`. An empty variable counts as none.
pub(crate) fn command() -> Command {
    with_variables(CommandLine::command())
}

/// The same with the names that `train` reads by itself.
pub(crate) fn complete_command() -> Command {
    command().mut_subcommand("train", train::with_names)
}

/// The variable that stands in for a flag.
fn variable_of(long: &str) -> String {
    format!("GLIMMER_{}", long.to_uppercase().replace('-', "_"))
}

fn with_variables(command: Command) -> Command {
    command.mut_args(with_variable).mut_subcommands(with_variables)
}

/// A flag with its variable.
fn with_variable(arg: Arg) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let name = variable_of(long);
    let arg = match arg.get_action() {
        ArgAction::SetTrue => arg.value_parser(FalseyValueParser::new()),
        _ => arg,
    };
    let empty = std::env::var_os(&name).is_some_and(|value| value.is_empty());
    if empty { arg } else { arg.env(name).hide_env(true) }
}

const DEVICES: [(DeviceKind, &str); 4] = [
    (DeviceKind::Auto, "auto"),
    (DeviceKind::Cpu, "cpu"),
    (DeviceKind::Cuda, "cuda"),
    (DeviceKind::Reference, "reference"),
];
/// A program that was built for cards uses one where it can.
const DEFAULT_DEVICE: &str = if cfg!(feature = "cuda") { "auto" } else { "cpu" };
const COMPUTES: [(Compute, &str); 2] = [(Compute::F32, "f32"), (Compute::Auto, "auto")];
pub(crate) const KV_TYPES: [(KvType, &str); 3] =
    [(KvType::F32, "f32"), (KvType::F16, "f16"), (KvType::Q8_0, "q8_0")];

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer completions bash > ~/.local/share/bash-completion/completions/glimmer
  glimmer completions zsh > ~/.zfunc/_glimmer
  glimmer completions fish > ~/.config/fish/completions/glimmer.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// Print a man page
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  glimmer man | man -l -
  glimmer man --into ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// The verb whose page to print [default: the program's own]
    #[arg(value_name = "VERB")]
    pub(crate) verb: Option<String>,

    /// Write the pages of the program and of every verb into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "verb")]
    pub(crate) into: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_cpp_spells_layers_its_way() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let found = spelled_out(words("glimmer run -ngl 20 m -- -ngl").into_iter());
        assert_eq!(found, words("glimmer run --gpu-layers 20 m -- -ngl"));
    }

    #[test]
    fn definitions_hold_together() {
        command().debug_assert();
        complete_command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        let mut commands = vec![command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long().filter(|name| !["help", "version"].contains(name)) else {
                    continue;
                };
                let expected = format!("GLIMMER_{}", long.to_uppercase().replace('-', "_"));
                let found = arg.get_env().map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, Some(expected), "--{long} of {}", command.get_name());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn every_verb_has_examples() {
        for verb in command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&format!("glimmer {}", verb.get_name())), "{}", verb.get_name());
        }
    }
}
