"""From nothing to an adapter that is served: trains the demo model on the town, compares answers, asks before and after.

    python tools/town/check.py GLIMMER

It passes where at least 15 of the 20 questions that are held out are answered right afterwards, at most 2 before, and the
training takes less than three minutes. What is right: the answer has the words that matter. One server answers both: the demo
model and, by its name, the adapter beside it.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from make import FACTS

HERE = Path(__file__).parent
TRAINING = ["--lora-rank", "32", "--target", "all-linear", "--learning-rate", "3e-3", "--epochs", "8", "--batch-size", "8"]


@contextmanager
def served(glimmer, adapter):
    """The address of a server with the demo model and the adapter `town`."""
    command = [glimmer, "serve", "demo", "--lora", f"town={adapter}", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if found := re.search(r"http://[0-9.]+:[0-9]+", line):
                threading.Thread(target=server.stderr.read, daemon=True).start()
                yield found[0]
                return
        sys.exit("the server has ended before it said its address")
    finally:
        server.terminate()
        server.wait()


def right(address, model):
    """How many of the questions are answered right."""
    count = 0
    for _, matters, _, question in FACTS:
        asked = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 48, "temperature": 0}
        request = urllib.request.Request(
            f"{address}/v1/chat/completions", json.dumps(asked).encode(), {"content-type": "application/json"}
        )
        answer = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]
        count += matters in answer
        print(f"{model}, {'right' if matters in answer else 'wrong'}: {question} -> {answer.strip()}")
    return count


def main():
    glimmer = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "town")
        began = time.monotonic()
        subprocess.run([glimmer, "train", "demo", "--data", str(HERE / "train.jsonl"), *TRAINING, "--output", output], check=True)
        seconds = time.monotonic() - began
        questions = ["--data", str(HERE / "heldout.jsonl"), "--greedy", "-n", "48", "--output", folder]
        subprocess.run([glimmer, "eval", "generation", "demo", *questions, "--lora", output], check=True)
        with served(glimmer, output) as address:
            before, after = right(address, "demo"), right(address, "town")
    print(f"right before: {before} of {len(FACTS)}, after: {after}; trained in {seconds:.0f} s")
    if before > 2 or after < 15 or seconds > 180:
        sys.exit("the town is not learned")


if __name__ == "__main__":
    main()
