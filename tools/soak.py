"""Minutes of mixed clients, hostile ones among them, against a server that this starts: is every good answer the one that the
same request has alone, and is memory flat?

    python3 tools/soak.py target/release/glimmer --seconds 120 --clients 100

Needs nothing beyond Python 3 and Linux' /proc. Exit status 1 when an answer differs, a good request fails, the server ends, or
memory after the second half is larger than after the first by more than --slack.
"""

import argparse
import collections
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time

MEGABYTE = 1 << 20


def good_requests():
    """Requests whose answers are a function of their bodies: greedy or with a seed."""
    questions = ["Hello!", "3 + 4?", "What can you do?", "你好", "How do I serve a model?", "再见"]
    requests = []
    for at, question in enumerate(questions):
        messages = [{"role": "user", "content": question}]
        chat, text = "/v1/chat/completions", "/v1/completions"
        requests += [
            (chat, {"messages": messages, "temperature": 0}),
            (chat, {"messages": messages, "temperature": 1, "seed": at, "n": 2, "max_tokens": 16}),
            (chat, {"messages": messages, "seed": at, "stream": True, "logprobs": True, "max_tokens": 16}),
            (text, {"prompt": question, "max_tokens": 24, "ignore_eos": True, "temperature": 0, "logprobs": 2, "echo": True}),
            (text, {"prompt": [5, 6, 7 + at], "max_tokens": 12, "seed": at, "stream": True, "ignore_eos": True}),
            ("/tokenize", {"content": question * 20, "with_pieces": True}),
            ("/chat", {"prompt": question, "temperature": 0}),
        ]
    return [(path, json.dumps(body)) for path, body in requests]


