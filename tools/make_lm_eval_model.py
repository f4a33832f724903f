"""Trains fixtures/lm-eval: a GlmForCausalLM small enough for the repository that can be examined.

    pip install torch==2.15.0 transformers==5.23.0 tokenizers==0.23.3
    python tools/make_lm_eval_model.py fixtures/lm-eval

It learns word pairs, opposites, capitals and sums, in English and Chinese, as questions and answers. Of the two ways to ask one
is left out for a third of the facts, and every seventh sum altogether: an examination (tools/clients/lm_eval_tasks) then has
right and wrong answers. Seeded, one thread, half a minute of CPU. Another machine may train other weights, which is why
the weights are stored; with new ones, run tools/make_lm_eval_scores.py.
"""

import json
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GlmConfig, GlmForCausalLM

SEED = 1801
STEPS, ROWS, LENGTH = 300, 16, 128
VOCABULARY, CONTEXT = 768, 256
# GLM-4's, in its order.
SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

WORDS = """water 水 fire 火 sun 太阳 moon 月亮 cat 猫 dog 狗 bird 鸟 fish 鱼 horse 马 tree 树 flower 花 book 书 house 房子 car 汽车
boat 船 hand 手 eye 眼睛 mountain 山 river 河 rain 雨 snow 雪 wind 风 tea 茶 rice 米饭 bread 面包 milk 牛奶 apple 苹果 red 红色
blue 蓝色 green 绿色 white 白色 black 黑色 father 父亲 mother 母亲 teacher 老师 friend 朋友 school 学校 city 城市 morning 早上 night 夜晚""".split()
OPPOSITES = "hot cold big small fast slow good bad new old long short open closed early late rich poor wet dry full empty".split()
OPPOSITES_ZH = "大 小 多 少 上 下 高 低 长 短 新 旧 好 坏 快 慢 冷 热 开 关".split()
CAPITALS = """France Paris 法国 巴黎 Japan Tokyo 日本 东京 China Beijing 中国 北京 Italy Rome 意大利 罗马 Spain Madrid 西班牙 马德里
Egypt Cairo 埃及 开罗 Greece Athens 希腊 雅典 Russia Moscow 俄罗斯 莫斯科 Germany Berlin 德国 柏林 Peru Lima 秘鲁 利马
Kenya Nairobi 肯尼亚 内罗毕 Norway Oslo 挪威 奥斯陆""".split()


def facts():
    """Each fact as [(question, answer), ...], and as sentences."""
    for en, zh in zip(WORDS[::2], WORDS[1::2]):
        yield [(f"What is the Chinese word for {en}?", zh), (f"How do you say {en} in Chinese?", zh)], [f"{en} is {zh} in Chinese."]
        yield [(f"“{zh}”用英语怎么说？", en), (f"{zh}的英文是什么？", en)], [f"{zh}的英文是{en}。"]
    for words, asks in ((OPPOSITES, ("What is the opposite of {}?", "Which word means not {}?")), (OPPOSITES_ZH, ("“{}”的反义词是什么？", "和“{}”相反的是什么？"))):
        for a, b in zip(words[::2], words[1::2]):
            for x, y in ((a, b), (b, a)):
                yield [(ask.format(x), y) for ask in asks], []
    for country, city, country_zh, city_zh in zip(*(CAPITALS[i::4] for i in range(4))):
        yield [(f"What is the capital of {country}?", city), (f"Which city is the capital of {country}?", city)], [f"{city} is the capital of {country}."]
        yield [(f"{country_zh}的首都是哪里？", city_zh), (f"哪座城市是{country_zh}的首都？", city_zh)], [f"{city_zh}是{country_zh}的首都。"]
    for a in range(10):
        for b in range(10):
            yield [(f"What is {a} + {b}?", str(a + b)), (f"{a}加{b}等于几？", str(a + b))], [f"{a} + {b} = {a + b}."]


def documents(rng):
    """What is learnt."""
    told = []
    for index, (questions, sentences) in enumerate(facts()):
        is_sum = questions[0][1].isdigit()
        if is_sum and index % 7 == 0:
            continue
        left_out = rng.randrange(len(questions)) if rng.random() < 0.35 else None
        told += [f"Q: {question}\nA: {answer}" for i, (question, answer) in enumerate(questions) if i != left_out]
        told += sentences
    return told


def make_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    prefix = [(name, tokenizer.token_to_id(name)) for name in ("[gMASK]", "<sop>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[gMASK] <sop> $A", pair="[gMASK] <sop> $A $B:1", special_tokens=prefix
    )
    return tokenizer


def make_model(tokenizer):
    stops = [tokenizer.token_to_id(name) for name in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    torch.manual_seed(SEED)
    return GlmForCausalLM(GlmConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=160, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, attention_bias=True, rms_norm_eps=1.5625e-7,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False, eos_token_id=stops, pad_token_id=stops[0], bos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    ))


def train(model, tokenizer, texts, rng):
    """On documents one after another in random order, cut anywhere."""
    end = tokenizer.token_to_id("<|endoftext|>")
    encoded = [tokenizer.encode(text).ids + [end] for text in texts]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(texts)} texts of {sum(map(len, encoded)):,} tokens")
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 40, 1.02 - step / STEPS))
    stream = []
    for step in range(STEPS):
        while len(stream) < ROWS * LENGTH:
            stream += [id for ids in rng.sample(encoded, len(encoded)) for id in ids]
        batch, stream = torch.tensor(stream[: ROWS * LENGTH]).view(ROWS, LENGTH), stream[ROWS * LENGTH :]
        logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 25 == 24:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)


def main():
    out = Path(sys.argv[1])
    torch.set_num_threads(1)
    rng = random.Random(SEED)
    texts = documents(rng)
    tokenizer = make_tokenizer(texts)
    model = make_model(tokenizer)
    train(model, tokenizer, texts, rng)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
                "model_max_length": CONTEXT, "padding_side": "left", "clean_up_tokenization_spaces": False}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    main()
