"""Trains the demo model that ships inside glimmer from nothing, with `glimmer train`, and asks it what it has learnt.

    python tools/demo/train.py GLIMMER OUT_DIR [--tokens N] [--base DIR]

Python 3.11 without packages, no network. OUT_DIR gets the rows, the states and `run/model`, the Hugging Face layout; run again to
go on. See README.md.
"""

import argparse
import json
import random
import subprocess
from pathlib import Path

import evaluate
from text import Conversation, held_out

SEED = 20250
TOKENS = 10e6
TOKENS_OF_A_TURN = 29  # of the assistant, with its question, all kinds of conversations together
COPYING, LONG = 0.12, 0.3  # shares of the tokens: until the one, much copying; from the other on, long conversations too
BATCH = 3072  # tokens of a step
EVALUATED = 200  # conversations


def row(rng, forbidden, long_share, **kinds):
    """A fresh conversation as a row of GLM-4's data, and how many turns it has."""
    turns = rng.randint(12, 55) if rng.random() < long_share else rng.choice((1, 2, 2, 3, 3, 4, 5, 6))
    messages = []
    for message in Conversation(rng, turns, forbidden, **kinds).messages:
        if message.get("metadata"):
            messages.append({"role": "assistant", "content": f"{message['metadata']}\n{message['content']}"})
        else:
            messages.append({"content": "", **message})
    count = sum(message["role"] == "assistant" for message in messages)
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n", count


def write_rows(path, tokens):
    """About so many tokens of conversations in the order in which they are learnt, no two the same."""
    rng, forbidden, done = random.Random(SEED + 1), held_out(), 0
    with path.open("w", encoding="utf-8") as file:
        while done < tokens:
            kinds = {"echo": 100} if done < COPYING * tokens else {}
            line, turns = row(rng, forbidden, 0.0 if done < LONG * tokens else 0.1, **kinds)
            file.write(line)
            done += turns * TOKENS_OF_A_TURN


def write_evaluation(path):
    rng, forbidden = random.Random(SEED), held_out()
    path.write_text("".join(row(rng, forbidden, 0.05)[0] for _ in range(EVALUATED)), "utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("glimmer")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=float, default=TOKENS, help="about so many are learnt from")
    parser.add_argument("--base", default="demo", help="the model whose shapes and vocabulary it gets")
    parser.add_argument("--rate", default="3e-3", help="the peak of the learning rate")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, evaluation = args.out / "rows.jsonl", args.out / "evaluation.jsonl"
    if not rows.exists():
        write_evaluation(evaluation)
        write_rows(rows.with_suffix(".new"), args.tokens)
        rows.with_suffix(".new").rename(rows)
    words = [
        args.glimmer, "train", args.base, "--full", "--from-scratch", "--data", rows, "--eval-data", evaluation, "--keep-order",
        "--epochs", "1", "--max-length", "2048", "--batch-tokens", str(BATCH), "--learning-rate", args.rate, "--warmup", "60",
        "--schedule", "linear", "--adam-beta2", "0.95", "--weight-decay", "0.05", "--save-every", "500", "--eval-every", "500",
        "--log-every", "10", "--output", args.out / "run", "--resume", "auto",
    ]
    subprocess.run(words, check=True)
    evaluate.tell(args.glimmer, args.out / "run" / "model", shows=False)


if __name__ == "__main__":
    main()
