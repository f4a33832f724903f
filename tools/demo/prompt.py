"""Conversations as token ids, in GLM-4's chat format, and which of the tokens the model is to learn.

`render` writes what chat_template.jinja writes.
"""

import json
import random

SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
INTRODUCTION = "你是一个名为 {} 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题和要求提供适当的答复和支持。"


def segments(messages, name="demo", generate=False):
    """(special token or text, is to be learnt) in order. A turn of the assistant ends with the next role's token."""
    out = [("[gMASK]", False), ("<sop>", False)]
    learn_next = False

    def role(name):
        nonlocal learn_next
        out.append((f"<|{name}|>", learn_next))
        learn_next = name == "assistant"

    for message in messages:
        if message.get("tools"):
            role("system")
            out.append((tools_block(message["tools"], name), False))
        if message.get("content"):
            role(message["role"])
            learnt = message["role"] == "assistant"
            out.append((message.get("metadata", "") + "\n" + message["content"], learnt))
            learn_next = learnt
    if generate:
        out.append(("<|assistant|>", False))
    elif learn_next:
        out.append(("<|user|>", True))
    return out


def tools_block(tools, name):
    """GLM-4's block, which calls every model one developed from GLM-4; `name` is the slot it has for a name."""
    text = "\n" + INTRODUCTION.format(name) + "\n\n# 可用工具"
    for tool in tools:
        function = tool["function"]
        text += f"\n## {function['name']}\n\n{json.dumps(function, indent=4, ensure_ascii=False)}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"
    return text


def render(messages, generate=False):
    return "".join(text for text, _ in segments(messages, generate=generate))


class Encoder:
    """Segments to ids. Texts between special tokens are encoded apart, as the tokenizer itself does it."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.special = {name: tokenizer.token_to_id(name) for name in SPECIAL}
        self.cache = {}

    def __call__(self, parts):
        ids, learn = [], []
        for text, learnt in parts:
            piece = [self.special[text]] if text in self.special else self.text(text)
            ids += piece
            learn += [learnt] * len(piece)
        return ids, learn

    def text(self, text):
        found = self.cache.get(text)
        if found is None:
            found = self.tokenizer.encode(text, add_special_tokens=False).ids
            if len(self.cache) < 200_000:
                self.cache[text] = found
        return found


def conversation(encoder, rng, turns, forbidden, **kinds):
    """Ids and learnt marks of a fresh conversation."""
    from text import Conversation

    drawn = Conversation(rng, turns, forbidden, **kinds)
    return encoder(segments(drawn.messages, rng.choice(("demo", "demo", "GLM-4", "ChatGLM"))))


if __name__ == "__main__":
    from text import Conversation

    print(render(Conversation(random.Random(3), 3, tools=True).messages))
