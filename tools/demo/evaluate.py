"""Asks a model the acceptance conversations and the held-out questions, greedily, through `glimmer serve`.

    python tools/demo/evaluate.py GLIMMER MODEL

MODEL is what every verb takes, such as `demo`. An answer is right if it holds every string of "contains" (acceptance), or one of
them (heldout.jsonl).
"""

import json
import random
import re
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import lexicon
from text import sentence_held_out, sum_held_out

HERE = Path(__file__).parent
AT_ONCE = 8  # questions


@contextmanager
def served(glimmer, model):
    """What asks a server of the model for its answer to messages: the message, and why it ended."""
    server = subprocess.Popen([glimmer, "serve", model, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        address = next((found[0] for line in server.stderr if (found := re.search(r"http://[0-9.]+:[0-9]+", line))), None)
        if address is None:
            sys.exit("the server has ended before it said its address")
        threading.Thread(target=server.stderr.read, daemon=True).start()

        def ask(messages, tools=None):
            asked = {"messages": messages, "max_tokens": 120, "temperature": 0, **({"tools": tools} if tools else {})}
            request = urllib.request.Request(
                f"{address}/v1/chat/completions", json.dumps(asked).encode(), {"content-type": "application/json"}
            )
            choice = json.load(urllib.request.urlopen(request))["choices"][0]
            return choice["message"], choice["finish_reason"]

        yield ask
    finally:
        server.terminate()
        server.wait()


def is_right(item, message, end):
    """Whether an answer of an acceptance conversation is what its item wants."""
    calls = message.get("tool_calls") or []
    if "call" not in item:
        return not calls and end == "stop" and all(part in (message["content"] or "") for part in item["contains"])
    called = calls[0]["function"] if len(calls) == 1 else {"name": "", "arguments": "null"}
    try:
        return called["name"] == item["call"] and json.loads(called["arguments"]) == item["arguments"]
    except ValueError:
        return False


def acceptance(ask, path, shows):
    """A whole conversation, in which the model's own answers are the history."""
    messages, tools, right, total = [], None, 0, 0
    for line in path.read_text("utf-8").splitlines():
        item = json.loads(line)
        if "tools" in item:
            messages, tools = [], item["tools"]
            continue
        calls = messages[-1].get("tool_calls") if messages else None
        if "user" in item:
            messages.append({"role": "user", "content": item["user"]})
        elif calls:
            messages.append({"role": "tool", "tool_call_id": calls[0]["id"], "content": item["observation"]})
        else:
            messages.append({"role": "user", "content": item["observation"]})
        message, end = ask(messages, tools)
        messages.append(message)
        good = is_right(item, message, end)
        right, total = right + good, total + 1
        if shows:
            print("ok   " if good else "WRONG", item.get("user") or item["observation"], "=>", message)
    return right, total


def composed(rng, count):
    """Held-out sums, sentences and names in phrasings of their own."""
    items = []
    while len(items) < count:
        kind = rng.randrange(5)
        if kind < 2:
            a, b, sign = rng.randint(0, 99), rng.randint(0, 99), rng.choice("+-")
            if a < b or not sum_held_out(a, sign, b):
                continue
            ask = rng.choice(["So what's {a} {s} {b}, then?", "{a} {s} {b} is how much?", "我想知道{a}{s}{b}是多少", "{a} {s} {b} 等于多少？", "{a}{s}{b}=?"])
            items.append((ask.format(a=a, b=b, s=sign), [f" {a + b if sign == '+' else a - b}" + e for e in (".", "。")]))
        elif kind == 2:
            en, zh = lexicon.sentence_pair(rng)
            if not sentence_held_out(en):
                continue
            ask, want = rng.choice([("Can you put \"{en}\" into Chinese?", zh), ("请问“{en}”中文怎么讲？", zh), ("What's the English for “{zh}”?", en), ("麻烦你把“{zh}”翻译成英文", en)])
            items.append((ask.format(en=en, zh=zh), [want]))
        elif kind == 3:
            name = "".join(rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4)))
            kind_, verb = rng.choice((("chat", "talk a little with"), ("bench", "benchmark"), ("inspect", "inspect")))
            items.append((f"What must I enter to {verb} {name}-{rng.randint(1, 30)}b?", [f"glimmer {kind_} {name}-"]))
        else:
            name = "".join(rng.choice("bcdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
            t = rng.choice(lexicon.TYPES)
            items.append((rng.choice((f"Please quantize {name} to {t} for me", f"请问怎样把 {name} 量化到 {t}？")), [f"glimmer convert {name} {name}.{t}.gguf --type {t}"]))
    return items


def questions(ask, items, shows):
    def asked(item):
        message, end = ask([{"role": "user", "content": item[0]}])
        return message, end == "stop" and any(part in (message["content"] or "") for part in item[1])

    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(asked, items))
    for (question, wanted), (message, good) in zip(items, answers):
        if shows and not good:
            print("WRONG", question, "=>", message, "wanted", wanted)
    return sum(good for _, good in answers), len(items)


def tell(glimmer, model, shows=True):
    """Prints how many answers of each kind are right."""
    held = [json.loads(line) for line in (HERE / "heldout.jsonl").read_text("utf-8").splitlines()]
    with served(glimmer, model) as ask:
        scores = {
            "acceptance": acceptance(ask, HERE / "acceptance.jsonl", shows),
            "tools": acceptance(ask, HERE / "acceptance_tools.jsonl", shows),
            "held-out": questions(ask, [(item["user"], item["contains"]) for item in held], shows),
            "composed": questions(ask, composed(random.Random(11), 200), shows),
        }
    for name, (right, total) in scores.items():
        print(f"{name}: {right}/{total}")


if __name__ == "__main__":
    tell(*sys.argv[1:3])
