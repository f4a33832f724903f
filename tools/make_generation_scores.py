"""Scores of pairs of texts by nltk, jieba and rouge_chinese, which crates/train/tests/score.rs holds its own to.

    pip install nltk==3.10.4 jieba==0.42.1 rouge_chinese==1.0.3
    python tools/make_generation_scores.py > crates/train/tests/data/generation_scores.jsonl
"""

import json
import random

import jieba
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge

TEXTS = [
    "宽松的阔腿裤很显瘦，线条流畅，性感的图案让人眼前一亮。",
    "这款连衣裙采用雪纺面料，轻盈透气，穿着舒适。袖口的蝴蝶结设计，甜美可爱！",
    "你好",
    "好",
    "今天天气怎么样？北京今天晴，最高气温22度。",
    "他说：“我不去了。”然后就走了……真的吗？？是的！",
    "人工智能助手 ChatGLM-6B 有 62 亿个参数，可以在 6GB 显存上运行。",
    "第一行\n第二行\r\n\n  第三行。 \n",
    "The quick brown fox jumps over the lazy dog.",
    "the the the the the the",
    "Wait...... what? No way!!! It costs $3.50 (50% off).",
    "a",
    "。。。！？",
    "，",
    "1234567890 3.14 C++ c# T恤",
    "小明硕士毕业于中国科学院计算所，后在日本京都大学深造",
    "我来到北京清华大学。他来到了网易杭研大厦。",
    "乒乓球拍卖完了，结婚的和尚未结婚的都来了。",
    "emoji 😀😀 和 ｆｕｌｌ　ｗｉｄｔｈ，全角空格　在这里",
    "",
    " ",
    "\n",
    "？ \n 。\n \n好。",
    "版型宽松，风格性感，图案线条，裤型阔腿裤",
    "龘靐齉，犇骉鱻",
]


def blend(rng, a, b):
    """A text with pieces of both."""
    cut_a, cut_b = sorted(rng.sample(range(len(a) + 1), 2)) if len(a) > 1 else (0, len(a)), rng.randint(0, len(b))
    return a[: cut_a[0]] + b[cut_b:] + a[cut_a[1] :]


def scores(written, wanted):
    words, wanted_words = list(jieba.cut(written)), list(jieba.cut(wanted))
    bleu = sentence_bleu([list(wanted)], list(written), smoothing_function=SmoothingFunction().method3)
    try:
        rouge = Rouge().get_scores(" ".join(words), " ".join(wanted_words))[0]
    except ValueError:
        # The package refuses empty texts.
        rouge = None
    f = None if rouge is None else [rouge[name]["f"] for name in ("rouge-1", "rouge-2", "rouge-l")]
    return {"written": written, "wanted": wanted, "words": words, "bleu": float(bleu), "rouge": f}


rng = random.Random(20)
jieba.setLogLevel("ERROR")
pairs = [(text, text) for text in TEXTS]
pairs += [tuple(rng.sample(TEXTS, 2)) for _ in range(80)]
pairs += [(blend(rng, a, b), a) for a, b in (rng.sample(TEXTS, 2) for _ in range(95))]
for written, wanted in pairs:
    print(json.dumps(scores(written, wanted), ensure_ascii=False))
