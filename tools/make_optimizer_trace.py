"""Writes crates/train/tests/data/optimizer.json: what torch, transformers and bitsandbytes make of made-up gradients.

    pip install torch==2.15.0 transformers==5.23.0 bitsandbytes==0.50.2
    python tools/make_optimizer_trace.py
"""

import json
from pathlib import Path

import torch
from bitsandbytes.functional import create_dynamic_map
from bitsandbytes.optim import AdamW8bit
from transformers import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

OUT = Path(__file__).parent.parent / "crates/train/tests/data/optimizer.json"
STEPS, KEPT = 12, 16


def made_up(count, salt):
    """Numbers from -1 to 1 that the test makes again: a multiplicative sequence, no generator of torch's."""
    return torch.tensor([((i * 7919 + salt * 104729 + 13) * 48271 % 65521) / 32760.5 - 1 for i in range(count)], dtype=torch.float32)


def trace(make, count, clip):
    """The first values after each step, and the norm of the gradient before it."""
    value = torch.nn.Parameter(made_up(count, 0))
    optimizer = make([value])
    values, norms = [], []
    for step in range(STEPS):
        value.grad = made_up(count, step + 1) * 10.0 ** -(step % 4)
        norms.append(torch.nn.utils.clip_grad_norm_([value], clip).item() if clip else None)
        optimizer.step()
        values.append(value.detach()[:KEPT].tolist())
    return optimizer, {"count": count, "clip": clip, "norms": norms, "values": values}


def rates(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
    schedule = make(optimizer)
    found = []
    for _ in range(40):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def main():
    settings = {"lr": 2e-2, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1}
    _, exact = trace(lambda values: torch.optim.AdamW(values, **settings), 300, 1.0)
    _, unclipped = trace(lambda values: torch.optim.AdamW(values, **settings), 300, None)
    _, small = trace(lambda values: AdamW8bit(values, **settings), 5000, None)
    schedules = {
        "constant": rates(lambda o: get_constant_schedule_with_warmup(o, 5)),
        "linear": rates(lambda o: get_linear_schedule_with_warmup(o, 5, 35)),
        "cosine": rates(lambda o: get_cosine_schedule_with_warmup(o, 5, 35)),
    }
    maps = {name: create_dynamic_map(signed=name == "signed").tolist() for name in ("signed", "unsigned")}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"adamw": [exact, unclipped], "eight_bits": small, "rates": schedules, "maps": maps}) + "\n")


if __name__ == "__main__":
    main()
