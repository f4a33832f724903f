"""What answers that are held to a form cost others: the time between tokens of plain requests, beside 64 clients whose answers
each have a JSON schema of their own, beside as many plain ones, and alone.

    target/release/glimmer serve demo --parallel 96 --port 8111 &
    python3 tools/grammar_load.py http://127.0.0.1:8111 --pid $!

Needs nothing beyond Python 3. The three kinds of company come in turns, several rounds of each. Every answer that ends is held to
its schema; --pid tells the server's memory.
"""

import argparse
import http.client
import json
import threading
import time
from urllib.parse import urlsplit


def schema(number):
    """A schema that no other client has."""
    inner = {f"n{number}_{at}": {"type": "integer", "minimum": at, "maximum": number + 100} for at in range(4)}
    properties = {
        f"name_{number}": {"type": "string", "minLength": 1, "maxLength": 8 + number % 9},
        f"kind_{number}": {"enum": [f"kind {number} {at}" for at in range(12)]},
        f"list_{number}": {
            "type": "array",
            "items": {"type": "object", "properties": inner, "required": list(inner), "additionalProperties": False},
            "minItems": 1,
            "maxItems": 3,
        },
        f"day_{number}": {"type": "string", "pattern": f"^20{number % 90 + 10}-[01][0-9]-[0-3][0-9]$"},
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def is_valid(value, number):
    """Whether an answer is what `schema` says, in as much detail as matters here."""
    wanted = schema(number)["properties"]
    if list(value) != list(wanted):
        return False
    name, kind, items, day = value.values()
    return (
        1 <= len(name) <= 8 + number % 9
        and kind in wanted[f"kind_{number}"]["enum"]
        and 1 <= len(items) <= 3
        and all(list(item) == [f"n{number}_{at}" for at in range(4)] for item in items)
        and all(at <= n <= number + 100 for item in items for at, n in enumerate(item.values()))
        and day.startswith(f"20{number % 90 + 10}-")
    )


def stream(url, body):
    """The pieces of an answer as they come, with their times."""
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=600)
    body = {"stream": True, "temperature": 1, **body}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(response.read().decode())
    for line in response:
        if line.startswith(b"data: {"):
            yield time.perf_counter(), json.loads(line[6:])["choices"][0]
    connection.close()


class Round:
    """Some seconds of measured plain clients in some company."""

    def __init__(self, args, url, company, seed):
        self.args, self.url, self.company, self.seed = args, url, company, seed
        self.gaps, self.valid, self.invalid, self.cut = [], 0, 0, 0
        self.over = threading.Event()

    def plain(self, number, gaps):
        while not self.over.is_set():
            self.seed += 1
            body = {"prompt": f"{self.seed} {number}", "ignore_eos": True, "max_tokens": 200, "seed": self.seed}
            last = None
            for at, _ in stream(self.url, body):
                if gaps is not None and last is not None:
                    gaps.append(at - last)
                last = at
                if self.over.is_set():
                    break

    def held(self, number):
        own = number + 64 * (self.seed % 7)
        while not self.over.is_set():
            self.seed += 1
            body = {"prompt": f"{self.seed} {number}", "guided_json": schema(own), "max_tokens": 400, "seed": self.seed}
            text, finish = "", None
            for _, choice in stream(self.url, body):
                text, finish = text + choice["text"], choice["finish_reason"]
            if finish != "stop":
                self.cut += 1
            elif is_valid(json.loads(text), own):
                self.valid += 1
            else:
                self.invalid += 1

    def run(self):
        threads = [threading.Thread(target=self.plain, args=(at, self.gaps)) for at in range(self.args.plain)]
        if self.company == "plain":
            threads += [threading.Thread(target=self.plain, args=(100 + at, None)) for at in range(self.args.clients)]
        elif self.company == "held":
            threads += [threading.Thread(target=self.held, args=(at,)) for at in range(self.args.clients)]
        for thread in threads:
            thread.start()
        time.sleep(self.args.seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        return self


def memory(pid):
    if not pid:
        return ""
    lines = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status", encoding="ascii") if line.startswith("Vm"))
    return f"; resident {int(lines['VmRSS'].split()[0]) >> 10} MiB, at most {int(lines['VmHWM'].split()[0]) >> 10}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=64, help="those of the company")
    parser.add_argument("--plain", type=int, default=4, help="those whose tokens are timed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--pid", type=int)
    args = parser.parse_args()
    url = urlsplit(args.url)
    all_gaps = {"nobody": [], "plain": [], "held": []}
    for number in range(args.rounds):
        for at, (company, gaps) in enumerate(all_gaps.items()):
            done = Round(args, url, company, 1_000_000 * (3 * number + at)).run()
            gaps.extend(done.gaps)
            counts = f"; {done.valid} valid, {done.invalid} not, {done.cut} cut" if company == "held" else ""
            print(f"round {number + 1}, {company:6}: {len(done.gaps)} tokens{counts}{memory(args.pid)}", flush=True)
            if done.invalid:
                raise SystemExit("an answer does not fit its schema")
    print("company  between tokens (ms) p50 p95 p99")
    for company, gaps in all_gaps.items():
        gaps.sort()
        shares = [1000 * gaps[min(len(gaps) - 1, int(share * len(gaps)))] for share in (0.5, 0.95, 0.99)]
        print(f"{company:7}  {shares[0]:22.2f} {shares[1]:.2f} {shares[2]:.2f}", flush=True)


main()
