"""Load on a server of the OpenAI API: tokens per second, time to the first token and between tokens, by clients at once.

    python3 tools/load.py http://127.0.0.1:8000 --clients 1,8,32 --prompt 128 --answer 64
    python3 tools/load.py http://127.0.0.1:8000 --clients 4 --requests 1 --answer 400 --beside 8000

Needs nothing beyond Python 3. Prompts are random ids, all different, so that no server has them in a cache; answers have a
fixed length (`ignore_eos`). The same against llama.cpp's server is the same work. With `--beside` one more client comes with a
long prompt once all others have had 20 tokens, and times between tokens are told apart: while it is read, and otherwise.
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


def length(text):
    """`N`, or `A-B` of which each request has its own."""
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def answer(url, model, prompt, tokens, firsts, gaps):
    """`gaps` are pairs: when a token came, and how long after the one before."""
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
        (firsts.append(now - start) if last is None else gaps.append((now, now - last)))
        last, count = now, count + 1
    connection.close()
    return count


def measure(url, args, clients, rng):
    """Starts the clients, and the one beside them: times to the first token, gaps, tokens in all, seconds, and when it was read."""
    ids = lambda count: [rng.randrange(5, args.ids) for _ in range(count)]
    firsts, gaps = [], []
    requests = [[(ids(rng.randint(*args.prompt)), rng.randint(*args.answer)) for _ in range(args.requests)] for _ in range(clients)]
    beside = ids(args.beside)

    def client(own):
        for prompt, tokens in own:
            answer(url, args.model, prompt, tokens, firsts, gaps)

    threads = [threading.Thread(target=client, args=(own,)) for own in requests]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    read = (0, 0)
    if beside:
        while len(gaps) < 20 * clients and any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
        begun = time.perf_counter()
        answer(url, args.model, beside, 1, [], [])
        read = (begun, time.perf_counter())
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    return firsts, gaps, sum(tokens for own in requests for _, tokens in own), seconds, read


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--model")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--requests", type=int, default=2, help="of each client")
    parser.add_argument("--prompt", type=length, default="128", help="tokens of a prompt: N, or A-B")
    parser.add_argument("--answer", type=length, default="64", help="tokens of an answer: N, or A-B")
    parser.add_argument("--ids", type=int, default=1000, help="prompts are of ids below this")
    parser.add_argument("--beside", type=int, default=0, help="tokens of one more prompt, read while the others answer")
    args = parser.parse_args()
    url, rng = urlsplit(args.url), random.Random(1)
    print("clients  tokens/s  first token (s) p50 p95  between tokens (ms) p50 p95")
    for clients in map(int, args.clients.split(",")):
        firsts, gaps, tokens, seconds, (begun, done) = measure(url, args, clients, rng)
        spans = lambda kept: [gap for now, gap in gaps if kept(now)]
        milliseconds = lambda kept: " ".join(f"{1000 * quantile(spans(kept), share):.1f}" for share in (0.5, 0.95))
        others = milliseconds(lambda now: not begun < now <= done)
        print(
            f"{clients:7}  {tokens / seconds:8.1f}  {quantile(firsts, 0.5):19.2f} {quantile(firsts, 0.95):.2f}  {others:>28}",
            flush=True,
        )
        if args.beside:
            during = milliseconds(lambda now: begun < now <= done)
            print(f"while {args.beside} tokens were read, in {done - begun:.2f} s: {during}", flush=True)


main()
