#!/usr/bin/env python3
"""Makes crates/models/tests/data/llamacpp: tiny GGUF files of every weight type with llama.cpp's logits on them.

    pip install numpy==2.4.6 gguf==0.19.0 llama-cpp-python==0.3.36 safetensors==0.8.0
    python tools/make_llamacpp_logits.py [--fixtures DIR]

Random weights in llama.cpp's names and metadata, quantized by ggml without an importance matrix. `TYPE.gguf` is a
one-layer model like GLM-4-9B (arch `chatglm`, fused qkv with bias, half rotary) with all matrices of that type;
`mix-edge.gguf` is like GLM-Edge (separate q, k, v without bias, full rotary, tied), `mix-0414.gguf` like GLM-4-0414
(arch `glm4`, norms after attention and MLP), with another type for each matrix. Each comes with NAME.safetensors:

    input_ids   I64 [n]
    logits      F32 [n, vocab]  llama.cpp on the file: activations are rounded to 8 bits before quantized products
    logits_f32  F32 [n, vocab]  llama.cpp on the same weights decoded by ggml and stored as F32

`manifest.json` has, for each file, how far these two are apart, and how far `logits_f32` is from the same graph in
float64 in numpy, written apart from both engines.

llama.cpp runs on the CPU with f32 KV cache, without flash attention and without repacking.

With --fixtures DIR nothing is written: the fixtures `glm4-9b-orig-k256`, `glm-edge-k256` and `glm4-9b-0414` in DIR are
converted to F32 and llama.cpp's logits compared with the ones stored there.
"""

import argparse
import ctypes
import json
import pathlib
import tempfile

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file, save_file

from make_quant_golden import TYPES, decode, encode, load_ggml

OUT = pathlib.Path(__file__).resolve().parent.parent / "crates/models/tests/data/llamacpp"
IDS = 33

GLM4_9B = {"arch": "chatglm", "layers": 1, "kv": 2, "rotary": 0.5, "base": 5e6, "eps": 1.5625e-07, "fused": True,
           "bias": True, "tied": False}
NARROW = GLM4_9B | {"hidden": 128, "heads": 4, "ffn": 160, "vocab": 96}  # no width is a multiple of 256
SMALL = NARROW | {"kv": 1, "ffn": 96, "vocab": 64}
WIDE = GLM4_9B | {"hidden": 256, "heads": 4, "ffn": 256, "vocab": 64}
EDGE = {"arch": "chatglm", "layers": 1, "hidden": 256, "heads": 8, "kv": 2, "ffn": 416, "vocab": 64, "rotary": 1.0,
        "base": 1e4, "eps": 1e-5, "fused": False, "bias": False, "tied": True}
GLM4_0414 = {"arch": "glm4", "layers": 2, "hidden": 256, "heads": 4, "kv": 1, "ffn": 96, "vocab": 64, "rotary": 0.5,
             "base": 1e4, "eps": 1e-5, "fused": False, "bias": True, "tied": False}

# 416 and 96 are no multiples of 256: ffn_down takes a type with blocks of 32, as in published GLM-4-9B files.
MIX_EDGE = {"token_embd": "Q6_K", "blk.0.attn_q": "Q4_K", "blk.0.attn_k": "Q3_K", "blk.0.attn_v": "Q5_K",
            "blk.0.attn_output": "Q2_K", "blk.0.ffn_up": "Q4_K", "blk.0.ffn_down": "Q5_0"}
MIX_0414 = {"token_embd": "Q4_K", "output": "Q6_K",
            "blk.0.attn_q": "Q4_0", "blk.0.attn_k": "F16", "blk.0.attn_v": "Q8_0", "blk.0.attn_output": "Q4_1",
            "blk.0.ffn_up": "IQ4_XS", "blk.0.ffn_down": "Q8_0",
            "blk.1.attn_q": "Q5_K", "blk.1.attn_k": "BF16", "blk.1.attn_v": "Q6_K", "blk.1.attn_output": "Q5_1",
            "blk.1.ffn_up": "Q3_K", "blk.1.ffn_down": "IQ4_NL"}


