"""The sound models and files that mutations start from: the repository's fixtures, made complete."""

import json
import pathlib
import struct
import subprocess
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FIXTURES = ROOT / "fixtures"
TOKENIZERS = ROOT / "crates/tokenizer/tests/data"
REFERENCES = {"expected.safetensors", "glimmer-golden.safetensors", "manifest.json", "README.md", "texts.json"}

# A fixture and a tokenizer of its family, made one model: the fixture's vocabulary is widened to the tokenizer's.
PAIRS = [
    ("chatglm-6b", "chatglm-6b/ice_text.model"),
    ("chatglm2-6b", "chatglm2-6b/tokenizer.model"),
    ("chatglm3-6b", "chatglm2-6b/tokenizer.model"),
    ("glm4-9b-orig", "glm4-tiktoken/tokenizer.model"),
    ("glm-4-9b-chat-hf", "glm4-hf/tokenizer.json"),
    ("glm-edge-1.5b-chat", "glm-edge/tokenizer.json"),
    ("glm4-9b-0414", "glm45/tokenizer.json"),
]
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "model_max_length": 128000,
    "padding_side": "left", "num_image_tokens": 0, "clean_up_tokenization_spaces": False, "additional_special_tokens": ["<|endoftext|>", "<|user|>"],
}
CHAT_TEMPLATE = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
# Of the stand-in for its vocabulary.
CHATGLM_6B_IDS = {"mask_token_id": 2490, "gmask_token_id": 2491, "bos_token_id": 2494, "eos_token_id": 2495, "pad_token_id": 3}
# Only GLM-4's tiktoken vocabulary has its special tokens there; the others have them in the vocabulary's file.
ADDED_TOKENS = {"2010": {"content": "<|user|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}}
GENERATION_CONFIG = {"do_sample": True, "temperature": 0.8, "top_p": 0.8, "top_k": 50, "repetition_penalty": 1.0, "max_length": 128000,
                     "eos_token_id": [1, 2, 3], "pad_token_id": 1, "transformers_version": "4.44.0"}
ENCODER = {
    "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                     {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
    "1_Pooling/config.json": {"word_embedding_dimension": 64, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
                              "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False},
    "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
}


@dataclass
class Seed:
    """Files by name. `model` is the one to name on the command line, "" for the folder."""

    name: str
    files: dict
    model: str = ""
    # Has a tokenizer that fits its vocabulary.
    text: bool = False
    # Its chat format knows tools.
    tools: bool = False
    encoder: bool = False
    # A prompt for it.
    ids: str = "1,2,3"
    # Every command must take it as it is.
    sound: bool = True


def folder(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir()) if file.is_file() and file.name not in REFERENCES}


def read_safetensors(data):
    """{name: (entry, bytes)}"""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    return {name: (entry, body[slice(*entry["data_offsets"])]) for name, entry in header.items() if name != "__metadata__"}


def write_safetensors(tensors):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, (entry, content) in tensors.items():
        header[name] = dict(entry, data_offsets=[len(body), len(body) + len(content)])
        body += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def widened(files, tokens):
    """A directory in safetensors whose embedding and head have `tokens` rows, the first ones again and again."""
    config = json.loads(files["config.json"])
    old = config.get("padded_vocab_size") or config["vocab_size"]
    config.update({key: tokens for key in ("padded_vocab_size", "vocab_size") if key in config})
    tensors = {}
    for name, content in files.items():
        if name.endswith(".safetensors"):
            tensors.update(read_safetensors(content))
    for name, (entry, content) in tensors.items():
        if entry["shape"] == [old, config["hidden_size"]]:
            row = len(content) // old
            wide = (content * (tokens // old + 1))[: row * tokens]
            tensors[name] = (dict(entry, shape=[tokens, config["hidden_size"]]), wide)
    kept = {name: content for name, content in files.items() if not name.endswith((".safetensors", ".bin", "index.json"))}
    return kept | {"config.json": json.dumps(config).encode(), "model.safetensors": write_safetensors(tensors)}


def call(glimmer, *arguments):
    done = subprocess.run([glimmer, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"a sound input is refused: {' '.join(map(str, done.args))}\n{done.stderr}")
    return done.stdout


def make(glimmer, work):
    """All seeds. `work` is a folder for what the program converts."""
    seeds = []
    for path in sorted(FIXTURES.iterdir()):
        # An adapter is no model.
        if not (path / "config.json").is_file():
            continue
        files = folder(path)
        text = "tokenizer.json" in files
        config = json.loads(files["config.json"])
        # ChatGLM-6B takes no prompt that does not end with these.
        ids = f"5,6,{config['gmask_token_id']},{config['bos_token_id']}" if "gmask_token_id" in config else "1,2,3"
        if path.name == "text2vec-bert":
            files |= {name: json.dumps(content, indent=2).encode() for name, content in ENCODER.items()}
            seeds.append(Seed(path.name, files, encoder=True))
        else:
            seeds.append(Seed(path.name, files, text=text, tools=text, ids=ids))
            call(glimmer, "convert", path, work / f"{path.name}.gguf")
            seeds.append(Seed(f"{path.name}.gguf", {"model.gguf": (work / f"{path.name}.gguf").read_bytes()}, "model.gguf", text, text, ids=ids))
    for fixture, tokenizer in PAIRS:
        complete = work / f"{fixture}-text"
        call(glimmer, "convert", FIXTURES / fixture, complete)
        files = folder(complete)
        source = TOKENIZERS / tokenizer
        files |= folder(FIXTURES / fixture) if any(name.endswith(".safetensors") for name in folder(FIXTURES / fixture)) else {}
        files[source.name] = source.read_bytes()
        own = {"added_tokens_decoder": ADDED_TOKENS} if "tiktoken" in tokenizer else {}
        own |= {"chat_template": CHAT_TEMPLATE} if fixture.startswith("glm") else {}
        files["tokenizer_config.json"] = json.dumps(TOKENIZER_CONFIG | own, indent=2).encode()
        files.setdefault("generation_config.json", json.dumps(GENERATION_CONFIG, indent=2).encode())
        for name in (source.name, "tokenizer_config.json"):
            (complete / name).write_bytes(files[name])
        tokens = json.loads(call(glimmer, "inspect", complete, "--json"))["tokenizer"]["tokens"]
        files = widened(files, -(-tokens // 32) * 32)
        ids, tools = "1,2,3", fixture not in ("chatglm-6b", "chatglm2-6b")
        if fixture == "chatglm-6b":
            files["config.json"] = json.dumps(json.loads(files["config.json"]) | CHATGLM_6B_IDS).encode()
            ids = f"5,6,{CHATGLM_6B_IDS['gmask_token_id']},{CHATGLM_6B_IDS['bos_token_id']}"
        seeds.append(Seed(f"{fixture}-text", files, text=True, tools=tools, ids=ids))
        for name, content in files.items():
            (complete / name).write_bytes(content)
        kind = "Q4_0" if fixture == "glm4-9b-0414" else "F16"
        call(glimmer, "convert", complete, work / f"{fixture}-text.gguf", "--type", kind)
        seeds.append(Seed(f"{fixture}-text.gguf", {"model.gguf": (work / f"{fixture}-text.gguf").read_bytes()}, "model.gguf", True, tools, ids=ids))
    for path in sorted((ROOT / "crates/models/tests/data/llamacpp").glob("*.gguf")):
        seeds.append(Seed(f"llamacpp-{path.stem}", {path.name: path.read_bytes()}, path.name, sound=False))
    samples = ROOT / "crates/checkpoint/tests/data/gguf"
    for name in ("aligned", "everything", "big-endian"):
        seeds.append(Seed(f"gguf-{name}", {f"{name}.gguf": (samples / f"{name}.gguf").read_bytes()}, f"{name}.gguf", sound=False))
    parts = {path.name: path.read_bytes() for path in sorted(samples.glob("split-*.gguf"))}
    seeds.append(Seed("gguf-split", parts, min(parts), sound=False))
    return seeds


MESSAGES = {
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is the weather in \u5317\u4eac? <|user|>"},
        {"role": "assistant", "content": "<think>hm</think>", "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "\u5317\u4eac", "days": 2}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "clear"}'},
        {"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}]},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}],
    "enable_thinking": True, "add_generation_prompt": True, "chat_template_kwargs": {"reasoning_effort": "high"},
}
REQUESTS = [
    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {
        "model": "model", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "seed": 1, "n": 1,
        "stop": ["x"], "logprobs": True, "top_logprobs": 2, "presence_penalty": 0.1, "frequency_penalty": 0.1, "logit_bias": {"5": 1.5},
        "response_format": {"type": "text"}, "user": "u"}},
    {"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"model": "model", "prompt": "Once", "max_tokens": 2, "logprobs": 1, "echo": True}},
    {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"model": "model", "prompt": [1, 2, 3], "max_tokens": 1, "stop": None, "n": 1}},
    {"custom_id": "d", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "model", "max_tokens": 2, "messages": MESSAGES["messages"]}},
]
TEXTS = [{"text": "Hello, world"}, {"text": "\u4f60\u597d <|user|> \ud83d\ude00"}, {"text": ""}, {"text": "  a\n\tb  "}]
KEYS = b"# keys of this server\nsk-0123456789abcdef0123456789abcdef\nsk-fedcba9876543210fedcba9876543210\n\nteam-a-0123456789abcdef0123456789\n"


def json_lines(objects):
    return "".join(json.dumps(one) + "\n" for one in objects).encode()


def templates():
    """Chat templates to mutate: those of the fuzzer's corpus, less the context that follows each there."""
    found = []
    for path in sorted((ROOT / "fuzz/corpus/template").iterdir()):
        found.append(path.read_text().split("\x00")[0].encode())
    cases = (ROOT / "crates/chat/tests/data/jinja.jsonl").read_text().rstrip("\n").split("\n")
    whole = [json.loads(case).get("template", "") for case in cases]
    found += ["\n".join(whole[start : start + 12]).encode() for start in range(0, len(whole), 12)]
    return [one for one in found if one.strip()]
