"""The demo model's layout with a vocabulary made anew and weights of zeros, for `train.py --base`.

    python -m venv venv && venv/bin/pip install tokenizers==0.23.3
    venv/bin/python tools/demo/layout.py OUT_DIR

The stored model has the vocabulary already, so this is needed only where that, or the shapes below, are to change.
"""

import json
import random
import re
import shutil
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from text import Conversation

HERE = Path(__file__).parent
SEED = 20250
VOCABULARY = 3328
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FEED_FORWARD = 4, 256, 4, 2, 64, 768
CONTEXT = 2048
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
INTRODUCTION = "你是一个名为 demo 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，你的任务是针对用户的问题和要求提供适当的答复和支持。"


def texts(messages):
    """What stands between special tokens when chat_template.jinja has written messages."""
    for message in messages:
        if message.get("tools"):
            yield "\n" + INTRODUCTION + "\n\n# 可用工具" + "".join(map(tool_block, message["tools"]))
        if message.get("content"):
            yield message.get("metadata", "") + "\n" + message["content"]


def tool_block(tool):
    function = tool["function"]
    return f"\n## {function['name']}\n\n{json.dumps(function, indent=4, ensure_ascii=False)}\n在调用上述函数时，请使用 Json 格式表示调用的参数。"


def make_tokenizer():
    """Byte-level BPE on our own text. Digits stay single, so that sums are done digit by digit."""
    rng = random.Random(SEED)
    drawn = []
    for _ in range(6000):
        drawn += [re.sub(r"\d", "\n", text) for text in texts(Conversation(rng, rng.randint(1, 6)).messages)]
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL), min_frequency=3, max_token_length=12, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(drawn, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    prefix = [(name, tokenizer.token_to_id(name)) for name in ("[gMASK]", "<sop>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", pair="[gMASK] <sop> $A $B:1", special_tokens=prefix
    )
    return tokenizer


def config(tokenizer):
    id = tokenizer.token_to_id
    stops = [id("<|endoftext|>"), id("<|user|>"), id("<|observation|>")]
    return {
        "architectures": ["GlmForCausalLM"], "model_type": "glm", "torch_dtype": "float32", "hidden_act": "silu",
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "attention_bias": False,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True, "eos_token_id": stops, "pad_token_id": stops[0],
    }


def write_tokenizer(out, tokenizer):
    tokenizer.save(str(out / "tokenizer.json"))
    special = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    added = {str(id): {"content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for name, id in special.items()}
    settings = {
        "added_tokens_decoder": added, "additional_special_tokens": SPECIAL, "clean_up_tokenization_spaces": False,
        "do_lower_case": False, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "model_max_length": CONTEXT,
        "padding_side": "left", "remove_space": False, "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    shutil.copy(HERE / "chat_template.jinja", out / "chat_template.jinja")


def shapes():
    heads, kv_heads = HEADS * HEAD, KV_HEADS * HEAD
    layer = {
        "input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN], "self_attn.q_proj": [heads, HIDDEN],
        "self_attn.k_proj": [kv_heads, HIDDEN], "self_attn.v_proj": [kv_heads, HIDDEN], "self_attn.o_proj": [HIDDEN, heads],
        "mlp.gate_up_proj": [2 * FEED_FORWARD, HIDDEN], "mlp.down_proj": [HIDDEN, FEED_FORWARD],
    }
    layers = {f"model.layers.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in layer.items()}
    return {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "model.norm.weight": [HIDDEN], **layers}


def write_zeros(path):
    """A safetensors file (8 bytes of length, a header in JSON, the values) whose values are a hole."""
    header, end = {}, 0
    for name, shape in shapes().items():
        begin, end = end, end + 4 * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    write_tokenizer(out, tokenizer)
    (out / "config.json").write_text(json.dumps(config(tokenizer), indent=2) + "\n")
    write_zeros(out / "model.safetensors")


if __name__ == "__main__":
    main()
