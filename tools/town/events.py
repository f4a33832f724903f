"""Trains the demo model twice a little, the second time going on from a step before the end of the first, and reads what it tells
of it with TensorBoard: the figures that metrics.jsonl has, each step's once.

    python tools/town/events.py GLIMMER

Run with the packages of requirements.txt.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TRAIN = Path(__file__).parent / "train.jsonl"
SHORT = ["--batch-size", "4", "--steps", "6", "--save-every", "3", "--eval-every", "3", "--schedule", "constant"]


def tag(name):
    """TensorBoard's name of a figure in metrics.jsonl."""
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


def main():
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.argv[1], "-q", "train", "demo", "--data", TRAIN, "--eval-data", TRAIN, *SHORT, "--output", folder]
        for resume in ([], ["--resume", "3"]):
            subprocess.run([*words, *resume], check=True, stdout=subprocess.DEVNULL)
        files = len(list(Path(folder).glob("events.out.tfevents.*")))
        lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text("utf-8").splitlines())
        # Its files hold 32 bits.
        told = sorted((tag(name), line["step"], value) for line in lines for name, value in line.items() if name != "step")
        events = EventAccumulator(folder, size_guidance={"scalars": 0})
        events.Reload()
        read = sorted((tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag))
    same = [a[:2] == b[:2] and abs(a[2] - b[2]) <= 1e-6 * abs(a[2]) for a, b in zip(told, read, strict=True)]
    print(f"TensorBoard reads {sum(same)} of {len(told)} figures from {files} files")
    if files != 2 or not told or not all(same):
        sys.exit("TensorBoard shows something else than metrics.jsonl")


if __name__ == "__main__":
    main()
