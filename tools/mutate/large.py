"""Inputs that are too much of something: each is megabytes that a parser might make gigabytes of."""

import base64
import json
import struct

import texts
from checkpoints import string


def header_of_tensors(files):
    """A safetensors header that names 200,000 tensors of no bytes."""
    header = json.dumps({f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(200_000)}).encode()
    header += b" " * (-len(header) % 8)
    files["model/model.safetensors"] = struct.pack("<Q", len(header)) + header


def header_of_shapes(files):
    """A safetensors header with a shape of four million dimensions."""
    header = b'{"a":{"dtype":"F32","shape":[' + b"1," * 4_000_000 + b'1],"data_offsets":[0,4]}}'
    header += b" " * (-len(header) % 8)
    files["model/model.safetensors"] = struct.pack("<Q", len(header)) + header + b"\0" * 4


def configuration(files):
    """Four megabytes of small values."""
    files["model/config.json"] = b'{"a": [' + b"0," * 2_000_000 + b"0]}"


def index(files):
    files["model/model.safetensors.index.json"] = json.dumps({"weight_map": {f"tensor{n}": "model.safetensors" for n in range(80_000)}}).encode()


def vocabulary(files):
    tree = json.loads(files["model/tokenizer.json"])
    tree["model"]["vocab"] |= {f"token{number}": 10_000 + number for number in range(400_000)}
    files["model/tokenizer.json"] = json.dumps(tree).encode()


def added(files):
    tree = json.loads(files["model/tokenizer.json"])
    flags = {"single_word": False, "lstrip": True, "rstrip": True, "normalized": True, "special": True}
    tree["added_tokens"] += [{"id": 100_000 + number, "content": f"<|added {number}|>", **flags} for number in range(60_000)]
    files["model/tokenizer.json"] = json.dumps(tree).encode()


def merges(files):
    """One token of all merges: every step makes it longer."""
    tree = json.loads(files["model/tokenizer.json"])
    vocab, rules, text = tree["model"]["vocab"], [], "a"
    for number in range(3_000):
        rules.append([text, "a"])
        text += "a"
        vocab[text] = 10_000 + number
    tree["model"]["merges"] = rules
    files["model/tokenizer.json"] = json.dumps(tree).encode()
    files["texts.jsonl"] = json.dumps({"text": "a" * 200_000}).encode()


def split(pattern):
    def change(files):
        tree = json.loads(files["model/tokenizer.json"])
        tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
        files["model/tokenizer.json"] = json.dumps(tree).encode()
        files["texts.jsonl"] = json.dumps({"text": "x" * 20_000}).encode() + b"\n"
    change.__doc__ = f"Splits text by {pattern}"
    return change


def tiktoken(files):
    lines = [base64.b64encode(f"word{number}".encode()) + b" %d" % (10_000 + number) for number in range(500_000)]
    files["model/tokenizer.model"] = files["model/tokenizer.model"] + b"\n".join(lines)


def pieces(files):
    made = [(1, 2, texts.message([(1, 2, b"piece%d" % number), (2, 5, struct.pack("<f", -number))])) for number in range(400_000)]
    files["model/tokenizer.model"] = files["model/tokenizer.model"] + texts.message(made)


def keys_of_gguf(files):
    keys = b"".join(string(b"key.%d" % number) + struct.pack("<II", 4, number) for number in range(400_000))
    files["model/model.gguf"] = b"GGUF" + struct.pack("<IQQ", 3, 0, 400_000) + keys


def strings_of_gguf(files):
    array = string(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 3_000_000) + (struct.pack("<Q", 1) + b"a") * 3_000_000
    files["model/model.gguf"] = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + array


def tensors_of_gguf(files):
    infos = b"".join(string(b"tensor.%d" % number) + struct.pack("<IQIQ", 1, 0, 0, 0) for number in range(60_000))
    files["model/model.gguf"] = b"GGUF" + struct.pack("<IQQ", 3, 60_000, 0) + infos


def words(files):
    files["model/vocab.txt"] += b"".join(b"word%d\n" % number for number in range(800_000))


def long_word(files):
    """A vocabulary of prefixes, and one word that they all begin."""
    files["model/vocab.txt"] += b"".join(b"a" * number + b"\n" for number in range(1, 3_000))
    files["texts.jsonl"] = json.dumps({"text": "a" * 200_000}).encode() + b"\n"


def messages(files):
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    files["conversation.json"] = json.dumps({"messages": turn * 20_000}).encode()


def long_message(files):
    files["conversation.json"] = json.dumps({"messages": [{"role": "user", "content": "many words of text, " * 20_000}]}).encode()


