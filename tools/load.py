"""Load on a server of the OpenAI API: tokens per second, time to the first token and between tokens, by clients at once.

    python3 tools/load.py http://127.0.0.1:8000 --clients 1,8,32 --prompt 128 --answer 64

Needs nothing beyond Python 3. Prompts are random ids, all different, so that no server has them in a cache; answers have a
fixed length (`ignore_eos`). The same against llama.cpp's server is the same work.
"""

import argparse
import http.client
import json
import random
import threading
import time
from urllib.parse import urlsplit


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def answer(url, model, prompt, tokens, firsts, gaps):
    body = {"prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0}
    if model:
        body["model"] = model
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=3600)
    start = time.perf_counter()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(response.read().decode())
    last, count = None, 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        now = time.perf_counter()
        (firsts.append(now - start) if last is None else gaps.append(now - last))
        last, count = now, count + 1
    connection.close()
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--model")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--requests", type=int, default=2, help="of each client")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--answer", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--ids", type=int, default=1000, help="prompts are of ids below this")
    args = parser.parse_args()
    url, rng = urlsplit(args.url), random.Random(1)
    print("clients  tokens/s  first token (s) p50 p95  between tokens (ms) p50 p95")
    for clients in map(int, args.clients.split(",")):
        firsts, gaps = [], []

        def client(prompts):
            for prompt in prompts:
                answer(url, args.model, prompt, args.answer, firsts, gaps)

        prompts = [
            [[rng.randrange(5, args.ids) for _ in range(args.prompt)] for _ in range(args.requests)] for _ in range(clients)
        ]
        threads = [threading.Thread(target=client, args=(own,)) for own in prompts]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start
        rate = clients * args.requests * args.answer / seconds
        print(
            f"{clients:7}  {rate:8.1f}  {quantile(firsts, 0.5):19.2f} {quantile(firsts, 0.95):.2f}"
            f"  {1000 * quantile(gaps, 0.5):23.1f} {1000 * quantile(gaps, 0.95):.1f}",
            flush=True,
        )


main()