def head_width(spec):
    return spec.get("head", spec["hidden"] // spec["heads"])


def make_weights(spec, rng):
    """name -> float32 array [rows, columns] or [n], in llama.cpp's names without `.weight`."""
    hidden, ffn, vocab = spec["hidden"], spec["ffn"], spec["vocab"]
    head = head_width(spec)
    queries, keys = spec["heads"] * head, spec["kv"] * head
    weights = {}

    def matrix(name, rows, columns, gain=1.0):
        weights[name] = rng.normal(0, gain / np.sqrt(columns), (rows, columns)).astype(np.float32)

    def vector(name, n, mean, spread):
        weights[name] = rng.normal(mean, spread, n).astype(np.float32)

    matrix("token_embd", vocab, hidden, np.sqrt(hidden) if not spec["tied"] else 4.0)
    for i in range(spec["layers"]):
        layer = f"blk.{i}."
        vector(layer + "attn_norm", hidden, 1.0, 0.1)
        qkv = {"attn_q": queries, "attn_k": keys, "attn_v": keys}
        for name, rows in {"attn_qkv": queries + 2 * keys}.items() if spec["fused"] else qkv.items():
            matrix(layer + name, rows, hidden, 1.5)
            if spec["bias"]:
                vector(layer + name + ".bias", rows, 0.0, 0.2)
        matrix(layer + "attn_output", hidden, queries, 1.5)
        vector(layer + "ffn_norm", hidden, 1.0, 0.1)
        matrix(layer + "ffn_up", 2 * ffn, hidden, 1.5)
        matrix(layer + "ffn_down", hidden, ffn, 1.5)
        if spec["arch"] == "glm4":
            vector(layer + "post_attention_norm", hidden, 1.0, 0.1)
            vector(layer + "post_ffw_norm", hidden, 1.0, 0.1)
    vector("output_norm", hidden, 1.0, 0.1)
    if not spec["tied"]:
        matrix("output", vocab, hidden, 3.0)
    return weights


def write_gguf(path, spec, tensors):
    """tensors: name -> (type name, array of bytes or floats, shape)"""
    writer = gguf.GGUFWriter(path, spec["arch"])
    head = head_width(spec)
    writer.add_context_length(512)
    writer.add_embedding_length(spec["hidden"])
    writer.add_feed_forward_length(spec["ffn"])
    writer.add_block_count(spec["layers"])
    writer.add_head_count(spec["heads"])
    writer.add_head_count_kv(spec["kv"])
    writer.add_layer_norm_rms_eps(spec["eps"])
    if head * spec["heads"] != spec["hidden"]:
        writer.add_key_length(head)
        writer.add_value_length(head)
    writer.add_rope_dimension_count(int(head * spec["rotary"]))
    writer.add_rope_freq_base(spec["base"])
    add_vocabulary(writer, spec["vocab"])
    for name, (kind, data, shape) in tensors.items():
        full = name if name.endswith(".bias") else name + ".weight"
        if kind == "F32":
            writer.add_tensor(full, data.reshape(shape))
        else:
            writer.add_tensor(full, data.reshape(shape[0], -1), raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer, size):
    """Byte-level BPE over some of ASCII, with GLM-4's special tokens last."""
    special = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|observation|>"]
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["Ġ", "Ċ"]
    merges = ["t h", "th e", "i n", "e r", "a n"]
    words = letters + [merge.replace(" ", "") for merge in merges]
    normal = words + [f"word{i}" for i in range(size - len(words) - len(special))]
    kinds = [gguf.TokenType.NORMAL] * len(normal) + [gguf.TokenType.CONTROL] * len(special)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("chatglm-bpe")
    writer.add_token_list(normal + special)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    eos, user = size - 6, size - 3
    writer.add_eos_token_id(eos)
    writer.add_eot_token_id(user)
    writer.add_pad_token_id(eos)
    writer.add_add_bos_token(False)


def llama_logits(path, ids, vocab):
    model_params = llama_cpp.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model_params.use_extra_bufts = False
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), model_params)
    if not model:
        raise SystemExit(f"llama.cpp does not load {path}")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 256
    params.n_threads = params.n_threads_batch = 1
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.type_k = params.type_v = gguf.GGMLQuantizationType.F32
    context = llama_cpp.llama_init_from_model(model, params)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i], batch.logits[i] = int(token), i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    if llama_cpp.llama_decode(context, batch) != 0:
        raise SystemExit(f"llama.cpp cannot run {path}")
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(ids), vocab)).copy()
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return logits


