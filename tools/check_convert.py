#!/usr/bin/env python3
"""Holds `glimmer convert` to llama.cpp and transformers; run by hand.

    pip install numpy==2.4.6 gguf==0.19.0 llama-cpp-python==0.3.36 safetensors==0.8.0 torch==2.15.0 transformers==5.23.0
    python tools/check_convert.py GLIMMER [--tokenizers DIR]
    python tools/check_convert.py --mixes        writes crates/models/tests/data/mixes.json

GLIMMER is the binary. Checked are, on the fixtures:

* directories: transformers loads them and gives the fixtures' logits;
* GGUF in F32: llama.cpp loads them and gives the fixtures' logits;
* GGUF of every other type and mix: the bytes of every tensor are those that llama.cpp's own quantizer makes of our F32
  file (`--pure` for types), and its logits on both files agree;
* with --tokenizers, a folder of real tokenizers and vectors/text/*.jsonl: llama.cpp gives the reference's ids with the
  vocabulary that we put into the GGUF, and transformers with the tokenizer.json that we take out of it.

mixes.json holds, for models of a few shapes, the type that llama.cpp's quantizer gives each of `tensors`, by mix.
"""

import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy as np
from safetensors.numpy import load_file, save_file

from make_llamacpp_logits import llama_logits, quiet

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
MIXES_FILE = ROOT / "crates/models/tests/data/mixes.json"

# llama.cpp's `enum llama_ftype`, and whether one type for all.
TYPES = {"F16": (1, True), "BF16": (32, True), "Q4_0": (2, True), "Q4_1": (3, True), "Q5_0": (8, True),
         "Q5_1": (9, True), "Q8_0": (7, True), "Q2_K": (10, True), "Q3_K": (11, True), "Q4_K": (14, True),
         "Q5_K": (16, True), "Q6_K": (18, True)}
MIXES = {"Q2_K_M": (10, False), "Q3_K_S": (11, False), "Q3_K_M": (12, False), "Q3_K_L": (13, False),
         "Q4_K_S": (14, False), "Q4_K_M": (15, False), "Q5_K_S": (16, False), "Q5_K_M": (17, False)}

# Rows are few: only widths, the number of layers and the ratio of heads decide.
SHAPES = {
    "glm-4": {"arch": "chatglm", "layers": 24, "hidden": 256, "heads": 8, "kv": 2, "ffn": 288, "vocab": 64,
              "fused": True, "tied": False},
    "glm-edge": {"arch": "chatglm", "layers": 10, "hidden": 256, "heads": 4, "kv": 2, "ffn": 512, "vocab": 64,
                 "fused": False, "tied": True},
    "glm-4-0414": {"arch": "glm4", "layers": 9, "hidden": 96, "heads": 4, "kv": 1, "ffn": 112, "vocab": 64,
                   "fused": False, "tied": False},
}


def convert(glimmer, source, out, kind=None):
    command = [glimmer, "--quiet", "convert", source, out, *(["--type", kind] if kind else [])]
    subprocess.run(list(map(str, command)), check=True, stderr=subprocess.DEVNULL)
    return out


def quantize(source, out, ftype, pure):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread, params.allow_requantize = ftype, pure, 2, True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(params)) != 0:
        raise SystemExit(f"llama.cpp cannot quantize {source}")
    return out


