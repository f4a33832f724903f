#!/usr/bin/env python3
"""Makes fixtures/*/glimmer-golden.safetensors for the layouts that current transformers has no class for: ChatGLM-6B, 2,
3 and GLM-4-9B's original one (the other fixtures' files come from tools/make_golden.py).

    pip install numpy==2.4.6 safetensors==0.8.0
    python tools/fixture_to_golden.py

The reference ran before, when the fixture was made; this only puts its answers into the form that `glimmer verify` reads.
States and logits are those of the last token of `short`. The greedy tokens continue another prompt, `gen`, so the file
names it in `new_ids.prompt` and gives its last logits as `new_ids.logits`. Layout: tools/README.md.
"""

import json
from pathlib import Path

from safetensors.numpy import load_file, save_file


def golden(folder):
    expected = load_file(folder / "expected.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    noise = max(entry["max_abs"] for entry in manifest["float32_vs_float64"].values())
    tensors = {
        "input_ids": expected["short.input_ids"][0],
        "logits": expected["short.logits"][0, -1],
        "new_ids": expected["gen.new_ids"][0],
        "new_ids.prompt": expected["gen.input_ids"][0],
        "new_ids.logits": expected["gen.step_logits"][0, 0],
    }
    layers = sum(1 for key in expected if key.startswith("short.hidden.")) - 2
    for n in range(layers + 1):
        tensors[f"hidden.{n}"] = expected[f"short.hidden.{n}"][0, -1]
    source = f"{manifest['arch']}, transformers {manifest['transformers']} {manifest['compute_dtype']}"
    metadata = {"format": "glimmer-golden/1", "source": source, "tolerance": f"{max(1e-4, 10 * noise):.1e}"}
    output = folder / "glimmer-golden.safetensors"
    save_file({key: value.copy() for key, value in tensors.items()}, output, metadata=metadata)
    output.chmod(0o644)
    print(f"{output}: {source}, tolerance {metadata['tolerance']}, {layers} layers")


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent / "fixtures"
    for config in sorted(root.glob("*/config.json")):
        if json.loads(config.read_text())["model_type"] == "chatglm":
            golden(config.parent)
