//! What the tests of the binary share: running it, the fixtures, stored tensors.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "these are tests")]

pub mod seeing;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use safetensors::SafeTensors;

/// Every fixture that has a decoder.
pub const FIXTURES: [&str; 17] = [
    "chatglm-6b",
    "chatglm-6b-int8",
    "chatglm-6b-int4",
    "chatglm-6b-int4-qe",
    "chatglm2-6b",
    "chatglm2-6b-32k",
    "chatglm2-6b-int8",
    "chatglm2-6b-int4",
    "chatglm3-6b",
    "chatglm3-6b-32k",
    "glm4-9b-orig",
    "glm4-9b-orig-k256",
    "glm-4-9b-chat-hf",
    "glm-edge-1.5b-chat",
    "glm-edge-k256",
    "glm4-9b-0414",
    "glm4-32b-0414",
];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A fixture's directory.
pub fn fixture(name: &str) -> PathBuf {
    root().join("fixtures").join(name)
}

/// The folder of files that may not be in the repository, where it is there.
pub fn shared() -> Option<PathBuf> {
    let path = std::env::var_os("GLIMMER_SHARED").map_or_else(|| root().join("../shared"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: ../shared not present");
    None
}

/// The continuation of a word for [`chain`]: ids of further words, up to the first that repeats.
pub fn further_words(tokenizer: &glimmer_tokenizer::Tokenizer) -> Vec<u32> {
    let ids = tokenizer.encode("x wide open sky");
    (1..ids.len()).take_while(|&at| !ids[1..at].contains(&ids[at])).map(|at| ids[at]).collect()
}

/// Makes a tiny model in `directory`, with the tokenizer of another, whose likeliest continuation is exactly `ids`: after
/// any id that is not among them comes the first, after each its successor. Its layers add nothing; the embedding names
/// the state, the head the id that follows.
pub fn chain(directory: &Path, tokenizer: &Path, vocab: usize, ids: &[u32]) {
    const HIDDEN: usize = 64;
    const HEAD: usize = 16;
    const LAYER: usize = 32;
    // As halves.
    const ONE: u16 = 0x3c00;
    const FOUR: u16 = 0x4400;
    assert!(ids.len() < HIDDEN && (1..ids.len()).all(|at| !ids[..at].contains(&ids[at])), "{ids:?}");
    for entry in std::fs::read_dir(tokenizer).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
    }
    let mut embedding = vec![0; vocab * HIDDEN];
    let mut head = vec![0; vocab * HIDDEN];
    embedding.iter_mut().step_by(HIDDEN).for_each(|first| *first = ONE);
    for (state, &id) in ids.iter().enumerate() {
        let row = id as usize * HIDDEN;
        embedding[row] = 0;
        embedding[row + state + 1] = ONE;
        head[row + state] = FOUR;
    }
    let bytes = |values: Vec<u16>| values.into_iter().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut tensors = vec![
        ("model.embed_tokens.weight", vec![vocab, HIDDEN], bytes(embedding)),
        ("lm_head.weight", vec![vocab, HIDDEN], bytes(head)),
        ("model.norm.weight", vec![HIDDEN], bytes(vec![ONE; HIDDEN])),
        ("model.layers.0.input_layernorm.weight", vec![HIDDEN], bytes(vec![ONE; HIDDEN])),
        ("model.layers.0.post_attention_layernorm.weight", vec![HIDDEN], bytes(vec![ONE; HIDDEN])),
    ];
    for (name, shape) in [
        ("model.layers.0.mlp.gate_up_proj.weight", vec![2 * LAYER, HIDDEN]),
        ("model.layers.0.mlp.down_proj.weight", vec![HIDDEN, LAYER]),
        ("model.layers.0.self_attn.q_proj.weight", vec![4 * HEAD, HIDDEN]),
        ("model.layers.0.self_attn.k_proj.weight", vec![2 * HEAD, HIDDEN]),
        ("model.layers.0.self_attn.v_proj.weight", vec![2 * HEAD, HIDDEN]),
        ("model.layers.0.self_attn.q_proj.bias", vec![4 * HEAD]),
        ("model.layers.0.self_attn.k_proj.bias", vec![2 * HEAD]),
        ("model.layers.0.self_attn.v_proj.bias", vec![2 * HEAD]),
        ("model.layers.0.self_attn.o_proj.weight", vec![HIDDEN, 4 * HEAD]),
    ] {
        let zeros = vec![0; shape.iter().product()];
        tensors.push((name, shape, bytes(zeros)));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape.clone(), data).unwrap())
    });
    safetensors::serialize_to_file(views, None, &directory.join("model.safetensors")).unwrap();
    let config = serde_json::json!({
        "architectures": ["GlmForCausalLM"], "model_type": "glm", "attention_bias": true, "hidden_act": "silu",
        "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": HEAD, "intermediate_size": LAYER, "vocab_size": vocab, "max_position_embeddings": 2048,
        "partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
        "torch_dtype": "float16", "eos_token_id": vocab - 1, "pad_token_id": vocab - 1
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

/// The binary, with none of the variables that would change what it does; where a test says nothing of sampling, the
/// likeliest token is taken, whatever the model's files say.
pub fn glimmer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glimmer"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GLIMMER_") {
            command.env_remove(name);
        }
    }
    command.env("GLIMMER_TEMPERATURE", "0").stdin(Stdio::null());
    command
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary prints UTF-8");
        Ran {
            status: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// Arguments of mixed kinds: `args!["logits", path, "--ids", "1"]`.
#[macro_export]
macro_rules! args {
    ($($arg:expr),* $(,)?) => { Vec::<std::ffi::OsString>::from([$(std::ffi::OsString::from(&$arg)),*]) };
}

/// Runs the binary to its end.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> Ran {
    glimmer().args(args).output().expect("the binary starts").into()
}