def tensors(path):
    return {t.name: (t.tensor_type.name, t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


def cases(name):
    expected = load_file(FIXTURES / name / "expected.safetensors")
    for case in ["short", "long"]:
        ids = expected[f"{case}.input_ids"].reshape(-1)
        yield ids, expected[f"{case}.logits"].reshape(len(ids), -1)


def check_directories(glimmer, scratch):
    import torch
    from transformers import AutoModelForCausalLM

    for name in ["chatglm2-6b", "chatglm2-6b-32k", "chatglm2-6b-int4", "chatglm3-6b", "chatglm3-6b-32k",
                 "glm4-9b-orig", "glm-4-9b-chat-hf", "glm-edge-1.5b-chat", "glm4-9b-0414", "glm4-32b-0414"]:
        folder = convert(glimmer, FIXTURES / name, scratch / name, "F32")
        middle = convert(glimmer, FIXTURES / name, scratch / f"middle-{name}.gguf", "F32")
        through_gguf = convert(glimmer, middle, scratch / f"{name}-from-gguf")
        worst = []
        for directory in [folder, through_gguf]:
            model, report = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
            if report["missing_keys"] or report["unexpected_keys"]:
                raise SystemExit(f"{directory}: {report}")
            with torch.no_grad():
                worst += [np.abs(model(torch.tensor(ids)[None]).logits[0].numpy() - wanted).max()
                          for ids, wanted in cases(name)]
        print(f"transformers {name:20} {type(model).__name__:16} {max(worst):.1e} from the fixture")


def check_gguf(glimmer, scratch):
    for name in ["glm4-9b-orig-k256", "glm-edge-k256", "glm4-9b-0414", "glm4-32b-0414"]:
        plain = convert(glimmer, FIXTURES / name, scratch / f"{name}.gguf", "F32")
        worst = [np.abs(llama_logits(plain, ids, wanted.shape[1]) - wanted).max() for ids, wanted in cases(name)]
        print(f"llama.cpp {name:18} F32 {max(worst):.1e} from the fixture")
        for kind, (ftype, pure) in (TYPES | MIXES).items():
            ours = convert(glimmer, FIXTURES / name, scratch / "ours.gguf", kind)
            theirs = quantize(plain, scratch / "theirs.gguf", ftype, pure)
            a, b = tensors(ours), tensors(theirs)
            if a.keys() != b.keys():
                raise SystemExit(f"{name} {kind}: {sorted(a.keys() ^ b.keys())}")
            differ = [f"{t} ({a[t][0]}, llama.cpp {b[t][0]})" for t in a if a[t] != b[t]]
            ids, wanted = next(cases(name))
            logits = [llama_logits(path, ids, wanted.shape[1]) for path in (ours, theirs)]
            print(f"llama.cpp {name:18} {kind:6} {len(a) - len(differ)} of {len(a)} tensors equal, logits "
                  f"{np.abs(logits[0] - logits[1]).max():.1e} apart, {np.abs(logits[0] - wanted).max():.1e} from the "
                  f"fixture{'; ' if differ else ''}{', '.join(differ[:4])}")
            ours.unlink(), theirs.unlink()


def tiny_checkpoint(folder, config, rows, tokenizer):
    """One layer with a vocabulary of the real size beside a real tokenizer."""
    folder.mkdir()
    hidden, ffn, head = 32, 32, 8
    random = np.random.default_rng(1)

    def values(*shape):
        return random.normal(0, 0.1, shape).astype(np.float16)

    layer = "transformer.encoder.layers.0."
    weights = {"transformer.embedding.word_embeddings.weight": values(rows, hidden),
               "transformer.output_layer.weight": values(rows, hidden),
               "transformer.encoder.final_layernorm.weight": values(hidden),
               layer + "input_layernorm.weight": values(hidden),
               layer + "self_attention.query_key_value.weight": values(hidden + 4 * head, hidden),
               layer + "self_attention.query_key_value.bias": values(hidden + 4 * head),
               layer + "self_attention.dense.weight": values(hidden, hidden),
               layer + "post_attention_layernorm.weight": values(hidden),
               layer + "mlp.dense_h_to_4h.weight": values(2 * ffn, hidden),
               layer + "mlp.dense_4h_to_h.weight": values(hidden, ffn)}
    save_file(weights, folder / "model.safetensors")
    shape = {"architectures": ["ChatGLMModel"], "model_type": "chatglm", "num_layers": 1, "hidden_size": hidden,
             "ffn_hidden_size": ffn, "num_attention_heads": hidden // head, "kv_channels": head,
             "multi_query_attention": True, "multi_query_group_num": 2, "padded_vocab_size": rows, "seq_length": 8192,
             "add_qkv_bias": True, "layernorm_epsilon": 1e-5}
    (folder / "config.json").write_text(json.dumps(shape | config))
    for file in tokenizer.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file)
    return folder


def llama_tokenize(vocab, text, special):
    data = text.encode()
    ids = (ctypes.c_int32 * (len(data) + 16))()
    count = llama_cpp.llama_tokenize(vocab, data, len(data), ids, len(ids), False, special)
    return list(ids[:count])


def check_tokenizers(glimmer, scratch, folder):
    ends = {"eos_token_id": [151329, 151336, 151338], "pad_token_id": 151329}
    for name, rows, vectors, config in [
        ("glm-4-9b-chat", 151552, "glm-4-9b", ends), ("glm-4-9b-chat-hf", 151552, "glm-4-9b", ends),
        ("glm-4-0414", 151552, "glm-4-9b", ends),
        ("chatglm3-6b", 65024, "chatglm2-6b", {"_name_or_path": "THUDM/chatglm3-6b", "eos_token_id": 2}),
    ]:
        source = tiny_checkpoint(scratch / f"source-{name}", config, rows, folder / name)
        path = convert(glimmer, source, scratch / f"{name}.gguf")
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers, params.vocab_only = 0, True
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        vocab = llama_cpp.llama_model_get_vocab(model)
        equal, total, differ = 0, 0, {}
        for line in (folder / "vectors/text" / f"{vectors}.jsonl").read_text().splitlines():
            vector = json.loads(line)
            if vector["text"].count("\0") or len(vector["text"]) > 5000:
                continue
            total += 1
            if llama_tokenize(vocab, vector["text"], False) == vector["ids"]:
                equal += 1
            else:
                differ.setdefault(vector["cat"], []).append(vector["text"][:20])
        ends_found = [i for i in range(llama_cpp.llama_vocab_n_tokens(vocab)) if llama_cpp.llama_vocab_is_eog(vocab, i)]
        print(f"llama.cpp {name:18} {equal} of {total} texts have the reference's ids; it ends at {ends_found}; "
              f"others: { {k: (len(v), v[:2]) for k, v in differ.items()} }")
        llama_cpp.llama_model_free(model)
        back = convert(glimmer, path, scratch / f"{name}-back")
        if (back / "tokenizer.json").exists():
            check_tokenizer_json(name, back, folder / "vectors/text" / f"{vectors}.jsonl")


def check_tokenizer_json(name, folder, vectors):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    vectors = [json.loads(line) for line in vectors.read_text().splitlines()]
    equal = [tokenizer.encode(v["text"], add_special_tokens=False) == v.get("ids_with_special", v["ids"]) for v in vectors]
    print(f"transformers {name:18} {sum(equal)} of {len(equal)} texts have the reference's ids; a plain call prefixes "
          f"{tokenizer.encode('')}")


def write_shape(path, shape):
    writer = gguf.GGUFWriter(path, shape["arch"])
    hidden, ffn, layers = shape["hidden"], shape["ffn"], shape["layers"]
    head = hidden // shape["heads"]
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_block_count(layers)
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(shape["vocab"])
    writer.add_tokenizer_model("none")
    matrices = {"token_embd": (shape["vocab"], hidden)}
    norms = ["output_norm"]
    if not shape["tied"]:
        matrices["output"] = (shape["vocab"], hidden)
    for i in range(layers):
        block = f"blk.{i}."
        keys = shape["kv"] * head
        qkv = {"attn_q": hidden, "attn_k": keys, "attn_v": keys}
        for name, rows in ({"attn_qkv": hidden + 2 * keys} if shape["fused"] else qkv).items():
            matrices[block + name] = rows, hidden
        matrices[block + "attn_output"] = hidden, hidden
        matrices[block + "ffn_up"] = 2 * ffn, hidden
        matrices[block + "ffn_down"] = hidden, ffn
        norms += [block + "attn_norm", block + "ffn_norm"]
        if shape["arch"] == "glm4":
            norms += [block + "post_attention_norm", block + "post_ffw_norm"]
    for name, size in matrices.items():
        writer.add_tensor(name + ".weight", np.ones(size, np.float16))
    for name in norms:
        writer.add_tensor(name + ".weight", np.ones(hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_mixes(scratch):
    models = []
    for name, shape in SHAPES.items():
        write_shape(scratch / "source.gguf", shape)
        names = [name for name in tensors(scratch / "source.gguf") if "norm" not in name]
        types = {}
        for kind, (ftype, pure) in (TYPES | MIXES).items():
            made = tensors(quantize(scratch / "source.gguf", scratch / "out.gguf", ftype, pure))
            types[kind] = " ".join(made[name][0] for name in names)
        models.append({"name": name, "shape": shape, "tensors": " ".join(names), "types": types})
    MIXES_FILE.write_text(json.dumps(models, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("glimmer", nargs="?", type=pathlib.Path)
    parser.add_argument("--tokenizers", type=pathlib.Path)
    parser.add_argument("--mixes", action="store_true")
    args = parser.parse_args()
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        if args.mixes:
            return write_mixes(scratch)
        if not args.glimmer:
            sys.exit("which glimmer?")
        check_gguf(args.glimmer, scratch)
        if args.tokenizers:
            check_tokenizers(args.glimmer, scratch, args.tokenizers)
        check_directories(args.glimmer, scratch)


if __name__ == "__main__":
    main()
