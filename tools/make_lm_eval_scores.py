"""What lm-evaluation-harness finds with transformers on the tasks of tools/clients/lm_eval_tasks, in float32 on the CPU.

    pip install "lm_eval[hf]==0.4.13" torch==2.15.0 transformers==5.23.0
    python tools/make_lm_eval_scores.py [MODEL_DIR] [-o FILE]

MODEL_DIR: any model of at least 256 tokens of context that transformers loads. Without it, fixtures/lm-eval and the file that
tools/clients/lm_eval_client.py compares with, tools/clients/lm_eval_tasks/scores.json.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "clients"))
from lm_eval_client import CHECKPOINT, SCORES, examine

# Where a longer text is cut. The harness's API models keep two tokens of their `max_length` to themselves, this one none.
MAX_LENGTH = 254


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path, nargs="?", default=CHECKPOINT)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()
    out = (args.out or SCORES).absolute()
    if args.model != CHECKPOINT and not args.out:
        parser.error("-o is needed with a model of your own")
    found = examine("hf", {"pretrained": str(args.model.absolute()), "dtype": "float32", "device": "cpu", "max_length": MAX_LENGTH})
    versions = {name: version(name) for name in ("lm_eval", "transformers", "torch")}
    kept = {"versions": versions, "max_length": MAX_LENGTH, **found}
    out.write_text(text(kept) + "\n")
    print(json.dumps(found["scores"], indent=2))


def text(value, depth=0):
    """JSON with an item of the tasks a line."""
    if isinstance(value, dict) and depth < 3:
        inner = ",\n".join(f"{' ' * (depth + 1)}{json.dumps(key)}: {text(one, depth + 1)}" for key, one in value.items())
        return f"{{\n{inner}\n{' ' * depth}}}"
    if isinstance(value, list) and depth < 3:
        inner = ",\n".join(" " * (depth + 1) + json.dumps(one, ensure_ascii=False) for one in value)
        return f"[\n{inner}\n{' ' * depth}]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
