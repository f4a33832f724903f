"""What a swap costs beside a start, and what two models that answer at once cost each other.

    python3 tools/swap.py target/release/glimmer a.gguf b.gguf

Needs nothing beyond Python 3. A start is the time from the program's to the first token; a swap the time from a request for
the model that is not loaded to its first token, where memory holds one; both with the same short prompt. Then each model
answers alone and both at once, with all the memory: tokens per second of each, and the gaps between its tokens.
"""

import argparse
import json
import subprocess
import threading
import time
import urllib.request
from pathlib import Path


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


class Server:
    def __init__(self, program, models, *flags):
        self.start = time.perf_counter()
        command = [program, "serve", *models, "--port", "0", "--parallel", "2", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "://" in line:
                self.url = "http://" + line.split("://")[1].split(";")[0].strip()
                break
        else:
            raise SystemExit("the server does not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def answer(self, model, tokens):
        """When each token of an answer came."""
        body = {"model": model, "prompt": "Once upon a time", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        request = urllib.request.Request(
            self.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as response:
            return [time.perf_counter() for line in response if line.startswith(b"data: {")]

    def bytes(self, model):
        with urllib.request.urlopen(self.url + "/metrics") as page:
            name = f'glimmer_model_memory_bytes{{model="{model}"}}'
            lines = page.read().decode().splitlines()
        return int(float(next(line for line in lines if line.startswith(name)).rsplit(" ", 1)[1]))


    def peak(self):
        """Bytes of memory that were resident at most; files that are mapped count."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def shown(seconds):
    return f"p50 {1000 * quantile(seconds, 0.5):.0f} ms, p99 {1000 * quantile(seconds, 0.99):.0f} ms"


def rate(times):
    gaps = [b - a for a, b in zip(times, times[1:])]
    return f"{len(gaps) / (times[-1] - times[0]):6.1f} tokens/s, gaps {shown(gaps)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("models", nargs=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    names = [Path(model).name.removesuffix(".gguf") for model in args.models]

    starts, sizes, peaks = [], [], []
    for model, name in list(zip(args.models, names)) * args.rounds:
        with Server(args.program, [model]) as server:
            starts.append(server.answer(name, 1)[0] - server.start)
            sizes.append(server.bytes(name))
            peaks.append(server.peak())
    print(f"start to first token: {shown(starts)} of {len(starts)}", flush=True)

    with Server(args.program, args.models, "--memory", str(max(sizes))) as server:
        server.answer(names[0], 1)
        swaps = []
        for name in [names[1], names[0]] * args.rounds:
            begin = time.perf_counter()
            swaps.append(server.answer(name, 1)[0] - begin)
        peak = server.peak()
    print(f"swap to first token:  {shown(swaps)} of {len(swaps)}", flush=True)
    print(f"resident at most: {peak / 2**20:.0f} MiB, of one model alone {max(peaks) / 2**20:.0f} MiB", flush=True)

    with Server(args.program, args.models, "--memory", str(4 * sum(sizes[:2]))) as server:
        for name in names:
            server.answer(name, 4)
            print(f"{name} alone:   {rate(server.answer(name, args.tokens))}", flush=True)
        both = {}

        def client(name):
            both[name] = server.answer(name, args.tokens)

        threads = [threading.Thread(target=client, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name in names:
            print(f"{name} at once: {rate(both[name])}", flush=True)


if __name__ == "__main__":
    main()