def float64_logits(spec, weights, ids):
    """The same graph in plain numpy."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    heads, kv, n = spec["heads"], spec["kv"], len(ids)
    head = head_width(spec)
    rotary = int(head * spec["rotary"])
    angles = np.arange(n)[:, None] * spec["base"] ** (-np.arange(0, rotary, 2) / rotary)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]

    def norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + spec["eps"]) * weight

    def rope(x):
        x = x.copy()
        even, odd = x[..., 0:rotary:2].copy(), x[..., 1:rotary:2].copy()
        x[..., 0:rotary:2], x[..., 1:rotary:2] = even * cos - odd * sin, odd * cos + even * sin
        return x

    x = w["token_embd"][ids]
    for i in range(spec["layers"]):
        layer = f"blk.{i}."
        names = ["attn_qkv"] if spec["fused"] else ["attn_q", "attn_k", "attn_v"]
        h = norm(x, w[layer + "attn_norm"])
        qkv = np.concatenate([h @ w[layer + m].T + w.get(layer + m + ".bias", 0) for m in names], -1)
        q, k, v = np.split(qkv.reshape(n, heads + 2 * kv, head), [heads, heads + kv], 1)
        q, k = rope(q), np.repeat(rope(k), heads // kv, 1)
        v = np.repeat(v, heads // kv, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(head)
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        h = np.einsum("hqk,khd->qhd", scores, v).reshape(n, -1) @ w[layer + "attn_output"].T
        if spec["arch"] == "glm4":
            h = norm(h, w[layer + "post_attention_norm"])
        x = x + h
        gate, up = np.split(norm(x, w[layer + "ffn_norm"]) @ w[layer + "ffn_up"].T, 2, -1)
        h = gate / (1 + np.exp(-gate)) * up @ w[layer + "ffn_down"].T
        if spec["arch"] == "glm4":
            h = norm(h, w[layer + "post_ffw_norm"])
        x = x + h
    return norm(x, w["output_norm"]) @ w.get("output", w["token_embd"]).T


def compare(logits, reference):
    def log_softmax(x):
        x = x.astype(np.float64) - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    p, q = log_softmax(reference), log_softmax(logits)
    return {
        "max_abs": float(np.abs(logits.astype(np.float64) - reference).max()),
        "mean_kl": float((np.exp(p) * (p - q)).sum(-1).mean()),
        "same_argmax": float((logits.argmax(-1) == reference.argmax(-1)).mean()),
    }


def make(name, spec, types, ggml, folder):
    """types: tensor name -> type name, or one type name for all matrices."""
    rng = np.random.default_rng(list(name.encode()))
    weights = make_weights(spec, rng)
    ids = rng.integers(0, spec["vocab"], IDS)
    stored, decoded = {}, {}
    for tensor, values in weights.items():
        kind = "F32" if values.ndim == 1 else types if isinstance(types, str) else types[tensor]
        data = values if kind == "F32" else encode(ggml, kind, values.reshape(-1))
        stored[tensor] = kind, data, values.shape
        decoded[tensor] = values if kind == "F32" else decode(ggml, kind, data).reshape(values.shape)

    path = folder / f"{name}.gguf"
    write_gguf(path, spec, stored)
    logits = llama_logits(path, ids, spec["vocab"])
    with tempfile.TemporaryDirectory() as scratch:
        twin = pathlib.Path(scratch) / "twin.gguf"
        write_gguf(twin, spec, {tensor: ("F32", values, values.shape) for tensor, values in decoded.items()})
        logits_f32 = llama_logits(twin, ids, spec["vocab"])
    exact = float64_logits(spec, decoded, ids)
    save_file({"input_ids": ids.astype(np.int64), "logits": logits, "logits_f32": logits_f32},
              folder / f"{name}.safetensors")
    figures = {
        "bytes": path.stat().st_size,
        "largest_logit": float(np.abs(logits_f32).max()),
        "logits_to_logits_f32": compare(logits, logits_f32),
        "logits_f32_to_float64": compare(logits_f32, exact),
    }
    apart, noise = figures["logits_to_logits_f32"], figures["logits_f32_to_float64"]
    print(f"{name:9} {figures['bytes']:7} B  quantized run to f32 twin: max {apart['max_abs']:.2e}, "
          f"mean KL {apart['mean_kl']:.2e}, same argmax {apart['same_argmax']:.3f}; twin to float64: "
          f"{noise['max_abs']:.1e} of {figures['largest_logit']:.1f}")
    return figures


def from_fixture(folder):
    """A fixture's spec and weights in llama.cpp's names."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for shard in folder.glob("model*.safetensors"):
        tensors |= load_bf16(shard)
    if config["model_type"] == "chatglm":
        spec = {"arch": "chatglm", "hidden": config["hidden_size"], "heads": config["num_attention_heads"],
                "kv": config["multi_query_group_num"], "ffn": config["ffn_hidden_size"], "rotary": 0.5,
                "layers": config["num_layers"], "vocab": config["padded_vocab_size"], "fused": True, "bias": True,
                "base": 1e4 * config["rope_ratio"], "eps": config["layernorm_epsilon"], "tied": False}
        prefix, layer, norms = "transformer.encoder.", "transformer.encoder.layers.{}.", {}
        names = {"token_embd": "transformer.embedding.word_embeddings", "output": "transformer.output_layer",
                 "output_norm": prefix + "final_layernorm"}
        parts = {"attn_norm": "input_layernorm", "attn_qkv": "self_attention.query_key_value",
                 "attn_output": "self_attention.dense", "ffn_norm": "post_attention_layernorm",
                 "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"}
    else:
        glm4 = config["model_type"] == "glm4"
        spec = {"arch": "glm4" if glm4 else "chatglm", "hidden": config["hidden_size"], "ffn": config["intermediate_size"],
                "heads": config["num_attention_heads"], "kv": config["num_key_value_heads"], "fused": False,
                "layers": config["num_hidden_layers"], "vocab": config["vocab_size"], "bias": config["attention_bias"],
                "rotary": config["partial_rotary_factor"], "base": config["rope_theta"], "eps": config["rms_norm_eps"],
                "tied": config["tie_word_embeddings"], "head": config["head_dim"]}
        layer = "model.layers.{}."
        names = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}
        parts = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
                 "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_up": "mlp.gate_up_proj",
                 "ffn_norm": "post_attention_layernorm", "ffn_down": "mlp.down_proj"}
        norms = {"post_attention_norm": "post_self_attn_layernorm", "post_ffw_norm": "post_mlp_layernorm"} if glm4 else {}
    for i in range(spec["layers"]):
        names |= {f"blk.{i}.{ours}": layer.format(i) + theirs for ours, theirs in (parts | norms).items()}
    weights = {}
    for ours, theirs in names.items():
        for end, mark in ((".weight", ""), (".bias", ".bias")):
            if theirs + end in tensors:
                weights[ours + mark] = tensors[theirs + end]
    return spec, weights