/// As [`run`], with `input` on standard input.
pub fn run_with_input(args: impl IntoIterator<Item = std::ffi::OsString>, input: &[u8]) -> Ran {
    let mut command = glimmer();
    command.args(args);
    ran_with_input(command, input)
}

/// As [`run_with_input`], with a command that is made already.
pub fn ran_with_input(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("the writer ends");
    output.into()
}

impl Ran {
    /// Asserts success without a word on standard error, and answers standard output.
    #[track_caller]
    pub fn quiet_success(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// Asserts exit status 1 and exactly one line on standard error that holds each of the words; answers standard
    /// output.
    #[track_caller]
    pub fn fails_saying(self, words: &[&str]) -> String {
        assert_eq!(self.status, 1, "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].starts_with("error: "), "{}", self.stderr);
        for word in words {
            assert!(lines[0].contains(word), "{word:?} is not in: {}", lines[0]);
        }
        self.stdout
    }

    /// Asserts exit status 2 and a message that holds each of the words.
    #[track_caller]
    pub fn refuses_usage(self, words: &[&str]) {
        assert_eq!(self.status, 2, "{self:?}");
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
    }
}

/// The tensors of a safetensors file.
pub struct Stored(Vec<u8>);

impl Stored {
    pub fn open(path: &Path) -> Self {
        Stored(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = SafeTensors::deserialize(&self.0).expect("the file holds safetensors");
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        (view.shape().to_vec(), view.data().to_vec())
    }

    pub fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.0).expect("the file holds safetensors");
        file.names().into_iter().map(str::to_owned).collect()
    }

    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).0
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.tensor(name).1.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    pub fn i64(&self, name: &str) -> Vec<i64> {
        self.tensor(name).1.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Ids as the command line takes them.
    pub fn ids(&self, name: &str) -> String {
        self.i64(name).iter().map(i64::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Largest absolute difference; NaN anywhere is infinite.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

/// Copies a fixture's files to a new directory.
pub fn copy_of(name: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    for entry in std::fs::read_dir(fixture(name)).expect("the fixture is there") {
        let from = entry.expect("an entry can be read").path();
        std::fs::copy(&from, copy.path().join(from.file_name().expect("a file has a name"))).expect("a copy");
    }
    copy
}

/// Adds tensors without elements to a safetensors file: names and types.
pub fn add_tensors(path: &Path, tensors: &[(&str, &str)]) {
    let bytes = std::fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let data = &bytes[8 + len..];
    for (name, dtype) in tensors {
        header[*name] =
            serde_json::json!({"dtype": dtype, "shape": [0], "data_offsets": [data.len(), data.len()]});
    }
    let header = header.to_string().into_bytes();
    let len = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [len.as_slice(), header.as_slice(), data].concat()).unwrap();
}

/// `max(1e-4, 10 x the reference's own float32-to-float64 distance)`, the figure of the fixture's worst tensor.
pub fn tolerance(name: &str) -> f32 {
    let text = std::fs::read(fixture(name).join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let noise = manifest["float32_vs_float64"].as_object().unwrap().values();
    let worst = noise.filter_map(|v| v["max_abs"].as_f64().or(v.as_f64())).fold(0.0, f64::max);
    (10.0 * worst).max(1e-4) as f32
}
