"""Decode of glm-4-9b-chat's shape in transformers, compiled, and what PyTorch gets out of the card: a JSON object a line.

    python3 tools/card/transformers_decode.py fixtures/glm-4-9b-chat-hf/config.json [--tiny] [--parallel 1,8,64] [--tokens 64]

Ran with torch 2.15 and transformers 5.24 (--tiny, on a CPU). With a static cache on a card `generate` compiles the steps that
decode by itself. Weights are random. Ends with 77 where PyTorch, transformers or a card is missing.
"""

import argparse
import json
import time

# What the published configuration has where the fixture is small.
PUBLISHED = {
    "hidden_size": 4096,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "intermediate_size": 13696,
    "vocab_size": 151552,
    "max_position_embeddings": 131072,
}
PROMPT = 16


def seconds(torch, device, work):
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def limits(torch, device, size):
    """bf16 products and copies of random numbers, by the best of five."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    to = torch.empty_like(a)
    product = min(seconds(torch, device, lambda: [a @ b for _ in range(10)]) for _ in range(5)) / 10
    copy = min(seconds(torch, device, lambda: [to.copy_(a) for _ in range(10)]) for _ in range(5)) / 10
    return {"bf16_gflop_s": 2e-9 * size**3 / product, "copy_gb_s": 2e-9 * a.nbytes / copy}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--tiny", action="store_true", help="the configuration as it is, on the CPU")
    parser.add_argument("--parallel", default="1,8,64")
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"not tried: {error}")
        raise SystemExit(77)
    device = "cpu" if args.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("not tried: PyTorch sees no card")
        raise SystemExit(77)

    def show(**figures):
        print(json.dumps(figures), flush=True)

    show(torch=torch.__version__, transformers=transformers.__version__)
    show(**limits(torch, device, 256 if args.tiny else 16384))

    config = transformers.AutoConfig.from_pretrained(args.config)
    if not args.tiny:
        config.update(PUBLISHED)
    # No answer may end early.
    config.eos_token_id = config.pad_token_id = None
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.GlmForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    for parallel in map(int, args.parallel.split(",")):
        ids = torch.randint(0, config.vocab_size, (parallel, PROMPT), device=device)

        def generate(tokens):
            # The length of the cache is part of what is compiled.
            options = {"max_length": None, "max_new_tokens": tokens, "cache_implementation": "static", "do_sample": False}
            return model.generate(ids, attention_mask=torch.ones_like(ids), **options)

        with torch.inference_mode():
            warm = seconds(torch, device, lambda: generate(args.tokens + 1))
            whole = min(seconds(torch, device, lambda: generate(args.tokens + 1)) for _ in range(2))
            prompt = min(seconds(torch, device, lambda: generate(1)) for _ in range(2))
        rate = parallel * args.tokens / (whole - prompt)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        show(parallel=parallel, decode_ts=rate, first_call_s=warm, peak_bytes=peak)


main()