def load_bf16(path):
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    out = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "BF16":
            start, end = (8 + size + at for at in entry["data_offsets"])
            bits = np.frombuffer(raw[start:end], np.uint16).astype(np.uint32) << 16
            out[name] = bits.view(np.float32).reshape(entry["shape"])
    return out


def check_fixtures(root):
    for name in ["glm4-9b-orig-k256", "glm-edge-k256", "glm4-9b-0414"]:
        spec, weights = from_fixture(root / name)
        expected = load_file(root / name / "expected.safetensors")
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "fixture.gguf"
            write_gguf(path, spec, {k: ("F32", v, v.shape) for k, v in weights.items()})
            for case in ["short", "long"]:
                ids = expected[f"{case}.input_ids"].reshape(-1)
                logits = llama_logits(path, ids, spec["vocab"])
                wanted = expected[f"{case}.logits"].reshape(logits.shape)
                print(f"{name} {case}: llama.cpp {compare(logits, wanted)['max_abs']:.1e}, "
                      f"numpy {np.abs(float64_logits(spec, weights, ids) - wanted).max():.1e} from the fixture")


@llama_cpp.llama_log_callback
def quiet(level, text, _):
    if level == 4:  # errors
        print(text.decode(errors="replace"), end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixtures", type=pathlib.Path, help="compare with these instead of writing")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=OUT)
    args = parser.parse_args()
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    if args.fixtures:
        return check_fixtures(args.fixtures)

    ggml = load_ggml()
    args.output.mkdir(parents=True, exist_ok=True)
    figures = {}
    for name in ["F32"] + TYPES:
        wide = name == "IQ4_XS" or name.endswith("_K")
        spec = WIDE if wide else SMALL if name == "F32" else NARROW
        figures[name] = make(name, spec, name, ggml, args.output)
    figures["mix-edge"] = make("mix-edge", EDGE, MIX_EDGE, ggml, args.output)
    figures["mix-0414"] = make("mix-0414", GLM4_0414, MIX_0414, ggml, args.output)
    info = llama_cpp.llama_print_system_info().decode()
    manifest = {"source": "llama-cpp-python 0.3.36 (llama.cpp 0c1e57098, ggml 0.25.3)", "system": info, "files": figures}
    (args.output / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main()
