"""Asks the demo model the acceptance conversations and the held-out questions, greedily.

    venv/bin/python tools/demo/evaluate.py MODEL_DIR          with transformers
    venv/bin/python tools/demo/evaluate.py MODEL.gguf         with llama-cpp-python

An answer is right if it holds every string of "contains" (acceptance), or one of them (heldout.jsonl).
"""

import json
import random
import sys
from pathlib import Path

import lexicon
import prompt
from text import normal, sentence_held_out, sum_held_out

HERE = Path(__file__).parent


class Transformers:
    def __init__(self, path):
        import torch
        from tokenizers import Tokenizer
        from transformers import GlmForCausalLM

        self.torch = torch
        self.model = GlmForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.tokenizer = Tokenizer.from_file(str(Path(path) / "tokenizer.json"))
        self.encoder = prompt.Encoder(self.tokenizer)

    def answer(self, messages):
        """The answer's text and the token that ended it."""
        ids, _ = self.encoder(prompt.segments(messages, generate=True))
        with self.torch.no_grad():
            out = self.model.generate(self.torch.tensor([ids]), attention_mask=self.torch.ones(1, len(ids), dtype=self.torch.long), max_new_tokens=120, do_sample=False)
        new = out[0, len(ids):].tolist()
        return self.tokenizer.decode(new[:-1], skip_special_tokens=False), self.tokenizer.id_to_token(new[-1])


class LlamaCpp:
    def __init__(self, path):
        from llama_cpp import Llama

        self.model = Llama(path, n_ctx=2048, verbose=False, n_threads=2, logits_all=False)

    def answer(self, messages):
        text = prompt.render(messages, generate=True).encode()
        ids = self.model.tokenize(text, add_bos=False, special=True)
        stops = {self.model.tokenize(name.encode(), add_bos=False, special=True)[0]: name for name in ("<|endoftext|>", "<|user|>", "<|observation|>")}
        new = []
        for token in self.model.generate(ids, temp=0.0, repeat_penalty=1.0):
            if token in stops or len(new) == 120:
                break
            new.append(token)
        return self.model.detokenize(new).decode("utf-8", "replace"), stops.get(token)


def acceptance(model, path, verbose=True):
    """A whole conversation, in which the model's own answers are the history."""
    messages, right, total = [], 0, 0
    for line in path.read_text("utf-8").splitlines():
        item = json.loads(line)
        if "tools" in item:
            messages = [{"role": "system", "tools": item["tools"]}]
            continue
        if "user" in item:
            messages.append({"role": "user", "content": item["user"]})
        else:
            messages.append({"role": "observation", "content": item["observation"]})
        answer, end = model.answer(messages)
        head, _, rest = answer.partition("\n")
        if "call" in item:
            try:
                good = head == item["call"] and json.loads(rest) == item["arguments"] and end == "<|observation|>"
            except ValueError:
                good = False
        else:
            good = head == "" and all(part in rest for part in item["contains"]) and end == "<|user|>"
        messages.append({"role": "assistant", "content": rest, "metadata": head})
        right, total = right + good, total + 1
        if verbose:
            print("ok   " if good else "WRONG", item.get("user") or item["observation"], "=>", repr(answer))
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


def questions(model, items, show):
    right = 0
    for question, wanted in items:
        answer, end = model.answer([{"role": "user", "content": question}])
        good = end == "<|user|>" and any(part in answer for part in wanted)
        right += good
        if show and not good:
            print("WRONG", question, "=>", repr(answer), "wanted", wanted)
    return right, len(items)


def main():
    path = sys.argv[1]
    model = LlamaCpp(path) if path.endswith(".gguf") else Transformers(path)
    scores = {"acceptance": acceptance(model, HERE / "acceptance.jsonl"), "tools": acceptance(model, HERE / "acceptance_tools.jsonl")}
    held = [json.loads(line) for line in (HERE / "heldout.jsonl").read_text("utf-8").splitlines()]
    scores["held-out"] = questions(model, [(item["user"], item["contains"]) for item in held], True)
    scores["composed"] = questions(model, composed(random.Random(11), 200), True)
    for name, (right, total) in scores.items():
        print(f"{name}: {right}/{total}")


if __name__ == "__main__":
    main()
