"""From nothing to an adapter: trains the demo model on the town, and asks it before and after.

    python tools/town/check.py GLIMMER

It passes where at least 15 of the 20 questions that are held out are answered right afterwards, at most 2 before, and the
training takes less than three minutes. What is right: the answer has the words that matter.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from make import FACTS

HERE = Path(__file__).parent
TRAINING = ["--lora-rank", "32", "--target", "all-linear", "--learning-rate", "3e-3", "--epochs", "8", "--batch-size", "8"]


def right(glimmer, adapter=()):
    count = 0
    for _, matters, _, question in FACTS:
        asked = [glimmer, "run", "demo", question, "--max-tokens", "48", "--temperature", "0", "--quiet", *adapter]
        answer = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=True).stdout
        count += matters in answer
        print(f"{'right' if matters in answer else 'wrong'}: {question} -> {answer.strip()}")
    return count


def main():
    glimmer = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "town")
        before = right(glimmer)
        began = time.monotonic()
        subprocess.run([glimmer, "train", "demo", "--data", str(HERE / "train.jsonl"), *TRAINING, "--output", output], check=True)
        seconds = time.monotonic() - began
        after = right(glimmer, ["--lora", output])
    print(f"right before: {before} of {len(FACTS)}, after: {after}; trained in {seconds:.0f} s")
    if before > 2 or after < 15 or seconds > 180:
        sys.exit("the town is not learned")


if __name__ == "__main__":
    main()
