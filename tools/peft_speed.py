"""Steps of LoRA by PEFT on a GLM-Edge-1.5B with random weights, to stand beside crates/train/examples/step_speed.rs.

    python tools/peft_speed.py [--dtype float32|bfloat16] [--length 512] [--steps 4] [--checkpointing]

Needs peft, transformers and torch. Prints seconds of each step (forward, backward, AdamW), tokens per second and the process's
largest memory. One sequence a step, pairs of rank 8 at all matrices but the head, as there.
"""

import argparse
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import GlmConfig, GlmForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--dtype", default="float32")
parser.add_argument("--length", type=int, default=512)
parser.add_argument("--steps", type=int, default=4)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--checkpointing", action="store_true")
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.set_default_dtype(getattr(torch, options.dtype))
config = GlmConfig(
    vocab_size=59264, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
    num_key_value_heads=4, head_dim=128, partial_rotary_factor=1.0, tie_word_embeddings=True, attention_bias=False,
    pad_token_id=59246, eos_token_id=[59246], attn_implementation="sdpa",
)
with torch.no_grad():
    model = GlmForCausalLM(config)
lora = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
model = get_peft_model(model, lora)
if options.checkpointing:
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
ids = torch.randint(0, 59000, (1, options.length))
for step in range(options.steps):
    begun = time.perf_counter()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    seconds = time.perf_counter() - begun
    print(f"step {step}: {seconds:.2f} s, {options.length / seconds:.1f} tokens/s, loss {loss.item():.3f}", flush=True)
print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