def hostile_bodies(size):
    """Bodies that would become far more than they are, or whose answers would."""
    zeros = "0," * (size // 2)
    return [
        ("/v1/chat/completions", f'{{"messages": [{zeros}0]}}'),
        ("/v1/chat/completions", f'{{"messages": [{{"role": "user", "content": [{zeros}0]}}]}}'),
        ("/v1/chat/completions", '{"messages": [' + '{"role":"user","content":""},' * (size // 29) + '{"role":"user"}]}'),
        ("/v1/completions", f'{{"prompt": [{zeros}0]}}'),
        ("/v1/completions", '{"prompt": [' + '"",' * (size // 3) + '""]}'),
        ("/v1/completions", '{"prompt": "' + "word " * (size // 5) + '"}'),
        ("/v1/completions", '{"prompt": "x", "logit_bias": {' + '"1":0,' * (size // 6) + '"1":0}}'),
        ("/v1/completions", "{" + ",".join(f'"{at:07}":0' for at in range(size // 12)) + "}"),
        ("/tokenize", '{"content": "' + "a b\\n" * (size // 5) + '"}'),
        ("/tokenize", '{"content": "' + "éx" * (size // 3) + '", "with_pieces": true}'),
        ("/detokenize", f'{{"tokens": [{zeros}0]}}'),
        ("/chat", '{"prompt": "x", "history": [' + '["",""],' * (size // 8) + '["",""]]}'),
        ("/v1/chat/completions", "[" * size),
        ("/v1/chat/completions", '{"messages": ' + "[" * size),
        ("/v1/completions", "\x00" * 1000),
    ]


def essence(status, kind, text):
    """What of a response must not depend on when it was made."""

    def strip(value):
        for name in ("id", "created"):
            value.pop(name, None)
        if isinstance(value.get("usage"), dict):
            value["usage"].pop("prompt_tokens_details", None)
            for name in ("accepted_prediction_tokens", "rejected_prediction_tokens"):
                value["usage"].get("completion_tokens_details", {}).pop(name, None)
        return value

    if kind == "text/event-stream":
        data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        return status, [strip(json.loads(one)) if one != "[DONE]" else one for one in data]
    return status, strip(json.loads(text))


class Server:
    def __init__(self, binary, flags):
        command = [binary, "serve", "--port", "0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "://" in line:
                self.port = int(line.split("://")[1].split(";")[0].rsplit(":", 1)[1])
                break
        else:
            raise SystemExit("the server does not start")
        threading.Thread(target=collections.deque, args=(self.process.stderr, 0), daemon=True).start()

    def ask(self, path, body, timeout=300):
        connection = http.client.HTTPConnection("localhost", self.port, timeout=timeout)
        try:
            connection.request("POST", path, body.encode(), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.getheader("content-type"), response.read().decode()
        finally:
            connection.close()

    def memory(self, name):
        """Mebibytes, of `VmRSS` or `VmHWM`."""
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(line for line in status if line.startswith(name))
        return int(line.split()[1]) / 1024


def torn(server, rng):
    """Connections that do not do what they began."""
    connection = socket.create_connection(("localhost", server.port), timeout=60)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    stream = '{"prompt": "x", "max_tokens": 1000, "ignore_eos": true, "stream": true}'
    with connection:
        match rng.randrange(5):
            case 0:
                connection.sendall(b"POST /v1/comp")
                time.sleep(2)
            case 1:
                connection.sendall((head + "Content-Length: 8000000\r\n\r\n").encode() + b" " * 4_000_000)
                time.sleep(2)
            case 2:
                connection.sendall(f"{head}Content-Length: {len(stream)}\r\n\r\n{stream}".encode())
                connection.recv(300)
            case 3:
                connection.sendall(rng.randbytes(4000))
                connection.recv(300)
            case 4:
                connection.sendall((head + "Content-Length: 99000000\r\nExpect: 100-continue\r\n\r\n").encode())
                assert connection.recv(300).startswith(b"HTTP/1.1 413")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--hostile", type=float, default=0.25, help="the share of clients that mean no good")
    parser.add_argument("--size", type=int, default=15, help="mebibytes of a hostile body")
    parser.add_argument("--slack", type=float, default=32, help="mebibytes by which memory may grow in the second half")
    args, flags = parser.parse_known_args()
    server = Server(args.binary, [*flags, "--cache-tokens", "40000"])
    good, bad = good_requests(), hostile_bodies(args.size * MEGABYTE)
    alone = {request: essence(*server.ask(*request)) for request in good}
    print(f"alone: {len(alone)} answers; {server.memory('VmRSS'):.0f} MiB resident, {server.memory('VmHWM'):.0f} MiB at most")
    counts, faults, lock = collections.Counter(), [], threading.Lock()

    def client(number, until):
        rng = random.Random(number)
        is_hostile = number < args.clients * args.hostile
        while time.monotonic() < until and server.process.poll() is None:
            try:
                if not is_hostile:
                    request = rng.choice(good)
                    status, kind, text = server.ask(*request)
                    outcome = "good, answered" if status == 200 else f"good, {status}"
                    if status == 429:
                        # The queue is full; what it says is asked of its clients, too.
                        time.sleep(0.2)
                    elif essence(status, kind, text) != alone[request]:
                        outcome = "good, DIFFERENT"
                        faults.append((request, text[:500]))
                elif rng.random() < 0.5:
                    torn(server, rng)
                    outcome = "hostile, torn"
                else:
                    outcome = f"hostile, {server.ask(*rng.choice(bad))[0]}"
            except (OSError, http.client.HTTPException) as error:
                outcome = f"{'hostile' if is_hostile else 'good'}, {type(error).__name__}"
                if not is_hostile:
                    faults.append((number, repr(error)))
            with lock:
                counts[outcome] += 1

    after = []
    for half in range(2):
        until = time.monotonic() + args.seconds / 2
        threads = [threading.Thread(target=client, args=(number, until)) for number in range(args.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(2)
        after.append(server.memory("VmRSS"))
        print(f"half {half + 1}: {after[-1]:.0f} MiB resident after it, {server.memory('VmHWM'):.0f} MiB at most so far", flush=True)
    for outcome, count in sorted(counts.items()):
        print(f"{count:8} {outcome}")
    for fault in faults[:5]:
        print(*fault)
    again = all(essence(*server.ask(*request)) == alone[request] for request in good)
    print("alone again: the same" if again else "alone again: DIFFERENT")
    server.process.terminate()
    ended = server.process.wait(60)
    if faults or not again or ended != 0 or after[1] > after[0] + args.slack:
        sys.exit(1)


main()
