#!/usr/bin/env python3
"""Makes `glimmer-golden.safetensors` beside a model: what transformers answers on it, for `glimmer verify` to compare.

    pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0
    python tools/make_golden.py MODEL_DIR [--ids 1,2,3 | --prompt TEXT] [-o FILE] [--new-tokens 16] [--device cpu] [--float64]

Only classes that transformers itself has are used (no code from the model's directory): GlmForCausalLM (glm-4-9b-*-hf,
GLM-Edge), Glm4ForCausalLM (GLM-4-0414, Z1) and later ones. ChatGLM-6B, 2, 3 and GLM-4-9B's original layout have none;
tools/fixture_to_golden.py covers their fixtures. Everything is computed in float32, so a 9B model needs 40 GB of memory.
The file's layout is in tools/README.md.
"""

import argparse
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

DEFAULT_PROMPT = "床前明月光，疑是地上霜。The quick brown fox jumps over the lazy dog. 3.14159 + 2.71828 ="


def input_ids(args):
    if args.ids:
        return [int(i) for i in args.ids.split(",")]
    return AutoTokenizer.from_pretrained(args.model)(args.prompt)["input_ids"]


def golden(model, ids, new_tokens):
    """The residual stream of the last token before the first layer and after each, its logits, and greedy tokens with
    end-of-text ignored, all from one pass with a KV cache."""
    states = []
    layers = model.model.layers
    hooks = [layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0][0, -1].cpu().clone()))]
    hooks += [layer.register_forward_hook(lambda *call: states.append(call[-1][0, -1].cpu().clone())) for layer in layers]
    tokens = []
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True)
        for hook in hooks:
            hook.remove()
        logits = out.logits[0, -1].cpu().clone()
        while len(tokens) < new_tokens:
            tokens.append(int(out.logits[0, -1].argmax()))
            out = model(input_ids=torch.tensor([tokens[-1:]], device=model.device), past_key_values=out.past_key_values, use_cache=True)
    tensors = {f"hidden.{n}": state for n, state in enumerate(states)}
    return tensors | {"input_ids": torch.tensor(ids), "logits": logits, "new_ids": torch.tensor(tokens)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory in the Hugging Face layout")
    parser.add_argument("--ids", help="comma-separated token ids, instead of a text")
    parser.add_argument("--prompt", default=DEFAULT_PROMPT, help="text for the model's own tokenizer")
    parser.add_argument("-o", "--output", type=Path, help="default: glimmer-golden.safetensors in MODEL_DIR")
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--float64", action="store_true", help="run in float64 too (twice the memory) and state ten times the difference as tolerance")
    args = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, trust_remote_code=False)
    model = model.to(args.device).eval()
    ids = input_ids(args)
    tensors = golden(model, ids, args.new_tokens)
    metadata = {"format": "glimmer-golden/1", "source": f"transformers {transformers.__version__} {type(model).__name__} float32"}
    if args.float64:
        precise = golden(model.double(), ids, args.new_tokens)
        if not torch.equal(precise["new_ids"], tensors["new_ids"]):
            raise SystemExit("float32 and float64 choose different tokens: pick another prompt")
        noise = max((value - precise[key]).abs().max().item() for key, value in tensors.items())
        metadata["tolerance"] = f"{max(1e-4, 10 * noise):.1e}"
    output = args.output or args.model / "glimmer-golden.safetensors"
    save_file(tensors, output, metadata=metadata)
    output.chmod(0o644)
    print(f"{output}: {metadata}, {len(ids)} tokens, {model.config.num_hidden_layers} layers")


if __name__ == "__main__":
    main()