def arguments(files):
    """A tool call whose arguments are a deep tree, as text."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":' * 100 + "1" + "}" * 100}}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "tool_calls": [call] * 500}, {"role": "tool", "content": "r"}]
    files["conversation.json"] = json.dumps({"messages": turns}).encode()


def keys(files):
    files["keys.txt"] = b"".join(b"sk-%032d\n" % number for number in range(60_000))


def requests(files):
    line = {"method": "POST", "url": "/v1/nothing", "body": {}}
    files["requests.jsonl"] = b"".join(json.dumps({"custom_id": str(number), **line}).encode() + b"\n" for number in range(8_000))


def long_line(files):
    files["requests.jsonl"] = b'{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": [' + b"0," * 2_500_000 + b"0]}\n"


# The dearest JSON there is: seven bytes of text make an object, its table, a key and a number.
def small_values(count):
    return b"[" + b'{"":0},' * count + b"0]"


def small_values_in(path, count, before=b"", after=b""):
    def change(files):
        old = files[path].rstrip()[:-1] + b"," if path.startswith("model/") else before
        files[path] = old + (b'"z":' if path.startswith("model/") else b"") + small_values(count) + (after or b"}")
    change.__doc__ = f"Many small values in {path}"
    return change


def template(source):
    def change(files):
        files["model/chat_template.jinja"] = source.encode()
    change.__doc__ = f"A chat template: {source[:60]}"
    return change


# The model, what is done to its files, and the commands that meet it.
LARGE = [
    ("lm-eval", header_of_tensors, ("inspect", "run", "convert")),
    ("lm-eval", header_of_shapes, ("inspect", "run", "convert")),
    ("lm-eval", configuration, ("inspect", "run", "convert")),
    ("glm-4-9b-chat-hf", index, ("inspect", "run")),
    ("lm-eval", vocabulary, ("inspect", "tokenize")),
    ("lm-eval", added, ("inspect", "tokenize", "texts")),
    ("lm-eval", merges, ("inspect", "texts")),
    ("lm-eval", split("(x+x+)+y"), ("inspect", "texts")),
    ("lm-eval", split("(?:x?){900}x{900}(?=y)"), ("inspect", "texts")),
    ("lm-eval", split("((((x{100}){100}){100}){100}){100}"), ("inspect", "texts")),
    ("lm-eval", split("(x|xx|xxx)*(?!x)z"), ("inspect", "texts")),
    ("lm-eval", split("(" * 20_000 + "x" + ")" * 20_000), ("inspect", "texts")),
    ("glm4-9b-orig-text", tiktoken, ("inspect", "tokenize")),
    ("chatglm2-6b-text", pieces, ("inspect", "tokenize")),
    ("lm-eval.gguf", keys_of_gguf, ("inspect", "convert")),
    ("lm-eval.gguf", strings_of_gguf, ("inspect", "tokenize", "convert")),
    ("lm-eval.gguf", tensors_of_gguf, ("inspect", "convert")),
    ("text2vec-bert", words, ("tokenize", "embed")),
    ("text2vec-bert", long_word, ("tokenize", "texts")),
    ("glm-4-9b-chat-hf-text", messages, ("template",)),
    ("glm4-9b-orig-text", messages, ("template",)),
    ("glm4-9b-0414-text", long_message, ("template",)),
    ("chatglm3-6b-text", long_message, ("template",)),
    ("chatglm-6b-text", long_message, ("template",)),
    ("lm-eval", arguments, ("template",)),
    ("lm-eval", keys, ("serve_keys",)),
    ("lm-eval", requests, ("batch",)),
    ("lm-eval", long_line, ("batch",)),
    ("lm-eval", small_values_in("model/config.json", 580_000), ("inspect", "run", "convert", "serve")),
    ("lm-eval", small_values_in("model/generation_config.json", 580_000), ("inspect", "run", "convert", "serve")),
    ("lm-eval", small_values_in("model/tokenizer_config.json", 580_000), ("inspect", "run", "template", "convert", "serve")),
    ("lm-eval", small_values_in("model/tokenizer.json", 3_000_000), ("inspect", "tokenize")),
    ("glm-4-9b-chat-hf", small_values_in("model/model.safetensors.index.json", 580_000), ("inspect", "run")),
    ("text2vec-bert", small_values_in("model/config.json", 580_000), ("inspect", "embed", "serve_encoder")),
    ("lm-eval", small_values_in("conversation.json", 2_000_000, b'{"messages":[{"role":"user","content":"a"}],"x":'), ("template",)),
    ("lm-eval", small_values_in("tools.json", 2_000_000, b'[{"x":', b"}]"), ("tools",)),
    ("lm-eval", small_values_in("texts.jsonl", 2_000_000, b'{"text":"a","x":', b"}\n"), ("texts",)),
    ("lm-eval", small_values_in("requests.jsonl", 2_000_000, b'{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"x":',
                                b"}}\n"), ("batch",)),
    ("lm-eval", template("{{ messages }}" * 300_000), ("template", "inspect")),
    ("lm-eval", template("{% set x = 1 %}" * 250_000), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{% set x = messages | tojson %}{% endfor %}"), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{{ ('x' * 1000).split('x') | length }}{% endfor %}"), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{{ 'x' * 100000 == 'x' * 100000 }}{% endfor %}"), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{{ 'y' in 'x' * 100000 }}{% endfor %}"), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{% set x = range(9999) | list | sort %}{% endfor %}"), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{% set x = range(9999) | map('string') | unique | list %}{% endfor %}"), ("template", "inspect")),
    ("lm-eval", template("{% for i in range(99999) %}{% set x = ('x' * 9999)[::-1] | upper | replace('X', 'y') %}{% endfor %}"), ("template", "inspect")),
]
